"""The U-Net's pieces: fused batch norm against Keras's own, padding and cropping for every size."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.models.blocks import (
    BATCH_NORM_MOMENTUM,
    BilinearUpsampling,
    CropLike,
    FusedBatchNormalization,
    MaxPooling2x2,
    PadToMultiple,
    conv_norm_relu,
    normalization,
)
from seg.models.formulas import normalized

# Keras 3.15 saves a variable by np.array(variable), and NumPy 2 would rather have its __array__ take `copy`.
numpy_2_copy = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MODELS = Path(__file__).resolve().parents[2] / "seg" / "models"

# float32: the two sum 2 * 5 * 7 = 70 values in another order; 70 ulp of 6e-8 is 4e-6, and inverse square roots and
# gradients, which divide by the standard deviation (0.5 here), lose a few times that.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}
# bfloat16 keeps 8 bits: outputs and gradients are rounded by 2^-9 = 0.002 of a value; sums of 70 gradients cancel.
BFLOAT16 = {"rtol": 0.01, "atol": 0.02}


def images(*shape: int, dtype: str = "float32") -> tf.Tensor:
    values = np.random.default_rng(0).normal(1.5, 0.5, shape)
    return tf.cast(tf.constant(values, tf.float32), dtype)


def pair(**arguments) -> tuple[FusedBatchNormalization, keras.layers.BatchNormalization]:
    """Our layer and Keras's, built alike and with the same random weights."""
    layers = FusedBatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)
    for layer in layers:
        layer.build((None, None, None, 3))
        rng = np.random.default_rng(1)
        layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return layers


def run(layer: keras.layers.Layer, inputs: tf.Tensor, training: bool) -> dict[str, np.ndarray]:
    """Outputs, gradients of sum(outputs * something) and the weights afterwards."""
    target = tf.cast(np.random.default_rng(2).normal(size=inputs.shape), inputs.dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=training)
        total = tf.reduce_sum(tf.cast(outputs * target, tf.float32))
    gradients = tape.gradient(total, [inputs, *[variable.value for variable in layer.trainable_variables]])
    found = {"outputs": outputs, **{f"gradient {index}": value for index, value in enumerate(gradients)}}
    found |= {variable.name: variable.value for variable in layer.variables}
    assert outputs.dtype == inputs.dtype
    return {name: tf.cast(value, tf.float32).numpy() for name, value in found.items()}


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], rtol: float, atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture(params=["kernel", "formula"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both ways to train: TensorFlow's kernels, as on a CPU, and the formulas for XLA, as on a GPU."""
    compiled = request.param == "formula"
    monkeypatch.setattr("seg.models.blocks.xla_compiles_steps", lambda: compiled)
    calls = []
    monkeypatch.setattr("seg.models.blocks.normalized", lambda *given: calls.append("formula") or normalized(*given))
    kernel = FusedBatchNormalization._fused
    monkeypatch.setattr(
        FusedBatchNormalization,
        "_fused",
        lambda self, inputs, training: calls.append("kernel" if training else "any") or kernel(self, inputs, training),
    )
    yield
    assert set(calls) <= {request.param, "any"}
    assert calls


# --- fused batch norm -------------------------------------------------------------------------------------------------
@pytest.mark.tensorflow
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"momentum": 0.5, "epsilon": 1e-6}, {"scale": False}, {"center": False}, {"axis": 3}],
    ids=str,
)
def test_batch_norm_equals_keras(arguments: dict, training: bool):
    ours, theirs = pair(**arguments)
    inputs = images(2, 5, 7, 3)
    assert_same(run(ours, inputs, training), run(theirs, inputs, training), **FLOAT32)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_equals_keras_in_bfloat16(training: bool):
    ours, theirs = pair(dtype="mixed_bfloat16")
    inputs = images(2, 5, 7, 3, dtype="bfloat16")
    ours, theirs = run(ours, inputs, training), run(theirs, inputs, training)
    assert_same(ours, theirs, **BFLOAT16)
    # The statistics are float32 in both.
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(ours[name], theirs[name], **FLOAT32)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("way")
def test_batch_norm_by_hand():
    # One channel with the values 1 and 3: mean 2, biased variance 1, so y = -1, 1 (epsilon 0). Moving statistics with
    # momentum 0.9: mean 0.9 * 0 + 0.1 * 2 = 0.2; variance 0.9 * 1 + 0.1 * 1 = 1.0, where the unbiased 2 gave 1.1.
    layer = FusedBatchNormalization(momentum=0.9, epsilon=0.0)
    outputs = layer(tf.constant([1.0, 3.0], shape=(1, 1, 2, 1)), training=True)
    np.testing.assert_allclose(outputs.numpy().ravel(), [-1, 1], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_mean.numpy(), [0.2], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.numpy(), [1.0], rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("way")
def test_batch_norm_of_a_single_pixel_is_finite():
    ours, theirs = pair()
    inputs = images(1, 1, 1, 3)
    assert_same(run(ours, inputs, True), run(theirs, inputs, True), **FLOAT32)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 1, 3)])
def test_batch_norm_under_xla(shape: tuple[int, ...], dtype: str):
    # GPUs run the whole step under XLA, which has its own batch norm.
    ours, theirs = pair(dtype="mixed_bfloat16" if dtype == "bfloat16" else dtype)
    inputs = images(*shape, dtype=dtype)
    outputs = tf.function(lambda: ours(inputs, training=True), jit_compile=True)()
    tolerance = FLOAT32 if dtype == "float32" else BFLOAT16
    np.testing.assert_allclose(tf.cast(outputs, "float32"), theirs(inputs, training=True), **tolerance)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, **FLOAT32)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, **FLOAT32)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_in_a_graph_of_unknown_sizes(training: bool):
    ours, theirs = pair()
    step = tf.function(lambda x: ours(x, training=training), input_signature=[tf.TensorSpec((None, None, None, 3))])
    for inputs in (images(2, 5, 7, 3), images(1, 4, 4, 3)):
        np.testing.assert_allclose(step(inputs), theirs(inputs, training=training), **FLOAT32)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, **FLOAT32)


def test_a_frozen_batch_norm_uses_and_keeps_the_moving_statistics():
    ours, theirs = pair()
    ours.trainable = theirs.trainable = False
    inputs = images(2, 5, 7, 3)
    before = [weight.copy() for weight in ours.get_weights()]
    np.testing.assert_allclose(ours(inputs, training=True), theirs(inputs, training=False), **FLOAT32)
    np.testing.assert_array_equal(np.stack(ours.get_weights()), np.stack(before))


def test_training_is_off_unless_asked_for():
    ours, _ = pair()
    inputs = images(2, 5, 7, 3)
    np.testing.assert_array_equal(ours(inputs), ours(inputs, training=False))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((4, 3), {}),  # no image
        ((2, 6, 3), {}),
        ((2, 3, 3, 3), {"axis": 1}),
        ((2, 3, 3, 3), {"renorm": True}),
        ((2, 3, 3, 3), {"synchronized": True}),
        ((2, 3, 3, 3), {"dtype": "float64"}),
    ],
    ids=str,
)
def test_what_the_kernel_does_not_know_is_left_to_keras(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], arguments: dict
):
    monkeypatch.delattr(FusedBatchNormalization, "_fused")  # so that taking the fast path fails
    inputs = images(*shape, dtype=arguments.get("dtype", "float32"))
    ours, theirs = FusedBatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)
    np.testing.assert_array_equal(ours(inputs, training=True), theirs(inputs, training=True))


def test_a_mask_is_left_to_keras():
    ours, theirs = pair()
    inputs, mask = images(2, 5, 7, 3), tf.constant(np.arange(70).reshape(2, 5, 7) % 3 > 0)
    np.testing.assert_array_equal(ours(inputs, training=True, mask=mask), theirs(inputs, training=True, mask=mask))


@numpy_2_copy
def test_batch_norm_is_saved_and_loaded_as_a_keras_layer(tmp_path: Path):
    inputs = keras.Input((None, None, 3))
    layer = FusedBatchNormalization(momentum=0.5, epsilon=0.01, scale=False, name="norm")
    model = keras.Model(inputs, layer(inputs))
    model(images(2, 5, 7, 3), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("norm")) is FusedBatchNormalization
    assert loaded.get_layer("norm").get_config() == layer.get_config()
    np.testing.assert_array_equal(loaded(images(2, 5, 7, 3)), model(images(2, 5, 7, 3)))


def test_the_config_is_that_of_keras():
    # Also the variables' names: weights of a model with Keras's layer load into one with ours, and back.
    ours, theirs = pair(momentum=0.5, name="norm")
    assert ours.get_config() == theirs.get_config()
    assert [variable.path for variable in ours.variables] == [variable.path for variable in theirs.variables]


# --- pooling ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_pooling_equals_keras(monkeypatch: pytest.MonkeyPatch, training: bool, compiled: bool):
    monkeypatch.setattr("seg.models.blocks.xla_compiles_steps", lambda: compiled)
    inputs = images(2, 6, 4, 3)
    layer = MaxPooling2x2()
    np.testing.assert_array_equal(layer(inputs, training=training), keras.layers.MaxPooling2D()(inputs))
    assert layer(keras.Input((None, 4, 3))).shape == (None, None, 2, 3)


@numpy_2_copy
@pytest.mark.tensorflow
def test_a_network_trains_alike_either_way(monkeypatch: pytest.MonkeyPatch):
    """Loss, gradients and moving averages of a U-Net on a CPU and in the form that XLA gets, also saved before it."""
    from seg.models.unet import unet_layers

    monkeypatch.setattr("seg.models.blocks.xla_compiles_steps", lambda: False)
    model = keras.Model(*unet_layers(bands=2, num_classes=3, depth=2, base_filters=4))
    before, found = model.get_weights(), []
    for compiled in (False, True):
        model.set_weights(before)
        monkeypatch.setattr("seg.models.blocks.xla_compiles_steps", lambda compiled=compiled: compiled)

        @tf.function(jit_compile=compiled, autograph=False)
        def gradients(inputs: tf.Tensor) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(inputs, training=True) - 1.0))
            return [loss, *tape.gradient(loss, [variable.value for variable in model.trainable_variables])]

        found.append([*gradients(images(2, 10, 12, 2)), *model.get_weights()])
    for kernel, formula in zip(*found, strict=True):
        # Float32 sums in another order through ten layers; each divides by a standard deviation.
        scale = float(np.abs(kernel).max())
        np.testing.assert_allclose(formula, kernel, rtol=1e-3, atol=1e-4 * scale)


@numpy_2_copy
@pytest.mark.tensorflow
def test_weights_of_a_network_with_keras_pooling_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What was saved before `MaxPooling2x2` was there: the same layer names and weights, Keras's pooling."""
    from seg.models import unet

    shape = {"bands": 2, "num_classes": 3, "depth": 2, "base_filters": 4}
    with monkeypatch.context() as old:
        old.setattr(unet, "MaxPooling2x2", keras.layers.MaxPooling2D)
        saved = keras.Model(*unet.unet_layers(**shape))
    saved.save(tmp_path / "model.keras")
    saved.save_weights(tmp_path / "model.weights.h5")
    model = keras.Model(*unet.unet_layers(**shape))
    assert [layer.name for layer in model.layers] == [layer.name for layer in saved.layers]
    model.load_weights(tmp_path / "model.weights.h5")
    inputs = images(1, 9, 7, 2)
    for loaded in (model, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_array_equal(loaded(inputs), saved(inputs))


# --- padding and cropping ---------------------------------------------------------------------------------------------
def test_padding_by_hand():
    padded = PadToMultiple(4)(tf.ones((1, 3, 5, 1)))
    expected = np.zeros((4, 8))
    expected[:3, :5] = 1
    np.testing.assert_array_equal(padded[0, :, :, 0], expected)


@settings(max_examples=50)
@given(height=st.integers(1, 40), width=st.integers(1, 40), depth=st.integers(0, 5))
def test_cropping_undoes_padding(height: int, width: int, depth: int):
    inputs = images(1, height, width, 2)
    padded = PadToMultiple(2**depth)(inputs)
    assert padded.shape[1] % 2**depth == padded.shape[2] % 2**depth == 0
    assert padded.shape[1] < height + 2**depth
    assert padded.shape[2] < width + 2**depth
    np.testing.assert_array_equal(CropLike()(padded, inputs), inputs)


@pytest.mark.tensorflow
def test_a_multiple_is_not_touched():
    inputs = images(1, 8, 4, 2)
    assert PadToMultiple(4)(inputs) is inputs
    assert CropLike()(inputs, inputs) is inputs


@pytest.mark.tensorflow
def test_padding_and_cropping_in_a_graph_of_unknown_sizes():
    pad, crop = PadToMultiple(4), CropLike()
    signature = [tf.TensorSpec((None, None, None, 2))]
    both = tf.function(lambda x: (pad(x), crop(pad(x), x)), input_signature=signature)
    for height, width in itertools.product((1, 3, 4, 5), repeat=2):
        inputs = images(1, height, width, 2)
        padded, cropped = both(inputs)
        assert padded.shape[1:3] == (-(-height // 4) * 4, -(-width // 4) * 4)
        np.testing.assert_array_equal(cropped, inputs)


def test_symbolic_shapes():
    pad, crop = PadToMultiple(4), CropLike()
    assert pad.compute_output_shape((None, 5, None, 3)) == (None, 8, None, 3)
    assert pad(keras.Input((5, 8, 3))).shape == (None, 8, 8, 3)
    assert crop(keras.Input((8, 8, 2)), keras.Input((5, None, 3))).shape == (None, 5, None, 2)


def test_padding_is_saved(tmp_path: Path):
    inputs = keras.Input((None, None, 2))
    keras.Model(inputs, CropLike()(PadToMultiple(4)(inputs), inputs)).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.multiple for layer in loaded.layers if isinstance(layer, PadToMultiple)] == [4]
    np.testing.assert_array_equal(loaded(images(1, 3, 5, 2)), images(1, 3, 5, 2))


# --- normalisation and convolution ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (7, 1), (8, 1), (16, 2), (32, 4), (12, 1), (20, 2), (30, 3)],  # 8 a group, or what divides evenly
)
def test_groups(channels: int, groups: int):
    assert normalization("group", channels, "a").groups == groups


def test_the_kinds_of_normalisation():
    batch = normalization("batch", 8, "down0_1")
    assert isinstance(batch, FusedBatchNormalization)
    assert (batch.momentum, batch.name) == (BATCH_NORM_MOMENTUM, "down0_1_norm")
    assert isinstance(normalization("group", 8, "a"), keras.layers.GroupNormalization)
    assert normalization("none", 8, "a") is None


@pytest.mark.parametrize(("norm", "weights"), [("batch", 3 * 9 * 8 + 4 * 8), ("group", 3 * 9 * 8 + 2 * 8),
                                               ("none", 3 * 9 * 8 + 8)])  # fmt: skip
def test_a_convolution_has_a_bias_only_where_no_normalisation_follows(norm: str, weights: int):
    inputs = keras.Input((None, None, 3))
    assert keras.Model(inputs, conv_norm_relu(inputs, 8, norm, "a")).count_params() == weights


# --- backends ---------------------------------------------------------------------------------------------------------
def test_only_the_named_fast_path_imports_tensorflow():
    """The models run on every Keras backend: TensorFlow stands in functions, below their condition."""
    importers = set()
    for path in MODELS.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.Module):
                body = ast.walk(node) if isinstance(node, ast.FunctionDef) else iter(node.body)
                names = [ast.unparse(child) for child in body if isinstance(child, ast.Import | ast.ImportFrom)]
                importers |= {getattr(node, "name", path.name) for name in names if "tensorflow" in name}
    products = {"_convolved", "_upconvolved", "weight_gradient", "upsampled_weight_gradient"}
    assert importers == {"_fused"} | products


def test_another_backend_takes_keras_own_computation(monkeypatch: pytest.MonkeyPatch):
    ours, theirs = pair()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.delattr(FusedBatchNormalization, "_fused")
    inputs = images(2, 5, 7, 3)
    np.testing.assert_array_equal(ours(inputs, training=True), theirs(inputs, training=True))


def test_jax_trains_by_the_formula_and_infers_by_keras_own(monkeypatch: pytest.MonkeyPatch):
    ours, theirs = pair()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.delattr(FusedBatchNormalization, "_fused")
    inputs = images(2, 5, 7, 3)
    np.testing.assert_array_equal(ours(inputs), theirs(inputs))
    np.testing.assert_allclose(ours(inputs, training=True), theirs(inputs, training=True), **FLOAT32)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, **FLOAT32)


# --- BilinearUpsampling -----------------------------------------------------------------------------------------------
def test_bilinear_upsampling_by_hand():
    # Columns 0 and 4, doubled: 0, (3 * 0 + 4) / 4 = 1, (0 + 3 * 4) / 4 = 3, 4; the one row twice.
    image = np.array([0.0, 4.0], np.float32).reshape(1, 1, 2, 1)
    doubled = keras.ops.convert_to_numpy(BilinearUpsampling()(image))
    assert doubled[0, :, :, 0].tolist() == [[0, 1, 3, 4], [0, 1, 3, 4]]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4), (1, 8, 1, 3)])
def test_bilinear_upsampling_equals_keras(shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = keras.layers.UpSampling2D(interpolation="bilinear")(image)
    # Float32 rounding of sums of four products in another order.
    np.testing.assert_allclose(BilinearUpsampling()(image), expected, rtol=0, atol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("upsampling", ["transpose", "bilinear"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_a_graph_of_unknown_size_runs(upsampling, norm):
    """Validation batches have no fixed height and width; keras.layers.UpSampling2D fails there."""
    import tensorflow as tf

    from seg.models.unet import unet_layers

    layers = unet_layers(bands=1, num_classes=2, depth=2, base_filters=4, norm=norm, upsampling=upsampling)
    model = keras.Model(*layers)
    graph = tf.function(
        lambda images: model(images, training=False), input_signature=[tf.TensorSpec((None, None, None, 1))]
    )
    for height, width in ((8, 8), (5, 13)):
        assert graph(tf.zeros((1, height, width, 1))).shape == (1, height, width, 2)
