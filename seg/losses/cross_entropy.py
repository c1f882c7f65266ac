"""Weighted categorical cross-entropy."""

from __future__ import annotations

import keras
from keras import ops

from seg.losses.base import ClassWeights, FunctionLoss
from seg.losses.pixels import (
    NORMALIZE,
    Tensor,
    average,
    check_choice,
    check_class_weights,
    check_pixels,
    label_log_probability,
    label_weights,
    log_softmax,
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


def check_label_smoothing(label_smoothing: float) -> None:
    """Raises ValueError outside 0 <= label_smoothing < 1."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: got {label_smoothing}, allowed: 0 <= label_smoothing < 1")


@keras.saving.register_keras_serializable(package="seg")
class CrossEntropy(FunctionLoss):
    """`cross_entropy` as a Keras loss; takes `sample_weight` maps (N, H, W) as pixel weights."""

    def __init__(
        self,
        *,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        label_smoothing: float = 0.0,
        normalize: str = "valid",
        name: str = "cross_entropy",
    ) -> None:
        check_label_smoothing(label_smoothing)
        check_choice("normalize", normalize, NORMALIZE)
        options = {
            "class_weights": class_weights,
            "ignore_index": ignore_index,
            "label_smoothing": label_smoothing,
            "normalize": normalize,
        }
        super().__init__(name, cross_entropy, options)
