"""Convolutions with weight gradients of our own, against Keras's layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.models.convolutions import (
    FEWEST_BANDS,
    Convolution3x3,
    Upconvolution2x2,
    products_pay,
    upsampled_weight_gradient,
    weight_gradient,
)

pytestmark = pytest.mark.tensorflow
LAYERS = {
    "convolution": (Convolution3x3, keras.layers.Conv2D, {"kernel_size": 3, "padding": "same"}),
    "upconvolution": (Upconvolution2x2, keras.layers.Conv2DTranspose, {"kernel_size": 2, "strides": 2}),
}
# The sums run over at most 2 x 10 x 14 products of values about 1, in another order: 280 ulp of 6e-8, and some cancel.
FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(autouse=True)
def on_a_cpu_with_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conditions under which the products are taken, whatever this machine is."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr("seg.models.convolutions.xla_compiles_steps", lambda: False)


def inputs(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)


def pair(kind: str, bands: int = FEWEST_BANDS, **options: Any) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Ours and Keras's layer with the same random weights."""
    ours, theirs, arguments = LAYERS[kind]
    layers = ours(6, **options), theirs(6, **arguments, **options)
    for layer in layers:
        layer.build((None, None, None, bands))
        draw = np.random.default_rng(1)
        layer.set_weights([draw.normal(size=weight.shape) for weight in layer.get_weights()])
    return layers


def run(layer: keras.layers.Layer, images: tf.Tensor) -> list[tf.Tensor]:
    """Outputs, and the gradients of a sum of them by the images and the weights."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=True)
        total = tf.reduce_sum(tf.sin(outputs))
    return [outputs, *tape.gradient(total, [images, *layer.trainable_weights])]


@pytest.mark.parametrize("size", [(2, 5, 7), (1, 1, 1), (3, 2, 1)])
@pytest.mark.parametrize("options", [{}, {"use_bias": False, "activation": "relu"}])
@pytest.mark.parametrize("kind", LAYERS)
def test_outputs_and_gradients_are_those_of_keras(kind: str, options: dict[str, Any], size: tuple[int, ...]):
    ours, theirs = pair(kind, **options)
    images = inputs(*size, FEWEST_BANDS)
    for found, expected in zip(run(ours, images), run(theirs, images), strict=True):
        np.testing.assert_allclose(found, expected, **FLOAT32)


@pytest.mark.parametrize("kind", LAYERS)
def test_in_a_graph_of_unknown_sizes(kind: str):
    ours, theirs = pair(kind)
    step = tf.function(lambda x: run(ours, x), input_signature=[tf.TensorSpec((None, None, None, FEWEST_BANDS))])
    for images in (inputs(2, 3, 5, FEWEST_BANDS), inputs(1, 4, 4, FEWEST_BANDS)):
        for found, expected in zip(step(images), run(theirs, images), strict=True):
            np.testing.assert_allclose(found, expected, **FLOAT32)


def test_a_weight_gradient_by_hand():
    # One pixel of value 2 at row 0, column 1 of 2 x 2; the gradient is 1 at (0, 0) and 10 at (1, 1). The kernel's place
    # (i, j) meets that pixel from the output at (0 - (i - 1), 1 - (j - 1)): (1, 2) from (0, 0), (0, 1) from (1, 1).
    images, upstream = np.zeros((1, 2, 2, 1), np.float32), np.zeros((1, 2, 2, 1), np.float32)
    images[0, 0, 1], upstream[0, 0, 0], upstream[0, 1, 1] = 2, 1, 10
    expected = [[0, 20, 0], [0, 0, 2], [0, 0, 0]]
    np.testing.assert_array_equal(weight_gradient(images, upstream)[..., 0, 0], expected)


def test_an_upsampled_weight_gradient_by_hand():
    # Two pixels, 1 and 2; each makes a 2 x 2 window of the outputs.
    images = np.array([1, 2], np.float32).reshape(1, 1, 2, 1)
    upstream = np.array([[1, 2, 10, 20], [3, 4, 30, 40]], np.float32).reshape(1, 2, 4, 1)
    expected = [[1 + 20, 2 + 40], [3 + 60, 4 + 80]]
    np.testing.assert_array_equal(upsampled_weight_gradient(images, upstream)[..., 0, 0], expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_second_derivatives_are_those_of_keras(kind: str):
    found = []
    for layer in pair(kind):
        images = inputs(1, 3, 4, FEWEST_BANDS)
        with tf.GradientTape() as outer:
            outer.watch(images)
            total = tf.reduce_sum(tf.sin(run(layer, images)[2]))
        found.append(outer.gradient(total, images))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)  # sums of the sums of above


def test_where_the_products_are_taken(monkeypatch: pytest.MonkeyPatch):
    assert products_pay("float32")
    assert not products_pay("bfloat16")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert not products_pay("float32")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr("seg.models.convolutions.xla_compiles_steps", lambda: True)
    assert not products_pay("float32")


@pytest.mark.parametrize(("training", "bands"), [(False, FEWEST_BANDS), (True, 3)])
def test_prediction_and_thin_images_are_left_to_keras(monkeypatch: pytest.MonkeyPatch, training: bool, bands: int):
    monkeypatch.setattr("seg.models.convolutions._convolved", lambda *_: pytest.fail("took the products"))
    ours, theirs = pair("convolution", bands)
    images = inputs(1, 4, 4, bands)
    np.testing.assert_array_equal(ours(images, training=training), theirs(images))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_comes_back_from_its_configuration(kind: str):
    ours, _ = pair(kind)
    again = keras.layers.deserialize(keras.layers.serialize(ours))
    assert type(again) is type(ours)
    assert again.get_config() == ours.get_config()
