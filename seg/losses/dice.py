"""Weighted soft Dice loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from seg.losses.base import SegmentationLoss, plain_weights
from seg.losses.pixels import (
    Tensor,
    check_choice,
    check_class_weights,
    check_pixels,
    count,
    nan_if_unknown,
    one_hot,
    sum_rows,
)

REDUCTIONS = ("batch", "image")
ABSENT = ("skip", "count")


def dice_loss(
    labels: Tensor,
    logits: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    smooth: float = 1.0,
    reduction: str = "batch",
    absent: str = "skip",
) -> Tensor:
    """One minus the weighted mean of the classes' soft Dice scores.

    D_c = (2 sum_i p_ic t_ic + s) / (sum_i p_ic + sum_i t_ic + s) over the valid pixels, t the one-hot labels, and
    L = sum_c w_c m_c (1 - D_c) / sum_c w_c m_c.

    F. Milletari, N. Navab, S.-A. Ahmadi, "V-Net", 3DV 2016, arXiv:1606.04797, has squares in the denominator; this is
    the form without, weighted over classes.

    Args:
        labels: (N, H, W), any integer dtype.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        class_weights: (C,); None: all 1. Only their ratios matter.
        ignore_index: The label of void pixels, which leave every sum.
        smooth: s, at least 0, in pixels. 1 is invisible for a class of hundreds of pixels and, with `absent='count'`,
            lets an absent class score better the fewer pixels are predicted as it.
        reduction: `batch` sums over all pixels of the batch (crops do not cover images); `image` sums over each image
            and averages the L of the images that have any weighted m_c.
        absent: m_c of a class without a labelled pixel in its sums: 0 with `skip`, 1 with `count`. Without any valid
            pixel, m_c is 0 with both.

    Returns:
        Scalar float32 in [0, 1]: 0 for a perfect certain prediction, and where no class counts (no valid pixel, or
        weight 0 for all present classes); NaN if a label is neither a class nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    check_dice_options(smooth, reduction, absent)
    labels, logits = check_pixels(labels, logits)
    num_classes = logits.shape[-1]
    weights = check_class_weights(class_weights, num_classes)
    axes = (0, 1) if reduction == "batch" else (1,)  # with W: the pixels of one Dice score

    valid = ops.expand_dims(ops.not_equal(labels, ignore_index), -1)  # (N, H, W, 1)
    targets = ops.logical_and(one_hot(labels, num_classes), valid)  # (N, H, W, C)
    probabilities = ops.softmax(logits, axis=-1)
    overlap = sum_rows(ops.where(targets, probabilities, 0.0), axes)  # (C,) or (N, C)
    predicted = sum_rows(ops.where(valid, probabilities, 0.0), axes)
    labelled = count(targets, (*axes, 2))
    scores = ops.divide_no_nan(2.0 * overlap + smooth, predicted + labelled + smooth)

    counted = ops.cast(labelled > 0 if absent == "skip" else count(valid, (*axes, 2)) > 0, "float32")
    class_shares = counted if weights is None else counted * weights
    class_shares = ops.broadcast_to(class_shares, ops.shape(scores))
    total = ops.sum(class_shares, axis=-1)  # () or (N,)
    losses = ops.divide_no_nan(ops.sum(class_shares * (1.0 - scores), axis=-1), total)
    loss = ops.divide_no_nan(ops.sum(losses), count(total > 0))
    return nan_if_unknown(loss, labels, num_classes, ignore_index)


def check_dice_options(smooth: float, reduction: str, absent: str) -> None:
    """Raises ValueError for a negative or infinite `smooth` or an unknown choice."""
    if not 0 <= smooth < float("inf"):
        raise ValueError(f"smooth: got {smooth}, allowed: 0 or more, finite")
    check_choice("reduction", reduction, REDUCTIONS)
    check_choice("absent", absent, ABSENT)


@keras.saving.register_keras_serializable(package="seg")
class Dice(SegmentationLoss):
    """`dice_loss` as a Keras loss. Refuses pixel weights: a Dice score of weighted pixels is another loss."""

    takes_pixel_weights = False

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        ignore_index: int = 255,
        smooth: float = 1.0,
        reduction: str = "batch",
        absent: str = "skip",
        name: str = "dice",
    ) -> None:
        super().__init__(name)
        check_dice_options(smooth, reduction, absent)
        self.class_weights = plain_weights(class_weights)
        self.ignore_index = ignore_index
        self.smooth = smooth
        self.reduction = reduction  # Keras's own `reduction` is unused: the base replaces the method that reads it
        self.absent = absent

    def call(self, y_true: Tensor, y_pred: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """See `dice_loss`.

        Raises:
            ValueError: Pixel weights are given.
        """
        if pixel_weights is not None:
            raise ValueError(
                f"loss '{self.name}': got pixel weights (sample_weight), allowed: none; "
                "Dice weighs classes (class_weights), cross-entropy and focal loss also pixels"
            )
        return dice_loss(
            y_true,
            y_pred,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            smooth=self.smooth,
            reduction=self.reduction,
            absent=self.absent,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        return {
            "class_weights": self.class_weights,
            "ignore_index": self.ignore_index,
            "smooth": self.smooth,
            "reduction": self.reduction,
            "absent": self.absent,
            "name": self.name,
        }
