"""A sample read by windows: image, mask and what is missing of a part of it, the rest left in the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seg.data.files.images import resize_image, resize_mask
from seg.data.files.reading import image_size, read_values, reader
from seg.data.files.storage import File
from seg.data.files.windows import Window, whole
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.data.samples.pairs import Sample
from seg.data.views.preprocessing import Preprocessing
from seg.errors import DataError
from seg.labels import LabelSet

# Larger rasters are evaluated in tiles of so many pixels a side: of 1024 a U-Net of 8 filters already takes 2 GB.
EVALUATION_TILE = 512
EVALUATION_MARGIN = 64  # pixels around a tile that the model sees and that are not scored

PixelWeights = Callable[[File, np.ndarray], np.ndarray]


class Pixels(NamedTuple):
    """A part of a sample.

    Attributes:
        image: (h, w, B) uint8, or float32 where 0 and 1 are the ends of the value range; the mean where missing.
        mask: (h, w) uint8, or (h, w, K) of multi-label classes; void where all bands are missing.
        missing: (h, w, B) bool, or None where nothing is.
        weights: (h, w) float32 or None.
        stored: Name of the dtype that the file has.
    """

    image: np.ndarray
    mask: np.ndarray
    missing: np.ndarray | None
    weights: np.ndarray | None
    stored: str


@dataclass(frozen=True)
class SampleSource:
    """Reads parts of a sample.

    Attributes:
        sample: Image and mask.
        labels: The classes.
        encoding: How the mask stores them.
        preprocessing: Bands, nodata and value range.
        pixel_weights: From the mask's file and the mask to its pixels' weights, or None.
    """

    sample: Sample
    labels: LabelSet
    encoding: MaskEncoding
    preprocessing: Preprocessing
    pixel_weights: PixelWeights | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width).

        Raises:
            DataError: The mask's differs.
        """
        image, mask = image_size(self.sample.image), self.encoding.reader(self.sample.mask).shape
        if image != mask:
            raise DataError(
                f"{self.sample.image} is {image[0]} x {image[1]} (height x width) but its mask {self.sample.mask} is "
                f"{mask[0]} x {mask[1]}; allowed: the same size"
            )
        return image

    def read(self, window: Window) -> Pixels:
        """The pixels in a window.

        Raises:
            DataError: A file cannot be read, holds an unknown label, or values without a range; or pixel weights, which
                depend on the whole mask, are asked of a part.
        """
        values, missing = read_values(self.sample.image, self.preprocessing.wanted, window, self.preprocessing.nodata)
        mask = read_mask(self.sample.mask, self.labels, self.encoding, window)
        if missing is not None:
            mask = mask.copy()
            mask[missing.all(axis=2)] = self.labels.ignore_index
        weights = None
        if self.pixel_weights is not None:
            if reader(self.sample.image).block is not None:
                raise DataError(
                    f"{self.sample.image}: is a raster, which is read by windows, while pixel_weights depend on the "
                    "whole mask; allowed: leave out pixel_weights, or train on tiles stored as PNG"
                )
            weights = self.pixel_weights(self.sample.mask, read_mask(self.sample.mask, self.labels, self.encoding))
            weights = weights[window.slices]
        image, missing = self.preprocessing.unit(values, missing, self.sample.image)
        return Pixels(image, mask, missing, weights, str(values.dtype))

    def read_resized(self, window: Window | None = None) -> Pixels:
        """A window, None: everything, at the size of `preprocessing.resize`."""
        pixels = self.read(whole(self.shape) if window is None else window)
        size = self.preprocessing.resize
        if size is None:
            return pixels
        missing = None
        if pixels.missing is not None:
            parts = [
                resize_mask(pixels.missing[..., band].view(np.uint8), size) for band in range(pixels.image.shape[2])
            ]
            missing = np.stack(parts, axis=2).view(bool)
        return pixels._replace(
            image=resize_image(pixels.image, size), mask=resize_mask(pixels.mask, size), missing=missing
        )


class View(NamedTuple):
    """What one evaluation step sees.

    Attributes:
        sample: Of which sample.
        window: The part read; None: everything.
        scored: The part of the window whose pixels count, relative to it; None: all.
    """

    sample: Sample
    window: Window | None = None
    scored: Window | None = None

    @property
    def name(self) -> str:
        """The image's, with the first row and column of a window."""
        stem = self.sample.image.stem
        return stem if self.window is None else f"{stem} {self.window.top} {self.window.left}"


def evaluation_views(samples: Sequence[Sample], preprocessing: Preprocessing) -> list[View]:
    """Each sample as one view, but a large raster as tiles that score each pixel once and see `EVALUATION_MARGIN` more.

    Tiled only without `preprocessing.resize`, which is of whole images.
    """
    return [view for sample in samples for view in _views(sample, preprocessing)]


def _views(sample: Sample, preprocessing: Preprocessing) -> list[View]:
    image = reader(sample.image)
    if preprocessing.resize is not None or image.block is None:
        return [View(sample)]
    shape = image.shape
    if max(shape) <= EVALUATION_TILE:
        return [View(sample)]
    views = []
    for top in range(0, shape[0], EVALUATION_TILE):
        for left in range(0, shape[1], EVALUATION_TILE):
            above, before = max(0, top - EVALUATION_MARGIN), max(0, left - EVALUATION_MARGIN)
            bottom = min(shape[0], top + EVALUATION_TILE)
            right = min(shape[1], left + EVALUATION_TILE)
            below = min(shape[0], bottom + EVALUATION_MARGIN)
            behind = min(shape[1], right + EVALUATION_MARGIN)
            scored = Window(top - above, left - before, bottom - top, right - left)
            views.append(View(sample, Window(above, before, below - above, behind - before), scored))
    return views


def middle_view(sample: Sample, preprocessing: Preprocessing) -> View:
    """A view to draw: everything, or the middle tile of a large raster."""
    image = reader(sample.image)
    if preprocessing.resize is not None or image.block is None:
        return View(sample)
    shape = image.shape
    size = [min(side, EVALUATION_TILE) for side in shape]
    return View(sample, Window((shape[0] - size[0]) // 2, (shape[1] - size[1]) // 2, size[0], size[1]))
