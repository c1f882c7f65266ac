"""Weighted soft Dice loss."""

from __future__ import annotations

import keras
from keras import ops

from seg.losses.base import OverlapLoss
from seg.losses.overlap import check_smooth, class_sums, entry_sums, mean_over_classes
from seg.losses.partial import Sets, all_in_table, known_sums, possible_classes
from seg.losses.pixels import Tensor, all_known, check_class_weights, check_entries, check_pixels


def dice_loss(
    labels: Tensor,
    logits: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    smooth: float = 1.0,
    reduction: str = "batch",
    absent: str = "skip",
    multi_label: bool = False,
    sets: Sets = (),
    per_class: bool = False,
) -> Tensor:
    """One minus the weighted mean of the classes' soft Dice scores.

    D_c = (2 sum_i p_ic t_ic + s) / (sum_i p_ic + sum_i t_ic + s) over the valid pixels, t the one-hot labels, and
    L = sum_c w_c m_c (1 - D_c) / sum_c w_c m_c. Of classes that may overlap (`multi_label`) p is the sigmoid of the
    logits and t the labels of each class, over that class's valid pixels; there is no background class then, and what
    no class covers counts by the false positives it causes.

    F. Milletari, N. Navab, S.-A. Ahmadi, "V-Net", 3DV 2016, arXiv:1606.04797, has squares in the denominator; this is
    the form without, weighted over classes.

    Args:
        labels: (N, H, W), any integer dtype. With `multi_label` (N, H, W, K) integers 0, 1 and `ignore_index`, or
            floats in [0, 1] and `ignore_index`.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        class_weights: (C,); None: all 1. Only their ratios matter.
        ignore_index: The label of void pixels (or entries), which leave every sum.
        smooth: s, at least 0, in pixels. 1 is invisible for a class of hundreds of pixels and, with `absent='count'`,
            lets an absent class score better the fewer pixels are predicted as it.
        reduction: `batch` sums over all pixels of the batch (crops do not cover images); `image` sums over each image
            and averages the L of the images that have any weighted m_c.
        absent: m_c of a class without a labelled pixel in its sums: 0 with `skip`, 1 with `count`. Without any valid
            pixel (of the class), m_c is 0 with both.
        multi_label: Whether the classes may overlap.
        sets: Labels that stand for several classes, see `seg.losses.partial`; not with `multi_label`.
        per_class: Whether to return the classes' parts, (C,), which sum to the loss, instead of the loss.

    Returns:
        Scalar float32 in [0, 1]: 0 for a perfect certain prediction, and where no class counts (no valid pixel, or
        weight 0 for all present classes); NaN if a label is neither a class (or 0 to 1) nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    check_smooth(smooth)
    if multi_label:
        targets, logits, valid, is_known = check_entries(labels, logits, ignore_index)
        sums = entry_sums(targets, logits, valid, reduction=reduction)
    else:
        labels, logits = check_pixels(labels, logits)
        if sets:
            is_known = all_in_table(labels, possible_classes(sets, logits.shape[-1]), ignore_index)
            sums = known_sums(labels, logits, sets=sets, ignore_index=ignore_index, reduction=reduction)
        else:
            is_known = all_known(labels, logits.shape[-1], ignore_index)
            sums = class_sums(labels, logits, ignore_index=ignore_index, reduction=reduction)
    weights = check_class_weights(class_weights, logits.shape[-1])
    scores = ops.divide_no_nan(2.0 * sums.overlap + smooth, sums.predicted + sums.labelled + smooth)
    loss = mean_over_classes(
        1.0 - scores, sums.labelled, sums.num_valid, class_weights=weights, absent=absent, per_class=per_class
    )
    return ops.where(is_known, loss, float("nan"))


@keras.saving.register_keras_serializable(package="seg")
class Dice(OverlapLoss):
    """`dice_loss` as a Keras loss. It has no per-pixel losses, so pixel weights (`sample_weight`) are refused."""

    function = staticmethod(dice_loss)
    default_name = "dice"
