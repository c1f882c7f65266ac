"""Samples to batches: one deterministic tf.data stream for training, one finite pass for evaluation.

Every random choice follows from (run seed, epoch, sample, crop) alone. So the number of workers changes nothing, and a
stream begun at any step of any epoch has the batches that the uninterrupted one had from there.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf

from seg.data.batches.loading import Drawing, TrainingLoader, load_view
from seg.data.batches.processes import NotImportable, ProcessLoader
from seg.data.batches.shares import ALL, Share
from seg.data.batches.threads import ThreadLoader
from seg.data.masks.reading import MaskEncoding
from seg.data.samples.pairs import Sample
from seg.data.sampling.draws import steps_per_epoch
from seg.data.views.preprocessing import Preprocessing
from seg.data.views.sources import PixelWeights, evaluation_views
from seg.labels import LabelSet

if TYPE_CHECKING:  # evaluation and prediction need no albumentations, whose import takes a second
    from seg.data.batches.pixel_cache import PixelCache
    from seg.data.sampling.sampler import Sampler
    from seg.data.views.transforms import Augmentation

PREFETCHED_BATCHES = 2
QUIET = 0.02  # seconds without a call after which a stream that was left has filled its buffers
LONGEST_END = 5.0  # seconds, should a sample take that long
EMPTY_SIZE = (32, 32)  # of a batch without images: a side that any depth of network halves


def training_batches(
    samples: Sequence[Sample],
    labels: LabelSet,
    encoding: MaskEncoding,
    preprocessing: Preprocessing,
    augmentation: Augmentation | None,
    *,
    pixel_weights: PixelWeights | None = None,
    sampler: Sampler | None = None,
    cache: PixelCache | None = None,
    batch_size: int,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
    first_step: int = 0,
    crops_per_image: int = 1,
    workers: int | None = None,
    loading: Literal["auto", "threads", "processes"] = "auto",
    share: Share = ALL,
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
        sampler: Which samples are drawn and where their crops are class-centred; None: each as often, anywhere.
        cache: Where decoded files are kept; None: nowhere.
        batch_size: Samples in a batch; an epoch is cut to whole batches.
        seed: The run's seed.
        epochs: The epoch to stop before.
        first_epoch: Where to begin; later than 0 when a run is resumed.
        first_step: The step of that epoch to begin at.
        crops_per_image: How often an epoch draws from each image; with a sampler, on average.
        workers: Images prepared at a time; None: one a core. The batches do not depend on it.
        loading: By threads of this process or by processes, which share no lock but take a second to start, and a
            function in `pixel_weights` that other processes can import. auto: by processes where TensorFlow has a GPU,
            whose steps are too fast for threads.
        share: Whose parts of the batches come, one after the other; only they are loaded.

    Returns:
        A dataset of (images (N, H, W, bands) float32, labels (N, H, W[, K]) uint8[, weights (N, H, W) float32]).

    Raises:
        DataError: Fewer samples than a batch, or the first sample is broken. Later samples fail while iterating: use
            `user_errors`.
        SegError: The system lets no more processes start.
        ValueError: Settings that do not go together.
    """
    steps = steps_per_epoch(len(samples), batch_size, crops_per_image)
    if not 0 <= first_step < steps:
        raise ValueError(f"first_step: got {first_step}, allowed: 0 to {steps - 1}")
    if augmentation is None and sampler and sampler.crops:
        raise ValueError("got class-centred crops without an augmentation, allowed: with one")
    load = TrainingLoader(samples, labels, encoding, preprocessing, augmentation, pixel_weights, cache)
    drawing = Drawing(len(samples), crops_per_image, seed, sampler)
    part_size = share.part_size(batch_size)
    loader = _batch_loader(load, part_size, workers or os.cpu_count() or 1, loading)
    # Whole batches, which TensorFlow takes as they are: batched by tf.data, pixels are copied twice more.
    shape, weighted = (part_size, *load.size, preprocessing.bands), pixel_weights is not None
    load_tensors = _tensor_loader(lambda of: loader(drawing.plans(of)), shape, labels.mask_axes, weighted=weighted)
    dataset = (
        _draw_batches(drawing, steps, batch_size, range(first_epoch, epochs), first_step)
        .flat_map(lambda draws: tf.data.Dataset.from_tensor_slices(share.parts(draws)))
        .map(load_tensors, num_parallel_calls=loader.calls, deterministic=True)
        .prefetch(PREFETCHED_BATCHES)
    )
    if first_epoch == first_step == 0:  # else Keras, which counts steps that are done too, would end too early
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps * epochs * share.number))
    # Calls that wait for workers must not take the threads that the training step runs on.
    return not_tuned(dataset, threads=loader.calls + 1)


def _batch_loader(
    load: TrainingLoader, batch_size: int, workers: int, loading: Literal["auto", "threads", "processes"]
) -> ProcessLoader | ThreadLoader:
    if loading == "threads" or (loading == "auto" and not tf.config.get_visible_devices("GPU")):
        return ThreadLoader(load, workers)
    try:
        return ProcessLoader(load, batch_size, workers)
    except NotImportable:
        if loading == "processes":
            raise
        return ThreadLoader(load, workers)


def _draw_batches(drawing: Drawing, steps: int, batch_size: int, epochs: range, first_step: int) -> tf.data.Dataset:
    """The (epoch, sample, crop, centre class) of each batch, (batch_size, 4) int64, from `first_step` of the first
    epoch on."""

    def drawn(epoch: np.int64) -> np.ndarray:
        with _calls:
            return drawing.draws(int(epoch), steps * batch_size)

    def epoch_dataset(epoch: tf.Tensor) -> tf.data.Dataset:
        draws = tf.ensure_shape(tf.numpy_function(drawn, [epoch], tf.int64), (steps * batch_size, 3))
        draws = tf.concat([tf.fill((steps * batch_size, 1), epoch), draws], axis=1)
        begin = tf.where(epoch == epochs.start, tf.constant(first_step * batch_size, tf.int64), 0)
        return tf.data.Dataset.from_tensor_slices(draws).skip(begin).batch(batch_size, drop_remainder=True)

    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch_dataset)


def evaluation_batches(
    samples: Sequence[Sample],
    labels: LabelSet,
    encoding: MaskEncoding,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int | None = None,
    share: Share = ALL,
) -> tf.data.Dataset:
    """One pass over `samples`, whole images in their order, nothing dropped and nothing random.

    Without `preprocessing.resize` the images may differ in size, and padding them to one would invent pixels: then
    batches hold one image, whatever `batch_size` says; and large rasters come in tiles whose margins, there for the
    model to see, are void (`seg.data.views.sources.evaluation_views`).

    With a `share`, whole batches go round the replicas, so that each is made and scored as on one. The replicas that
    the last round has no batch for get one of no images.

    Returns:
        A dataset of (images (N, H, W, bands) float32, labels (N, H, W[, K]) uint8); the last batch may be smaller.
    """
    views = evaluation_views(samples, preprocessing)
    size = batch_size if preprocessing.resize else 1
    mine, num_empty = share.of_evaluation(len(views), size)

    def load(index: np.int64) -> tuple[np.ndarray, np.ndarray]:
        return load_view(views[int(index)], labels, encoding, preprocessing)[1:]

    shape = (*(preprocessing.resize or (None, None)), preprocessing.bands)
    dataset = tf.data.Dataset.from_tensor_slices(mine).map(
        _tensor_loader(load, shape, labels.mask_axes),
        num_parallel_calls=workers or os.cpu_count(),
        deterministic=True,
    )
    dataset = dataset.batch(size)
    if num_empty:
        height, width = preprocessing.resize or EMPTY_SIZE
        empty = (
            tf.zeros((0, height, width, preprocessing.bands)),
            tf.zeros((0, height, width, *labels.mask_axes), tf.uint8),
        )
        dataset = dataset.concatenate(tf.data.Dataset.from_tensors(empty).repeat(num_empty))
    return not_tuned(dataset.prefetch(PREFETCHED_BATCHES))


def not_tuned(dataset: tf.data.Dataset, threads: int | None = None) -> tf.data.Dataset:
    """The dataset, with `threads` of its own or TensorFlow's, without tf.data's tuning: there is nothing to tune, and
    its thread is waited for, for up to 0.8 s, whenever an iterator ends, as at the end of each validation."""
    options = tf.data.Options()
    options.autotune.enabled = False
    if threads is not None:
        options.threading.private_threadpool_size = threads
    return dataset.with_options(options)


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
        # The stream dies here, in the caller's thread. Kept alive by a traceback it would be garbage some day, and if
        # one of its own threads collects it, that thread waits for itself for ever.
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        try:
            raise original from None
        finally:
            del original  # its traceback holds this frame


# What `user_errors` looks up, by the number in the message: the text is all of an exception that survives TensorFlow.
_loading_errors: dict[int, Exception] = {}
_error_numbers = itertools.count(1)
_ERROR_MARK = "<loading error {}>"


class _Calls:
    """The Python calls that TensorFlow's threads make to load samples. No garbage is collected while any is inside.

    Garbage is collected in whichever thread happens to allocate. Where that is one that loads samples for an abandoned
    stream, and the stream is in the garbage, its destruction waits for the thread that destroys it.

    Attributes:
        ending: Python is at its end, and no one will see what is loaded.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._was_on = threading.Lock(), 0, True
        self._left, self.ending = time.monotonic(), False

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._was_on = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            self._left = time.monotonic()
            if self._inside == 0 and self._was_on:
                gc.enable()

    def end(self) -> None:
        """Waits until a stream that was left has filled its buffers, with anything. A thread of TensorFlow that is in
        Python when that ends would abort the process or hang it."""
        self.ending = True
        limit = time.monotonic() + LONGEST_END
        while (now := time.monotonic()) < limit and (self._inside or now < self._left + QUIET):
            time.sleep(QUIET / 10)


_calls = _Calls()
atexit.register(_calls.end)


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
    shapes = (shape, (*shape[:-1], *mask_axes), shape[:-1])
    nothing = tuple(
        np.zeros([side or 1 for side in each], dtype.as_numpy_dtype)
        for each, dtype in zip(shapes, dtypes, strict=False)  # the last two only if weighted
    )

    def load_or_record(key: Any) -> tuple[np.ndarray, ...]:
        try:
            with _calls:
                return nothing if _calls.ending else load(key)
        except Exception as error:
            number = next(_error_numbers)
            _loading_errors[number] = error
            raise RuntimeError(f"{error} {_ERROR_MARK.format(number)}") from error

    def load_tensors(key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(map(tf.ensure_shape, tf.numpy_function(load_or_record, [key], dtypes), shapes))

    return load_tensors
