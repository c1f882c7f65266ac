"""Focal loss, softmax form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from seg.losses.base import FunctionLoss
from seg.losses.pixels import (
    NORMALIZE,
    Tensor,
    average,
    check_choice,
    check_class_weights,
    check_pixels,
    label_log_probability,
    label_weights,
)

MAX_PROBABILITY = 1.0 - 1e-7  # rounds to 1 - 2**-23: keeps log(1 - p), and its gradient, finite at p = 1


def focal_loss(
    labels: Tensor,
    logits: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    ignore_index: int = 255,
    normalize: str = "valid",
) -> Tensor:
    """Focal loss: cross-entropy that well-classified pixels hardly enter.

    l_i = -w_{y_i} (1 - p_{i,y_i})^gamma log p_{i,y_i}, averaged over the valid pixels as `normalize` says. The
    paper's alpha is `class_weights`. (1 - p)^gamma is exp(gamma log1p(-p)) with p clamped just below 1, whose gradient
    is finite for 0 < gamma < 1 too, where that of a power is not.

    T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollar, "Focal Loss for Dense Object Detection", ICCV 2017,
    arXiv:1708.02002; there for sigmoids and divided by the number of foreground anchors.

    Args:
        labels: (N, H, W), any integer dtype.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        gamma: At least 0; 0 is exactly cross-entropy.
        class_weights: (C,), gathered by label; None: all 1.
        pixel_weights: (N, H, W), multiply l_i before the average; they do not enter the denominator.
        ignore_index: The label of void pixels, which have exactly zero loss and gradient.
        normalize: The denominator: `valid`, `weights` or `all`, see `seg.losses.pixels.denominator`.

    Returns:
        Scalar float32, at least 0 and at most the cross-entropy; 0 without a valid pixel; NaN if a label is neither a
        class nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    check_gamma(gamma)
    labels, logits = check_pixels(labels, logits)
    weights = check_class_weights(class_weights, logits.shape[-1])
    log_p = label_log_probability(labels, logits)  # (N, H, W)
    modulation = ops.exp(gamma * ops.log1p(-ops.minimum(ops.exp(log_p), MAX_PROBABILITY)))
    losses = -modulation * log_p
    if weights is not None:
        losses = losses * label_weights(labels, weights)
    return average(
        losses,
        labels,
        num_classes=logits.shape[-1],
        class_weights=weights,
        pixel_weights=pixel_weights,
        ignore_index=ignore_index,
        normalize=normalize,
    )


def check_gamma(gamma: float) -> None:
    """Raises ValueError for a gamma that is negative, infinite or NaN."""
    if not 0 <= gamma < float("inf"):
        raise ValueError(f"gamma: got {gamma}, allowed: 0 or more, finite")


@keras.saving.register_keras_serializable(package="seg")
class Focal(FunctionLoss):
    """`focal_loss` as a Keras loss; takes `sample_weight` maps (N, H, W) as pixel weights."""

    function = staticmethod(focal_loss)
    default_name = "focal"

    def check(self, options: Mapping[str, Any]) -> None:
        """See `FunctionLoss.check`."""
        check_gamma(options["gamma"])
        check_choice("normalize", options["normalize"], NORMALIZE)
