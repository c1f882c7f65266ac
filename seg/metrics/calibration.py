"""Calibration: whether a confidence of 0.8 is right in 80 % of the pixels. NumPy only."""

from __future__ import annotations

import numpy as np

from seg.metrics.iou import ratio

NUM_BINS = 15


def reliability_counts(
    confidences: np.ndarray, predictions: np.ndarray, correct: np.ndarray, num_classes: int, num_bins: int = NUM_BINS
) -> np.ndarray:
    """Pixels, summed confidence and right predictions by predicted class and bin of confidence.

    Bin b of B holds the confidences in (b / B, (b + 1) / B]; 0 is in the first.

    Args:
        confidences: (P,) the probability of the predicted class at P valid pixels, in [0, 1].
        predictions: (P,) integers, the predicted class.
        correct: (P,) bool, whether it is the label.
        num_classes: C.
        num_bins: B.

    Returns:
        (C, B, 3) float64: pixels, sum of confidences, right predictions. Those of parts add up.

    Raises:
        ValueError: A confidence is outside [0, 1] or NaN.
    """
    if confidences.size and not (confidences.min() >= 0 and confidences.max() <= 1):
        raise ValueError(f"confidences: got {confidences.min()} to {confidences.max()}, allowed: 0 to 1")
    bins = np.maximum(np.ceil(confidences * np.float32(num_bins)).astype(np.intp) - 1, 0)
    cells = predictions.astype(np.intp) * num_bins + np.minimum(bins, num_bins - 1)
    size = num_classes * num_bins
    sums = (
        np.bincount(cells, minlength=size),
        np.bincount(cells, weights=confidences, minlength=size),
        np.bincount(cells[correct], minlength=size),
    )
    return np.stack(sums, axis=-1).astype(np.float64).reshape(num_classes, num_bins, 3)


def expected_calibration_error(counts: np.ndarray) -> np.ndarray:
    """ECE = sum over bins of n_b / n |accuracy_b - mean confidence_b|, in [0, 1].

    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599,
    with 15 bins of equal width over the confidence of the predicted class (top label).

    Args:
        counts: (..., B, 3), see `reliability_counts`. Summed over the classes, the ECE of all pixels; of one class,
            that of the pixels predicted as it.

    Returns:
        (...) float64; NaN where there is no pixel.
    """
    pixels, confidence, correct = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return ratio(np.abs(correct - confidence).sum(axis=-1), pixels.sum(axis=-1))
