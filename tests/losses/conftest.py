from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest


@pytest.fixture
def value_and_gradient() -> Callable:
    """(loss value, gradient by the logits) of `loss(labels, logits)`, eager or compiled by XLA, as NumPy."""

    def run(loss: Callable, labels: np.ndarray, logits: np.ndarray, jit: bool = False, dtype: str = "float32") -> tuple:
        inputs = keras.ops.cast(keras.ops.convert_to_tensor(logits), dtype)
        step = {"tensorflow": tensorflow_step, "jax": jax_step}[keras.backend.backend()](loss, jit)
        value, gradient = step(keras.ops.convert_to_tensor(labels), inputs)
        return float(value), keras.ops.convert_to_numpy(keras.ops.cast(gradient, "float32")).astype(np.float64)

    return run


def tensorflow_step(loss: Callable, jit: bool) -> Callable:
    import tensorflow as tf

    def step(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    return tf.function(step, jit_compile=True, autograph=False) if jit else step


def jax_step(loss: Callable, jit: bool) -> Callable:
    import jax

    step = jax.value_and_grad(lambda logits, labels: loss(labels, logits))
    step = jax.jit(step) if jit else step
    return lambda labels, logits: step(logits, labels)


@pytest.fixture
def numerical_gradient() -> Callable:
    """Central differences in float64 of a NumPy `loss(labels, logits)`."""

    def run(loss: Callable, labels: np.ndarray, logits: np.ndarray, step: float = 1e-5) -> np.ndarray:
        gradient = np.zeros(logits.shape)
        for index in np.ndindex(logits.shape):
            up, down = logits.astype(np.float64), logits.astype(np.float64)
            up[index] += step
            down[index] -= step
            gradient[index] = (loss(labels, up) - loss(labels, down)) / (2 * step)
        return gradient

    return run


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    """Labels (2, 3, 5) uint8 of 4 classes with void, odd sizes, class 3 absent from image 1; logits (2, 3, 5, 4)."""
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 4, (2, 3, 5)).astype(np.uint8)
    labels[1][labels[1] == 3] = 0
    labels[generator.random(labels.shape) < 0.2] = 255
    assert (labels == 255).any() and (labels[0] == 3).any()
    return labels, generator.normal(0, 2, (2, 3, 5, 4)).astype(np.float32)
