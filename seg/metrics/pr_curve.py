"""Precision and recall over thresholds, from histograms of probabilities that batches add to: no pixel is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

Tensor = Any
NUM_THRESHOLDS = 101  # 0, 0.01, ..., 1


def probability_histogram(
    labels: Tensor,
    logits: Tensor,
    classes: Sequence[int],
    *,
    ignore_index: int = 255,
    num_thresholds: int = NUM_THRESHOLDS,
) -> Tensor:
    """How many pixels of each kind have each probability, class against rest.

    Bin j of T holds the probabilities p with floor(p (T - 1)) = j: those from j / (T - 1) up to the next threshold.

    Args:
        labels: (N, H, W), any integer dtype; or (N, H, W, C) of 0, 1 and void, where classes may overlap.
        logits: (N, H, W, C), any float dtype; p is their softmax in float32, or of overlapping classes their sigmoid.
        classes: The K classes that are looked at, as indices.
        ignore_index: The label of void pixels, which are not counted.
        num_thresholds: T, at least 2.

    Returns:
        (K, 2, T) int32: [k, 1] counts pixels labelled classes[k], [k, 0] all others that are labelled. Histograms of
        parts add up to that of the whole.
    """
    size = len(classes) * 2 * num_thresholds
    labels, logits = ops.cast(labels, "int32"), ops.cast(logits, "float32")
    chosen = ops.convert_to_tensor(np.asarray(classes, np.int32))
    if len(labels.shape) == 4:
        labels, probabilities = ops.take(labels, chosen, axis=-1), ops.sigmoid(ops.take(logits, chosen, axis=-1))
        positive = ops.cast(ops.equal(labels, 1), "int32")
    else:
        labels, probabilities = ops.expand_dims(labels, -1), ops.take(ops.softmax(logits, axis=-1), chosen, axis=-1)
        positive = ops.cast(ops.equal(labels, chosen), "int32")
    bins = ops.cast(ops.floor(ops.clip(probabilities, 0.0, 1.0) * (num_thresholds - 1)), "int32")  # (N, H, W, K)
    offsets = ops.arange(len(classes), dtype="int32") * 2
    places = ops.where(ops.equal(labels, ignore_index), size, (offsets + positive) * num_thresholds + bins)
    places = ops.reshape(places, (-1,))  # one more bin, for void
    counts = ops.bincount(places, minlength=size + 1)  # a tenth of the time of `segment_sum`
    return ops.reshape(ops.cast(counts[:size], "int32"), (len(classes), 2, num_thresholds))


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """One class against the rest at T thresholds, ascending from 0 to 1; a pixel with p >= threshold is a positive.

    Attributes:
        true_positives: (T,) int64, and so are the other counts.
        false_positives: (T,).
        true_negatives: (T,).
        false_negatives: (T,).
        precision: (T,) float64, TP / (TP + FP); 1 where no pixel reaches the threshold.
        recall: (T,) float64, TP / (TP + FN); 0 without a labelled pixel.
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    true_negatives: np.ndarray
    false_negatives: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def precision_recall(histogram: np.ndarray) -> PrecisionRecall:
    """The curve of one class from its histogram (2, T) of integers, see `probability_histogram`."""
    negatives, positives = np.asarray(histogram, np.int64)
    true_positives = np.cumsum(positives[::-1])[::-1]
    false_positives = np.cumsum(negatives[::-1])[::-1]
    found = true_positives + false_positives
    precision = np.divide(true_positives, found, out=np.ones(len(found)), where=found > 0)
    return PrecisionRecall(
        true_positives=true_positives,
        false_positives=false_positives,
        true_negatives=negatives.sum() - false_positives,
        false_negatives=positives.sum() - true_positives,
        precision=precision,
        recall=true_positives / max(int(positives.sum()), 1),
    )
