"""The U-Net: size by hand, any input size, every variant built, saved and loaded, float32 logits."""

from __future__ import annotations

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.models.unet import unet_layers

# Keras 3.15 saves a variable by np.array(variable), and NumPy 2 would rather have its __array__ take `copy`.
numpy_2_copy = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

VARIANTS = list(itertools.product(("batch", "group", "none"), ("transpose", "bilinear"), (0.0, 0.5)))


def build(*, bands: int = 3, num_classes: int = 2, depth: int = 2, base_filters: int = 4, **options) -> keras.Model:
    """A tiny U-Net; random statistics where it has any, so that inference does not look like the identity."""
    model = keras.Model(
        *unet_layers(bands=bands, num_classes=num_classes, depth=depth, base_filters=base_filters, **options)
    )
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name.startswith("moving") or variable.name in ("gamma", "beta", "bias"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def images(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).normal(size=shape), tf.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build()


# --- by hand ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # depth 1, 2 filters, 1 band, 3 classes; a 3 x 3 convolution from a to b channels has 9 a b weights, b biases:
        # down 1->2, 2->2; bottom 2->4, 4->4; transposed 2 x 2 4->2 with bias; up 4->2, 2->2; logits 1 x 1 2->3
        ({"norm": "none"}, (18 + 2) + (36 + 2) + (72 + 4) + (144 + 4) + (32 + 2) + (72 + 2) + (36 + 2) + (6 + 3)),
        # group norm: scale and offset of each channel instead of the bias
        ({"norm": "group"}, (18 + 4) + (36 + 4) + (72 + 8) + (144 + 8) + (32 + 2) + (72 + 4) + (36 + 4) + (6 + 3)),
        # batch norm: moving mean and variance as well
        ({"norm": "batch"}, (18 + 8) + (36 + 8) + (72 + 16) + (144 + 16) + (32 + 2) + (72 + 8) + (36 + 8) + (6 + 3)),
        # bilinear: a 1 x 1 convolution 4->2 with a bias instead of the transposed one
        (
            {"norm": "none", "upsampling": "bilinear"},
            (18 + 2) + (36 + 2) + (72 + 4) + (144 + 4) + (8 + 2) + (72 + 2) + (36 + 2) + (6 + 3),
        ),
    ],
    ids=str,
)
def test_the_number_of_weights_by_hand(options: dict, expected: int):
    assert build(bands=1, num_classes=3, depth=1, base_filters=2, **options).count_params() == expected


def test_the_papers_size():
    # 31 million: 64 filters, depth 4, 3 bands, 1 class, as the widely used PyTorch U-Net with batch norm and
    # transposed convolutions counts its trainable weights (31 037 633); counted here without allocating them.
    with tf.Graph().as_default(), keras.StatelessScope():
        model = keras.Model(*unet_layers(bands=3, num_classes=1, depth=4, base_filters=64))
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == 31_037_633


@pytest.mark.tensorflow
def test_levels_halve_the_image_and_double_the_filters():
    model = build(depth=3, base_filters=4)
    outputs = [
        model.get_layer(name).output for name in ("down0_2_relu", "down1_2_relu", "down2_2_relu", "bottom_2_relu")
    ]
    shapes = [tuple(level.shape) for level in keras.Model(model.inputs, outputs)(images(1, 16, 24, 3))]
    assert shapes == [(1, 16, 24, 4), (1, 8, 12, 8), (1, 4, 6, 16), (1, 2, 3, 32)]


# --- any size ---------------------------------------------------------------------------------------------------------
@settings(max_examples=12)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_logits_lie_on_the_inputs_grid(model: keras.Model, height: int, width: int):
    logits = model(images(1, height, width, 3))
    assert logits.shape == (1, height, width, 2)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_single_pixel_is_enough(depth: int):
    assert build(depth=depth)(images(1, 1, 1, 3)).shape == (1, 1, 1, 2)


def test_padding_is_zeros_at_the_bottom_and_right(model: keras.Model):
    inputs = images(1, 7, 10, 3)
    padded = tf.pad(inputs, [[0, 0], [0, 1], [0, 2], [0, 0]])
    np.testing.assert_array_equal(model(inputs), model(padded)[:, :7, :10])


def test_a_size_that_is_a_multiple_is_not_padded(model: keras.Model):
    # The same network from the padding layer's output on, so without padding and cropping.
    bare = keras.Model(model.get_layer("pad").output, model.get_layer("logits").output)
    inputs = images(2, 8, 12, 3)
    np.testing.assert_array_equal(model(inputs), bare(inputs))


def test_far_from_the_padding_nothing_changes():
    # Depth 1 sees at most 14 pixels: 2 + 2 at full and 2 * 4 at half resolution, one of pooling and upsampling each.
    model = build(depth=1, norm="none")
    inputs = images(1, 40, 40, 3)
    np.testing.assert_allclose(
        model(inputs[:, :39, :37])[:, :22, :22], model(inputs)[:, :22, :22], rtol=1e-5, atol=1e-5
    )  # another size may choose another order of sums: float32, tens of terms


def test_images_of_a_batch_do_not_see_each_other(model: keras.Model):
    inputs = images(3, 9, 6, 3)
    one_by_one = tf.concat([model(inputs[index : index + 1]) for index in range(3)], axis=0)
    np.testing.assert_allclose(model(inputs), one_by_one, rtol=1e-5, atol=1e-5)  # float32, another order of sums


@pytest.mark.tensorflow
def test_graphs_of_unknown_size(model: keras.Model):
    step = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for height, width in ((1, 1), (7, 10), (8, 8)):
        inputs = images(2, height, width, 3)
        np.testing.assert_allclose(step(inputs), model(inputs), rtol=1e-5, atol=1e-5)


# --- variants ---------------------------------------------------------------------------------------------------------
@numpy_2_copy
@pytest.mark.parametrize(("norm", "upsampling", "dropout"), VARIANTS)
def test_a_variant_is_saved_and_loaded(tmp_path: Path, norm: str, upsampling: str, dropout: float):
    model = build(depth=1, norm=norm, upsampling=upsampling, dropout=dropout)
    inputs = images(1, 7, 10, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


@pytest.mark.tensorflow
@pytest.mark.parametrize("upsampling", ["transpose", "bilinear"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_every_weight_of_a_variant_gets_a_gradient(norm: str, upsampling: str):
    model = build(depth=1, norm=norm, upsampling=upsampling)
    with tf.GradientTape() as tape:
        logits = model(images(2, 8, 8, 3), training=True)
        loss = tf.reduce_mean(logits[..., 0] ** 2 - logits[..., 1])
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    unreached = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if not np.any(g)]
    assert unreached == []


@pytest.mark.tensorflow
def test_dropout_drops_in_training_only_and_whole_feature_maps():
    model = build(dropout=0.5)
    inputs = images(2, 16, 16, 3)
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.SpatialDropout2D)]
    assert names == ["down1_dropout", "bottom_dropout"]
    dropped = keras.Model(model.inputs, [model.get_layer("bottom_dropout").output])(inputs, training=True)
    kept = np.any(dropped, axis=(1, 2))
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(model(inputs), model(inputs, training=False))
    assert np.any(model(inputs, training=True) != model(inputs))


def test_without_dropout_there_is_no_dropout_layer(model: keras.Model):
    assert not [layer for layer in model.layers if "Dropout" in type(layer).__name__]


# --- precision --------------------------------------------------------------------------------------------------------
def test_mixed_bfloat16_computes_in_bfloat16_and_gives_float32_logits():
    exact = build(norm="group")
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = build(norm="group")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    mixed.set_weights(exact.get_weights())
    inputs = images(2, 13, 9, 3)
    logits = mixed(inputs)
    assert logits.dtype == "float32"
    assert mixed.get_layer("bottom_2_conv").compute_dtype == "bfloat16"
    assert {variable.dtype for variable in mixed.variables} == {"float32"}
    # Each of 10 convolutions in a row rounds to 8 bits (2^-9 = 0.002): a few per cent of the logits' spread of about 1.
    error = np.abs(logits - exact(inputs)) / np.std(exact(inputs))
    assert 0 < error.max() < 0.15


def test_the_logits_layer_is_float32_in_every_policy():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {model.get_layer(name).compute_dtype for name in ("logits", "crop")} == {"float32"}
    assert model(images(1, 4, 4, 3), training=True).dtype == "float32"


# --- one logit for two classes ---------------------------------------------------------------------------------------
def test_one_logit_is_the_sigmoid_of_class_1():
    model = build(one_logit=True)
    x = images(2, 9, 7, 3)
    logits = keras.ops.convert_to_numpy(model(x, training=False))
    assert logits.shape == (2, 9, 7, 2)
    assert (logits[..., 0] == 0).all()
    z = logits[..., 1].astype(np.float64)
    softmax = tf.nn.softmax(logits.astype(np.float64)).numpy()[..., 1]
    np.testing.assert_allclose(softmax, 1 / (1 + np.exp(-z)), rtol=1e-12)  # float64 rounding
    assert model.get_layer("logits").filters == 1


def test_weighted_cross_entropy_of_one_logit_is_binary_cross_entropy_with_pos_weight():
    from seg.losses.cross_entropy import cross_entropy

    draw = np.random.default_rng(0)
    z, labels = draw.normal(0, 3, (2, 5, 4)), draw.integers(0, 2, (2, 5, 4))
    logits = np.stack([np.zeros_like(z), z], axis=-1).astype(np.float32)
    expected = tf.nn.weighted_cross_entropy_with_logits(labels.astype(np.float64), z, pos_weight=7.0).numpy().mean()
    loss = cross_entropy(labels, logits, class_weights=[1.0, 7.0], ignore_index=255)
    assert float(loss) == pytest.approx(expected, rel=1e-6)  # float32 sums of 40 pixels


@numpy_2_copy
def test_one_logit_is_saved_and_loaded(tmp_path):
    model = build(one_logit=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    x = images(1, 8, 8, 3)
    np.testing.assert_array_equal(model(x, training=False), loaded(x, training=False))


def test_one_logit_is_for_two_classes():
    with pytest.raises(ValueError, match="one_logit: got 3 classes, allowed: 2"):
        build(num_classes=3, one_logit=True)
