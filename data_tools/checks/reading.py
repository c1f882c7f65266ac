"""What a check keeps of an image and a mask; large rasters are read by the blocks that their files store.

A picture is read whole. Of a raster of more than `seg.data.files.reading.LARGE_PIXELS` no more than a few blocks are in
memory: values and classes are summed over the blocks, the look comes from a decimated read, and the place of the mask
is judged on a window in the middle, which is all that is looked at of any image. Connected components need the whole
mask and are left out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data_tools.checks.alignment import WINDOW
from data_tools.checks.look import Look, look
from seg.data.files.rasters import is_raster, raster_header, read_raster
from seg.data.files.reading import Bands, image_size, is_large, read_values, stored_blocks
from seg.data.files.storage import File, VolumeSlice
from seg.data.files.windows import Window
from seg.data.masks.counts import components, count_pixels, mask_pixels
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.labels import LabelSet

PREVIEW = 1024  # pixels of the longer side that the look of a large raster is taken from


@dataclass(frozen=True, slots=True)
class SeenImage:
    """What is kept of an image.

    Attributes:
        shape: (height, width).
        dtype: Of the stored values.
        values: What all values together tell.
        look: See `data_tools.checks.look`; None where there is nothing to see.
        middle: (h, w, bands): all of it, of a large raster the middle.
        digest: Of a slice's values; empty for files.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    values: Values
    look: Look | None
    middle: np.ndarray
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class SeenMask:
    """What is kept of a mask.

    Attributes:
        shape: (height, width).
        pixels: (C + 1,) int64: pixels of each class, then those of which nothing is known.
        areas: The areas of each class's components; empty for a large raster.
        middle: As of an image.
        digest: As of an image.
    """

    shape: tuple[int, int]
    pixels: np.ndarray
    areas: list[np.ndarray]
    middle: np.ndarray
    digest: bytes = b""


@dataclass(slots=True)
class Values:
    """Sums over the pieces of an image.

    Attributes:
        nan_is_nodata: NaN is the declared nodata value, and no problem.
        size: Values.
        present: Those that are not missing.
        nan: Those that are NaN, where that is a problem.
        infinite: Those that are infinite.
        largest: The largest, missing ones as 0.
        constant: All pixels are alike.
        first: The first pixel.
    """

    nan_is_nodata: bool = False
    size: int = 0
    present: int = 0
    nan: int = 0
    infinite: int = 0
    largest: float = -math.inf
    constant: bool = True
    first: np.ndarray = field(default_factory=lambda: np.empty(0))

    def add(self, values: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
        """Adds a piece (h, w, B); returns it with 0 where a value is missing, and undeclared NaN and infinity left."""
        self.size += values.size
        self.present += values.size - (0 if missing is None else int(missing.sum()))
        if np.issubdtype(values.dtype, np.floating):
            self.nan += 0 if self.nan_is_nodata else int(np.isnan(values).sum())
            self.infinite += int(np.isinf(values).sum())
        if missing is not None:
            kept = np.isinf(values) if self.nan_is_nodata else ~np.isfinite(values)
            values = np.where(missing & ~kept, values.dtype.type(0), values)
        if not self.first.size:
            self.first = values[0, 0].copy()
        if not self.problem:
            self.largest = max(self.largest, float(values.max()))
            self.constant = self.constant and bool((values[0] == self.first).all() and (values == self.first).all())
        return values

    @property
    def problem(self) -> str:
        """How many values are no numbers; empty where all are."""
        if not self.nan + self.infinite:
            return ""
        return f"{self.nan} values are NaN and {self.infinite} infinite, of {self.size}; allowed: finite values"


def see_image(file: Path | VolumeSlice, bands: Bands, nodata: float | None) -> SeenImage:
    """Reads an image, a large raster by blocks.

    Raises:
        DataError: As `seg.data.files.reading.read_values`.
    """
    sums = Values(_nan_is_nodata(file, nodata))
    if is_large(file):
        assert isinstance(file, Path)
        dtype = np.dtype(raster_header(file).dtype)
        for window in stored_blocks(file):
            sums.add(*read_values(file, bands, window, nodata))
        shape = image_size(file)
        middle = Values(sums.nan_is_nodata).add(*read_values(file, bands, middle_window(shape), nodata))
        small = Values(sums.nan_is_nodata).add(*read_raster(file, bands, nodata=nodata, longest=PREVIEW))
        return SeenImage(shape, dtype, sums, None if sums.problem else look(small), middle)
    image = sums.add(*read_values(file, bands, None, nodata))
    seen = None if sums.problem or sums.constant else look(image)
    return SeenImage(image.shape[:2], image.dtype, sums, seen, image, _slice_digest(file, image))


def see_mask(file: Path | VolumeSlice, labels: LabelSet, encoding: MaskEncoding) -> SeenMask:
    """Reads a mask, a large raster by blocks.

    Raises:
        DataError: As `seg.data.masks.reading.read_mask`.
    """
    if not labels.multi_label and is_large(file):
        shape = image_size(file)
        pixels = count_pixels(file, labels, encoding)
        middle = read_mask(file, labels, encoding, middle_window(shape))
        return SeenMask(shape, pixels, [np.empty(0, np.int64)] * labels.num_classes, middle)
    mask = read_mask(file, labels, encoding)
    pixels, areas = _contents(mask, labels)
    return SeenMask(mask.shape[:2], pixels, areas, mask, _slice_digest(file, mask))


def middle_window(shape: tuple[int, int]) -> Window:
    """The part in the middle that `data_tools.checks.alignment` looks at."""
    height, width = (min(side, WINDOW) for side in shape)
    return Window((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def stored_pieces(file: File) -> Iterator[Window | None]:
    """The windows to read a file by: one, None, unless it is a large raster."""
    yield from stored_blocks(file) if is_large(file) else (None,)


def not_finite(image: np.ndarray) -> str:
    """How many values of an image are no numbers; empty where all are."""
    sums = Values()
    sums.add(image if image.ndim == 3 else image[..., None], None)
    return sums.problem


def _nan_is_nodata(file: Path | VolumeSlice, nodata: float | None) -> bool:
    if nodata is not None:
        return math.isnan(nodata)
    declared = raster_header(file).nodata if isinstance(file, Path) and is_raster(file) else (None,)
    return all(value is not None and math.isnan(value) for value in declared)


def _slice_digest(file: Path | VolumeSlice, pixels: np.ndarray) -> bytes:
    if not isinstance(file, VolumeSlice):
        return b""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


def _contents(mask: np.ndarray, labels: LabelSet) -> tuple[np.ndarray, list[np.ndarray]]:
    """(C + 1,) pixels of each class, then void, and the areas of each class's components."""
    if not labels.multi_label:
        return mask_pixels(mask, labels), components(mask, labels.num_classes)
    planes = [np.ascontiguousarray(mask[..., index]) for index in range(labels.num_classes)]
    void = int((mask == labels.ignore_index).all(axis=2).sum())
    pixels = np.array([*(cv2.countNonZero(cv2.inRange(plane, 1, 1)) for plane in planes), void], np.int64)
    return pixels, [components(plane, 2)[1] for plane in planes]
