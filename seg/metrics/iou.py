"""From a confusion matrix to scores. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg.errors import DataError

PER_CLASS = ("iou", "dice", "precision", "recall")
OVERALL = ("mean_iou", "frequency_weighted_iou", "pixel_accuracy")


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
        frequency_weighted_iou: The IoUs' mean weighted by support, sum_c n_c IoU_c / sum_c n_c (Long, Shelhamer &
            Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, arXiv:1411.4038); NaN without
            a valid pixel.
    """

    iou: np.ndarray
    dice: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray
    mean_iou: float
    num_averaged: int
    pixel_accuracy: float
    frequency_weighted_iou: float


def scores(matrix: np.ndarray, labelled_only: bool = False) -> Scores:
    """The scores of a confusion matrix (C, C) of integers, rows = labels, columns = predictions. One more row, (C + 1,
    C), holds false alarms where the label is not known, only that it is not the predicted class.

    Of classes that may overlap it takes the matrices (K, 2, 2) of (absent, present), a class each. Then `support` is
    the pixels where a class is present, and `pixel_accuracy` the share of the valid entries (pixel, class) that are
    predicted right.

    With `labelled_only` a class without a labelled pixel has no score, as in `seg.metrics.confusion.ConfusionMatrix`.

    Raises:
        ValueError: The matrix has another shape, is not of integers, or has a negative count.
    """
    matrix = np.asarray(matrix)
    square = matrix.ndim == 2 and matrix.shape[0] - matrix.shape[1] in (0, 1)
    if not (square or (matrix.ndim == 3 and matrix.shape[1:] == (2, 2))) or not np.issubdtype(matrix.dtype, np.integer):
        raise ValueError(f"matrix: got shape {matrix.shape} of {matrix.dtype}, allowed: (C, C) or (K, 2, 2) integers")
    if (matrix < 0).any():
        raise ValueError("matrix: got a negative count, allowed: 0 or more")
    sums = matrix_sums(matrix)
    found = score_sums(sums)
    if labelled_only:  # as if it were never predicted
        never = sums.copy()
        never[sums[:, 1] == 0, 2] = 0
        found = score_sums(never) | {"pixel_accuracy": found["pixel_accuracy"]}
    return Scores(
        iou=found["iou"],
        dice=found["dice"],
        precision=found["precision"],
        recall=found["recall"],
        support=sums[:, 1],
        mean_iou=float(found["mean_iou"]),
        num_averaged=int((~np.isnan(found["iou"])).sum()),
        pixel_accuracy=float(found["pixel_accuracy"]),
        frequency_weighted_iou=float(found["frequency_weighted_iou"]),
    )


def matrix_sums(matrix: np.ndarray) -> np.ndarray:
    """(C, 3) int64 of a confusion matrix (C, C): true positives, labelled pixels and predicted pixels. Of the matrices
    (K, 2, 2) of classes that may overlap (K, 4): beside these the true negatives.

    Every score here follows from these, so an image needs 3 C numbers where its matrix has C^2.
    """
    matrix = np.asarray(matrix).astype(np.int64)
    if matrix.ndim == 3:
        labelled, predicted = matrix[:, 1].sum(axis=1), matrix[:, :, 1].sum(axis=1)
        return np.stack([matrix[:, 1, 1], labelled, predicted, matrix[:, 0, 0]], axis=1)
    known = matrix[: matrix.shape[1]]  # a row more: false alarms of pixels whose class is not known
    return np.stack([np.diag(known), known.sum(axis=1), matrix.sum(axis=0)], axis=1)


def score_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of any number of splits (resamples, single images) at a time.

    Args:
        sums: (..., C, 3) or (..., K, 4), see `matrix_sums`; integers, or float64 where they are exact.

    Returns:
        float64 by name, defined as in `Scores`: those of `PER_CLASS` (..., C), those of `OVERALL` (...).
    """
    true_positives, labelled, predicted = sums[..., 0], sums[..., 1], sums[..., 2]
    iou = ratio(true_positives, labelled + predicted - true_positives)
    defined = ~np.isnan(iou)
    pixels = labelled.sum(axis=-1)
    correct, entries = true_positives.sum(axis=-1), pixels
    if sums.shape[-1] == 4:  # where classes may overlap, each class is right or wrong at each pixel
        rejected = sums[..., 3]
        correct = correct + rejected.sum(axis=-1)
        entries = (labelled + predicted - true_positives + rejected).sum(axis=-1)
    return {
        "iou": iou,
        "dice": ratio(2 * true_positives, labelled + predicted),
        "precision": ratio(true_positives, predicted),
        "recall": ratio(true_positives, labelled),
        "mean_iou": ratio(np.where(defined, iou, 0.0).sum(axis=-1), defined.sum(axis=-1)),
        "frequency_weighted_iou": ratio((labelled * np.where(defined, iou, 0.0)).sum(axis=-1), pixels),
        "pixel_accuracy": ratio(correct, entries),
    }


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


def false_alarms(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int, sets: Sequence[tuple[int, Sequence[int]]]
) -> np.ndarray:
    """(C,) int64: how many pixels are predicted as each class although their label stands for a set without it.

    Args:
        labels: Any shape.
        predictions: Class indices, of the labels' shape.
        num_classes: C.
        sets: (label, the classes of which such a pixel is one).
    """
    alarms = np.zeros(num_classes, np.int64)
    for label, classes in sets:
        found = np.bincount(predictions[labels == label], minlength=num_classes)
        found[list(classes)] = 0
        alarms += found
    return alarms


def _outside(values: np.ndarray, num_classes: int) -> str:
    """'value 7 at 12 pixels, ...' for the values that are no class index; empty if there are none."""
    found, pixels = np.unique(values[(values < 0) | (values >= num_classes)], return_counts=True)
    return ", ".join(f"value {value} at {number} pixels" for value, number in zip(found, pixels, strict=True))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator in float64, NaN where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) != 0)
