"""Convolutions whose weight gradients are matrix products, for a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from seg.models.formulas import xla_compiles_steps

FEWEST_BANDS = 8  # of the inputs: with fewer, the products are too thin to pay for the copies


@keras.saving.register_keras_serializable(package="seg")
class Convolution3x3(keras.layers.Conv2D):
    """`keras.layers.Conv2D(filters, 3, padding="same")`, trained faster in float32 on TensorFlow's CPU.

    oneDNN's float32 weight gradient runs at a quarter to two thirds of the speed of its matrix products (AVX2; images
    with many pixels and few channels are the worst). Variables, outputs and gradients are Keras's, but for the order of
    sums.
    """

    def __init__(self, filters: int, kernel_size: Any = 3, padding: str = "same", **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, padding=padding, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or inputs.shape[-1] < FEWEST_BANDS or not products_pay(inputs.dtype):
            return super().call(inputs)
        outputs = _convolved(inputs, self.kernel)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@keras.saving.register_keras_serializable(package="seg")
class Upconvolution2x2(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose(filters, 2, strides=2)`, trained faster in float32 on TensorFlow's CPU."""

    def __init__(self, filters: int, kernel_size: Any = 2, strides: Any = 2, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, strides=strides, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or not products_pay(inputs.dtype):
            return super().call(inputs)
        outputs = _upconvolved(inputs, self.kernel)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


def products_pay(dtype: str) -> bool:
    """Whether weight gradients are best taken as matrix products here: float32 on TensorFlow's CPU with oneDNN on.

    Eigen's products, which TensorFlow takes without oneDNN, are slower than its weight gradient.
    """
    return (
        dtype == "float32"
        and keras.backend.backend() == "tensorflow"
        and not xla_compiles_steps()
        and os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1"
    )


def _convolved(inputs: Any, kernel: Any) -> Any:
    import tensorflow as tf

    @tf.custom_gradient
    def convolution(inputs: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            size, strides = tf.shape(inputs), [1, 1, 1, 1]
            with tf.name_scope("data_gradient"):
                of_inputs = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=size, filter=kernel, out_backprop=upstream, strides=strides, padding="SAME"
                )
            with tf.name_scope("weight_gradient"):
                return of_inputs, weight_gradient(inputs, upstream)

        return tf.nn.conv2d(inputs, kernel, 1, "SAME"), gradient

    return convolution(inputs, tf.convert_to_tensor(kernel))  # a variable is no argument to custom_gradient


def _upconvolved(inputs: Any, kernel: Any) -> Any:
    import tensorflow as tf

    @tf.custom_gradient
    def upconvolution(inputs: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            with tf.name_scope("data_gradient"):
                of_inputs = tf.nn.conv2d(upstream, kernel, 2, "SAME")
            with tf.name_scope("weight_gradient"):
                return of_inputs, upsampled_weight_gradient(inputs, upstream)

        batch, height, width, _ = ops.shape(inputs)
        size = (batch, 2 * height, 2 * width, kernel.shape[2])
        return tf.nn.conv2d_transpose(inputs, kernel, size, 2, "SAME"), gradient

    return upconvolution(inputs, tf.convert_to_tensor(kernel))


def weight_gradient(inputs: Any, upstream: Any) -> Any:
    """The gradient of a 3 x 3 convolution (stride 1, padding `same`) by its kernel, (3, 3, C, F).

    d W[i, j, c, f] = sum_nhw X[n, h + i - 1, w + j - 1, c] G[n, h, w, f]. The three shifts along the rows are copies of
    G, side by side as channels. The three across the rows are three places in the same memory, as X and G have two
    empty rows an image. So three products (C x pixels) (pixels x 3 F) are all.

    Args:
        inputs: X (N, H, W, C).
        upstream: G (N, H, W, F), the gradient of the outputs.
    """
    import tensorflow as tf

    batch, height, width, channels = ops.shape(inputs)
    filters = upstream.shape[-1]
    pixels = batch * (height + 2) * width
    rows = tf.reshape(tf.pad(inputs, [[0, 0], [1, 1], [0, 0], [0, 0]]), (pixels, channels))
    wide = tf.pad(upstream, [[0, 0], [0, 2], [1, 1], [0, 0]])
    shifted = tf.reshape(tf.concat([wide[:, :, 2 - j : 2 - j + width] for j in range(3)], -1), (pixels, 3 * filters))
    used = pixels - 2 * width  # the last two rows of the last image are empty
    products = [tf.matmul(rows[i * width : i * width + used], shifted[:used], transpose_a=True) for i in range(3)]
    # Not one transposition: oneDNN prepares its own anew in each step.
    places = [place for product in products for place in tf.split(product, 3, axis=1)]
    return tf.reshape(tf.stack(places), (3, 3, channels, filters))


def upsampled_weight_gradient(inputs: Any, upstream: Any) -> Any:
    """The gradient of a transposed 2 x 2 convolution with stride 2 by its kernel, (2, 2, F, C).

    d W[i, j, f, c] = sum_nhw G[n, 2 h + i, 2 w + j, f] X[n, h, w, c].

    Args:
        inputs: X (N, H, W, C).
        upstream: G (N, 2 H, 2 W, F), the gradient of the outputs.
    """
    import tensorflow as tf

    channels, filters = inputs.shape[-1], upstream.shape[-1]
    windows = tf.reshape(tf.nn.space_to_depth(upstream, 2), (-1, 4 * filters))
    product = tf.matmul(windows, tf.reshape(inputs, (-1, channels)), transpose_a=True)
    return tf.reshape(product, (2, 2, filters, channels))
