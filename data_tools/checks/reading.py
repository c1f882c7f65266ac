"""What a check keeps of an image and a mask; large rasters are read by the blocks that their files store.

A picture is read whole. Of a raster of more than `seg.data.files.reading.LARGE_PIXELS` no more than a few blocks are in
memory: values and classes are summed over the blocks, the perceptual hash comes from a decimated read, and the place of
the mask is judged on a window in the middle, which is all that is seen of any image. Connected components need the
whole mask and are left out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from data_tools.checks.alignment import WINDOW
from data_tools.checks.perceptual_hash import PerceptualHash, perceptual_hash
from seg.data.files.reading import is_large, reader, stored_blocks
from seg.data.files.storage import File, holder
from seg.data.files.stored import Bands, Stored
from seg.data.files.windows import Window
from seg.data.masks.counts import components, count_pixels, mask_pixels
from seg.data.masks.reading import MaskEncoding, decode_stored, read_mask
from seg.labels import LabelSet

PREVIEW = 1024  # pixels of the longer side that the perceptual hash of a large raster is taken from


@dataclass(frozen=True, slots=True)
class SeenImage:
    """What is kept of an image.

    Attributes:
        shape: (height, width).
        dtype: Of the stored values.
        form: How they are stored, for example "an 8-bit RGB PNG".
        values: What all values together tell.
        perceptual_hash: See `data_tools.checks.perceptual_hash`; None where there is nothing to see.
        middle: (h, w, bands): all of it, of a large raster the middle.
        digest: Of a slice's values; empty for files.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    form: str
    values: Values
    perceptual_hash: PerceptualHash | None
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
        palette: The colour (red, green, blue) of each palette index that occurs; empty for a large raster.
    """

    shape: tuple[int, int]
    pixels: np.ndarray
    areas: list[np.ndarray]
    middle: np.ndarray
    digest: bytes = b""
    palette: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


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


def see_image(file: File, bands: Bands, nodata: float | None) -> SeenImage:
    """Reads an image, a large raster by blocks.

    Raises:
        DataError: As `seg.data.files.reading.read_values`.
    """
    source, sums = reader(file), Values()

    def add(values: Values, stored: Stored) -> np.ndarray:
        values.nan_is_nodata = all(one is not None and math.isnan(one) for one in stored.nodata)
        if nodata is not None:
            values.nan_is_nodata = math.isnan(nodata)
        return values.add(stored.brightness(), stored.missing(nodata))

    if is_large(file):
        for window in stored_blocks(source):
            add(sums, source.read(window, bands))
        stored = source.read(middle_window(source.shape), bands)
        middle = add(Values(), stored)
        seen = None if sums.problem else perceptual_hash(add(Values(), source.read(None, bands, longest=PREVIEW)))
        return SeenImage(source.shape, stored.values.dtype, stored.form, sums, seen, middle)
    stored = source.read(None, bands)
    image = add(sums, stored)
    seen = None if sums.problem or sums.constant else perceptual_hash(image)
    return SeenImage(image.shape[:2], image.dtype, stored.form, sums, seen, image, _slice_digest(file, image))


def see_mask(file: File, labels: LabelSet, encoding: MaskEncoding) -> SeenMask:
    """Reads a mask, a large raster by blocks.

    Raises:
        DataError: As `seg.data.masks.reading.read_mask`.
    """
    if not labels.multi_label and is_large(file):
        shape = encoding.reader(file).shape
        pixels = count_pixels(file, labels, encoding)
        middle = read_mask(file, labels, encoding, middle_window(shape))
        return SeenMask(shape, pixels, [np.empty(0, np.int64)] * labels.num_classes, middle)
    stored = encoding.reader(file).read()
    mask = decode_stored(stored, labels, encoding).mask
    pixels, areas = _contents(mask, labels)
    palette = {}
    if stored.palette is not None and encoding.histogram == "palette":
        used = np.flatnonzero(np.bincount(stored.values.ravel())).tolist()
        palette = {index: tuple(stored.palette[index, :3].tolist()) for index in used if index < len(stored.palette)}
    return SeenMask(mask.shape[:2], pixels, areas, mask, _slice_digest(file, mask), palette)


def middle_window(shape: tuple[int, int]) -> Window:
    """The part in the middle that `data_tools.checks.alignment` looks at."""
    height, width = (min(side, WINDOW) for side in shape)
    return Window((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def stored_pieces(file: File, encoding: MaskEncoding) -> Iterator[Stored]:
    """What a mask file stores, a large raster piece by piece."""
    source = encoding.reader(file)
    for window in stored_blocks(source) if is_large(file) else (None,):
        yield source.read(window)


def not_finite(image: np.ndarray) -> str:
    """How many values of an image are no numbers; empty where all are."""
    sums = Values()
    sums.add(image if image.ndim == 3 else image[..., None], None)
    return sums.problem


def _slice_digest(file: File, pixels: np.ndarray) -> bytes:
    if holder(file) is file:
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
