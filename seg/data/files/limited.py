"""Masks read together with their validity masks: outside, a mask is hidden, as by an alpha band of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from seg.data.files.storage import LimitedMask
from seg.data.files.stored import Bands, Reader, Stored
from seg.data.files.windows import Window
from seg.errors import DataError


@dataclass(frozen=True)
class Limited:
    """Reads a mask, hides what its validity mask leaves out, and says which classes were annotated.

    Attributes:
        file: The mask and what limits it.
        mask: Reads the mask.
        valid: Reads the validity mask; None: there is none.
    """

    file: LimitedMask
    mask: Reader
    valid: Reader | None
    picture: ClassVar[bool] = False
    contents: ClassVar[bytes | None] = None  # of the mask alone they would not tell its classes

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of both.

        Raises:
            DataError: They differ.
        """
        mask = self.mask.shape
        valid = mask if self.valid is None else self.valid.shape
        if mask != valid:
            raise DataError(
                f"{self.file.valid}: is {valid[0]} x {valid[1]} (height x width), but {self.file.mask}, whose validity "
                f"mask it is, is {mask[0]} x {mask[1]}; allowed: the same size"
            )
        return mask

    @property
    def block(self) -> tuple[int, int] | None:
        """As of the mask."""
        return self.mask.block

    @property
    def image_form(self) -> tuple[str, int]:
        """As of the mask."""
        return self.mask.image_form

    def read(self, window: Window | None = None, bands: Bands | None = None, longest: int | None = None) -> Stored:
        """What the mask stores, hidden where it is not valid.

        Raises:
            DataError: Either file cannot be read, or the validity mask is no picture of one band.
        """
        shape, stored = self.shape, replace(self.mask.read(window, bands, longest), annotated=self.file.annotated)
        if self.valid is None:
            return stored
        valid = valid_pixels(self.valid.read(window), self.file.values)
        if window is None and valid.shape != stored.values.shape[:2]:  # single pixels of a large mask
            rows, columns = (
                np.arange(number) * side // number for number, side in zip(stored.values.shape[:2], shape, strict=True)
            )
            valid = valid[rows][:, columns]
        return replace(stored, valid=valid if stored.valid is None else valid & stored.valid)


def valid_pixels(stored: Stored, values: tuple[int, ...] | None = None) -> np.ndarray:
    """(h, w) bool: where a validity mask tells so: at `values`, by default all but 0, but not where it is void itself.

    Raises:
        DataError: It was compressed with losses, which blend valid and not, or its bands differ.
    """
    if stored.lossy:
        raise DataError(f"{stored.file}: was compressed with losses, allowed for a validity mask: PNG, TIFF, GIF")
    pixels = stored.values if stored.palette is None else stored.colours()
    if stored.white_is_zero:
        pixels = stored.brightness()
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise DataError(f"{stored.file}: has {pixels.shape[2]} bands that differ, allowed for a validity mask: one")
        pixels = pixels[..., 0]
    valid = (pixels != 0) & (pixels == pixels) if values is None else np.isin(pixels, values)  # NaN is no value
    void = stored.void()
    return np.asarray(valid if void is None else valid & ~void)
