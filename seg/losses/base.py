"""The base of the loss classes: integer labels stay integer, the loss is one scalar, options are plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from seg.losses.pixels import Tensor


class SegmentationLoss(keras.losses.Loss):
    """A Keras loss over integer labels (N, H, W) and logits (N, H, W, C).

    Works in `model.compile(loss=...)`. `fit`'s `sample_weight` is passed on as pixel weights (N, H, W).

    Attributes:
        takes_pixel_weights: Whether the loss is a sum over pixels that weights (N, H, W) can scale, term by term.
    """

    takes_pixel_weights = True

    def __init__(self, name: str) -> None:
        # Each loss reduces itself: Keras's reductions know neither void pixels nor the denominator rule.
        super().__init__(name=name, reduction=None, dtype="float32")

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """The scalar float32 loss, divided by the number of replicas under `tf.distribute`.

        Replaces Keras's `__call__`, which casts labels to float32 and leaves scalar losses unscaled.
        """
        with keras.name_scope(self.name):
            return self.call(y_true, y_pred, sample_weight) / num_replicas()

    def call(self, y_true: Tensor, y_pred: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The scalar float32 loss of this replica's pixels."""
        raise NotImplementedError


def num_replicas() -> int:
    """Replicas whose gradients the optimizer will sum; Keras losses divide by it, and its loss log multiplies by it."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def plain_weights(class_weights: Sequence[float] | None) -> list[float] | None:
    """The class weights as a list of Python floats, which `get_config` can write to a `.keras` file.

    Raises:
        ValueError: A weight is negative, infinite or NaN, or all are 0.
    """
    if class_weights is None:
        return None
    weights = [float(weight) for weight in class_weights]
    if any(not math.isfinite(weight) or weight < 0 for weight in weights) or not any(weights):
        raise ValueError(f"class_weights: got {weights}, allowed: finite, not negative, at least one above 0")
    return weights
