"""Sums over the replicas of `tf.distribute`, so that a batch gives one gradient however it is split over devices.

The optimizer sums the replicas' gradients. A loss therefore divides by the number of replicas (`num_replicas`), and
takes from all replicas what it divides by (a number of pixels) and what it is not linear in (the class sums of Dice).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras

Tensor = Any
_apart: ContextVar[bool] = ContextVar("apart", default=False)  # a replica of MirroredStrategy is a thread of its own


def num_replicas() -> int:
    """Replicas whose gradients the optimizer will sum; Keras losses divide by it, and its loss log multiplies by it."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def sum_over_replicas(values: Tensor) -> Tensor:
    """The sum of the replicas' values, the same on each; outside of `strategy.run`, the values themselves."""
    return _reduce(values, "SUM")


def mean_over_replicas(values: Tensor) -> Tensor:
    """The mean of the replicas' values, the same on each; outside of `strategy.run`, the values themselves.

    What each replica divides its own sum by: divided by `num_replicas` besides, the replicas' losses add up to the sum
    of all pixels over the denominator of all pixels.
    """
    return _reduce(values, "MEAN")


@contextmanager
def apart() -> Iterator[None]:
    """Within, a replica's sums are its own: each has a whole batch, of a validation say, and they never meet."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def assign_total(variable: Any, value: Tensor) -> None:
    """Gives a metric's variable its value, the first replica's part of which takes all; any other variable the value.

    TensorFlow would give each replica an equal part, and integers would lose the remainder.
    """
    parts = getattr(variable.value, "values", ())
    if len(parts) < 2 or variable.synchronization != "on_read":
        variable.assign(value)
        return
    for number, part in enumerate(parts):
        part.assign(value if number == 0 else value * 0)


def _reduce(values: Tensor, operation: str) -> Tensor:
    if keras.backend.backend() != "tensorflow" or _apart.get():
        return values
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp[operation], values)
