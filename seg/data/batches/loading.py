"""Samples to arrays: whole pairs, the views of an evaluation, the draws of a training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from seg.data.files.images import resize_mask
from seg.data.files.reading import read_values
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.data.samples.pairs import Sample
from seg.data.sampling.draws import epoch_draws, sample_seed
from seg.data.views.crop_transform import Target
from seg.data.views.preprocessing import Preprocessing
from seg.data.views.sources import PixelWeights, SampleSource, View
from seg.errors import DataError
from seg.labels import LabelSet

if TYPE_CHECKING:  # evaluation and prediction need no albumentations, whose import takes a second
    from seg.data.batches.pixel_cache import PixelCache
    from seg.data.sampling.sampler import Sampler
    from seg.data.views.transforms import Augmentation

cv2.setNumThreads(0)  # images are loaded one a thread; OpenCV's own threads would only compete with them


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


class Plan(NamedTuple):
    """One draw, with everything random about it: what makes its arrays needs neither the run's seed nor its sampler.

    Attributes:
        sample: Its index.
        seed: Of the augmentation.
        target: The pixel that the crop must show, or None.
    """

    sample: int
    seed: int
    target: Target | None


@dataclass(frozen=True)
class Drawing:
    """What a run draws, see `seg.data.sampling.draws`.

    Attributes:
        num_samples: Of the training split.
        crops_per_image: How often an epoch draws from each.
        seed: The run's.
        sampler: What draws in place of that, or None.
    """

    num_samples: int
    crops_per_image: int
    seed: int
    sampler: Sampler | None

    def draws(self, epoch: int, count: int) -> np.ndarray:
        """The first `count` draws of an epoch, (count, 3) int64 of (sample, crop, centre class)."""
        if self.sampler is None:
            return epoch_draws(self.num_samples, self.crops_per_image, self.seed, epoch, count)
        return self.sampler.draws(self.seed, epoch, count, self.crops_per_image)

    def plans(self, draws: np.ndarray) -> list[Plan]:
        """Of (N, 4) draws, each behind its epoch."""
        return [self._plan(*draw) for draw in draws.tolist()]

    def _plan(self, epoch: int, index: int, crop: int, centre: int) -> Plan:
        seed = sample_seed(self.seed, epoch, index, crop)
        return Plan(index, seed, self.sampler.target(index, centre, seed) if self.sampler else None)


class TrainingLoader:
    """From a plan to what the model is trained on; safe for threads, and pickled to worker processes.

    Attributes:
        size: (height, width) of what it gives.
        preprocessing: What its images still have to go through where they are uint8.
        mask_axes: Of a mask, behind height and width.
        weighted: Whether it gives pixel weights.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: LabelSet,
        encoding: MaskEncoding,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None,
        pixel_weights: PixelWeights | None,
        cache: PixelCache | None,
    ) -> None:
        """Reads the first sample; the arguments are those of `training_batches`."""
        if augmentation is not None and augmentation.resize != preprocessing.resize:
            raise ValueError(
                f"got resize {preprocessing.resize} and the augmentation's {augmentation.resize}, allowed: equal"
            )
        self._samples, self._labels, self._encoding = samples, labels, encoding
        self.preprocessing, self._augmentation = preprocessing, augmentation
        self._source = preprocessing if augmentation is None else replace(preprocessing, resize=None)
        self._pixel_weights, self.cache = pixel_weights, cache
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
        self.mask_axes, self.weighted = labels.mask_axes, pixel_weights is not None

    def divided(self, workers: int) -> TrainingLoader:
        """The same for each of as many processes, whose caches together keep no more than this one may."""
        divided = copy.copy(self)
        if self.cache is not None:
            divided.cache = self.cache.divided(workers)
        return divided

    def __call__(self, plan: Plan) -> tuple[np.ndarray, ...]:
        """The image (H, W, bands): uint8, which `preprocessing.prepare` still makes the model's input of, or float32,
        which is the model's input; the mask (H, W[, K]) uint8[, weights (H, W) float32]."""
        sample = self._samples[plan.sample]
        if self._augmentation is not None and not self._source.reads_plainly(sample.image):
            return self._of_source(self._augmentation, plan)
        image, mask = self._pair(plan.sample)
        self._check_size(sample, mask.shape[:2])
        maps = [] if self._pixel_weights is None else [self._pixel_weights(sample.mask, mask)]
        if self._augmentation is not None:
            drawn = self._augmentation.draw(mask.shape[:2], plan.seed, plan.target)
            self._augmentation.check_stored(image.dtype, sample.image)
            image = self.preprocessing.augmentable(image)
            image, mask, *maps = self._augmentation.apply(drawn, image, mask, *maps)
        return self._shown(image), mask, *maps

    def _shown(self, image: np.ndarray, missing: np.ndarray | None = None) -> np.ndarray:
        image = self.preprocessing.augmentable(image)
        return image if image.dtype == np.uint8 and missing is None else self.preprocessing.prepare(image, missing)

    def _of_source(self, augmentation: Augmentation, plan: Plan) -> tuple[np.ndarray, ...]:
        """Of a sample that is read by windows."""
        source = SampleSource(
            self._samples[plan.sample], self._labels, self._encoding, self._source, self._pixel_weights
        )
        self._check_size(source.sample, source.shape)
        pixels, missing = augmentation.of_source(source, plan.seed, plan.target)
        image = self._shown(pixels.image, missing if missing.any() else None)
        return (image, pixels.mask) if pixels.weights is None else (image, pixels.mask, pixels.weights)

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

        return load() if self.cache is None else self.cache(sample.image, sample.mask, load)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"
