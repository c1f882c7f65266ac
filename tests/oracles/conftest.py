"""What the comparisons with other libraries share: random batches, value and gradient of a loss on either side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

VOID = 255


@pytest.fixture(scope="session")
def draw() -> Callable:
    """(labels (N, H, W), logits (N, H, W, C), weights (C,)) of random shapes, dtypes and void patterns, by seed."""

    def run(seed: int, *, void: bool = True, all_present: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        num_classes = int(generator.integers(2, 8))
        shape = tuple(int(length) for length in generator.integers((1, 1, 1), (4, 9, 9)))
        shares = generator.dirichlet(np.full(num_classes, 0.5))  # classes are rare or absent as they come
        labels = generator.choice(num_classes, shape, p=shares)
        if all_present:
            labels = np.concatenate(
                [labels, np.resize(np.arange(num_classes), (shape[0], num_classes, shape[2]))], axis=1
            )
        if void:
            pattern = generator.integers(4)  # none, scattered, whole rows, whole images but one pixel
            if pattern == 1:
                labels[generator.random(shape) < 0.3] = VOID
            elif pattern == 2:
                labels[:, : shape[1] // 2] = VOID
            elif pattern == 3:
                labels[1:] = VOID
                labels[0].flat[1:] = VOID
            if (labels == VOID).all():
                labels.flat[0] = 0
        dtype = generator.choice(["uint8", "int32", "int64"])
        # Not larger: a softmax at 1 - 1e-7 has hardly a digit of its gradient left in float32.
        logits = generator.normal(0, generator.choice([0.5, 1.0, 2.0]), (*labels.shape, num_classes)).astype(np.float32)
        return labels.astype(dtype), logits, generator.uniform(0.1, 5.0, num_classes)

    return run


@pytest.fixture(scope="session")
def ours() -> Callable:
    """(value, gradient by the logits, float32) of one of our losses `loss(labels, logits)`."""
    import tensorflow as tf

    def run(loss: Callable, labels: np.ndarray, logits: np.ndarray) -> tuple[float, np.ndarray]:
        inputs = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = loss(labels, inputs)
        return float(value), tape.gradient(value, inputs).numpy()

    return run


@pytest.fixture(scope="session")
def torchs() -> Callable:
    """The same, in float64 unless `dtype` says else, for a torch loss `loss(logits (N, C, H, W), labels (N, H, W))`."""
    torch = pytest.importorskip("torch", reason="torch is not installed (make test-oracles installs it)")

    def run(loss: Callable, labels: np.ndarray, logits: np.ndarray, dtype: str = "float64") -> tuple[float, np.ndarray]:
        inputs = torch.tensor(np.moveaxis(logits.astype(dtype), -1, 1).copy(), requires_grad=True)
        value = loss(inputs, torch.tensor(labels.astype(np.int64)))
        value.backward()
        return float(value.detach()), np.moveaxis(inputs.grad.numpy(), 1, -1)

    return run


@pytest.fixture(scope="session")
def assert_agree() -> Callable:
    """Values and gradients are equal to 1e-5: ours are float32, whose exp, log and sums round.

    A gradient's smallest entries are differences of such numbers: 1e-5 of its largest entry is allowed besides. The
    other side computes in float64 where it can: p - 1 of a sure pixel has four digits in float32.
    """

    def check(found: tuple[float, Any], expected: tuple[float, Any], factor: float = 1.0) -> None:
        assert found[0] == pytest.approx(factor * expected[0], rel=1e-5, abs=1e-7)
        gradient = factor * np.asarray(expected[1])
        np.testing.assert_allclose(found[1], gradient, rtol=1e-5, atol=1e-5 * np.abs(gradient).max() + 1e-12)

    return check
