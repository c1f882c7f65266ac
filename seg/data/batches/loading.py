"""Samples to arrays: whole pairs, the views of an evaluation, and the batches of a training, made by threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg.data.files.images import resize_mask
from seg.data.files.reading import read_values
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.data.samples.pairs import Sample
from seg.data.sampling.draws import sample_seed
from seg.data.views.preprocessing import Preprocessing
from seg.data.views.sources import PixelWeights, SampleSource, View
from seg.errors import DataError
from seg.labels import LabelSet

if TYPE_CHECKING:  # evaluation and prediction need no albumentations, whose import takes a second
    from seg.data.batches.pixel_cache import PixelCache
    from seg.data.sampling.sampler import Sampler
    from seg.data.views.transforms import Augmentation

cv2.setNumThreads(0)  # images are loaded one a thread; OpenCV's own threads would only compete with them

ALIGNMENT = 64  # bytes


def load_pair(
    sample: Sample, labels: LabelSet, encoding: MaskEncoding, preprocessing: Preprocessing
) -> tuple[np.ndarray, np.ndarray]:
    """Reads an image and its mask, whole.

    Returns:
        (H, W, bands) uint8, uint16, or float32 in units of the value range where `Preprocessing.reads_plainly` is
        false; and the mask, both resized: (H, W) uint8 class indices or void, or (H, W, K) of multi-label classes.

    Raises:
        DataError: A file is broken or too large, a label is unknown, or the two sizes differ.
    """
    if not preprocessing.reads_plainly(sample.image):
        pixels = SampleSource(sample, labels, encoding, preprocessing).read_resized()
        return pixels.image, pixels.mask
    image, _ = read_values(sample.image, preprocessing.bands)
    mask = read_mask(sample.mask, labels, encoding)
    if image.shape[:2] != mask.shape[:2]:
        raise DataError(
            f"{sample.image} is {_size(image)} (height x width) but its mask {sample.mask} is {_size(mask)}; "
            "allowed: the same size"
        )
    if preprocessing.resize is not None:
        mask = resize_mask(mask, preprocessing.resize)
    return preprocessing.resized(image), mask


def load_view(
    view: View, labels: LabelSet, encoding: MaskEncoding, preprocessing: Preprocessing
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What one step of an evaluation sees of a sample.

    Returns:
        A picture of it (h, w, 1 or 3) uint8 or float32, the model's input (h, w, bands) float32, and the mask (h, w[,
        K]) uint8, void where nothing is scored.
    """
    if preprocessing.reads_plainly(view.sample.image):
        image, mask = load_pair(view.sample, labels, encoding, preprocessing)
        return preprocessing.augmentable(image), preprocessing.prepare(image), mask
    pixels = SampleSource(view.sample, labels, encoding, preprocessing).read_resized(view.window)
    mask = pixels.mask
    if view.scored is not None:
        mask = np.full_like(mask, labels.ignore_index)
        mask[view.scored.slices] = pixels.mask[view.scored.slices]
    return preprocessing.picture(pixels.image), preprocessing.prepare(pixels.image, pixels.missing), mask


class BatchLoader:
    """From the draws of a batch (N, 4) to its arrays, made by a pool of threads; safe for threads itself."""

    def __init__(self, load: TrainingLoader, bands: int, workers: int | None) -> None:
        """`load` makes one draw's arrays."""
        self._load, self._bands = load, bands
        self._pool = ThreadPoolExecutor(workers or os.cpu_count(), "loading")

    def __call__(self, draws: np.ndarray) -> tuple[np.ndarray, ...]:
        """(images (N, H, W, bands) float32, masks (N, H, W[, K]) uint8[, weights (N, H, W) float32])."""
        images = aligned((len(draws), *self._load.size, self._bands))
        futures: list[Future[tuple[np.ndarray, ...]]] = []
        try:
            futures = [self._pool.submit(self._load, *pair) for pair in zip(draws, images, strict=True)]
            maps = [future.result() for future in futures]
        except RuntimeError as error:
            if futures or "shutdown" not in str(error):
                raise
            # Python is at its end, and no one will see this batch; TensorFlow would report an error.
            maps = [self._load(*pair) for pair in zip(draws, images, strict=True)]
        finally:
            for future in futures:  # of a batch that failed
                future.cancel()
        return images, *(np.stack(each) for each in zip(*maps, strict=True))


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array at an address that TensorFlow takes without copying; NumPy's own are not."""
    size = int(np.prod(shape)) * 4
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


class TrainingLoader:
    """From a draw (epoch, sample, crop, centre class) to what the model is trained on; safe for threads.

    Attributes:
        size: (height, width) of what it gives.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: LabelSet,
        encoding: MaskEncoding,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None,
        pixel_weights: PixelWeights | None,
        sampler: Sampler | None,
        cache: PixelCache | None,
        seed: int,
    ) -> None:
        """Reads the first sample; the arguments are those of `training_batches`."""
        if augmentation is not None and augmentation.resize != preprocessing.resize:
            raise ValueError(
                f"got resize {preprocessing.resize} and the augmentation's {augmentation.resize}, allowed: equal"
            )
        if augmentation is None and sampler and sampler.crops:
            raise ValueError("got class-centred crops without an augmentation, allowed: with one")
        self._samples, self._labels, self._encoding = samples, labels, encoding
        self._preprocessing, self._augmentation = preprocessing, augmentation
        self._source = preprocessing if augmentation is None else replace(preprocessing, resize=None)
        self._pixel_weights, self._sampler = pixel_weights, sampler
        self._cache, self._seed = cache, seed
        if not self._source.reads_plainly(samples[0].image) and cache:
            raise DataError(
                f"{samples[0].image}: is read by windows or slices, or with input.bands as a list, input.nodata or "
                f"input.clip, which input.cache does not work with; allowed: "
                "leave it out"
            )
        crop = augmentation.crop if augmentation is not None else None
        self._any_size = bool(crop or preprocessing.resize)
        first = crop or preprocessing.resize or load_pair(samples[0], labels, encoding, preprocessing)[1].shape
        self.size: tuple[int, int] = (first[0], first[1])

    def __call__(self, draw: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, ...]:
        """Writes the image to `out` (H, W, bands) float32; returns mask (H, W[, K]) uint8[, weights (H, W) float32]."""
        epoch, index, crop, centre = (int(value) for value in draw)
        sample = self._samples[index]
        if self._augmentation is not None and not self._source.reads_plainly(sample.image):
            return self._of_source(self._augmentation, index, centre, sample_seed(self._seed, epoch, index, crop), out)
        image, mask = self._pair(index)
        self._check_size(sample, mask.shape[:2])
        maps = [] if self._pixel_weights is None else [self._pixel_weights(sample.mask, mask)]
        if self._augmentation is None:
            self._preprocessing.prepare(image, out=out)
            return mask, *maps
        seed = sample_seed(self._seed, epoch, index, crop)
        target = self._sampler.target(index, centre, seed) if self._sampler else None
        drawn = self._augmentation.draw(mask.shape[:2], seed, target)
        self._augmentation.check_stored(image.dtype, sample.image)
        image = self._preprocessing.augmentable(image)
        image, mask, *maps = self._augmentation.apply(drawn, image, mask, *maps)
        self._preprocessing.prepare(image, out=out)
        return mask, *maps

    def _of_source(
        self, augmentation: Augmentation, index: int, centre: int, seed: int, out: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Of a sample that is read by windows."""
        source = SampleSource(self._samples[index], self._labels, self._encoding, self._source, self._pixel_weights)
        self._check_size(source.sample, source.shape)
        target = self._sampler.target(index, centre, seed) if self._sampler else None
        pixels, missing = augmentation.of_source(source, seed, target)
        self._preprocessing.prepare(pixels.image, missing, out)
        return (pixels.mask,) if pixels.weights is None else (pixels.mask, pixels.weights)

    def _check_size(self, sample: Sample, shape: tuple[int, ...]) -> None:
        if not self._any_size and shape != self.size:
            raise DataError(
                f"{sample.image} is {shape[0]} x {shape[1]} (height x width) but {self._samples[0].image} is "
                f"{self.size[0]} x {self.size[1]}; allowed: one size for all training images, or set input.crop or "
                "input.resize"
            )

    def _pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self._samples[index]

        def load() -> tuple[np.ndarray, np.ndarray]:
            return load_pair(sample, self._labels, self._encoding, self._source)

        return load() if self._cache is None else self._cache(sample.image, sample.mask, load)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"
