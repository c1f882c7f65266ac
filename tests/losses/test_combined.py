from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.losses import Combined, CrossEntropy, Dice, Focal, cross_entropy, dice_loss, focal_loss


def test_the_coefficient_sum(batch):
    loss = Combined([(1.0, CrossEntropy()), (0.5, Dice()), (2.0, Focal())])
    expected = cross_entropy(*batch) + 0.5 * dice_loss(*batch) + 2.0 * focal_loss(*batch)
    assert float(loss(*batch)) == pytest.approx(float(expected), rel=1e-6)


def test_gradients_add_up(batch, value_and_gradient):
    parts = [value_and_gradient(function, *batch)[1] for function in (cross_entropy, dice_loss)]
    _, gradient = value_and_gradient(Combined([(1.0, CrossEntropy()), (3.0, Dice())]), *batch)
    np.testing.assert_allclose(gradient, parts[0] + 3.0 * parts[1], rtol=1e-5, atol=1e-8)


def test_terms_are_logged_before_their_coefficients(batch):
    loss = Combined([(0.5, CrossEntropy()), (2.0, Dice())])
    values = loss.term_values(*batch)
    assert list(values) == loss.term_names == ["cross_entropy", "dice"]
    assert float(values["cross_entropy"]) == float(cross_entropy(*batch))
    assert float(values["dice"]) == float(dice_loss(*batch))
    assert float(loss.total(values)) == float(loss(*batch))


@pytest.mark.tensorflow
def test_term_values_keep_their_names_through_xla(batch):
    loss = Combined([(1.0, Focal()), (1.0, CrossEntropy())])
    values = tf.function(loss.term_values, jit_compile=True, autograph=False)(*batch)
    for name, value in loss.term_values(*batch).items():
        assert float(values[name]) == pytest.approx(float(value), rel=1e-5)  # XLA's exp and log differ in the last bits


@pytest.mark.tensorflow
def test_xla_shares_the_exponentials_of_the_terms(batch):
    def exponentials(loss):
        @tf.function(jit_compile=True, autograph=False)
        def compiled(labels, logits):
            return loss(labels, logits)

        text = compiled.experimental_get_compiler_ir(*map(tf.constant, batch))(stage="optimized_hlo")
        return len(re.findall(r"= f32\[2,3,5,4\]\S* exponential\(", text))

    assert exponentials(Combined([(1.0, CrossEntropy()), (1.0, Focal())])) == exponentials(CrossEntropy())


def test_pixel_weights_reach_the_terms(batch):
    weights = np.random.default_rng(0).random(batch[0].shape)
    loss = Combined([(1.0, CrossEntropy()), (1.0, Focal())])
    expected = cross_entropy(*batch, pixel_weights=weights) + focal_loss(*batch, pixel_weights=weights)
    assert float(loss(*batch, sample_weight=weights)) == pytest.approx(float(expected), rel=1e-6)


def test_pixel_weights_leave_the_terms_that_take_none_as_they_are(batch):
    weights = np.random.default_rng(0).random(batch[0].shape)
    values = Combined([(1.0, CrossEntropy()), (1.0, Dice())]).term_values(*batch, weights)
    assert float(values["cross_entropy"]) == float(cross_entropy(*batch, pixel_weights=weights))
    assert float(values["dice"]) == float(dice_loss(*batch))
    with pytest.raises(ValueError, match="loss 'combined': got pixel weights .*, which no term takes: dice"):
        Combined([(1.0, Dice())])(*batch, sample_weight=weights)


def test_two_terms_of_a_kind_need_two_names(batch):
    loss = Combined([(1.0, CrossEntropy()), (1.0, CrossEntropy(name="smoothed", label_smoothing=0.1))])
    assert list(loss.term_values(*batch)) == ["cross_entropy", "smoothed"]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "loss 'combined': got no terms, allowed: at least one"),
        ([(0.0, Dice())], "got coefficient 0.0 for 'dice', allowed: above 0"),
        ([(-1.0, Dice())], "got coefficient -1.0 for 'dice', allowed: above 0"),
        ([(float("inf"), Dice())], "got coefficient inf for 'dice', allowed: above 0"),
        ([(1.0, Dice()), (1.0, Dice())], "two terms are named 'dice', allowed: each name once"),
        ([(1.0, keras.losses.SparseCategoricalCrossentropy())], "got the term .*, allowed: losses of seg.losses"),
    ],
)
def test_messages(terms, message):
    with pytest.raises(ValueError, match=message):
        Combined(terms)
