"""From stored image values to what the model sees: bands, value range, missing values, mean and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg.data.files.images import resize_image, unit_range
from seg.data.files.reading import read_values, reader
from seg.data.files.storage import File
from seg.data.files.stored import Bands
from seg.errors import DataError


@dataclass(frozen=True)
class ValueRange:
    """What becomes 0 and 1 in each band: (value - low) / (high - low).

    Attributes:
        low: One value a band.
        high: One value a band, above `low`.
        clip: Values outside become 0 or 1; else they stay outside.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    clip: bool

    def __post_init__(self) -> None:
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"got low {self.low} and high {self.high}, allowed: low < high in each band")

    def unit(self, values: np.ndarray) -> np.ndarray:
        """(..., B) float32 of values (..., B) of any real type; NaN and infinities stay such."""
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        scaled = np.subtract(values, low, dtype=np.float32)
        scaled *= 1 / (high - low)
        return np.clip(scaled, 0, 1, out=scaled) if self.clip else scaled


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to what the model sees: (value / max_value - mean) / std, after resizing.

    With a `value_range` it is ((value - low) / (high - low) - mean) / std instead.

    Attributes:
        bands: How many bands the model sees, in files without more: 1 (gray), 3 (RGB), any number of a raster's.
        resize: (height, width) of every image and mask; None keeps their sizes.
        max_value: The image value that becomes 1; None: 255 for 8-bit files, 65535 for unsigned 16-bit ones.
        mean: One value a band, in units of [0, 1].
        std: The same.
        selection: The numbers, from 1, of the bands to use, as many as `bands`; None: files have just `bands`.
        nodata: The value that means no data; None: the one that a raster names.
        value_range: What becomes 0 and 1, in place of 0 and `max_value`.
    """

    bands: int
    resize: tuple[int, int] | None
    max_value: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    selection: tuple[int, ...] | None = None
    nodata: float | None = None
    value_range: ValueRange | None = None

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.bands:
            raise ValueError(f"got {len(self.mean)} means and {len(self.std)} stds for {self.bands} bands")

    @property
    def wanted(self) -> Bands:
        """What the readers are asked for."""
        return self.bands if self.selection is None else self.selection

    def reads_plainly(self, file: File) -> bool:
        """Whether the file is a PNG, JPEG or ordinary TIFF of which no value is missing, selected or clipped."""
        return self.selection is None and self.nodata is None and self.value_range is None and reader(file).picture

    def read(self, path: Path) -> np.ndarray:
        """The image, resized: (H, W, bands) uint8 or uint16."""
        return self.resized(read_values(path, self.bands)[0])

    def resized(self, image: np.ndarray) -> np.ndarray:
        """`image` (H, W, bands) at the size of `resize`."""
        return image if self.resize is None else resize_image(image, self.resize)

    def augmentable(self, image: np.ndarray) -> np.ndarray:
        """The same values as augmentation takes them: uint8 where that loses nothing, else float32 in [0, 1]."""
        if image.dtype == np.float32 or (image.dtype == np.uint8 and self.max_value in (None, 255)):
            return image
        return unit_range(image, self.max_value)

    def unit(self, values: np.ndarray, missing: np.ndarray | None, file: File) -> tuple[np.ndarray, np.ndarray | None]:
        """Stored values as augmentation takes them, the mean in the place of missing ones.

        Args:
            values: (h, w, B) as stored.
            missing: (h, w, B) bool or None.
            file: For messages.

        Returns:
            (h, w, B) uint8 where that loses nothing, else float32, in [0, 1] unless the range is open; and `missing`.

        Raises:
            DataError: Signed or float values, and nothing says what range they have.
        """
        if self.value_range is not None:
            image = self.value_range.unit(values)
        elif values.dtype in (np.uint8, np.uint16):
            image = self.augmentable(values)
        elif self.max_value is not None:
            image = ValueRange((0.0,) * self.bands, (float(self.max_value),) * self.bands, clip=True).unit(values)
        else:
            raise DataError(
                f"{file}: holds {values.dtype} values, whose range nothing says; allowed: input.normalize: counted, "
                "input.clip, or input.max_value"
            )
        if missing is not None:
            if image is values:  # as stored, and possibly cached
                image = image.copy()
            fill = np.array(self.mean, np.float32)
            if image.dtype == np.uint8:
                fill = np.rint(np.clip(fill, 0, 1) * 255)
            image = np.where(missing, fill.astype(image.dtype), image)
        return image, missing

    def prepare(
        self, image: np.ndarray, missing: np.ndarray | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """What the model sees, (H, W, bands) float32.

        Args:
            image: What `read` returned, uint8 or uint16, or what `augmentable` or `unit` did: uint8, or float32 where
                0 and 1 are the ends of the value range.
            missing: (H, W, bands) bool: these become 0, the mean; or None.
            out: Contiguous, written to and returned, where it is given.
        """
        image = self.augmentable(image)
        one = 255.0 if image.dtype == np.uint8 else 1.0
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        height, width, bands = image.shape
        # One multiply-add over whole rows: NumPy's broadcast over a last axis of 3 takes 9 times as long.
        scale = np.tile((1.0 / (one * std)).astype(np.float32), width)
        offset = np.tile((-mean / std).astype(np.float32), width)
        flat = None if out is None else out.reshape(height, width * bands)
        rows = np.multiply(image.reshape(height, width * bands), scale, out=flat, dtype=np.float32)
        rows += offset
        prepared = rows.reshape(height, width, bands)
        if missing is not None:
            prepared[missing] = 0
        return prepared

    def picture(self, image: np.ndarray) -> np.ndarray:
        """What to show of `augmentable`'s or `unit`'s image: its first three bands, or its first of fewer."""
        image = self.augmentable(image)
        return np.ascontiguousarray(image[..., : 3 if image.shape[2] >= 3 else 1])

    def shown(self, inputs: np.ndarray) -> np.ndarray:
        """`picture` of what `prepare` made of an image: (h, w, 1 or 3) float32 in [0, 1]."""
        unit = inputs * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)
        return self.picture(np.clip(unit, 0, 1))
