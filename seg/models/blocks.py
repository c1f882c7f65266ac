"""The pieces a U-Net is built of: normalisation, the double convolution, pooling, padding to a multiple and back."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from seg.models.convolutions import Convolution3x3
from seg.models.formulas import largest_of_four, normalized, xla_compiles_steps

Norm = Literal["batch", "sync_batch", "group", "none"]

# An average over about 50 batches: Keras's 0.99 needs runs of thousands of steps, 0.9 is noisy at 4 images a batch.
BATCH_NORM_MOMENTUM = 0.98
GROUP_SIZE = 8  # channels that one group normalisation group spans


@keras.saving.register_keras_serializable(package="seg")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over (N, H, W) in as few passes as can be; the same variables and results as Keras's.

    y = gamma (x - mean) / sqrt(variance + epsilon) + beta, with the batch's mean and biased variance in training and
    the moving ones in inference (Ioffe & Szegedy, ICML 2015, arXiv:1502.03167). Keras 3 computes it unfused on
    TensorFlow, which costs about five times as much on CPU in bfloat16. Ours trains by a formula with a gradient of its
    own where XLA compiles the step, and by TensorFlow's kernel where it does not. What neither knows (a mask, inputs
    that are not (N, H, W, C), float64, `renorm`, training with `synchronized`) and inference on other backends is
    Keras's own.

    Input and output: (N, H, W, C) in the compute dtype; scale, offset and statistics stay float32.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        alone = not (training and self.synchronized)  # or the statistics are of all replicas
        if mask is None and alone and self._is_plain(inputs):
            training = bool(training) and self.trainable
            if training and xla_compiles_steps():
                return self._normalize(inputs)
            if keras.backend.backend() == "tensorflow":
                return self._fused(inputs, training)
        return super().call(inputs, training=training, mask=mask)

    def _is_plain(self, inputs: Any) -> bool:
        channels_last = len(inputs.shape) == 4 and self.axis in (-1, 3)
        return channels_last and inputs.dtype != "float64" and not self.renorm

    def _normalize(self, inputs: Any) -> Any:
        outputs, mean, variance = normalized(inputs, *self._scale_and_offset(), self.epsilon)
        self._follow(mean, variance)
        return outputs

    def _fused(self, inputs: Any, training: bool) -> Any:
        import tensorflow as tf  # the one TensorFlow-only fast path of the models; see the class docstring

        gamma, beta = self._scale_and_offset()
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            gamma,
            beta,
            mean=None if training else ops.cast(self.moving_mean, "float32"),
            variance=None if training else ops.cast(self.moving_variance, "float32"),
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            # The kernel returns the unbiased variance; Keras keeps the biased one. A single pixel has variance 0.
            pixels = ops.cast(ops.prod(ops.shape(inputs)[:3]), "float32")
            self._follow(mean, variance * (pixels - 1.0) / pixels)
        return outputs

    def _scale_and_offset(self) -> tuple[Any, Any]:
        """gamma and beta, (C,) float32."""
        gamma = self.gamma if self.scale else ops.ones(self.moving_mean.shape, "float32")
        beta = self.beta if self.center else ops.zeros(self.moving_mean.shape, "float32")
        return ops.cast(gamma, "float32"), ops.cast(beta, "float32")

    def _follow(self, mean: Any, variance: Any) -> None:
        """Lets the moving averages take a step towards a batch's mean and biased variance."""
        momentum = self.momentum
        self.moving_mean.assign(self.moving_mean * momentum + mean * (1.0 - momentum))
        self.moving_variance.assign(self.moving_variance * momentum + variance * (1.0 - momentum))


@keras.saving.register_keras_serializable(package="seg")
class MaxPooling2x2(keras.layers.Layer):
    """The largest of each 2 x 2 pixels, (N, H, W, C) -> (N, H / 2, W / 2, C); H and W are even.

    As `keras.layers.MaxPooling2D()`, whose gradient XLA makes a scatter of: where XLA compiles the step, training takes
    a formula with the same gradient. TensorFlow's kernel is faster on a CPU.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return largest_of_four(inputs) if training and xla_compiles_steps() else ops.max_pool(inputs, 2, strides=2)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(N, H / 2, W / 2, C), None where unknown."""
        batch, height, width, channels = input_shape
        return batch, height and height // 2, width and width // 2, channels


@keras.saving.register_keras_serializable(package="seg")
class PadToMultiple(keras.layers.Layer):
    """Pads images at the bottom and right with zeros until both sides are multiples of `multiple`.

    (N, H, W, C) -> (N, H', W', C) with H' = multiple ceil(H / multiple). `CropLike` undoes it, so that a network with
    `depth` halvings takes any height and width and drops no pixel.
    """

    def __init__(self, multiple: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, inputs: Any) -> Any:
        height, width = ops.shape(inputs)[1:3]
        if isinstance(height, int) and isinstance(width, int) and not (height % self.multiple or width % self.multiple):
            return inputs
        return ops.pad(inputs, [[0, 0], [0, -height % self.multiple], [0, -width % self.multiple], [0, 0]])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return batch, self._padded(height), self._padded(width), channels

    def _padded(self, size: int | None) -> int | None:
        return None if size is None else size + -size % self.multiple

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="seg")
class CropLike(keras.layers.Layer):
    """Crops (N, H', W', C) to the height and width of a reference (N, H, W, ...), from the top left."""

    def call(self, inputs: Any, reference: Any) -> Any:
        height, width = ops.shape(reference)[1:3]
        if isinstance(height, int) and isinstance(width, int) and tuple(inputs.shape[1:3]) == (height, width):
            return inputs
        return inputs[:, :height, :width, :]

    def compute_output_shape(
        self, inputs_shape: tuple[int | None, ...], reference_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return inputs_shape[0], reference_shape[1], reference_shape[2], inputs_shape[3]


@keras.saving.register_keras_serializable(package="seg")
class BilinearUpsampling(keras.layers.Layer):
    """Doubles height and width by bilinear interpolation: (N, H, W, C) -> (N, 2 H, 2 W, C).

    As `keras.layers.UpSampling2D(interpolation="bilinear")` (pixel centres, borders repeated), which fails in a
    TensorFlow graph whose H and W are not known, and computes in float32 whatever the policy.
    """

    def call(self, inputs: Any) -> Any:
        """Between two pixels x and y lie (3 x + y) / 4 and (x + 3 y) / 4; along the rows, then along the columns."""
        return self._double(self._double(inputs, axis=1), axis=2)

    def _double(self, x: Any, axis: int) -> Any:
        rows = axis == 1
        before = ops.concatenate([x[:, :1] if rows else x[:, :, :1], x[:, :-1] if rows else x[:, :, :-1]], axis=axis)
        after = ops.concatenate([x[:, 1:] if rows else x[:, :, 1:], x[:, -1:] if rows else x[:, :, -1:]], axis=axis)
        pair = ops.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
        batch, height, width, channels = ops.shape(x)
        return ops.reshape(pair, (batch, 2 * height, width, channels) if rows else (batch, height, 2 * width, channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(N, 2 H, 2 W, C), None where unknown."""
        batch, height, width, channels = input_shape
        return batch, height and 2 * height, width and 2 * width, channels


@keras.saving.register_keras_serializable(package="seg")
class BinaryLogits(keras.layers.Layer):
    """One logit z as the two logits (0, z): (N, H, W, 1) -> (N, H, W, 2).

    softmax(0, z) = (1 - sigmoid(z), sigmoid(z)), so every loss, metric and report for classes is the binary one then:
    cross-entropy with weights (1, w) is binary cross-entropy with pos_weight w.
    """

    def call(self, inputs: Any) -> Any:
        return ops.concatenate([ops.zeros_like(inputs), inputs], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return *input_shape[:-1], 2


def normalization(norm: Norm, channels: int, name: str) -> keras.layers.Layer | None:
    """The normalisation layer after a convolution: fused batch norm, the same with the statistics of all devices that
    share a batch, group norm of 8 channels a group (Wu & He, ECCV 2018, arXiv:1803.08494: for batches too small for
    batch statistics), or None."""
    if norm in ("batch", "sync_batch"):
        synchronized = norm == "sync_batch"
        return FusedBatchNormalization(momentum=BATCH_NORM_MOMENTUM, synchronized=synchronized, name=f"{name}_norm")
    if norm == "group":
        groups = max(1, channels // GROUP_SIZE)
        while channels % groups:
            groups -= 1
        return keras.layers.GroupNormalization(groups=groups, name=f"{name}_norm")
    return None


def conv_norm_relu(x: Any, filters: int, norm: Norm, name: str, kernel_size: int = 3) -> Any:
    """Convolution, normalisation, ReLU: (N, H, W, *) -> (N, H, W, filters). The bias is the normalisation's."""
    convolution = Convolution3x3 if kernel_size == 3 else keras.layers.Conv2D
    x = convolution(
        filters,
        kernel_size,
        padding="same",
        use_bias=norm == "none",
        kernel_initializer="he_normal",  # He et al., ICCV 2015: what ReLU networks from scratch need
        name=f"{name}_conv",
    )(x)
    layer = normalization(norm, filters, name)
    if layer is not None:
        x = layer(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def double_conv(x: Any, filters: int, norm: Norm, name: str) -> Any:
    """Two 3 x 3 convolutions, each with normalisation and ReLU: the U-Net's block."""
    x = conv_norm_relu(x, filters, norm, f"{name}_1")
    return conv_norm_relu(x, filters, norm, f"{name}_2")
