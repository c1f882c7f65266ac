"""Top-k cross-entropy: the hardest pixels of a batch alone (online hard example mining)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from seg.losses.base import FunctionLoss
from seg.losses.pixels import (
    Tensor,
    check_class_weights,
    check_pixel_weights,
    check_pixels,
    count,
    label_log_probability,
    label_weights,
    nan_if_unknown,
    sum_over,
)


def top_k_cross_entropy(
    labels: Tensor,
    logits: Tensor,
    *,
    fraction: float = 0.25,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """The mean of the k largest weighted cross-entropies of the valid pixels.

    With l_i = -w_{y_i} log p_{i,y_i} and k = round(fraction |V|), at least 1: L = (sum of the k largest l_i) / k. So
    weights also decide which pixels are hard. Of equal l_i at the border all take an equal part, so that the order of
    the pixels means nothing.

    Z. Wu, C. Shen, A. van den Hengel, "Bridging Category-level and Instance-level Semantic Image Segmentation", 2016,
    arXiv:1605.06885, for pixels, by a threshold on p or a number of pixels; the idea is that of A. Shrivastava,
    A. Gupta, R. Girshick, "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016,
    arXiv:1604.03540.

    Args:
        labels: (N, H, W), any integer dtype.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        fraction: Above 0, at most 1; 1 is cross-entropy.
        class_weights: (C,), gathered by label; None: all 1.
        pixel_weights: (N, H, W), at least 0, multiply l_i; they do not enter the denominator.
        ignore_index: The label of void pixels, which are never among the k.

    Returns:
        Scalar float32, at least the cross-entropy; 0 without a valid pixel; NaN if a label is neither a class nor
        `ignore_index`. Under `tf.distribute` each replica takes the hardest of its own pixels.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    check_fraction(fraction)
    labels, logits = check_pixels(labels, logits)
    weights = check_class_weights(class_weights, logits.shape[-1])
    pixel_weights = check_pixel_weights(pixel_weights, labels)
    losses = -label_log_probability(labels, logits)  # (N, H, W)
    if weights is not None:
        losses = losses * label_weights(labels, weights)
    if pixel_weights is not None:
        losses = losses * pixel_weights
    valid = ops.not_equal(labels, ignore_index)
    k = ops.maximum(ops.round(fraction * count(valid)), 1.0)
    hardest = ops.stop_gradient(_shares_of_hardest(losses, valid, k))
    loss = sum_over(losses * hardest, valid, ops.minimum(k, count(valid)), None)
    return nan_if_unknown(loss, labels, logits.shape[-1], ignore_index)


def _shares_of_hardest(losses: Tensor, valid: Tensor, k: Tensor) -> Tensor:
    """1 for a loss above the k-th largest valid one, 0 below, and the share of equal ones that makes the sum k.

    Bisects the bits of the k-th largest: those of a float that is not negative are ordered, as an integer, as it is.
    31 counts are far cheaper than a sort. The sign bit is dropped, so NaN is always among the hardest and stays seen.
    """
    bits = ops.squeeze(ops.view(ops.expand_dims(losses, -1), "int32"), -1)
    keys = ops.where(valid, ops.bitwise_and(bits, 2**31 - 1), -1)

    def with_next_bit(step: Tensor, threshold: Tensor) -> Tensor:
        candidate = ops.bitwise_or(threshold, ops.left_shift(1, 30 - ops.cast(step, "int32")))
        return ops.where(count(keys >= candidate) >= k, candidate, threshold)

    threshold = ops.fori_loop(0, 31, with_next_bit, ops.zeros((), "int32"))
    above, equal = keys > threshold, ops.equal(keys, threshold)
    share = ops.divide_no_nan(k - count(above), count(equal))
    return ops.where(above, 1.0, ops.where(equal, share, 0.0))


def check_fraction(fraction: float) -> None:
    """Raises ValueError outside 0 < fraction <= 1."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: got {fraction}, allowed: 0 < fraction <= 1")


@keras.saving.register_keras_serializable(package="seg")
class TopKCrossEntropy(FunctionLoss):
    """`top_k_cross_entropy` as a Keras loss; takes `sample_weight` maps (N, H, W) as pixel weights."""

    function = staticmethod(top_k_cross_entropy)
    default_name = "top_k_cross_entropy"

    def check(self, options: Mapping[str, Any]) -> None:
        """See `FunctionLoss.check`."""
        check_fraction(options["fraction"])
