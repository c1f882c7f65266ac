"""seg.losses.probabilities: a softmax or sigmoid before a loss of logits is found, in compiled models and by values."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import ops

from seg.losses import BinaryCrossEntropy, Combined, CrossEntropy, Dice
from seg.losses.probabilities import refuse_probabilities
from seg.training.segmenter import Segmenter

IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, (2, 16, 16))
ADVICE = r"allowed: logits; take the last activation out of the model \(activation=None\)"


def layers(activation: str | None, last: Callable | None = None) -> tuple[object, object]:
    images = keras.Input((16, 16, 3))
    outputs = keras.layers.Conv2D(3, 1, activation=activation)(images)
    return images, outputs if last is None else last(outputs)


def by_hand(logits: object) -> object:
    powers = ops.exp(logits)
    return powers / ops.sum(powers, axis=-1, keepdims=True)


@pytest.mark.tensorflow
@pytest.mark.parametrize("last", [("softmax", None), (None, keras.layers.Softmax()), ("sigmoid", None)])
@pytest.mark.parametrize("jit", [False, True])
def test_a_compiled_model_that_ends_in_an_activation(last: tuple, jit: bool) -> None:
    model = keras.Model(*layers(*last))
    model.compile("sgd", loss=CrossEntropy(), jit_compile=jit)
    with pytest.raises(
        ValueError, match=rf"loss 'cross_entropy': got probabilities \(the model ends in a .*, {ADVICE}"
    ):
        model.fit(IMAGES, LABELS, verbose=0)


@pytest.mark.tensorflow
def test_a_softmax_by_hand_in_a_compiled_step() -> None:
    import tensorflow as tf

    model = keras.Model(*layers(None, by_hand))
    model.compile("sgd", loss=Dice())
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"all values are in \[0, 1\] and sum to 1"):
        model.fit(IMAGES, LABELS, verbose=0)


@pytest.mark.tensorflow
def test_a_segmenter_that_ends_in_an_activation() -> None:
    model = Segmenter(*layers("softmax"))
    model.compile("sgd", loss=Combined([(1.0, Dice()), (1.0, CrossEntropy())]))
    with pytest.raises(ValueError, match=rf"loss 'combined': got probabilities .*, {ADVICE}"):
        model.fit(IMAGES, LABELS, verbose=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_values_of_a_first_call(dtype: str) -> None:
    probabilities = ops.cast(by_hand(ops.convert_to_tensor(IMAGES)), dtype)
    with pytest.raises(
        ValueError, match=r"loss 'dice': got probabilities \(all values are in \[0, 1\] and sum to 1 ov"
    ):
        Dice()(LABELS, probabilities)
    with pytest.warns(
        UserWarning, match=r"loss 'binary_cross_entropy': got probabilities \(all values are in \[0, 1\], as"
    ):
        BinaryCrossEntropy()((LABELS[..., None] == np.arange(3)).astype(np.int64), 1 / (1 + np.exp(-IMAGES)))


@pytest.mark.parametrize(
    "logits", [IMAGES, np.zeros_like(IMAGES), np.abs(IMAGES), np.zeros((0, 16, 16, 3), np.float32)]
)
def test_logits_pass(logits: np.ndarray) -> None:
    refuse_probabilities(logits, "any")
    refuse_probabilities(ops.convert_to_tensor(logits), "any")
