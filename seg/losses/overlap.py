"""What the overlap losses share: the sums over the pixels of each class, and the mean over the classes that count."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from keras import ops

from seg.losses.pixels import Tensor, check_choice, count, log_sum_exp, one_hot, probabilities, select_label, sum_rows
from seg.losses.replicas import mean_over_replicas, sum_over_replicas

REDUCTIONS = ("batch", "image")
ABSENT = ("skip", "count")


class ClassSums(NamedTuple):
    """Sums over the valid pixels of a batch, (C,), or of each image, (N, C); float32."""

    overlap: Tensor  # sum p t: the soft true positives
    predicted: Tensor  # sum p: true and false positives
    labelled: Tensor  # sum t: true positives and false negatives
    num_valid: Tensor  # (1,) or (N, 1); of classes that may overlap (K,) or (N, K)


def class_sums(labels: Tensor, logits: Tensor, *, ignore_index: int, reduction: str) -> ClassSums:
    """The sums of `softmax(logits)` and the one-hot labels, from checked labels and logits.

    Under `tf.distribute` a batch is that of all replicas: overlap losses are no sums over pixels.

    Raises:
        ValueError: `reduction` is neither `batch` nor `image`.
    """
    labelled, num_valid = label_counts(labels, logits.shape[-1], ignore_index=ignore_index, reduction=reduction)
    overlap, predicted = ops.unstack(_probability_sums(labels, logits, ignore_index, pixel_axes(reduction)), num=2)
    sums = overlap, predicted, labelled, num_valid
    return ClassSums(*map(sum_over_replicas, sums) if reduction == "batch" else sums)


def entry_sums(targets: Tensor, logits: Tensor, valid: Tensor, *, reduction: str) -> ClassSums:
    """The same of classes that may overlap: p is `sigmoid(logits)`, and each class has its own valid pixels.

    Args:
        targets: (N, H, W, K) float32 in [0, 1], 0 where not valid; see `seg.losses.pixels.check_entries`.
        logits: (N, H, W, K) float32.
        valid: (N, H, W, K) boolean.
        reduction: `batch` or `image`.

    Returns:
        The sums, `num_valid` (K,) or (N, K).

    Raises:
        ValueError: `reduction` is neither `batch` nor `image`.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    axes = pixel_axes(reduction)
    p = ops.sigmoid(logits)
    predicted = sum_rows(ops.where(valid, p, 0.0), axes)
    sums = sum_rows(p * targets, axes), predicted, sum_rows(targets, axes), count(valid, (*axes, 2))
    return ClassSums(*map(sum_over_replicas, sums) if reduction == "batch" else sums)


def _probability_sums(labels: Tensor, logits: Tensor, ignore_index: int, axes: tuple[int, ...]) -> Tensor:
    """(2, C) or (2, N, C): the sums of p t and of p over the valid pixels.

    With a gradient written by hand, p_ic (d_ic - sum_k p_ik d_ik) for the gradient d_ic of p_ic: both directions
    compute the probabilities anew from planes (N, H, W) and keep no array as large as the logits.
    """

    @ops.custom_gradient
    def of_logits(logits: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        highest, log_sum = log_sum_exp(labels, logits)
        log_sum = ops.where(ops.not_equal(labels, ignore_index), log_sum, float("inf"))  # p is 0 at void pixels

        def gradient(upstream: Tensor) -> Tensor:
            of_overlap, of_predicted = ops.unstack(ops.reshape(upstream, (2, -1, 1, 1, logits.shape[-1])), num=2)
            mean = _mean_gradient(labels, logits, highest + log_sum, of_overlap, of_predicted)
            of_probabilities = of_predicted + ops.where(one_hot(labels, logits.shape[-1]), of_overlap, 0.0)
            return probabilities(logits, highest, log_sum) * (of_probabilities - ops.expand_dims(mean, -1))

        p_label = ops.exp(select_label(labels, ops.unstack(logits, axis=-1)) - highest - log_sum)  # (N, H, W)
        overlap = predicted = 0.0
        for rows in _row_groups(labels):
            is_label = one_hot(labels[rows], logits.shape[-1])
            predicted = predicted + probabilities(logits[rows], highest[rows], log_sum[rows])
            overlap = overlap + ops.where(is_label, ops.expand_dims(p_label[rows], -1), 0.0)
        return ops.stack([sum_rows(overlap, axes), sum_rows(predicted, axes)]), gradient

    return of_logits(logits)


def _mean_gradient(labels: Tensor, logits: Tensor, log_sum: Tensor, of_overlap: Tensor, of_predicted: Tensor) -> Tensor:
    """sum_c p_ic d_ic of each pixel, (N, H, W), from the gradients of the sums, (1 or N, 1, 1, C).

    `log_sum` is the logarithm of the sum of exp(logit), or infinite at void pixels. Large logits leave it few digits
    after the point, an error that all p_ic of a pixel share and their sum cancels. (Were the maximum subtracted first,
    as in the forward pass, XLA would keep these C planes from there.)
    """
    total = norm = 0.0
    planes = (ops.unstack(values, axis=-1) for values in (logits, of_overlap, of_predicted))
    for index, (logit, label_part, part) in enumerate(zip(*planes, strict=True)):
        p = ops.exp(logit - log_sum)
        total = total + p * (part + ops.where(ops.equal(labels, index), label_part, 0.0))
        norm = norm + p
    # The norm is about 1, or 0 at void. Divided last: XLA then keeps this plane, and otherwise one of exp a class.
    return total / ops.maximum(norm, 0.5)


def label_counts(labels: Tensor, num_classes: int, *, ignore_index: int, reduction: str) -> tuple[Tensor, Tensor]:
    """The numbers of labelled pixels of each class, (C,) or (N, C), and of valid pixels, (1,) or (N, 1).

    Raises:
        ValueError: `reduction` is neither `batch` nor `image`.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    axes = (*pixel_axes(reduction), 2)
    valid = ops.not_equal(labels, ignore_index)
    valid_labels = ops.where(valid, labels, -1)
    hits = sum(ops.cast(one_hot(valid_labels[rows], num_classes), "int32") for rows in _row_groups(labels))
    return ops.cast(ops.sum(hits, axis=axes), "float32"), count(ops.expand_dims(valid, -1), axes)


def _row_groups(labels: Tensor) -> list[tuple[slice, slice]]:
    """Indices of every 8th row, if the height is known and so divisible: the groups' arrays (N, H / 8, W, C) are added
    up while they are computed, so that what has to be written before it is summed is an eighth of the logits."""
    height = labels.shape[1]
    step = 1 if height is None else max(math.gcd(height, 8), 1)
    return [(slice(None), slice(first, None, step)) for first in range(step)]


def pixel_axes(reduction: str) -> tuple[int, ...]:
    """The axes that, with W, hold the pixels of one sum."""
    return (0, 1) if reduction == "batch" else (1,)


def mean_over_classes(
    losses: Tensor,
    labelled: Tensor,
    num_valid: Tensor,
    *,
    class_weights: Tensor | None,
    absent: str,
    per_class: bool = False,
) -> Tensor:
    """sum_c w_c m_c L_c / sum_c w_c m_c, then the mean over the images in which any class counts.

    Args:
        losses: L_c, (C,) or (N, C).
        labelled: Labelled pixels of each class, of the same shape.
        num_valid: Valid pixels, (1,) or (N, 1).
        class_weights: w_c, (C,); None: all 1.
        absent: m_c of a class without a labelled pixel: 0 with `skip`, 1 with `count`. Without any valid pixel, m_c
            is 0 with both.
        per_class: Whether to return the classes' parts of the mean instead of the mean.

    Returns:
        Scalar float32, or the (C,) parts that sum to it; 0 where no class counts.

    Raises:
        ValueError: `absent` is neither `skip` nor `count`.
    """
    shares = counted_classes(labelled, num_valid, absent)
    shares = ops.broadcast_to(shares if class_weights is None else shares * class_weights, ops.shape(losses))
    total = ops.sum(shares, axis=-1)  # () or (N,)
    return class_parts(shares * losses, total) if per_class else mean_over_images(ops.sum(shares * losses, -1), total)


def class_parts(losses: Tensor, totals: Tensor) -> Tensor:
    """Each class's part of `mean_over_images`, (C,), from its part of the losses, (C,) or (N, C), and the totals."""
    images = mean_over_replicas(count(ops.not_equal(totals, 0.0)))
    parts = ops.divide_no_nan(losses, ops.expand_dims(totals, -1))
    return ops.divide_no_nan(ops.sum(parts, axis=0) if len(parts.shape) == 2 else parts, images)


def mean_over_images(losses: Tensor, totals: Tensor) -> Tensor:
    """The mean of losses / totals, each () or (N,), over the images whose total is above 0; 0 where none is."""
    images = mean_over_replicas(count(ops.not_equal(totals, 0.0)))  # NaN is counted, and so stays seen
    return ops.divide_no_nan(ops.sum(ops.divide_no_nan(losses, totals)), images)


def counted_classes(labelled: Tensor, num_valid: Tensor, absent: str) -> Tensor:
    """m_c of `mean_over_classes`, float32 0 or 1; (C,) or (N, C), or (1,) or (N, 1) where it is the same for all."""
    check_choice("absent", absent, ABSENT)
    return ops.cast(labelled > 0 if absent == "skip" else num_valid > 0, "float32")


def check_smooth(smooth: float) -> None:
    """Raises ValueError for a smoothing that is negative, infinite or NaN."""
    if not 0 <= smooth < float("inf"):
        raise ValueError(f"smooth: got {smooth}, allowed: 0 or more, finite")
