"""Batch normalisation and 2 x 2 pooling as plain formulas with gradients of their own, for steps that XLA compiles.

XLA makes of a formula one or two passes over memory, fused with the ReLU behind it. A library kernel's gradient is a
black box to it, and that of max-pooling a scatter. Operation by operation, as TensorFlow runs on a CPU, each of these
lines would be a pass of its own: there the kernels are faster, see `seg.models.blocks`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

PIXELS = (0, 1, 2)  # the axes of (N, H, W, C) that a channel's statistics run over
WINDOW = (2, 4)  # the axes of a 2 x 2 window in (N, H / 2, 2, W / 2, 2, C)


def xla_compiles_steps() -> bool:
    """Whether a training step is one program of XLA here: on JAX, and on a GPU, where `seg.train` asks for it.

    On a CPU it is not: XLA's convolutions are slower there than TensorFlow's own.
    """
    backend = str(keras.backend.backend())
    return backend == "jax" or (backend == "tensorflow" and bool(keras.distribution.list_devices("gpu")))


@ops.custom_gradient
def normalized(inputs: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    """y = gamma x^ + beta with x^ = (x - mean) r and r = 1 / sqrt(variance + epsilon) of the batch (arXiv:1502.03167).

    Sums run in float32 (float64 for float64) over values of whatever dtype. The backward pass needs the inputs as they
    came and numbers for each channel, so no float32 image is kept. With g the gradient of y and n = N H W

        d beta = sum g,  d gamma = sum g x^,  d x = gamma r (g - d beta / n - x^ d gamma / n)

    The variance is E[x^2] - mean^2, in one pass, as XLA's own batch norm has it: its relative error is about that of
    float32 times mean^2 / variance. Second derivatives are right too. No gradient flows through the statistics
    returned, which are for moving averages.

    Args:
        inputs: (N, H, W, C).
        gamma: (C,) float32.
        beta: (C,) float32.
        epsilon: Added to the variance; a scalar, without a gradient.

    Returns:
        y (N, H, W, C) in the inputs' dtype; mean (C,) and biased variance (C,) in float32.
    """
    wide = keras.backend.result_type(inputs.dtype, "float32")
    count = ops.cast(ops.prod(ops.shape(inputs)[:3]), wide)
    x = ops.cast(inputs, wide)
    mean = ops.sum(x, PIXELS) / count
    variance = ops.maximum(ops.sum(x * x, PIXELS) / count - mean * mean, 0.0)
    inverse = ops.rsqrt(variance + ops.cast(epsilon, wide))
    scale = gamma * inverse
    outputs = ops.cast(x * scale + (beta - mean * scale), inputs.dtype)

    def gradient(*upstream: Any) -> tuple[Any, ...]:
        g = ops.cast(keras.tree.flatten(upstream)[0], wide)  # three arguments on TensorFlow, a tuple of three on JAX
        standardized = (ops.cast(inputs, wide) - mean) * inverse  # cast again, so that nothing wide is kept
        d_beta = ops.sum(g, PIXELS)
        d_gamma = ops.sum(g * standardized, PIXELS)
        d_x = scale * (g - d_beta / count - standardized * (d_gamma / count))
        return ops.cast(d_x, inputs.dtype), d_gamma, d_beta, ops.zeros_like(epsilon)

    return (outputs, mean, variance), gradient


@ops.custom_gradient
def largest_of_four(inputs: Any) -> Any:
    """The largest of each 2 x 2 pixels: (N, H, W, C) -> (N, H / 2, W / 2, C), with H and W even.

    The same as `keras.layers.MaxPooling2D()` with the same gradient: of equal pixels the first takes all of it, row by
    row. (The gradient of a maximum over axes would share it among them.)
    """
    batch, height, width, channels = ops.shape(inputs)
    windows = (batch, height // 2, 2, width // 2, 2, channels)
    largest = ops.max(ops.reshape(inputs, windows), WINDOW)

    def gradient(upstream: Any) -> Any:
        each = ops.reshape(inputs, windows)
        place = ops.reshape(ops.arange(4), (1, 1, 2, 1, 2, 1))
        found = ops.where(each == ops.expand_dims(largest, WINDOW), place, 4)
        first = ops.min(found, WINDOW, keepdims=True)
        shares = ops.where(place == first, ops.expand_dims(upstream, WINDOW), 0)
        return ops.reshape(shares, (batch, height, width, channels))

    return largest, gradient
