"""The base of the loss classes: integer labels stay integer, the loss is one scalar, options are plain values."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar

import keras

from seg.losses.overlap import ABSENT, REDUCTIONS, check_smooth
from seg.losses.pixels import Tensor, check_choice
from seg.losses.probabilities import refuse_probabilities
from seg.losses.replicas import num_replicas

ClassWeights = Sequence[float] | Mapping[int, float]  # by position, or by class index
OF_A_CALL = ("pixel_weights", "per_class")  # what a loss function takes beside its options


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
        self._looked_at = False

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """The scalar float32 loss, divided by the number of replicas under `tf.distribute`.

        Replaces Keras's `__call__`, which casts labels to float32 and leaves scalar losses unscaled.

        Raises:
            ValueError: `y_pred` are probabilities, see `seg.losses.probabilities`.
        """
        refuse_probabilities(y_pred, self.name, first=not self._looked_at)
        self._looked_at = True
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
    """A pure loss function as a Keras loss: the function's options, with its defaults, are the constructor's.

    Subclasses say the function, the loss's name and what can be checked before there are pixels.

    Attributes:
        function: The pure function; its keyword arguments are the options, but for those of a call (`OF_A_CALL`).
        default_name: The name in logs where none is given.

    Raises:
        TypeError: The function has no such option.
        ValueError: An option is out of range.
    """

    function: ClassVar[Callable[..., Tensor]]
    default_name: ClassVar[str]
    __signature__: ClassVar[inspect.Signature]  # what `help` shows, and the constructor goes by

    def __init_subclass__(cls) -> None:
        if "function" in vars(cls):
            known = inspect.signature(cls.function).parameters.values()
            options = [one for one in known if one.kind is one.KEYWORD_ONLY and one.name not in OF_A_CALL]
            name = inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=cls.default_name)
            cls.__signature__ = inspect.Signature([*options, name])

    def __init__(self, **options: Any) -> None:
        given = self.__signature__.bind(**options)
        given.apply_defaults()
        super().__init__(given.arguments.pop("name"))
        self.options: dict[str, Any] = {key: _plain(key, value) for key, value in given.arguments.items()}
        self.check(self.options)

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises ValueError for an option out of range, which the function would find with the first pixels."""

    def call(self, y_true: Tensor, y_pred: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The function of the same name; `pixel_weights` (N, H, W) are fit's `sample_weight`."""
        return self.function(y_true, y_pred, pixel_weights=pixel_weights, **self.options)

    @property
    def has_class_weights(self) -> bool:
        """Whether it was made with class weights."""
        return self.options.get("class_weights") is not None

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

    def check(self, options: Mapping[str, Any]) -> None:
        """See `FunctionLoss.check`."""
        check_smooth(options.get("smooth", 0.0))
        check_choice("reduction", options["reduction"], REDUCTIONS)
        check_choice("absent", options["absent"], ABSENT)

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


def _plain(key: str, value: Any) -> Any:
    """An option as a value that `get_config` can write to a `.keras` file."""
    match key:
        case "class_weights":
            return plain_weights(value)
        case "pos_weight":
            return plain_pos_weight(value)
        case "sets":
            return [[int(label), [int(index) for index in classes]] for label, classes in value]
        case _:
            return value


def plain_weights(class_weights: ClassWeights | None) -> list[float] | None:
    """The class weights as a list of Python floats.

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


def plain_pos_weight(pos_weight: Sequence[float] | None) -> list[float] | None:
    """The weights as a list of Python floats.

    Raises:
        ValueError: A weight is negative, infinite or NaN.
    """
    if pos_weight is None:
        return None
    weights = [float(weight) for weight in pos_weight]
    if any(not math.isfinite(weight) or weight < 0 for weight in weights):
        raise ValueError(f"pos_weight: got {weights}, allowed: finite, not negative")
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
