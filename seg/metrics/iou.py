"""From a confusion matrix to scores. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg.errors import DataError


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of C classes. A score whose denominator is 0 is NaN.

    Attributes:
        iou: (C,) float64, TP / (TP + FP + FN), in [0, 1]; NaN for a class absent from labels and predictions.
        dice: (C,) float64, 2 TP / (2 TP + FP + FN); NaN where IoU is.
        precision: (C,) float64, TP / (TP + FP); NaN for a class that is never predicted.
        recall: (C,) float64, TP / (TP + FN); NaN for a class without a labelled pixel.
        support: (C,) int64, labelled pixels.
        mean_iou: The mean of the IoUs that are not NaN; NaN if there are none.
        num_averaged: How many classes that mean is over.
        pixel_accuracy: The share of the valid pixels predicted right; NaN without one.
    """

    iou: np.ndarray
    dice: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray
    mean_iou: float
    num_averaged: int
    pixel_accuracy: float


def scores(matrix: np.ndarray) -> Scores:
    """The scores of a confusion matrix (C, C) of integers, rows = labels, columns = predictions.

    Of classes that may overlap it takes the matrices (K, 2, 2) of (absent, present), a class each. Then `support` is
    the pixels where a class is present, and `pixel_accuracy` the share of the valid entries (pixel, class) that are
    predicted right.

    Raises:
        ValueError: The matrix has another shape, is not of integers, or has a negative count.
    """
    matrix = np.asarray(matrix)
    multi_label = matrix.ndim == 3 and matrix.shape[1:] == (2, 2)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not (multi_label or square) or not np.issubdtype(matrix.dtype, np.integer):
        raise ValueError(f"matrix: got shape {matrix.shape} of {matrix.dtype}, allowed: (C, C) or (K, 2, 2) integers")
    if (matrix < 0).any():
        raise ValueError("matrix: got a negative count, allowed: 0 or more")
    matrix = matrix.astype(np.int64)
    if multi_label:
        true_positives, labelled, predicted = matrix[:, 1, 1], matrix[:, 1].sum(axis=1), matrix[:, :, 1].sum(axis=1)
        correct = matrix[:, 0, 0].sum() + true_positives.sum()
    else:
        true_positives, labelled, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        correct = true_positives.sum()
    iou = _ratio(true_positives, labelled + predicted - true_positives)
    averaged = iou[~np.isnan(iou)]
    return Scores(
        iou=iou,
        dice=_ratio(2 * true_positives, labelled + predicted),
        precision=_ratio(true_positives, predicted),
        recall=_ratio(true_positives, labelled),
        support=labelled,
        mean_iou=float(averaged.mean()) if averaged.size else float("nan"),
        num_averaged=int(averaged.size),
        pixel_accuracy=float(_ratio(correct, matrix.sum())),
    )


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int, ignore_index: int = 255
) -> np.ndarray:
    """Counts pixels by (label, prediction), without those labelled `ignore_index`.

    Args:
        labels: Class indices or `ignore_index`, any shape, any integer dtype.
        predictions: Class indices, of the labels' shape. At void pixels any value will do.
        num_classes: C.
        ignore_index: The label of void pixels.

    Returns:
        (C, C) int64, rows = labels, columns = predictions. Matrices of parts add up to that of the whole.

    Raises:
        ValueError: The shapes differ, a dtype is no integer, or a prediction is no class.
        DataError: A label is neither a class nor `ignore_index`.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(f"got labels of shape {labels.shape}, predictions of {predictions.shape}, allowed: the same")
    for key, values in (("labels", labels), ("predictions", predictions)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{key}: got dtype {values.dtype}, allowed: any integer dtype")
    valid = labels != ignore_index
    rows, columns = labels[valid].astype(np.int64), predictions[valid].astype(np.int64)
    if unknown := _outside(rows, num_classes):
        raise DataError(f"labels: got {unknown}, allowed: 0 to {num_classes - 1} and {ignore_index} (void)")
    if unknown := _outside(columns, num_classes):
        raise ValueError(f"predictions: got {unknown}, allowed: 0 to {num_classes - 1}")
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def _outside(values: np.ndarray, num_classes: int) -> str:
    """'value 7 at 12 pixels, ...' for the values that are no class index; empty if there are none."""
    found, pixels = np.unique(values[(values < 0) | (values >= num_classes)], return_counts=True)
    return ", ".join(f"value {value} at {number} pixels" for value, number in zip(found, pixels, strict=True))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator in float64, NaN where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) != 0)
