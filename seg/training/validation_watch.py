"""Looks at the predictions that `fit`'s validation makes anyway: no image is predicted a second time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from seg.labels import LabelSet
from seg.losses.pixels import Tensor
from seg.metrics.pr_curve import NUM_THRESHOLDS, probability_histogram
from seg.pictures.panels import Picture, Tile, class_pixels, shrunk, stretched, worst_window
from seg.training.class_shares import class_shares, has_class_shares
from seg.training.hooks import ModelFunction

SHARES_EVERY = 4  # batches: the shares need the loss and its gradient, which cost half as much as a small model
EAGER_CALLS = 12  # of what looks at a batch, in the time of which it is traced
# Of a batch at most: more are thinned out by rows and columns, or 150 classes would fill the memory and take long.
SHARE_LOGITS = 2**18


@dataclass(frozen=True)
class Watched:
    """What is looked at. Classes are indices, samples are positions in the validation data, whose order must be fixed.

    Attributes:
        samples: Drawn each time, with their names.
        tile_classes: Whose worst tiles are kept.
        tiles: How many of each.
        curve_classes: Whose precision-recall histograms are summed.
        side: Largest height and width of a picture, in pixels.
    """

    samples: Mapping[int, str]
    tile_classes: Sequence[int]
    tiles: int
    curve_classes: Sequence[int]
    side: int
    names: Sequence[str] = ()  # of all validation samples, in order; those beyond are called by their number


@dataclass
class Findings:
    """What one validation showed.

    Attributes:
        samples: The fixed samples by name.
        worst: By class index: (wrong pixels, position, tile), the worst first.
        histograms: (K, 2, T) int64, see `probability_histogram`; None where nothing was seen.
        shares: (3, C) float64: pixels, loss and gradient by class, each sums to 1; None without a loss of `seg.losses`.
    """

    samples: dict[str, Tile] = field(default_factory=dict)
    worst: dict[int, list[tuple[int, int, Tile]]] = field(default_factory=dict)
    histograms: np.ndarray | None = None
    shares: np.ndarray | None = None


class _Seen(NamedTuple):
    """A batch whose numbers may still be being computed."""

    images: Any
    labels: Any
    prediction: Tensor
    histograms: Tensor | None
    shares: tuple[Tensor, ...] | None


class Traced:
    """A function of tensors that becomes a graph once it has been called so often that tracing pays.

    Without a graph every operation is Python in the training's thread, 10 to 100 ms a batch of a validation; to trace
    one takes longer than all looks of a short run. After as many calls as a trace takes the time of, neither choice
    can have cost more than twice the better one.
    """

    def __init__(self, function: Callable[..., Any], eager: bool = False) -> None:
        """`eager`: for good."""
        self._function, self._eager, self._calls = function, eager, 0
        self._graph = tf.function(function, reduce_retracing=True, autograph=False)

    def __call__(self, *tensors: Tensor) -> Any:
        """The function's results."""
        self._calls += 1
        return (self._function if self._eager or self._calls <= EAGER_CALLS else self._graph)(*tensors)


class ValidationWatch(ModelFunction):
    """Stands in for a model's test function while `fit` runs, and remembers what the configuration wants to see.

    The test step is the model's own (`model.test_step`), and its logs are passed on. Its logits are read where Keras
    hands them to the metrics (`model.compute_metrics`, replaced only while the step is traced).
    """

    def __init__(self, model: keras.Model, labels: LabelSet, watched: Watched, picture: Picture | None = None) -> None:
        """`picture`: from an input (H, W, bands) to what is shown of it; None: see `stretched`."""
        super().__init__(model, "test_function")
        self.labels, self.watched, self.picture = labels, watched, picture or stretched
        self.findings: Findings | None = None  # of the validation that runs or has run; None: it is not looked at
        self._step = self._logging_step(model.jit_compile)
        self._step_of_sizes = self._logging_step(False) if model.jit_compile else self._step
        self._observe = Traced(self._observed, model.run_eagerly)
        self._divide = Traced(self._shares, model.run_eagerly)
        self._position = self._batches = 0
        self._waiting: _Seen | None = None
        self._share_sums: np.ndarray | None = None

    def begin(self, look: bool) -> None:
        """Starts a validation, to be looked at or not."""
        self.findings = Findings() if look else None
        self._position = self._batches = 0
        self._waiting = self._share_sums = None

    def end(self) -> Findings | None:
        """What the validation showed, or None if it was not looked at."""
        if self.findings is None:
            return None
        self._note(None)
        if self._share_sums is not None:
            totals = self._share_sums.sum(axis=1, keepdims=True)
            self.findings.shares = np.divide(
                self._share_sums, totals, out=np.zeros_like(self._share_sums), where=totals > 0
            )
        return self.findings

    # --- the step -----------------------------------------------------------------------------------------------------
    def __call__(self, iterator: Any) -> Any:
        """What `evaluate` calls, also that of `fit`."""
        logs = None
        # XLA would compile anew for every size of image, and take longer for one than for a validation without it.
        step = self._step if _one_size(iterator) else self._step_of_sizes
        for _ in range(self.model.steps_per_execution):
            try:
                data = next(iterator)
            except StopIteration:
                if logs is None:
                    raise
                break
            data = tf.nest.map_structure(lambda value: None if _is_optional(value) else value, data)
            logs, logits = step(data)
            if self.findings is not None:
                self._look(data, logits)
        return logs

    def _logging_step(self, jit_compile: bool) -> Callable[[Any], tuple[Any, Any]]:
        """From a batch to (logs, logits of each replica)."""
        model = self.model
        strategy = model.distribute_strategy

        def step(data: Any) -> tuple[Any, Any]:
            caught: list[Any] = []
            original = model.compute_metrics

            def compute_metrics(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
                caught.append(y_pred)
                return original(x, y, y_pred, sample_weight)

            model.compute_metrics = compute_metrics
            try:
                logs = model.test_step(data)
            finally:
                del model.compute_metrics  # the class's own shows again
            return logs, caught[-1] if caught else ()

        def on_replicas(data: Any) -> tuple[Any, Any]:
            logs, logits = strategy.run(step, args=(data,))
            local = strategy.experimental_local_results
            return {key: local(value)[0] for key, value in logs.items()}, local(logits)

        if model.run_eagerly:
            return on_replicas
        return tf.function(on_replicas, reduce_retracing=True, jit_compile=jit_compile)

    # --- looking ------------------------------------------------------------------------------------------------------
    def _look(self, data: Any, logits: Sequence[Any]) -> None:
        """Starts to compute on a batch, and takes in what the batch before gave: a GPU is never waited for twice."""
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        local = self.model.distribute_strategy.experimental_local_results
        for x, y, z in zip(local(images), local(labels), logits, strict=True):
            if not self._is_readable(x, y, z):
                continue
            for code in self.labels.codes:  # one of several classes: nothing to look at
                y = tf.where(tf.equal(y, code), tf.cast(self.labels.ignore_index, y.dtype), y)
            prediction, histograms = self._observe(y, z)
            shares = None
            divided = has_class_shares(self.model.loss) and not (self.labels.multi_label or self.labels.partial)
            if divided and self._batches % SHARES_EVERY == 0:
                thin = max(1, math.ceil(math.sqrt(math.prod(z.shape) / SHARE_LOGITS)))
                shares = self._divide(y[:, ::thin, ::thin], z[:, ::thin, ::thin], *self._online_weights())
            self._note(_Seen(x, y, prediction, histograms, shares))
        self._batches += 1

    def _is_readable(self, x: Any, y: Any, z: Any) -> bool:
        """Whether the batch is images, labels (N, H, W), or (N, H, W, K) that overlap, and logits of these classes."""
        if not (tf.is_tensor(x) and tf.is_tensor(y) and tf.is_tensor(z)):
            return False
        if x.shape.rank != 4 or z.shape.rank != 4 or not y.dtype.is_integer:
            return False
        shape = (*x.shape[:3], *self.labels.mask_axes)
        return tuple(y.shape) == shape and tuple(z.shape) == (*x.shape[:3], self.labels.num_classes)

    def _online_weights(self) -> list[Any]:
        online = getattr(self.model, "online_weights", None)
        return [] if online is None else [online.current()]

    def _observed(self, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """The prediction, uint8, and the histograms."""
        best = logits > 0 if self.labels.multi_label else tf.argmax(logits, axis=-1, output_type=tf.int32)
        prediction = tf.cast(best, tf.uint8)
        classes = list(self.watched.curve_classes)
        if not classes:
            return prediction, None
        return prediction, probability_histogram(labels, logits, classes, ignore_index=self.labels.ignore_index)

    def _shares(self, labels: Tensor, logits: Tensor, *online_weights: Tensor) -> tuple[Tensor, ...]:
        return class_shares(self.model.loss, labels, logits, *online_weights)

    def _note(self, seen: _Seen | None) -> None:
        """Takes in the batch before `seen`, which takes its place."""
        batch, self._waiting = self._waiting, seen
        if batch is None:
            return
        assert self.findings is not None
        findings, labels = self.findings, np.asarray(batch.labels)
        prediction = batch.prediction.numpy()
        if batch.histograms is not None:
            shape = (len(self.watched.curve_classes), 2, NUM_THRESHOLDS)
            before = np.zeros(shape, np.int64) if findings.histograms is None else findings.histograms
            findings.histograms = before + batch.histograms.numpy()
        if batch.shares is not None:
            # Of means over a batch: weighted by its images, as Keras weighs the loss.
            sums = np.stack([part.numpy() for part in batch.shares]).astype(np.float64)
            sums[1:] *= len(labels)
            self._share_sums = sums if self._share_sums is None else self._share_sums + sums
        for index in range(len(labels)):
            self._note_sample(batch.images[index], labels[index].astype(np.uint8), prediction[index])
            self._position += 1

    def _note_sample(self, image: Any, mask: np.ndarray, prediction: np.ndarray) -> None:
        assert self.findings is not None
        position, side = self._position, self.watched.side
        name = self.watched.names[position] if position < len(self.watched.names) else f"sample {position}"
        if position in self.watched.samples:
            tile = Tile(self.picture(np.asarray(image)), mask, prediction, name)
            self.findings.samples[self.watched.samples[position]] = shrunk(tile, side)
        for index in self.watched.tile_classes if self.watched.tiles else ():
            labelled, predicted = class_pixels(mask, prediction, self.labels, index)
            wrong = labelled != predicted
            number = int(np.count_nonzero(wrong))
            worst = self.findings.worst.setdefault(index, [])
            if number == 0 or (len(worst) == self.watched.tiles and number <= worst[-1][0]):
                continue
            hits = int(np.count_nonzero(labelled & predicted))
            rows, columns = worst_window(wrong, side)
            caption = f"{name}: {self.labels.names[index]} IoU {hits / (hits + number):.3f}, {number:,} wrong pixels"
            if wrong.shape != (rows.stop - rows.start, columns.stop - columns.start):
                caption += f"; shown: from row {rows.start}, column {columns.start}"
            picture = self.picture(np.asarray(image))[rows, columns].copy()
            tile = Tile(picture, mask[rows, columns].copy(), prediction[rows, columns].copy(), caption)
            worst.append((number, position, tile))
            worst.sort(key=lambda entry: (-entry[0], entry[1]))
            del worst[self.watched.tiles :]


def _one_size(iterator: Any) -> bool:
    """Whether all images are of one size, as far as the data say: those of several devices do not."""
    spec = getattr(iterator, "element_spec", None)
    images = tf.nest.flatten(spec)[:1]
    return all(isinstance(image, tf.TensorSpec) and image.shape[1:].is_fully_defined() for image in images)


def _is_optional(value: Any) -> bool:
    """Keras hands on an absent part of a batch, as sample weights, as an Optional."""
    return isinstance(value, tf.experimental.Optional)
