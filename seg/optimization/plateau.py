"""A learning rate that falls when the monitored value stands still, as a function of the past alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Plateau:
    """The rule; a resumed training finds its rate from the history of the scores, so there is no state to lose.

    Attributes:
        peak: The rate before any reduction.
        warmup: Updates of the linear rise at the start, in which reductions already count.
        patience: Epochs without a better score before a reduction; they are counted anew after it.
        factor: What a reduction multiplies the rate by.
        final_fraction: Of the peak, below which the rate never goes.
    """

    peak: float
    warmup: int
    patience: int
    factor: float
    final_fraction: float

    def rate(self, history: Sequence[float], updates: int) -> float:
        """The rate of the next update.

        Args:
            history: The score of each finished epoch, the higher the better; NaN is never better.
            updates: Updates done.
        """
        fraction = max(self.factor ** reductions(history, self.patience), self.final_fraction)
        return self.peak * fraction * (min(updates / self.warmup, 1.0) if self.warmup else 1.0)


def reductions(history: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought nothing better than the best before them."""
    best, waited, count = -math.inf, 0, 0
    for score in history:
        if score > best:
            best, waited = score, 0
        else:
            waited += 1
        if waited >= patience:
            waited, count = 0, count + 1
    return count
