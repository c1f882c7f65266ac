"""What a reader gives of a file: the values as it stores them, and what it says of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

import numpy as np

from seg.data.files.storage import File, read_bytes, unreadable
from seg.data.files.windows import Window
from seg.errors import DataError

Bands = int | tuple[int, ...]  # how many there must be, or the numbers, from 1, of those to use


@dataclass(frozen=True)
class Stored:
    """Values of a file, or of a window of it.

    Attributes:
        file: For messages.
        values: (h, w) or (h, w, B), as stored; palette indices; of a gray file with n < 8 bits 0 to 2^n - 1.
        format: "PNG", "JPEG", "GIF", "TIFF"; "raster" or "slice" of bands.
        kind: "gray", "gray with alpha", "RGB", "RGB with alpha" or "palette" of a picture; "bands" of a raster or a
            volume; "pages" of a file with a page a class.
        bits: Of one value.
        lossy: Values next to each other were blended.
        nodata: For each band the value that the file says means no data, or None.
        valid: (h, w) bool, false where an internal mask or an alpha band hides the pixel; None: nowhere.
        palette: (n, 4) uint8 RGBA of kind "palette".
        white_is_zero: The smallest value is the brightest.
        transparent: Pixels of a picture that are not opaque, which no mask may have: it means neither this nor that.
        annotated: The classes of a mask that were annotated, by name; None: all.
    """

    file: File
    values: np.ndarray
    format: str
    kind: str
    bits: int
    lossy: bool = False
    nodata: tuple[float | None, ...] = (None,)
    valid: np.ndarray | None = None
    palette: np.ndarray | None = None
    white_is_zero: bool = False
    transparent: int = 0
    annotated: tuple[str, ...] | None = None

    @property
    def form(self) -> str:
        """How it is stored, in words."""
        return (
            f"a {self.values.dtype} {self.format}" if self.kind == "bands" else form(self.bits, self.kind, self.format)
        )

    def part(self, window: Window | None, longest: int | None = None) -> Stored:
        """A window of it; or single pixels, so that no side has more than `longest`."""
        if window is not None:
            rows, columns = window.slices
        else:
            step = 1 if longest is None else -(-max(self.values.shape[:2]) // longest)
            if step == 1:
                return self
            rows = columns = slice(None, None, step)
        valid = None if self.valid is None else self.valid[rows, columns]
        return replace(self, values=np.ascontiguousarray(self.values[rows, columns]), valid=valid)

    def brightness(self) -> np.ndarray:
        """The values as a viewer shows them: of fewer than 8 bits spread to 0-255, and 0 is black."""
        if self.kind not in ("gray", "gray with alpha", "bands") or not (self.bits < 8 or self.white_is_zero):
            return self.values
        most = (1 << self.bits) - 1
        values = most - self.values if self.white_is_zero else self.values
        return (values.astype(np.uint16) * 255 // most).astype(np.uint8) if self.bits < 8 else values

    def colours(self) -> np.ndarray:
        """(h, w, 3) RGB: the values themselves, or the colours of palette indices.

        Raises:
            DataError: A pixel is transparent, or its index has no colour.
        """
        if self.palette is None:
            return self.opaque()
        if self.values.max() >= len(self.palette):
            raise DataError(
                f"{self.file}: palette index {self.values.max()} has no colour, the palette has {len(self.palette)}"
            )
        rgba = self.palette[self.values]
        transparent = np.count_nonzero(rgba[..., 3] != 255)
        if transparent:
            raise DataError(
                f"{self.file}: {transparent} pixel(s) are transparent, allowed: opaque pixels, or the encoding "
                "'palette'"
            )
        return np.ascontiguousarray(rgba[..., :3])

    def opaque(self) -> np.ndarray:
        """The values, where no pixel is transparent; else a DataError."""
        if self.transparent:
            raise transparent_pixels(self.transparent, self.file)
        return self.values

    def missing(self, nodata: float | None = None) -> np.ndarray | None:
        """Where an image has no value: at nodata, NaN, infinity, band by band, and in all bands of hidden pixels.

        Args:
            nodata: The value that means no data; None: the one that the file names for each band.

        Returns:
            (h, w, B) bool, or None where nothing is missing.

        Raises:
            DataError: The values' type does not have `nodata`.
        """
        values = self.values
        if nodata is not None and not _fits(nodata, values.dtype):
            raise DataError(
                f"{self.file}: holds {values.dtype} values, which input.nodata {nodata:g} is none of; "
                "allowed: a value of that type, or leave it out"
            )
        is_float = np.issubdtype(values.dtype, np.floating)
        missing = ~np.isfinite(values) if is_float else None
        for band, empty in enumerate(self.nodata if nodata is None else (nodata,) * values.shape[2]):
            if empty is not None and _fits(empty, values.dtype) and np.isfinite(empty):
                if missing is None:
                    missing = np.zeros(values.shape, bool)
                with np.errstate(over="ignore"):  # the lowest float64 is infinite here, and missing already
                    missing[..., band] |= values[..., band] == values.dtype.type(empty)
        if self.valid is not None:
            missing = np.zeros(values.shape, bool) if missing is None else missing
            missing |= ~self.valid[..., None]
        return missing if missing is not None and missing.any() else None

    def empty(self) -> np.ndarray | None:
        """(h, w) bool, true where a mask's values are its nodata value, NaN too; None where it names none."""
        nodata = self.nodata[0] if self.nodata else None
        if nodata is None:
            return None
        same = np.isnan(self.values) if np.isnan(nodata) else self.values == nodata
        return np.asarray(same.reshape(*same.shape[:2], -1).all(axis=2))

    def void(self) -> np.ndarray | None:
        """(h, w) bool, true where a mask tells nothing: it is `empty`, or the pixel is hidden. None: nowhere."""
        empty, hidden = self.empty(), None if self.valid is None else ~self.valid
        void = hidden if empty is None else empty if hidden is None else empty | hidden
        return void if void is not None and void.any() else None


@dataclass(frozen=True)
class WholeFile:
    """What readers share whose files are always decoded as a whole.

    Attributes:
        file: Where it is.
    """

    file: File
    block: ClassVar[tuple[int, int] | None] = None

    @cached_property
    def contents(self) -> bytes:
        """All bytes of the file, read once."""
        return read_bytes(self.file)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file from its start; of a local one no more is read than is asked for.

        Raises:
            DataError: It cannot be read.
        """
        if not isinstance(self.file, Path):
            yield io.BytesIO(self.contents)
            return
        try:
            with self.file.open("rb") as file:
                yield file
        except OSError as error:
            raise unreadable(self.file, error) from error


class Reader(Protocol):
    """A file that is read in one of a few ways."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) from the header alone; a DataError where that is refused."""

    @property
    def block(self) -> tuple[int, int] | None:
        """(height, width) of what is decoded as one, of a file whose windows are read without the rest; else None."""

    @property
    def picture(self) -> bool:
        """Whether an image has 8 or 16 bits, one or three bands, and a value everywhere."""

    @property
    def image_form(self) -> tuple[str, int]:
        """The name of the type that an image's values are read as, and its bands without an alpha band."""

    @property
    def contents(self) -> bytes | None:
        """The file's bytes, where all of them are read anyway."""

    def read(self, window: Window | None = None, bands: Bands | None = None, longest: int | None = None) -> Stored:
        """The values of a window; None: everything.

        Args:
            window: The part wanted.
            bands: Of an image: their number, or the numbers of those wanted; values are then (h, w, B). None: a mask.
            longest: Without a window: single pixels, so that no side has more than this.

        Raises:
            DataError: The file cannot be read, or not in this way.
        """


def transparent_pixels(count: int, file: File) -> DataError:
    """The error for a picture of which some pixels are transparent."""
    return DataError(
        f"{file}: {count} pixel(s) are transparent, allowed: opaque pixels; "
        "flatten the image, and mark pixels without data as void in the mask"
    )


def form(bits: int, kind: str, file_format: str) -> str:
    """How pixels are stored, in words: an 8-bit RGB PNG."""
    return f"{'an' if bits == 8 else 'a'} {bits}-bit {kind} {file_format}"


def _fits(value: float, dtype: np.dtype) -> bool:
    """Whether a dtype has the value."""
    if np.issubdtype(dtype, np.floating):
        return True
    return float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
