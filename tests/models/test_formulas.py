"""The formulas for XLA against autodiff of the plain ones, finite differences and Keras's layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from seg.models.formulas import largest_of_four, normalized, xla_compiles_steps

EPSILON = 2.0**-10  # exact in float32, as which it comes in
pytestmark = pytest.mark.tensorflow  # gradients are taken by TensorFlow's tape; on JAX see the last test
RUNS: dict[str, Callable[..., Any]] = {
    "eager": lambda function: function,
    "graph": lambda function: tf.function(function, autograph=False),
    "XLA": lambda function: tf.function(function, autograph=False, jit_compile=True),
}


def example(dtype: str = "float64") -> tuple[list[tf.Tensor], tf.Tensor]:
    """Inputs, gamma and beta, and what the outputs are multiplied by before they are summed."""
    draw = np.random.default_rng(0)
    inputs, target = draw.normal(1.5, 0.5, (2, 3, 5, 4)), draw.normal(size=(2, 3, 5, 4))
    wide = "float64" if dtype == "float64" else "float32"
    parameters = [tf.constant(draw.normal(size=4), wide) for _ in range(2)]
    return [tf.cast(inputs, dtype), *parameters], tf.constant(target, wide)


def own(*given: tf.Tensor) -> tf.Tensor:
    return normalized(*given, EPSILON)[0]


def plain(inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """The definition, in two passes; its gradient is left to the framework."""
    wide = tf.cast(inputs, gamma.dtype)
    mean = tf.reduce_mean(wide, (0, 1, 2))
    variance = tf.reduce_mean((wide - mean) ** 2, (0, 1, 2))
    return tf.cast((wide - mean) / tf.sqrt(variance + EPSILON) * gamma + beta, inputs.dtype)


def derivatives(function: Callable[..., Any], given: list[tf.Tensor], target: tf.Tensor) -> list[list[tf.Tensor]]:
    """The gradients of sum(sin(relu(y)) target), and those of the sum of their cosines."""
    with tf.GradientTape() as outer:
        outer.watch(given)
        with tf.GradientTape() as inner:
            inner.watch(given)
            outputs = tf.cast(tf.nn.relu(function(*given)), target.dtype)
            total = tf.reduce_sum(tf.sin(outputs) * target)
        first = inner.gradient(total, given)
        again = tf.add_n([tf.reduce_sum(tf.cast(tf.cos(gradient), target.dtype)) for gradient in first])
    return [first, outer.gradient(again, given)]


@pytest.mark.parametrize("run", RUNS)
def test_first_and_second_derivatives_equal_autodiff_of_the_plain_formula(run: str):
    given, target = example()
    found = RUNS[run](lambda: derivatives(own, given, target))()
    for ours, theirs in zip(found, derivatives(plain, given, target), strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-10)  # float64 sums of 30 terms, divided by 0.5


def test_the_gradient_equals_finite_differences():
    given, target = example()
    numeric, analytic = None, derivatives(own, given, target)[0]
    step = 1e-6
    for index, gradient in enumerate(analytic):
        values = given[index].numpy()
        numeric = np.zeros_like(values)
        for place in np.ndindex(values.shape):
            sums = []
            for sign in (1, -1):
                moved = values.copy()
                moved[place] += sign * step
                changed = [*given[:index], tf.constant(moved), *given[index + 1 :]]
                sums.append(float(tf.reduce_sum(tf.sin(tf.nn.relu(own(*changed))) * target)))
            numeric[place] = (sums[0] - sums[1]) / (2 * step)
        # Central differences: truncation step^2 = 1e-12, rounding 1e-16 * 30 / step = 3e-9.
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.03), ("float16", 0.004)])
def test_narrow_values_give_the_gradient_of_float64(dtype: str, tolerance: float, run: str):
    # Rounding of a value is 2^-24, 2^-9 and 2^-12 of it; three of them meet, times an inverse deviation of 2.
    given, target = example(dtype)

    def gradients(function: Callable[..., Any], given: list[tf.Tensor], target: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(given)
            outputs = function(*given)
            total = tf.reduce_sum(tf.cast(outputs, target.dtype) * target)
        return [outputs, *tape.gradient(total, given)]

    found = RUNS[run](lambda: gradients(own, given, target))()
    exact = gradients(plain, [tf.cast(value, "float64") for value in given], tf.cast(target, "float64"))
    assert [value.dtype.name for value in found] == [dtype, dtype, "float32", "float32"]
    for mine, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(tf.cast(mine, "float64"), other, rtol=tolerance, atol=2 * tolerance)


def test_statistics_are_float32_and_biased():
    inputs = tf.cast([[[[1.0]], [[3.0]]]], "bfloat16")
    outputs, mean, variance = normalized(inputs, tf.ones(1), tf.zeros(1), 0.0)
    assert (mean.dtype, variance.dtype, outputs.dtype) == ("float32", "float32", "bfloat16")
    assert (float(mean[0]), float(variance[0])) == (2.0, 1.0)
    assert ops.convert_to_numpy(ops.cast(outputs, "float32")).ravel().tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_backward_pass_keeps_the_inputs_and_the_outputs_of_relu_in_their_dtype(dtype: str):
    given, _ = example(dtype)

    @tf.function(autograph=False)
    def step(*given: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(given)
            outputs = tf.nn.relu(own(*given))
            tf.no_op(name="border")
        return tape.gradient(outputs, given)

    operations = step.get_concrete_function(*given).graph.get_operations()
    border = [operation.name for operation in operations].index("border")
    forward = {tensor.ref() for operation in operations[:border] for tensor in operation.outputs}
    backward = {tensor.ref() for operation in operations[border:] for tensor in operation.inputs}
    kept = [tensor.deref() for tensor in forward & backward if tensor.deref().shape == given[0].shape]
    assert sorted((tensor.op.type, tensor.dtype.name) for tensor in kept) == [("Placeholder", dtype), ("Relu", dtype)]


# --- pooling ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_pooling_and_its_gradient_equal_keras_also_where_pixels_tie(dtype: str, run: str):
    # Of three values 2 x 2 pixels often have the largest twice, thrice or four times.
    draw = np.random.default_rng(0)
    inputs = tf.constant(draw.integers(-1, 2, (3, 8, 6, 5)), dtype)
    upstream = tf.constant(draw.integers(1, 100, (3, 4, 3, 5)), dtype)

    def both(pool: Callable[[Any], Any]) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = pool(inputs)
        return outputs, tape.gradient(outputs, inputs, output_gradients=upstream)

    for ours, theirs in zip(
        RUNS[run](lambda: both(largest_of_four))(), both(keras.layers.MaxPooling2D(dtype=dtype)), strict=True
    ):
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_array_equal(tf.cast(ours, "float32"), tf.cast(theirs, "float32"))


def test_the_gradient_of_pooling_by_hand():
    inputs = tf.constant([[1.0, 5.0], [5.0, 2.0]])[None, ..., None]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = largest_of_four(inputs)
    assert outputs.numpy().ravel().tolist() == [5.0]
    assert tape.gradient(outputs, inputs)[0, ..., 0].numpy().tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_xla_finds_no_scatter_in_it():
    inputs = tf.zeros((1, 8, 8, 4))

    def compiled(pool: Callable[[Any], Any]) -> str:
        @tf.function(jit_compile=True, autograph=False)
        def step(inputs: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = pool(inputs)
            return tape.gradient(outputs, inputs)

        return str(step.experimental_get_compiler_ir(inputs)(stage="hlo"))

    assert "select-and-scatter" in compiled(keras.layers.MaxPooling2D())
    assert "scatter" not in compiled(largest_of_four)


# --- where they run ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("backend", "gpus", "expected"),
    [("tensorflow", [], False), ("tensorflow", ["gpu:0"], True), ("jax", [], True), ("torch", ["cuda:0"], False)],
)
def test_where_steps_are_compiled(monkeypatch: pytest.MonkeyPatch, backend: str, gpus: list[str], expected: bool):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: gpus if kind == "gpu" else [])
    assert xla_compiles_steps() is expected
