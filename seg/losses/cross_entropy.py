"""Weighted categorical cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from seg.losses.base import FunctionLoss
from seg.losses.partial import Sets, marginal_cross_entropy
from seg.losses.pixels import (
    NORMALIZE,
    Tensor,
    average,
    check_choice,
    check_class_weights,
    check_label_smoothing,
    check_pixels,
    divisor,
    label_log_probability,
    label_weights,
    log_softmax,
    same_shape,
    sum_over,
)


def cross_entropy(
    labels: Tensor,
    logits: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    ignore_index: int = 255,
    label_smoothing: float = 0.0,
    normalize: str = "valid",
    sets: Sets = (),
) -> Tensor:
    """Weighted cross-entropy of the softmax.

    l_i = -w_{y_i} log p_{i,y_i}, averaged over the valid pixels as `normalize` says. With label smoothing e the
    target is t_ic = (1 - e) [c = y_i] + e / C and l_i = -sum_c w_c t_ic log p_ic.

    Args:
        labels: (N, H, W), any integer dtype.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        class_weights: (C,), gathered by label; None: all 1.
        pixel_weights: (N, H, W), multiply l_i before the average; they do not enter the denominator.
        ignore_index: The label of void pixels, which have exactly zero loss and gradient.
        label_smoothing: e, 0 <= e < 1.
        normalize: The denominator: `valid`, `weights` or `all`, see `seg.losses.pixels.denominator`.
        sets: Labels that stand for several classes, see `seg.losses.partial`; not with label smoothing.

    Returns:
        Scalar float32, at least 0: log C for equal logits (without weights), 0 for a perfect certain prediction, 0
        without a valid pixel, NaN if a label is neither a class nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.

    Example:
        >>> float(cross_entropy([[[0, 255]]], [[[[0.0, 0.0], [9.0, 0.0]]]]))  # log 2, the void pixel left out
        0.6931471824645996
    """
    check_label_smoothing(label_smoothing)
    labels, logits = check_pixels(labels, logits)
    num_classes = logits.shape[-1]
    weights = check_class_weights(class_weights, num_classes)
    if sets:
        if label_smoothing:
            raise ValueError(f"label_smoothing: got {label_smoothing}, allowed with sets: 0")
        return marginal_cross_entropy(
            labels,
            logits,
            sets=sets,
            class_weights=weights,
            pixel_weights=pixel_weights,
            ignore_index=ignore_index,
            normalize=normalize,
        )
    losses = -label_log_probability(labels, logits)  # (N, H, W)
    if weights is not None:
        losses = losses * label_weights(labels, weights)
    if label_smoothing:
        log_probabilities = log_softmax(logits)  # (N, H, W, C)
        weighted = log_probabilities if weights is None else log_probabilities * weights
        losses = (1.0 - label_smoothing) * losses - label_smoothing * ops.mean(weighted, axis=-1)
    return average(
        losses,
        labels,
        num_classes=num_classes,
        class_weights=weights,
        pixel_weights=pixel_weights,
        ignore_index=ignore_index,
        normalize=normalize,
    )


def soft_cross_entropy(
    targets: Tensor,
    logits: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    normalize: str = "valid",
) -> Tensor:
    """Weighted cross-entropy against a distribution over classes in each pixel, as of several annotators or a teacher.

    l_i = -sum_c w_c t_ic log p_ic, averaged over the valid pixels; smoothing makes t_ic of it (1 - e) t_ic + e / C. On
    one-hot targets it is `cross_entropy` of their labels.

    Args:
        targets: t, (N, H, W, C), any float dtype, not negative, with the sum 1 in each pixel. A pixel whose targets
            are all 0 is void.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        class_weights: (C,); None: all 1.
        pixel_weights: (N, H, W), multiply l_i before the average; they do not enter the denominator.
        label_smoothing: e, 0 <= e < 1.
        normalize: The denominator: `valid`, the number of valid pixels; `weights`, the sum of w_c t_ic; `all`.

    Returns:
        Scalar float32, at least 0; 0 without a valid pixel.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    check_label_smoothing(label_smoothing)
    targets, logits = check_soft_targets(targets, logits)
    weights = check_class_weights(class_weights, logits.shape[-1])
    valid = ops.any(ops.not_equal(targets, 0.0), axis=-1)  # (N, H, W)
    smoothed = (1.0 - label_smoothing) * targets + label_smoothing / logits.shape[-1] if label_smoothing else targets
    log_probabilities = log_softmax(logits)
    if weights is not None:
        log_probabilities = log_probabilities * weights
    losses = -ops.sum(smoothed * log_probabilities, axis=-1)
    target_weights = None if weights is None else ops.sum(targets * weights, axis=-1)
    return sum_over(losses, valid, divisor(valid, target_weights, normalize), pixel_weights)


def check_soft_targets(targets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float32 (N, H, W, C), after checking that they belong together.

    Raises:
        ValueError: The targets are no floats, or the shapes are not equal and of 4 axes.
    """
    targets, logits = ops.convert_to_tensor(targets), ops.convert_to_tensor(logits)
    dtype = keras.backend.standardize_dtype(targets.dtype)
    if "int" in dtype and targets.shape[-1] == 1:
        raise ValueError(
            f"labels: got shape {tuple(targets.shape)}, allowed: (N, H, W) class indices; drop the last axis: "
            "labels[..., 0]"
        )
    if "float" not in dtype:
        raise ValueError(f"targets: got dtype {dtype}, allowed: any float dtype (probabilities of the classes)")
    if len(logits.shape) != 4 or not same_shape(targets.shape, logits.shape) or logits.shape[-1] is None:
        raise ValueError(
            f"targets and logits: got shapes {tuple(targets.shape)} and {tuple(logits.shape)}, "
            "allowed: (N, H, W, C) for both with a known C"
        )
    return ops.cast(targets, "float32"), ops.cast(logits, "float32")


@keras.saving.register_keras_serializable(package="seg")
class CrossEntropy(FunctionLoss):
    """`cross_entropy` as a Keras loss, or for targets (N, H, W, C) `soft_cross_entropy`, which knows no `ignore_index`.

    Takes `sample_weight` maps (N, H, W) as pixel weights.
    """

    function = staticmethod(cross_entropy)
    default_name = "cross_entropy"

    def check(self, options: Mapping[str, Any]) -> None:
        """See `FunctionLoss.check`."""
        check_label_smoothing(options["label_smoothing"])
        check_choice("normalize", options["normalize"], NORMALIZE)

    def call(self, y_true: Tensor, y_pred: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """See `cross_entropy` and, for `y_true` of 4 axes, `soft_cross_entropy`."""
        if len(ops.shape(y_true)) == 3:
            return super().call(y_true, y_pred, pixel_weights)
        options = {key: value for key, value in self.options.items() if key not in ("ignore_index", "sets")}
        return soft_cross_entropy(y_true, y_pred, pixel_weights=pixel_weights, **options)
