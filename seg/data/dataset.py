"""Samples to batches: one deterministic tf.data stream for training, one finite pass for evaluation.

Every random choice follows from (run seed, epoch, sample, crop) alone. So the number of workers changes nothing, and a
run resumed at an epoch sees the batches that the uninterrupted run had from there.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import tensorflow as tf

from seg.data.images import read_image, resize_image, resize_mask, unit_range
from seg.data.masks import MaskEncoding, read_mask
from seg.data.samples import Sample
from seg.errors import DataError
from seg.labels import LabelSet

if TYPE_CHECKING:  # evaluation and prediction need no albumentations, whose import takes a second
    from seg.data.transforms import Augmentation

cv2.setNumThreads(0)  # tf.data runs one image a thread; OpenCV's own threads would only compete with them

PREFETCHED_BATCHES = 2


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to what the model sees: (value / max_value - mean) / std, after resizing.

    Attributes:
        bands: 1 (gray) or 3 (RGB).
        resize: (height, width) of every image and mask; None keeps their sizes.
        max_value: The image value that becomes 1; None: 255 for 8-bit files, 65535 for 16-bit ones.
        mean: One value a band, in units of [0, 1].
        std: The same.
    """

    bands: int
    resize: tuple[int, int] | None
    max_value: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.bands:
            raise ValueError(f"got {len(self.mean)} means and {len(self.std)} stds for {self.bands} bands")

    def read(self, path: Path) -> np.ndarray:
        """The image, resized: (H, W, bands) uint8 or uint16."""
        return self.resized(read_image(path, self.bands))

    def resized(self, image: np.ndarray) -> np.ndarray:
        """`image` (H, W, bands) at the size of `resize`."""
        return image if self.resize is None else resize_image(image, self.resize)

    def augmentable(self, image: np.ndarray) -> np.ndarray:
        """The same values as augmentation takes them: uint8 where that loses nothing, else float32 in [0, 1]."""
        if image.dtype == np.float32 or (image.dtype == np.uint8 and self.max_value in (None, 255)):
            return image
        return unit_range(image, self.max_value)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """What the model sees, (H, W, bands) float32.

        Args:
            image: What `read` returned, uint8 or uint16, or what `augmentable` did, uint8 or float32 in [0, 1].
        """
        image = self.augmentable(image)
        one = 255.0 if image.dtype == np.uint8 else 1.0
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        height, width, bands = image.shape
        # One multiply-add over whole rows: NumPy's broadcast over a last axis of 3 takes 9 times as long.
        scale = np.tile((1.0 / (one * std)).astype(np.float32), width)
        offset = np.tile((-mean / std).astype(np.float32), width)
        rows = np.multiply(image.reshape(height, width * bands), scale, dtype=np.float32)
        rows += offset
        return rows.reshape(height, width, bands)

    def picture(self, inputs: np.ndarray) -> np.ndarray:
        """What `prepare` made of an image, as the values in [0, 1] that it was made from: (H, W, bands) float32."""
        return np.clip(inputs * np.float32(self.std) + np.float32(self.mean), 0, 1)


def sample_seed(run_seed: int, epoch: int, sample_index: int, crop_index: int) -> int:
    """A 64-bit seed for one draw: of a million draws, two are equal with probability 3e-8."""
    sequence = np.random.SeedSequence((run_seed, epoch, sample_index, crop_index))
    return int(sequence.generate_state(1, np.uint64)[0])


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch: a permutation of range(num_samples), int64, fixed by (seed, epoch)."""
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


def steps_per_epoch(num_samples: int, batch_size: int, crops_per_image: int = 1) -> int:
    """Whole batches in an epoch; the samples left over come in another epoch's order.

    Raises:
        DataError: There is not one whole batch.
    """
    crops = num_samples * crops_per_image
    if crops < batch_size:
        raise DataError(
            f"the training split has {num_samples} samples, {crops_per_image} crops each, fewer than one batch: "
            f"got batch_size {batch_size}, allowed: 1 to {crops}"
        )
    return crops // batch_size


def load_pair(
    sample: Sample, labels: LabelSet, encoding: MaskEncoding, preprocessing: Preprocessing
) -> tuple[np.ndarray, np.ndarray]:
    """Reads an image and its mask.

    Returns:
        (H, W, bands) uint8 or uint16 and (H, W) uint8 class indices or void, both resized.

    Raises:
        DataError: A file is broken, a label is unknown, or the two sizes differ.
    """
    image = read_image(sample.image, preprocessing.bands)
    mask = read_mask(sample.mask, labels, encoding)
    if image.shape[:2] != mask.shape:
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
    pixel_weights: Callable[[Path, np.ndarray], np.ndarray] | None = None,
    batch_size: int,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
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
        batch_size: Samples in a batch; an epoch is cut to whole batches.
        seed: The run's seed.
        epochs: The epoch to stop before.
        first_epoch: Where to begin; later than 0 when a run is resumed.
        crops_per_image: How often an epoch draws from each image.
        workers: Images prepared at a time; None: one a core. The batches do not depend on it.

    Returns:
        A dataset of (images (N, H, W, bands) float32, labels (N, H, W) uint8[, weights (N, H, W) float32]).

    Raises:
        DataError: Fewer samples than a batch, or the first sample is broken. Later samples fail while iterating: use
            `user_errors`.
    """
    steps = steps_per_epoch(len(samples), batch_size, crops_per_image)
    crop = augmentation.crop if augmentation is not None else None
    if augmentation is not None and augmentation.resize != preprocessing.resize:
        raise ValueError(
            f"got resize {preprocessing.resize} and the augmentation's {augmentation.resize}, allowed: equal"
        )
    source = preprocessing if augmentation is None else replace(preprocessing, resize=None)
    size = crop or preprocessing.resize or load_pair(samples[0], labels, encoding, preprocessing)[1].shape

    def epoch_draws(epoch: np.int64) -> np.ndarray:
        order = epoch_order(len(samples) * crops_per_image, seed, int(epoch))[: steps * batch_size]
        return np.stack([np.full_like(order, epoch), order // crops_per_image, order % crops_per_image], axis=1)

    def load(draw: np.ndarray) -> tuple[np.ndarray, ...]:
        epoch, index, crop_index = (int(value) for value in draw)
        image, mask = load_pair(samples[index], labels, encoding, source)
        if crop is None and preprocessing.resize is None and mask.shape != size:
            raise DataError(
                f"{samples[index].image} is {_size(mask)} (height x width) but {samples[0].image} is "
                f"{size[0]} x {size[1]}; allowed: one size for all training images, or set input.crop or input.resize"
            )
        maps = [mask] if pixel_weights is None else [mask, pixel_weights(samples[index].mask, mask)]
        if augmentation is not None:
            image = preprocessing.augmentable(image)
            image, *maps = augmentation(image, mask, sample_seed(seed, epoch, index, crop_index), *maps[1:])
        return preprocessing.prepare(image), *maps

    def epoch_dataset(epoch: tf.Tensor) -> tf.data.Dataset:
        draws = tf.numpy_function(epoch_draws, [epoch], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(draws, (steps * batch_size, 3)))

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_dataset)
    dataset = dataset.map(
        _tensor_loader(load, (*size, preprocessing.bands), weighted=pixel_weights is not None),
        num_parallel_calls=workers or os.cpu_count(),
        deterministic=True,
    )
    dataset = dataset.batch(batch_size, drop_remainder=True).prefetch(PREFETCHED_BATCHES)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps * max(epochs - first_epoch, 0)))


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
    batches hold one image, whatever `batch_size` says.

    Returns:
        A dataset of (images (N, H, W, bands) float32, labels (N, H, W) uint8); the last batch may be smaller.
    """

    def load(index: np.int64) -> tuple[np.ndarray, np.ndarray]:
        image, mask = load_pair(samples[int(index)], labels, encoding, preprocessing)
        return preprocessing.prepare(image), mask

    dataset = tf.data.Dataset.range(len(samples)).map(
        _tensor_loader(load, (*(preprocessing.resize or (None, None)), preprocessing.bands)),
        num_parallel_calls=workers or os.cpu_count(),
        deterministic=True,
    )
    return dataset.batch(batch_size if preprocessing.resize else 1).prefetch(PREFETCHED_BATCHES)


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
    load: Callable[[Any], tuple[np.ndarray, ...]], shape: tuple[int | None, ...], *, weighted: bool = False
) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """`load` as a function of tensors, its image of the static `shape` (H, W, bands), its errors kept.

    `load` gives an image and its mask, and if `weighted` the mask's weights.
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
        return tf.ensure_shape(image, shape), *(tf.ensure_shape(each, shape[:2]) for each in maps)

    return load_tensors


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"
