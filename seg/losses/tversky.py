"""Tversky loss, of which Jaccard (IoU) loss and Dice loss are cases, and its focal form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from seg.losses.base import OverlapLoss
from seg.losses.overlap import check_smooth, class_sums, mean_over_classes
from seg.losses.pixels import Tensor, check_class_weights, check_pixels, nan_if_unknown

MIN_FOCAL_BASE = 1e-7  # about float32's rounding of 1 - T; below it the focal power goes on as a straight line to 0


def tversky_loss(
    labels: Tensor,
    logits: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    smooth: float = 1.0,
    reduction: str = "batch",
    absent: str = "skip",
    per_class: bool = False,
) -> Tensor:
    """The weighted mean over classes of one minus the Tversky index, or of a root of that.

    T_c = (TP_c + s) / (TP_c + alpha FP_c + beta FN_c + s) with the soft counts TP_c = sum_i p_ic t_ic,
    FP_c = sum_i p_ic (1 - t_ic) and FN_c = sum_i (1 - p_ic) t_ic over the valid pixels, t the one-hot labels, and
    L = sum_c w_c m_c (1 - T_c)^(1 / gamma) / sum_c w_c m_c.

    alpha weighs false POSITIVES and beta false negatives: beta above alpha finds more of a rare class at the price of
    false alarms. alpha = beta = 1 is Jaccard (IoU) loss; alpha = beta = 1/2 is Dice loss with twice this `smooth`.

    S. S. M. Salehi, D. Erdogmus, A. Gholipour, "Tversky loss function for image segmentation using 3D fully
    convolutional deep networks", MLMI 2017, arXiv:1706.05721; one class there, alpha 0.3 and beta 0.7 found best. The
    focal form: N. Abraham, N. M. Khan, "A novel focal Tversky loss function with improved Attention U-Net for lesion
    segmentation", ISBI 2019, arXiv:1810.07842, a sum over classes with gamma 4/3; there alpha weighs false negatives.

    Args:
        labels: (N, H, W), any integer dtype.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        alpha: Weight of false positives, at least 0.
        beta: Weight of false negatives, at least 0, above 0 if alpha is 0.
        gamma: Above 0. Above 1, classes that are segmented well keep a steep gradient; 1 is plain Tversky. The
            exponent is 1 / gamma as in the paper: code that raises to the power gamma calls 3/4 what is 4/3 here.
        class_weights: (C,); None: all 1. Only their ratios matter.
        ignore_index: The label of void pixels, which leave every sum.
        smooth: s, at least 0, in pixels; see `seg.losses.dice.dice_loss`.
        reduction: `batch` or `image`, see `seg.losses.dice.dice_loss`.
        absent: `skip` or `count`, the rule m_c for classes without a labelled pixel, see `seg.losses.dice.dice_loss`.
        per_class: Whether to return the classes' parts, (C,), which sum to the loss, instead of the loss.

    Returns:
        Scalar float32 in [0, 1]: 0 for a perfect certain prediction, and where no class counts; NaN if a label is
        neither a class nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    check_tversky_options(alpha, beta, gamma)
    check_smooth(smooth)
    labels, logits = check_pixels(labels, logits)
    weights = check_class_weights(class_weights, logits.shape[-1])
    sums = class_sums(labels, logits, ignore_index=ignore_index, reduction=reduction)
    false_positives = ops.relu(sums.predicted - sums.overlap)  # rounding can make the difference of sums negative
    false_negatives = ops.relu(sums.labelled - sums.overlap)
    errors = alpha * false_positives + beta * false_negatives
    losses = ops.divide_no_nan(errors, sums.overlap + errors + smooth)  # 1 - T
    if gamma != 1:
        # x^(1/gamma) as x * x^(1/gamma - 1): 0 at x = 0, with a finite gradient there, where the power has none.
        losses = losses * ops.power(ops.maximum(losses, MIN_FOCAL_BASE), 1.0 / gamma - 1.0)
    loss = mean_over_classes(
        losses, sums.labelled, sums.num_valid, class_weights=weights, absent=absent, per_class=per_class
    )
    return nan_if_unknown(loss, labels, logits.shape[-1], ignore_index)


def check_tversky_options(alpha: float, beta: float, gamma: float) -> None:
    """Raises ValueError for options outside the ranges of `tversky_loss`."""
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}: got {value}, allowed: 0 or more, finite")
    if alpha == beta == 0:
        raise ValueError("alpha, beta: got 0 and 0, allowed: at least one above 0")
    if not 0 < gamma < float("inf"):
        raise ValueError(f"gamma: got {gamma}, allowed: above 0, finite")


@keras.saving.register_keras_serializable(package="seg")
class Tversky(OverlapLoss):
    """`tversky_loss` as a Keras loss; Jaccard loss is `Tversky(alpha=1, beta=1, name="jaccard")`."""

    function = staticmethod(tversky_loss)
    default_name = "tversky"

    def check(self, options: Mapping[str, Any]) -> None:
        """See `FunctionLoss.check`."""
        check_tversky_options(options["alpha"], options["beta"], options["gamma"])
        super().check(options)
