"""Samples to batches: one deterministic tf.data stream for training, one finite pass for evaluation.

Every random choice follows from (run seed, epoch, sample, crop) alone. So the number of workers changes nothing, and a
stream begun at any step of any epoch has the batches that the uninterrupted one had from there.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import tensorflow as tf

from seg.data.batch_memory import BatchMemory
from seg.data.draws import epoch_draws, sample_seed, steps_per_epoch
from seg.data.images import read_image, resize_mask
from seg.data.masks import MaskEncoding, read_mask
from seg.data.preprocessing import Preprocessing as Preprocessing
from seg.data.samples import Sample
from seg.data.sources import PixelWeights, SampleSource, View, evaluation_views
from seg.errors import DataError
from seg.labels import LabelSet

if TYPE_CHECKING:  # evaluation and prediction need no albumentations, whose import takes a second
    from seg.data.copy_paste import CopyPaste
    from seg.data.pixel_cache import PixelCache
    from seg.data.sampler import Sampler
    from seg.data.transforms import Augmentation

cv2.setNumThreads(0)  # tf.data runs one image a thread; OpenCV's own threads would only compete with them

PREFETCHED_BATCHES = 2
LOADED_BATCHES = 2  # under way at a time, so that no thread waits for the last image of one


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
    assert isinstance(sample.image, Path)  # a slice is not read plainly
    image = read_image(sample.image, preprocessing.bands)
    mask = read_mask(sample.mask, labels, encoding)
    if image.shape[:2] != mask.shape[:2]:
        raise DataError(
            f"{sample.image} is {_size(image)} (height x width) but its mask {sample.mask} is {_size(mask)}; "
            "allowed: the same size"
        )
    if preprocessing.resize is not None:
        mask = resize_mask(mask, preprocessing.resize)
    return preprocessing.resized(image), mask


def training_batches(
    samples: Sequence[Sample],
    labels: LabelSet,
    encoding: MaskEncoding,
    preprocessing: Preprocessing,
    augmentation: Augmentation | None,
    *,
    pixel_weights: PixelWeights | None = None,
    sampler: Sampler | None = None,
    copy_paste: CopyPaste | None = None,
    cache: PixelCache | None = None,
    batch_size: int,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
    first_step: int = 0,
    crops_per_image: int = 1,
    workers: int | None = None,
) -> tf.data.Dataset:
    """One continuous stream of the batches of epochs `first_epoch` to `epochs` - 1.

    For `model.fit(..., epochs=epochs, initial_epoch=first_epoch, steps_per_epoch=steps_per_epoch(...),
    shuffle=False)` (Keras warns without the last).

    Args:
        samples: The training samples.
        labels: Their classes.
        encoding: How their masks store them.
        preprocessing: Resizing and normalisation.
        augmentation: Random changes and crops, or None.
        pixel_weights: From a mask's path and the mask to its pixels' weights (H, W) float32, moved as it is; or None.
        sampler: Which samples are drawn and where their crops are aimed; None: each as often, anywhere.
        copy_paste: Objects of other samples to paste; None: none. Needs an augmentation.
        cache: Where decoded files are kept; None: nowhere.
        batch_size: Samples in a batch; an epoch is cut to whole batches.
        seed: The run's seed.
        epochs: The epoch to stop before.
        first_epoch: Where to begin; later than 0 when a run is resumed.
        first_step: The step of that epoch to begin at.
        crops_per_image: How often an epoch draws from each image; with a sampler, on average.
        workers: Images prepared at a time; None: one a core. The batches do not depend on it.

    Returns:
        A dataset of (images (N, H, W, bands) float32, labels (N, H, W) uint8[, weights (N, H, W) float32]); multi-label
        classes have labels (N, H, W, K).

    Raises:
        DataError: Fewer samples than a batch, or the first sample is broken. Later samples fail while iterating: use
            `user_errors`.
    """
    steps = steps_per_epoch(len(samples), batch_size, crops_per_image)
    if not 0 <= first_step < steps:
        raise ValueError(f"first_step: got {first_step}, allowed: 0 to {steps - 1}")
    load = TrainingLoader(
        samples, labels, encoding, preprocessing, augmentation, pixel_weights, sampler, copy_paste, cache, seed
    )

    def drawn(epoch: np.int64) -> np.ndarray:
        count = steps * batch_size
        if sampler is None:
            return epoch_draws(len(samples), crops_per_image, seed, int(epoch), count)
        return sampler.draws(seed, int(epoch), count, crops_per_image)

    def epoch_dataset(epoch: tf.Tensor) -> tf.data.Dataset:
        draws = tf.ensure_shape(tf.numpy_function(drawn, [epoch], tf.int64), (steps * batch_size, 3))
        draws = tf.concat([tf.fill((steps * batch_size, 1), epoch), draws], axis=1)
        begin = tf.where(epoch == first_epoch, tf.constant(first_step * batch_size, tf.int64), 0)
        return tf.data.Dataset.from_tensor_slices(draws).skip(begin).batch(batch_size, drop_remainder=True)

    # Whole batches come from Python, in one array that TensorFlow takes as it is: handing it image by image, with
    # tf.data's own batching behind it, copies every pixel twice more and costs as much as decoding.
    shape = (batch_size, *load.size, preprocessing.bands)
    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_dataset)
    dataset = dataset.map(
        _tensor_loader(
            BatchLoader(load, preprocessing.bands, workers),
            shape,
            labels.mask_axes,
            weighted=pixel_weights is not None,
        ),
        num_parallel_calls=LOADED_BATCHES,
        deterministic=True,
    ).prefetch(PREFETCHED_BATCHES)
    left = max(0, steps * (epochs - first_epoch) - first_step)
    return dataset.apply(tf.data.experimental.assert_cardinality(left))


class BatchLoader:
    """From the draws of a batch (N, 4) to its arrays, made by a pool of threads; safe for threads itself."""

    def __init__(self, load: TrainingLoader, bands: int, workers: int | None) -> None:
        """`load` makes one draw's arrays."""
        self._load, self._bands = load, bands
        self._memory: dict[int, BatchMemory] = {}
        self._pool = ThreadPoolExecutor(workers or os.cpu_count(), "loading")

    def __call__(self, draws: np.ndarray) -> tuple[np.ndarray, ...]:
        """(images (N, H, W, bands) float32, masks (N, H, W[, K]) uint8[, weights (N, H, W) float32])."""
        shape = (len(draws), *self._load.size, self._bands)
        images = self._memory.setdefault(len(draws), BatchMemory(shape)).take()
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


class TrainingLoader:
    """From a draw (epoch, sample, crop, aimed class) to what the model is trained on; safe for threads.

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
        copy_paste: CopyPaste | None,
        cache: PixelCache | None,
        seed: int,
    ) -> None:
        """Reads the first sample; the arguments are those of `training_batches`."""
        if augmentation is not None and augmentation.resize != preprocessing.resize:
            raise ValueError(
                f"got resize {preprocessing.resize} and the augmentation's {augmentation.resize}, allowed: equal"
            )
        if augmentation is None and (copy_paste or (sampler and sampler.crops)):
            raise ValueError("got aimed crops or copy_paste without an augmentation, allowed: with one")
        self._samples, self._labels, self._encoding = samples, labels, encoding
        self._preprocessing, self._augmentation = preprocessing, augmentation
        self._source = preprocessing if augmentation is None else replace(preprocessing, resize=None)
        self._pixel_weights, self._sampler, self._copy_paste = pixel_weights, sampler, copy_paste
        self._cache, self._seed = cache, seed
        if not self._source.reads_plainly(samples[0].image) and (cache or copy_paste):
            raise DataError(
                f"{samples[0].image}: is read by windows or slices, or with input.bands as a list, input.nodata or "
                f"input.clip, which {'input.cache' if cache else 'sampler.copy_paste'} does not work with; allowed: "
                "leave it out"
            )
        crop = augmentation.crop if augmentation is not None else None
        self._any_size = bool(crop or preprocessing.resize)
        first = crop or preprocessing.resize or load_pair(samples[0], labels, encoding, preprocessing)[1].shape
        self.size: tuple[int, int] = (first[0], first[1])

    def __call__(self, draw: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, ...]:
        """Writes the image to `out` (H, W, bands) float32; returns mask (H, W[, K]) uint8[, weights (H, W) float32]."""
        epoch, index, crop, aim = (int(value) for value in draw)
        sample = self._samples[index]
        if self._augmentation is not None and not self._source.reads_plainly(sample.image):
            return self._of_source(self._augmentation, index, aim, sample_seed(self._seed, epoch, index, crop), out)
        image, mask = self._pair(index)
        self._check_size(sample, mask.shape[:2])
        maps = [] if self._pixel_weights is None else [self._pixel_weights(sample.mask, mask)]
        if self._augmentation is None:
            self._preprocessing.prepare(image, out=out)
            return mask, *maps
        seed = sample_seed(self._seed, epoch, index, crop)
        target = self._sampler.target(index, aim, seed) if self._sampler else None
        drawn = self._augmentation.draw(mask.shape[:2], seed, target)
        self._augmentation.check_stored(image.dtype, sample.image)
        image = self._preprocessing.augmentable(image)
        if self._copy_paste is not None:
            image, mask, _ = self._copy_paste((image, mask), index, seed, drawn.frame, self._augmentable_pair)
        image, mask, *maps = self._augmentation.apply(drawn, image, mask, *maps)
        self._preprocessing.prepare(image, out=out)
        return mask, *maps

    def _of_source(
        self, augmentation: Augmentation, index: int, aim: int, seed: int, out: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Of a sample that is read by windows."""
        source = SampleSource(self._samples[index], self._labels, self._encoding, self._source, self._pixel_weights)
        self._check_size(source.sample, source.shape)
        target = self._sampler.target(index, aim, seed) if self._sampler else None
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

    def _augmentable_pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self._pair(index)
        return self._preprocessing.augmentable(image), mask


def evaluation_batches(
    samples: Sequence[Sample],
    labels: LabelSet,
    encoding: MaskEncoding,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int | None = None,
) -> tf.data.Dataset:
    """One pass over `samples`, whole images in their order, nothing dropped and nothing random.

    Without `preprocessing.resize` the images may differ in size, and padding them to one would invent pixels: then
    batches hold one image, whatever `batch_size` says; and large rasters come in tiles whose margins, there for the
    model to see, are void (`seg.data.sources.evaluation_views`).

    Returns:
        A dataset of (images (N, H, W, bands) float32, labels (N, H, W[, K]) uint8); the last batch may be smaller.
    """
    views = evaluation_views(samples, preprocessing)

    def load(index: np.int64) -> tuple[np.ndarray, np.ndarray]:
        return load_view(views[int(index)], labels, encoding, preprocessing)[1:]

    dataset = tf.data.Dataset.range(len(views)).map(
        _tensor_loader(load, (*(preprocessing.resize or (None, None)), preprocessing.bands), labels.mask_axes),
        num_parallel_calls=workers or os.cpu_count(),
        deterministic=True,
    )
    return dataset.batch(batch_size if preprocessing.resize else 1).prefetch(PREFETCHED_BATCHES)


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


@contextmanager
def user_errors() -> Iterator[None]:
    """Raises what a sample's loading raised, a DataError say, in place of TensorFlow's report of it.

    TensorFlow turns an exception inside a pipeline into its own, of another type, with traces of both in its text.

    Example:
        with user_errors():
            model.fit(batches)
    """
    try:
        yield
    except Exception as error:
        number = re.search(_ERROR_MARK.format(r"(\d+)"), str(error))
        original = _loading_errors.pop(int(number[1]), None) if number else None
        if original is None:
            raise
        raise original from None


# What `user_errors` looks up, by the number in the message: the text is all of an exception that survives TensorFlow.
_loading_errors: dict[int, Exception] = {}
_error_numbers = itertools.count(1)
_ERROR_MARK = "<loading error {}>"


def _tensor_loader(
    load: Callable[[Any], tuple[np.ndarray, ...]],
    shape: tuple[int | None, ...],
    mask_axes: tuple[int, ...],
    *,
    weighted: bool = False,
) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """`load` as a function of tensors, its images of the static `shape` ([N, ]H, W, bands), its errors kept.

    `load` gives images and their masks ([N, ]H, W, *mask_axes), and if `weighted` the weights ([N, ]H, W) of their
    pixels.
    """
    dtypes = (tf.float32, tf.uint8, tf.float32) if weighted else (tf.float32, tf.uint8)

    def load_or_record(key: Any) -> tuple[np.ndarray, ...]:
        try:
            return load(key)
        except Exception as error:
            number = next(_error_numbers)
            _loading_errors[number] = error
            raise RuntimeError(f"{error} {_ERROR_MARK.format(number)}") from error

    def load_tensors(key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image, *maps = tf.numpy_function(load_or_record, [key], dtypes)
        shapes = ((*shape[:-1], *mask_axes), shape[:-1])
        return tf.ensure_shape(image, shape), *map(tf.ensure_shape, maps, shapes)

    return load_tensors


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"
