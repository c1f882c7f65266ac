"""A moving average of a model's weights, kept beside those that training goes on from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Variable = Any


class WeightAverage(keras.layers.Layer):
    """One variable beside each of the model's: whichever of average and raw weight the model does not hold.

    After update t, average <- average + r_t (weight - average) with r_t = (1 - m) / (1 - m^t). That is Adam's
    bias-corrected average (D. P. Kingma, J. Ba, ICLR 2015, arXiv:1412.6980): r_1 = 1, so the start is
    not kept, and the average remembers about 1 / (1 - m) updates. Nothing but the average has to be kept.

    Args:
        variables: What is averaged. The layer does not own them: the same list is given to each call.
        momentum: m, in (0, 1).

    Raises:
        ValueError: `momentum` is out of range.
    """

    def __init__(self, variables: Sequence[Variable], momentum: float, *, name: str = "weight_average") -> None:
        super().__init__(name=name, trainable=False, dtype="float32")
        if not 0 < momentum < 1:
            raise ValueError(f"ema: got {momentum}, allowed: 0 < ema < 1")
        self.momentum = momentum
        self.others = []
        for number, variable in enumerate(variables):
            other = self.add_weight(
                shape=variable.shape,
                dtype=variable.dtype,
                initializer="zeros",
                trainable=False,
                name=f"other_{number}",
                aggregation="only_first_replica",  # all replicas assign the same
            )
            other.assign(variable)
            self.others.append(other)
        self.built = True

    def follow(self, variables: Sequence[Variable], updates: Any) -> None:
        """Takes the weights after update number `updates`, the first is 1, into the average."""
        updates = ops.cast(updates, "float32")
        rate = (1.0 - self.momentum) / -ops.expm1(updates * math.log(self.momentum))
        for average, variable in zip(self.others, variables, strict=True):
            weight = ops.convert_to_tensor(variable)
            average.assign(average + ops.cast(rate, weight.dtype) * (weight - average))

    def swap(self, variables: Sequence[Variable]) -> None:
        """Exchanges what the model holds with what stands here, to the bit."""
        for other, variable in zip(self.others, variables, strict=True):
            here, there = ops.convert_to_numpy(other), ops.convert_to_numpy(variable)
            other.assign(there)
            variable.assign(here)
