"""Gradient clipping, of gradients that are already those of the whole batch on all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

Tensor = Any
BY = ("global_norm", "norm", "value")


def clipped(gradients: Sequence[Tensor], by: str, limit: float) -> list[Tensor]:
    """The gradients within the limit; NaN and infinity stay seen.

    `global_norm`: all times min(1, limit / |g|), |g| the Euclidean norm of all together (R. Pascanu, T. Mikolov,
    Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, arXiv:1211.5063), so the direction
    stays. `norm`: each by its own norm. `value`: each entry cut to [-limit, limit].

    Args:
        gradients: One a variable.
        by: One of `BY`.
        limit: Above 0.
    """
    if by == "value":
        return [ops.clip(gradient, -limit, limit) for gradient in gradients]
    squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in gradients]
    if by == "global_norm":
        squares = [sum(squares)] * len(squares)
    # Not min(1, limit / norm): a minimum may drop a NaN.
    scales = [limit / ops.where(square > limit**2, ops.sqrt(square), limit + 0.0 * square) for square in squares]
    return [gradient * ops.cast(scale, gradient.dtype) for gradient, scale in zip(gradients, scales, strict=True)]


def check_clip(clip: tuple[str, float] | None) -> tuple[str, float] | None:
    """The pair (by, limit) as plain values.

    Raises:
        ValueError: An unknown `by`, or a limit that is not above 0.
    """
    if clip is None:
        return None
    by, limit = clip
    if by not in BY or not 0 < limit < float("inf"):
        raise ValueError(f"clip: got {tuple(clip)}, allowed: ({' | '.join(BY)}, a limit above 0)")
    return by, float(limit)
