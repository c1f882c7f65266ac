"""The base of the loss classes: integer labels stay integer, the loss is one scalar, options are plain values."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import keras

from seg.losses.pixels import Tensor
from seg.losses.replicas import num_replicas

ClassWeights = Sequence[float] | Mapping[int, float]  # by position, or by class index


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

    @property
    def has_class_weights(self) -> bool:
        """Whether `reweighted` changes anything."""
        return False

    def reweighted(self, class_weights: Tensor) -> SegmentationLoss:
        """A copy with these class weights (C,), a tensor of one step say, for its own; itself where it has none."""
        return self


class FunctionLoss(SegmentationLoss):
    """A pure loss function and its options as a Keras loss: what the classes of all pixel losses are.

    Subclasses name the options in their constructor, so that a wrong one fails there and the class can be saved.
    """

    def __init__(self, name: str, function: Callable[..., Tensor], options: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.function = function
        self.options = {**options, "class_weights": plain_weights(options["class_weights"])}

    def call(self, y_true: Tensor, y_pred: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The function of the same name; `pixel_weights` (N, H, W) are fit's `sample_weight`."""
        return self.function(y_true, y_pred, pixel_weights=pixel_weights, **self.options)

    @property
    def has_class_weights(self) -> bool:
        """Whether it was made with class weights."""
        return self.options["class_weights"] is not None

    def reweighted(self, class_weights: Tensor) -> SegmentationLoss:
        """See `SegmentationLoss.reweighted`."""
        if not self.has_class_weights:
            return self
        copied = copy.copy(self)
        copied.options = {**self.options, "class_weights": class_weights}
        return copied

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        return {**self.options, "name": self.name}


class OverlapLoss(FunctionLoss):
    """The same for losses of whole classes, in which a single pixel has no loss that could be weighed."""

    takes_pixel_weights = False

    def call(self, y_true: Tensor, y_pred: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The function of the same name.

        Raises:
            ValueError: Pixel weights are given.
        """
        if pixel_weights is not None:
            raise ValueError(
                f"loss '{self.name}': got pixel weights (sample_weight), allowed: none; "
                "overlap losses weigh classes (class_weights), cross-entropy and focal loss also pixels"
            )
        return self.function(y_true, y_pred, **self.options)

    def class_parts(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Each class's part of the loss, (C,) float32; they sum to the loss."""
        return self.function(y_true, y_pred, per_class=True, **self.options)


def plain_weights(class_weights: ClassWeights | None) -> list[float] | None:
    """The class weights as a list of Python floats, which `get_config` can write to a `.keras` file.

    Raises:
        ValueError: A weight is negative, infinite or NaN, or all are 0; or the keys of a dict are not the class
            indices 0 to C - 1.
    """
    if class_weights is None:
        return None
    if isinstance(class_weights, Mapping):
        if not all(isinstance(key, Integral) for key in class_weights):
            raise ValueError(
                f"class_weights: got the keys {list(class_weights)}, allowed: class indices; a loss does not know the "
                "classes' names, so give weights by name as class_weights=weights_by_name(weights, class_names)"
            )
        indices = list(range(len(class_weights)))
        if sorted(class_weights) != indices:
            raise ValueError(
                f"class_weights: got the keys {sorted(class_weights)}, allowed: {indices}, every class with its weight"
            )
        class_weights = [class_weights[index] for index in indices]
    weights = [float(weight) for weight in class_weights]
    if any(not math.isfinite(weight) or weight < 0 for weight in weights) or not any(weights):
        raise ValueError(f"class_weights: got {weights}, allowed: finite, not negative, at least one above 0")
    return weights


def weights_by_name(weights: Mapping[str, float], class_names: Sequence[str]) -> list[float]:
    """Class weights given by name, in the order of the classes, for `class_weights` of any loss.

    Raises:
        ValueError: A name is no class, or a class has no weight.

    Example:
        >>> weights_by_name({"boat": 9.0, "water": 0.5}, ["water", "boat"])
        [0.5, 9.0]
    """
    if set(weights) != set(class_names):
        raise ValueError(
            f"class_weights: got the names {', '.join(map(str, weights))}, allowed: {', '.join(class_names)}, every "
            "class with its weight"
        )
    return [float(weights[name]) for name in class_names]
