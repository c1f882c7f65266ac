"""Weighted soft Dice loss of classes that may overlap: one sigmoid a class."""

from __future__ import annotations

import keras
from keras import ops

from seg.losses.base import ClassWeights, OverlapLoss
from seg.losses.binary_cross_entropy import check_entries
from seg.losses.overlap import check_overlap_options, check_smooth, mean_over_classes, pixel_axes
from seg.losses.pixels import Tensor, check_choice, check_class_weights, count, sum_rows
from seg.losses.replicas import sum_over_replicas


def multi_label_dice_loss(
    labels: Tensor,
    logits: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    smooth: float = 1.0,
    reduction: str = "batch",
    absent: str = "skip",
) -> Tensor:
    """`dice_loss` with p the sigmoid of the logits and t the labels of each class, over that class's valid pixels.

    D_k = (2 sum_i p_ik t_ik + s) / (sum_i p_ik + sum_i t_ik + s), L = sum_k w_k m_k (1 - D_k) / sum_k w_k m_k. There
    is no background class: what no class covers counts by the false positives it causes.

    Args:
        labels: t, (N, H, W, K) integers 0, 1 and `ignore_index`, or floats in [0, 1] and `ignore_index`.
        logits: (N, H, W, K), any float dtype; the maths is float32.
        class_weights: w, (K,); None: all 1. Only their ratios matter.
        ignore_index: Marks entries without a label, which leave every sum.
        smooth: s, at least 0, in pixels; see `seg.losses.dice.dice_loss`.
        reduction: `batch` or `image`, likewise.
        absent: m_k of a class that is present nowhere in its sums: 0 with `skip`, 1 with `count`. Without any valid
            pixel of the class, m_k is 0 with both.

    Returns:
        Scalar float32 in [0, 1]: 0 for a perfect certain prediction, and where no class counts; NaN if a label is
        neither in [0, 1] nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    check_smooth(smooth)
    check_choice("reduction", reduction, ("batch", "image"))
    targets, logits, valid, is_known = check_entries(labels, logits, ignore_index)
    weights = check_class_weights(class_weights, logits.shape[-1])
    axes = pixel_axes(reduction)
    probabilities = ops.sigmoid(logits)
    sums = (
        sum_rows(probabilities * targets, axes),  # targets are 0 where not valid
        sum_rows(ops.where(valid, probabilities, 0.0), axes),
        sum_rows(targets, axes),
        count(valid, (*axes, 2)),
    )  # each (K,) or (N, K)
    overlap, predicted, labelled, num_valid = map(sum_over_replicas, sums) if reduction == "batch" else sums
    scores = ops.divide_no_nan(2.0 * overlap + smooth, predicted + labelled + smooth)
    loss = mean_over_classes(1.0 - scores, labelled, num_valid, class_weights=weights, absent=absent)
    return ops.where(is_known, loss, float("nan"))


@keras.saving.register_keras_serializable(package="seg")
class MultiLabelDice(OverlapLoss):
    """`multi_label_dice_loss` as a Keras loss. It has no per-pixel losses, so pixel weights are refused."""

    def __init__(
        self,
        *,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        smooth: float = 1.0,
        reduction: str = "batch",
        absent: str = "skip",
        name: str = "dice",
    ) -> None:
        check_smooth(smooth)
        check_overlap_options(reduction, absent)
        options = {
            "class_weights": class_weights,
            "ignore_index": ignore_index,
            "smooth": smooth,
            "reduction": reduction,
            "absent": absent,
        }
        super().__init__(name, multi_label_dice_loss, options)
