"""Learning rates that Keras does not have: a rise before any other schedule, and one cycle. Both count updates."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule


@keras.saving.register_keras_serializable(package="seg")
class WarmUp(LearningRateSchedule):
    """A linear rise, rate(t) = peak t / steps for t < steps, then `after`(t - steps).

    Args:
        peak: The rate that it rises to.
        steps: Updates of the rise, at least 1.
        after: A rate, or a schedule that counts from the end of the rise.
    """

    def __init__(self, peak: float, steps: int, after: float | LearningRateSchedule) -> None:
        super().__init__()
        self.peak, self.steps, self.after = peak, steps, after

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        later = self.after
        if isinstance(later, LearningRateSchedule):
            later = later(ops.maximum(step - self.steps, 0.0))
        return ops.where(step < self.steps, self.peak * (step / self.steps), later)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        after = self.after
        if isinstance(after, LearningRateSchedule):
            after = keras.saving.serialize_keras_object(after)
        return {"peak": self.peak, "steps": self.steps, "after": after}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        """The schedule that `get_config` described."""
        after = config["after"]
        if isinstance(after, dict):
            after = keras.saving.deserialize_keras_object(after)
        return cls(config["peak"], config["steps"], after)


@keras.saving.register_keras_serializable(package="seg")
class OneCycle(LearningRateSchedule):
    """A cosine from start_fraction peak up to peak over rise (T - 1) updates, then one down to final_fraction peak.

    L. N. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018,
    arXiv:1708.07120, with cosines for the straight lines. The rate alone; momentum is not cycled.

    Args:
        peak: The highest rate.
        steps: T, the updates of the training; the last is number T - 1.
        rise: Share of them before the peak, in (0, 1).
        start_fraction: Of the peak, at update 0.
        final_fraction: Of the peak, at update T - 1 and later.
    """

    def __init__(self, peak: float, steps: int, rise: float, start_fraction: float, final_fraction: float) -> None:
        super().__init__()
        self.peak, self.steps, self.rise = peak, steps, rise
        self.start_fraction, self.final_fraction = start_fraction, final_fraction

    def __call__(self, step: Any) -> Any:
        share = ops.minimum(ops.cast(step, "float32") / max(self.steps - 1, 1), 1.0)
        up = _cosine(self.start_fraction, 1.0, share / self.rise)
        down = _cosine(1.0, self.final_fraction, (share - self.rise) / (1.0 - self.rise))
        return self.peak * ops.where(share < self.rise, up, down)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        keys = ("peak", "steps", "rise", "start_fraction", "final_fraction")
        return {key: getattr(self, key) for key in keys}


def _cosine(first: float, last: float, share: Any) -> Any:
    """From `first` at share 0 to `last` at share 1, flat at both ends."""
    return last + (first - last) * 0.5 * (1.0 + ops.cos(math.pi * share))
