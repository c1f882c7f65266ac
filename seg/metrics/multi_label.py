"""The streaming counts of classes that may overlap, on device: a 2 x 2 confusion matrix a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from seg.metrics.confusion import Tensor, check_int64, compiled, iou_results


@keras.saving.register_keras_serializable(package="seg")
class MultiLabelConfusion(keras.metrics.Metric):
    """Sums each class's true and false positives and negatives over all batches and reports per-class and mean IoU.

    A class is predicted where its logit is above 0, which is a probability above 0.5. IoU_k = TP_k / (TP_k + FP_k +
    FN_k) of the summed counts. Pass it under `metrics=`, as `ConfusionMatrix`.

    Attributes:
        matrix: (K, 2, 2) int64: of each class, rows = label (absent, present), columns = prediction; entries without a
            label left out.
        unknown: int64, entries whose label is neither 0, 1 nor `ignore_index`. Should there be one, every result is
            NaN.

    Raises:
        ValueError: No or repeated class names.
        ConfigError: The backend has no int64, so that counts could wrap (JAX by default).
    """

    def __init__(self, class_names: Sequence[str], ignore_index: int = 255, name: str = "confusion") -> None:
        super().__init__(name=name, dtype="float32")
        self.class_names = tuple(class_names)
        self.ignore_index = ignore_index
        if not self.class_names or len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"class_names: got {list(class_names)}, allowed: one or more, each once")
        check_int64(name)
        shape = (len(self.class_names), 2, 2)
        self.matrix = self.add_variable(shape, initializer="zeros", dtype="int64", name="matrix")
        self.unknown = self.add_variable((), initializer="zeros", dtype="int64", name="unknown")
        self._compiled_counts = compiled(entry_counts)

    def update_state(self, labels: Tensor, logits: Tensor, sample_weight: Tensor | None = None) -> None:
        """Adds the entries of one batch.

        Args:
            labels: (N, H, W, K), any integer dtype.
            logits: (N, H, W, K), any float dtype.
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
        counts = (self._compiled_counts if fixed else entry_counts)(labels, logits, self.ignore_index)
        valid, present, predicted, hits = (counts[index] for index in range(4))
        misses, false_alarms = present - hits, predicted - hits
        correct_rejections = valid - present - false_alarms
        matrix = ops.stack([correct_rejections, false_alarms, misses, hits], axis=-1)
        self.matrix.assign_add(ops.reshape(matrix, (-1, 2, 2)))
        self.unknown.assign_add(ops.sum(counts[4]))

    def _check(self, labels: Tensor, logits: Tensor) -> None:
        dtype = keras.backend.standardize_dtype(labels.dtype)
        if "int" not in dtype:
            raise ValueError(f"metric '{self.name}': got labels of dtype {dtype}, allowed: any integer dtype")
        size = len(self.class_names)
        if len(labels.shape) != 4 or len(logits.shape) != 4 or not labels.shape[-1] == logits.shape[-1] == size:
            raise ValueError(
                f"metric '{self.name}': got shapes {tuple(labels.shape)} and {tuple(logits.shape)}, "
                f"allowed: (N, H, W, {size}) for both"
            )

    def result(self) -> dict[str, Tensor]:
        """`mean_iou` and `iou/<class name>`, scalar float32.

        A class absent from labels and predictions is NaN and leaves the mean, which is NaN when no class is left.
        """
        matrix = ops.convert_to_tensor(self.matrix)
        union = matrix[:, 0, 1] + matrix[:, 1, 0] + matrix[:, 1, 1]
        return iou_results(self.class_names, matrix[:, 1, 1], union, ops.convert_to_tensor(self.unknown))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        return {"class_names": list(self.class_names), "ignore_index": self.ignore_index, "name": self.name}


def entry_counts(labels: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    """(5, K) int64 of each class: valid, present, predicted, both present and predicted, unknown entries.

    Counted in int32 within a batch, which holds at most 2^31 pixels a class.
    """
    labels = ops.cast(labels, "int32")
    is_ignored = ops.equal(labels, ignore_index)
    is_label = ops.logical_and(labels >= 0, labels <= 1)
    valid = ops.logical_and(is_label, ops.logical_not(is_ignored))
    present = ops.logical_and(valid, ops.equal(labels, 1))
    predicted = ops.logical_and(valid, logits > 0)
    unknown = ops.logical_not(ops.logical_or(is_label, is_ignored))
    conditions = (valid, present, predicted, ops.logical_and(present, predicted), unknown)
    counts = [ops.sum(ops.cast(condition, "int32"), axis=(0, 1, 2)) for condition in conditions]
    return ops.cast(ops.stack(counts), "int64")
