"""1 x 16 = 4 x 4, for losses that are sums, ratios of sums and neither."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.losses import Combined, CrossEntropy, Dice, Lovasz, TopKCrossEntropy
from seg.losses.online_weights import OnlineClassWeights
from seg.models.unet import unet_layers
from seg.training.segmenter import Segmenter

TERMS = (
    (1.0, CrossEntropy(class_weights=[0.5, 1.0, 4.0], normalize="weights")),
    (1.0, Dice(class_weights=[0.5, 1.0, 4.0])),
    (1.0, Lovasz()),
    (1.0, TopKCrossEntropy()),
)


def segmenter(accumulation, norm="group", dropout=0.0, jit_compile=False, online=False):
    keras.utils.set_random_seed(0)
    model = Segmenter(*unet_layers(bands=3, num_classes=3, depth=1, base_filters=4, norm=norm, dropout=dropout))
    schedule = keras.optimizers.schedules.PolynomialDecay(0.2, 4, 0.1)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        loss=Combined(TERMS),
        accumulation=accumulation,
        jit_compile=jit_compile,
        online_weights=OnlineClassWeights(3, "inverse_sqrt", momentum=0.5) if online else None,
    )
    return model


def batch(seed, images=8):
    """Parts that differ: the first has no class 2 and mostly void pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (images, 16, 16)).astype(np.uint8)
    labels[:2][labels[:2] == 2] = 255
    labels[0, 4:] = 255
    return rng.normal(size=(images, 16, 16, 3)).astype(np.float32), labels


def trained(model, batches=3):
    logs = [model.train_on_batch(*batch(seed), return_dict=True) for seed in range(batches)]
    return model.get_weights(), logs


def test_parts_are_the_large_batch():
    whole, whole_logs = trained(segmenter(1, online=True))
    for model in (segmenter(4, online=True), segmenter(2, online=True, jit_compile=True)):
        weights, logs = trained(model)
        # 2e-6: float32 sums in another order, of weights of size 0.1 to 1 and three steps.
        for ours, theirs in zip(weights, whole, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
        for ours, theirs in zip(logs, whole_logs, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
        assert int(model.optimizer.iterations) == 3  # the schedule counts updates
        assert float(model.optimizer.learning_rate) == pytest.approx(0.125)


def test_statistics_and_random_draws_are_of_the_parts_and_move_once():
    """Against one tape over the parts in turn: the pass for the logits leaves no trace."""
    model, ours = (segmenter(n, norm="batch", dropout=0.5) for n in (1, 4))
    images, labels = batch(0)
    with tf.GradientTape() as tape:
        logits = tf.concat([model(part, training=True) for part in tf.split(images, 4)], axis=0)
        loss = model.loss(labels, logits)
    variables = [variable.value for variable in model.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.2 * gradient)
    ours.train_on_batch(images, labels)
    for mine, theirs in zip(ours.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=5e-6)
    states = [
        [layer.seed_generator.state.numpy() for layer in one.layers if hasattr(layer, "seed_generator")]
        for one in (model, ours)
    ]
    np.testing.assert_array_equal(*states)


def test_unequal_parts_are_refused():
    with pytest.raises(ValueError, match="accumulation: got 4 parts of 6 images, allowed: parts of equal size"):
        segmenter(4).train_on_batch(*batch(0, images=6))
    with pytest.raises(ValueError, match="accumulation: got 0, allowed: 1 or more"):
        segmenter(0)
