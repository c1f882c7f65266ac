"""Generalised Dice loss: one overlap of all classes, each weighed by how few pixels it has in the batch."""

from __future__ import annotations

import keras
from keras import ops

from seg.losses.base import OverlapLoss
from seg.losses.overlap import class_parts, class_sums, counted_classes, mean_over_images
from seg.losses.pixels import Tensor, check_class_weights, check_pixels, nan_if_unknown


def generalised_dice_loss(
    labels: Tensor,
    logits: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "batch",
    absent: str = "skip",
    per_class: bool = False,
) -> Tensor:
    """Generalised Dice: a ratio of sums over classes, where Dice loss is a mean of the classes' ratios.

    L = 1 - 2 sum_c u_c sum_i p_ic t_ic / sum_c u_c sum_i (p_ic + t_ic) over the valid pixels, t the one-hot labels and
    u_c = w_c m_c / n_c^2 with n_c = sum_i t_ic. A class of few pixels in the batch gets a large share: with n_c = 1 it
    has nearly all of it, so prefer large crops and `reduction='batch'`.

    C. H. Sudre, W. Li, T. Vercauteren, S. Ourselin, M. J. Cardoso, "Generalised Dice overlap as a deep learning loss
    function for highly unbalanced segmentations", DLMIA 2017, arXiv:1707.03237; there without w_c. No smoothing: sums
    that are all 0 give the loss 0.

    Args:
        labels: (N, H, W), any integer dtype.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        class_weights: w_c, (C,), on top of 1 / n_c^2; None: all 1. Only their ratios matter.
        ignore_index: The label of void pixels, which leave every sum.
        reduction: `batch` sums over all pixels of the batch; `image` sums over each image and averages the L of the
            images that have any weighted m_c.
        absent: m_c of a class without a labelled pixel in its sums: 0 with `skip`; with `count` it is 1, and the
            largest 1 / n_c^2 of the present classes stands for the infinite one (as in MONAI).
        per_class: Whether to return the classes' parts, (C,), which sum to the loss, instead of the loss.

    Returns:
        Scalar float32 in [0, 1]: 0 for a perfect certain prediction, and where no class counts; NaN if a label is
        neither a class nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    labels, logits = check_pixels(labels, logits)
    weights = check_class_weights(class_weights, logits.shape[-1])
    sums = class_sums(labels, logits, ignore_index=ignore_index, reduction=reduction)
    rarity = ops.divide_no_nan(1.0, sums.labelled * sums.labelled)  # 0 for absent classes
    rarity = ops.where(sums.labelled > 0, rarity, ops.max(rarity, axis=-1, keepdims=True, initial=0.0))
    shares = rarity * counted_classes(sums.labelled, sums.num_valid, absent)
    if weights is not None:
        shares = shares * weights
    extent = sums.predicted + sums.labelled
    total = ops.sum(shares * extent, axis=-1)  # () or (N,)
    losses = shares * (extent - 2.0 * sums.overlap)
    loss = class_parts(losses, total) if per_class else mean_over_images(ops.sum(losses, axis=-1), total)
    return nan_if_unknown(loss, labels, logits.shape[-1], ignore_index)


@keras.saving.register_keras_serializable(package="seg")
class GeneralisedDice(OverlapLoss):
    """`generalised_dice_loss` as a Keras loss. It has no per-pixel losses, so pixel weights are refused."""

    function = staticmethod(generalised_dice_loss)
    default_name = "generalised_dice"
