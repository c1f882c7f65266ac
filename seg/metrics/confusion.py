"""The streaming confusion matrix, on device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from seg.errors import ConfigError

Tensor = Any


@keras.saving.register_keras_serializable(package="seg")
class ConfusionMatrix(keras.metrics.Metric):
    """Sums the confusion matrix of all batches and reports per-class and mean IoU.

    IoU_c = TP_c / (TP_c + FP_c + FN_c) of the summed counts, never a mean of batch IoUs. Pass it under `metrics=`;
    `weighted_metrics=` would weigh pixels, which a count of pixels refuses.

    Attributes:
        matrix: (C, C) int64, rows = labels, columns = predictions (the arg max of the logits), void left out. With
            `sets`, labels that stand for several classes (label, classes), (C + 1, C): the last row counts pixels of
            such a label that are predicted as a class which is not in its set, false alarms; others count nowhere. With
            `multi_label` (K, 2, 2): of each class, rows = label (absent, present), columns = prediction (present where
            the logit is above 0, which is a probability above 0.5), entries without a label left out.
        unknown: int64, pixels (or entries) whose label is neither a class (0 or 1) nor `ignore_index`. The data layer
            refuses such labels; should one come another way, every result is NaN instead of a score of the others.

    Args:
        class_names: The classes.
        ignore_index: The label of void.
        name: In logs.
        multi_label: Whether classes may overlap.
        labelled_only: A class without a labelled pixel has no IoU, whatever is predicted: where a resize may leave
            nothing of it.

    Raises:
        ValueError: Fewer than 2 class names, with `multi_label` none, or repeated ones.
        ConfigError: The backend has no int64, so that counts could wrap (JAX by default).
    """

    def __init__(
        self,
        class_names: Sequence[str],
        ignore_index: int = 255,
        name: str = "confusion",
        multi_label: bool = False,
        sets: Sequence[tuple[int, Sequence[int]]] = (),
        labelled_only: bool = False,
    ) -> None:
        super().__init__(name=name, dtype="float32")
        self.class_names, self.labelled_only = tuple(class_names), labelled_only
        self.ignore_index, self.multi_label = ignore_index, multi_label
        self.sets = tuple((int(label), tuple(classes)) for label, classes in sets)
        size = len(self.class_names)
        if size < (1 if multi_label else 2) or len(set(self.class_names)) < size:
            fewest = "one" if multi_label else "two"
            raise ValueError(f"class_names: got {list(class_names)}, allowed: {fewest} or more, each once")
        check_int64(name)
        shape = (size, 2, 2) if multi_label else (size + bool(self.sets), size)
        self.matrix = self.add_variable(shape, initializer="zeros", dtype="int64", name="matrix")
        self.unknown = self.add_variable((), initializer="zeros", dtype="int64", name="unknown")
        pairs = partial(partial_counts, sets=self.sets) if self.sets else pair_counts
        self._counts = entry_counts if multi_label else pairs
        self._compiled_counts = compiled(self._counts)

    def update_state(self, labels: Tensor, logits: Tensor, sample_weight: Tensor | None = None) -> None:
        """Adds the pixels of one batch.

        Args:
            labels: (N, H, W), any integer dtype; with `multi_label` (N, H, W, K).
            logits: (N, H, W, C), any float dtype; among equal logits the first class is the prediction.
            sample_weight: Only None, which is what Keras passes under `metrics=`.

        Raises:
            ValueError: A dtype or shape is not as above, or a sample weight is given.
        """
        if sample_weight is not None:
            raise ValueError(f"metric '{self.name}': got sample_weight, allowed: none (pass it under metrics=)")
        labels, logits = ops.convert_to_tensor(labels), ops.convert_to_tensor(logits)
        self._check(labels, logits)
        # Compiled only for fixed shapes: XLA would compile anew for each size of validation image.
        fixed = all(length is not None for length in logits.shape)
        matrix, unknown = (self._compiled_counts if fixed else self._counts)(labels, logits, self.ignore_index)
        self.matrix.assign_add(matrix)
        self.unknown.assign_add(unknown)

    def _check(self, labels: Tensor, logits: Tensor) -> None:
        dtype = keras.backend.standardize_dtype(labels.dtype)
        if "int" not in dtype:
            raise ValueError(f"metric '{self.name}': got labels of dtype {dtype}, allowed: any integer dtype")
        size = len(self.class_names)
        if self.multi_label:
            axes, allowed = (4, 4), f"(N, H, W, {size}) for both"
        else:
            axes, allowed = (3, 4), f"labels (N, H, W) and logits (N, H, W, {size})"
        lengths = {tensor.shape[-1] for tensor in (labels, logits) if len(tensor.shape) == 4}
        if (len(labels.shape), len(logits.shape)) != axes or lengths != {size}:
            raise ValueError(
                f"metric '{self.name}': got shapes {tuple(labels.shape)} and {tuple(logits.shape)}, allowed: {allowed}"
            )

    def result(self) -> dict[str, Tensor]:
        """`mean_iou` and `iou/<class name>`, scalar float32.

        A class absent from labels and predictions is NaN and leaves the mean, which is NaN when no class is left; with
        `labelled_only` a class absent from the labels is.
        """
        matrix = ops.convert_to_tensor(self.matrix)
        if self.multi_label:
            true_positives = matrix[:, 1, 1]
            union = ops.sum(matrix, axis=(1, 2)) - matrix[:, 0, 0]
            labelled = ops.sum(matrix[:, 1], axis=1)
        else:
            known = matrix[: len(self.class_names)]
            true_positives = ops.diagonal(known)
            labelled = ops.sum(known, axis=1)
            union = ops.sum(matrix, axis=0) + labelled - true_positives
        if self.labelled_only:
            union = ops.where(labelled > 0, union, 0)
        return iou_results(self.class_names, true_positives, union, ops.convert_to_tensor(self.unknown))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        return {
            "class_names": list(self.class_names),
            "ignore_index": self.ignore_index,
            "name": self.name,
            "multi_label": self.multi_label,
            "sets": [[label, list(classes)] for label, classes in self.sets],
            "labelled_only": self.labelled_only,
        }


def iou_results(
    class_names: Sequence[str], true_positives: Tensor, union: Tensor, unknown: Tensor
) -> dict[str, Tensor]:
    """`mean_iou` and `iou/<class name>` from (C,) integers, NaN where the union is 0; all NaN if a label is unknown."""
    present = ops.logical_and(union > 0, ops.equal(unknown, 0))
    shares = ops.divide_no_nan(ops.cast(true_positives, "float32"), ops.cast(union, "float32"))
    iou = ops.where(present, shares, float("nan"))  # (C,)
    num_present = ops.sum(ops.cast(present, "float32"))
    total = ops.sum(ops.where(present, shares, 0.0))
    mean_iou = ops.where(num_present > 0, ops.divide_no_nan(total, num_present), float("nan"))
    return {"mean_iou": mean_iou} | {f"iou/{name}": iou[index] for index, name in enumerate(class_names)}


def pair_counts(labels: Tensor, logits: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """How many pixels have each pair (label, arg max of the logits), (C, C) int64, and how many an unknown label."""
    num_classes = logits.shape[-1]
    cells = num_classes * num_classes
    labels = ops.cast(labels, "int32")
    predictions = ops.cast(ops.argmax(logits, axis=-1), "int32")  # (N, H, W)
    is_class = ops.logical_and(labels >= 0, labels < num_classes)
    # Two extra bins, for void and for unknown labels, keep every shape static. segment_sum and not bincount, whose
    # length XLA and JAX cannot compile.
    bins = ops.where(is_class, labels * num_classes + predictions, cells + 1)
    bins = ops.reshape(ops.where(ops.equal(labels, ignore_index), cells, bins), (-1,))
    counts = ops.cast(ops.segment_sum(ops.ones_like(bins), bins, num_segments=cells + 2), "int64")
    return ops.reshape(counts[:cells], (num_classes, num_classes)), counts[cells + 1]


def partial_counts(
    labels: Tensor, logits: Tensor, ignore_index: int, sets: Sequence[tuple[int, Sequence[int]]]
) -> tuple[Tensor, Tensor]:
    """As `pair_counts`, (C + 1, C), where labels may stand for sets of classes: see `ConfusionMatrix.matrix`."""
    num_classes = logits.shape[-1]
    labels, void = ops.cast(labels, "int32"), ops.cast(ignore_index, "int32")
    alarms, known = ops.zeros((num_classes,), "int64"), labels
    for label, classes in sets:
        of_set = ops.where(ops.equal(labels, label), 0, void)  # as if its pixels were of class 0
        own, _ = pair_counts(of_set, logits, ignore_index)
        outside = [index not in classes for index in range(num_classes)]
        alarms = alarms + own[0] * ops.cast(ops.convert_to_tensor(outside), "int64")
        known = ops.where(ops.equal(labels, label), void, known)
    matrix, unknown = pair_counts(known, logits, ignore_index)
    return ops.concatenate([matrix, ops.expand_dims(alarms, 0)], axis=0), unknown


def entry_counts(labels: Tensor, logits: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """How many entries (pixel, class) have each pair (absent or present, predicted so), (K, 2, 2) int64, and how many
    an unknown label.

    Counted in int32 within a batch, which holds at most 2^31 pixels a class.
    """
    labels = ops.cast(labels, "int32")
    valid = ops.not_equal(labels, ignore_index)
    predicted = logits > 0

    def number(condition: Tensor) -> Tensor:  # (K,)
        return ops.cast(ops.sum(ops.cast(ops.logical_and(condition, valid), "int32"), axis=(0, 1, 2)), "int64")

    cells = [
        number(ops.logical_and(ops.equal(labels, label), ops.equal(predicted, guess)))
        for label in (0, 1)
        for guess in (False, True)
    ]
    unknown = ops.sum(number(ops.logical_or(labels < 0, labels > 1)))
    return ops.reshape(ops.stack(cells, axis=-1), (-1, 2, 2)), unknown


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled by XLA on TensorFlow: on CPU its arg max over classes takes nine times as long otherwise."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def check_int64(metric: str) -> None:
    """Raises ConfigError for a backend without int64."""
    if not has_int64():
        raise ConfigError(
            f"metric '{metric}': the Keras backend '{keras.backend.backend()}' has no int64 and pixel counts could "
            "wrap, allowed: a backend with int64 (for JAX set the environment variable JAX_ENABLE_X64=1)"
        )


def has_int64() -> bool:
    """Whether an int64 tensor of this backend is one; JAX without x64 hands out int32."""
    return bool(keras.backend.standardize_dtype(ops.zeros((), dtype="int64").dtype) == "int64")
