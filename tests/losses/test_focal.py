from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.losses import Focal, cross_entropy, focal_loss

WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def loop(labels, logits, gamma=2.0, class_weights=None, pixel_weights=None, normalize="valid"):
    """The definition of MATHS.md, pixel by pixel in float64."""
    weights = np.ones(logits.shape[-1]) if class_weights is None else np.asarray(class_weights, np.float64)
    total, divisors = 0.0, {"valid": 0.0, "weights": 0.0, "all": float(labels.size)}
    for index in np.ndindex(labels.shape):
        label, z = int(labels[index]), logits[index].astype(np.float64)
        if label == 255:
            continue
        p = (np.exp(z - z.max()) / np.exp(z - z.max()).sum())[label]
        factor = weights[label] * (1 if pixel_weights is None else pixel_weights[index])
        total -= factor * (1 - p) ** gamma * np.log(p)
        divisors["valid"] += 1
        divisors["weights"] += weights[label]
    return total / divisors[normalize]


def test_by_hand():
    # Logits (0, ln 3): p = (1/4, 3/4). gamma 2, labels 0 and 1, weights (1, 2):
    # (9/16 ln 4 + 2 * 1/16 ln(4/3)) / 2
    logits = np.tile(np.array([0, np.log(3)], np.float32), (1, 1, 2, 1))
    expected = (9 / 16 * np.log(4) + 2 / 16 * np.log(4 / 3)) / 2
    found = focal_loss(np.array([[[0, 1]]], np.uint8), logits, gamma=2.0, class_weights=[1.0, 2.0])
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("normalize", ["valid", "weights", "all"])
def test_value_and_gradient_are_the_loop_s(batch, value_and_gradient, numerical_gradient, gamma, normalize):
    pixel_weights = np.random.default_rng(0).random(batch[0].shape)
    options = {"gamma": gamma, "class_weights": WEIGHTS, "pixel_weights": pixel_weights, "normalize": normalize}
    value, gradient = value_and_gradient(lambda y, z: focal_loss(y, z, **options), *batch)
    assert value == pytest.approx(loop(*batch, **options), rel=1e-5)  # float32
    expected = numerical_gradient(lambda y, z: loop(y, z, **options), *batch)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_compiled_by_xla_is_eager(batch, value_and_gradient):
    value, gradient = value_and_gradient(focal_loss, *batch)
    jit_value, jit_gradient = value_and_gradient(focal_loss, *batch, jit=True)
    assert jit_value == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(jit_gradient, gradient, rtol=1e-4, atol=1e-7)  # XLA's exp differs in the last bits


def test_keras_agrees(batch):
    labels, logits = np.where(batch[0] == 255, 1, batch[0]), batch[1]
    # Keras sums over the classes and clips p at 1e-7.
    oracle = keras.losses.CategoricalFocalCrossentropy(alpha=WEIGHTS, gamma=1.5, from_logits=True)
    expected = float(oracle(np.eye(4, dtype=np.float32)[labels], logits))
    assert float(focal_loss(labels, logits, gamma=1.5, class_weights=WEIGHTS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_gamma_0_is_cross_entropy_to_the_bit(batch, value_and_gradient, jit):
    labels, logits = batch
    logits = logits.copy()
    logits[0, 0] *= 5e3  # p of exactly 0 and 1
    focal = value_and_gradient(lambda y, z: focal_loss(y, z, gamma=0.0, class_weights=WEIGHTS), labels, logits, jit=jit)
    plain = value_and_gradient(lambda y, z: cross_entropy(y, z, class_weights=WEIGHTS), labels, logits, jit=jit)
    if jit:  # XLA fuses, and so rounds, the two graphs differently
        assert focal[0] == pytest.approx(plain[0], rel=1e-6)
        np.testing.assert_allclose(focal[1], plain[1], rtol=1e-5, atol=1e-8)
    else:
        assert focal[0] == plain[0]
        np.testing.assert_array_equal(focal[1], plain[1])


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("gap", [0.0, 5.0, 14.0, 15.9, 16.0, 16.7, 20.0, 90.0, 2e4])
def test_gradients_are_finite_up_to_p_of_exactly_one_and_zero(value_and_gradient, gamma, gap):
    labels = np.array([[[0, 1]]], np.uint8)
    logits = np.array([[[[gap / 2, -gap / 2]] * 2]], np.float32)
    value, gradient = value_and_gradient(lambda y, z: focal_loss(y, z, gamma=gamma), labels, logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    # |d loss / d logit| <= (1-p)^gamma (1 - p) + gamma (1-p)^gamma p |log p| <= 1 + gamma * max(p |log p|) per pixel
    assert np.abs(gradient).max() <= (1 + gamma * np.exp(-1)) / 2 + 1e-6
    assert gradient[0, 0, 0, 0] <= 0 <= gradient[0, 0, 1, 0]  # towards the label


def test_at_most_the_cross_entropy_and_falling_with_gamma(batch):
    losses = [float(focal_loss(*batch, gamma=gamma)) for gamma in (0, 0.5, 1, 2, 5)]
    assert losses == sorted(losses, reverse=True) and losses[0] == float(cross_entropy(*batch))


def test_logits_at_void_change_nothing(batch, value_and_gradient):
    is_void = batch[0] == 255
    changed = batch[1].copy()
    changed[is_void] = 1e4 * np.array([1, -1, 1, -1])
    value, gradient = value_and_gradient(focal_loss, *batch)
    changed_value, changed_gradient = value_and_gradient(focal_loss, batch[0], changed)
    assert changed_value == value and (gradient[is_void] == 0).all()
    np.testing.assert_array_equal(changed_gradient, gradient)


@pytest.mark.parametrize("normalize", ["valid", "weights", "all"])
def test_no_valid_pixel_gives_zero(value_and_gradient, normalize):
    labels, logits = np.full((1, 3, 3), 255, np.uint8), np.full((1, 3, 3, 2), 1e4, np.float32)
    value, gradient = value_and_gradient(lambda y, z: focal_loss(y, z, gamma=0.5, normalize=normalize), labels, logits)
    assert value == 0 and (gradient == 0).all()


def test_an_empty_batch_gives_zero():
    assert float(focal_loss(np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4, 4, 3), np.float32))) == 0


def test_half_precision_logits_are_averaged_in_float32(batch, value_and_gradient):
    labels, logits = batch
    rounded = tf.cast(tf.cast(logits, "bfloat16"), tf.float32).numpy()
    value, _ = value_and_gradient(focal_loss, labels, logits, dtype="bfloat16")
    assert value == pytest.approx(loop(labels, rounded), rel=1e-5)


def test_a_label_that_is_no_class_makes_the_loss_nan(batch):
    assert np.isnan(float(focal_loss(np.where(batch[0] == 3, 4, batch[0]), batch[1])))


@pytest.mark.parametrize("gamma", [-0.1, float("inf"), float("nan")])
def test_gamma_out_of_range_is_refused(batch, gamma):
    for make in (lambda: focal_loss(*batch, gamma=gamma), lambda: Focal(gamma=gamma)):
        with pytest.raises(ValueError, match="gamma: got .*, allowed: 0 or more, finite"):
            make()


def test_messages(batch):
    with pytest.raises(ValueError, match=r"class_weights: got shape \(\), allowed: \(4,\)"):
        focal_loss(*batch, class_weights=0.25)  # a scalar alpha
    with pytest.raises(ValueError, match=r"pixel_weights: got shape \(2,\), allowed: \(2, 3, 5\)"):
        focal_loss(*batch, pixel_weights=np.ones(2))
    with pytest.raises(ValueError, match="normalize: got 'mean', allowed: valid, weights, all"):
        Focal(normalize="mean")
