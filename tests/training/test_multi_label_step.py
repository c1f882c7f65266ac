"""The GradientTape step on multi-label labels: what `fit` does, pixel weights included."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.losses import BinaryCrossEntropy, Combined, Dice
from seg.training.custom_step import training_step
from seg.training.segmenter import Segmenter

pytestmark = pytest.mark.tensorflow


def segmenter() -> Segmenter:
    keras.utils.set_random_seed(3)
    images = keras.Input((4, 5, 2))
    return Segmenter(images, keras.layers.Conv2D(3, 3, padding="same")(images))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_step_moves_the_weights_as_fit_does(weighted):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 4, 5, 2)).astype(np.float32)
    labels = generator.choice([0, 1, 255], (2, 4, 5, 3)).astype(np.uint8)
    weights = generator.random((2, 4, 5)).astype(np.float32) if weighted else None
    loss = Combined([(1.0, BinaryCrossEntropy(pos_weight=[1.0, 2.0, 9.0])), (0.5, Dice(multi_label=True))])
    fitted, stepped = segmenter(), segmenter()
    fitted.compile(keras.optimizers.SGD(0.5), loss=loss, jit_compile=False)
    history = fitted.fit(images, labels, sample_weight=weights, batch_size=2, verbose=0).history
    assert history["loss"][0] == pytest.approx(
        history["loss/binary_cross_entropy"][0] + 0.5 * history["loss/dice"][0], rel=1e-6
    )
    step = training_step(stepped, keras.optimizers.SGD(0.5), loss)
    arguments = (images, labels) if weights is None else (images, labels, weights)
    assert float(step(*map(tf.constant, arguments))) == pytest.approx(history["loss"][0], rel=1e-5)
    for found, expected in zip(stepped.get_weights(), fitted.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # float32, compiled or not


def test_class_weights_of_a_pixel_are_refused():
    step = training_step(segmenter(), keras.optimizers.SGD(0.5), BinaryCrossEntropy(), class_weights=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"class_weights: got labels of shape \(1, 4, 5, 3\), which have no one class"):
        step(tf.zeros((1, 4, 5, 2)), tf.zeros((1, 4, 5, 3), tf.uint8))
