from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import CrossEntropy, cross_entropy, soft_cross_entropy
from seg.losses.pixels import denominator

WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def loop(labels, logits, class_weights=None, pixel_weights=None, label_smoothing=0.0, normalize="valid"):
    """The definition of MATHS.md, pixel by pixel in float64."""
    num_classes = logits.shape[-1]
    weights = np.ones(num_classes) if class_weights is None else np.asarray(class_weights, np.float64)
    total, divisors = 0.0, {"valid": 0.0, "weights": 0.0, "all": float(labels.size)}
    for index in np.ndindex(labels.shape):
        label, z = int(labels[index]), logits[index].astype(np.float64)
        if label == 255:
            continue
        log_p = z - z.max() - np.log(np.exp(z - z.max()).sum())
        target = np.full(num_classes, label_smoothing / num_classes)
        target[label] += 1 - label_smoothing
        total -= (weights * target * log_p).sum() * (1 if pixel_weights is None else pixel_weights[index])
        divisors["valid"] += 1
        divisors["weights"] += weights[label]
    return total / divisors[normalize] if divisors[normalize] else 0.0


def test_by_hand():
    # Logits (0, ln 3): p = (1/4, 3/4). Labels 0, 1, 1, void with weights (2, 1):
    # sum = 2 ln 4 + 2 ln(4/3); |V| = 3; sum of weights = 2 + 1 + 1 = 4; all = 4.
    labels = np.array([[[0, 1], [1, 255]]], np.uint8)
    logits = np.tile(np.array([0, np.log(3)], np.float32), (1, 2, 2, 1))
    total = 2 * np.log(4) + 2 * np.log(4 / 3)
    for normalize, divisor in {"valid": 3, "weights": 4, "all": 4}.items():
        found = cross_entropy(labels, logits, class_weights=[2.0, 1.0], normalize=normalize)
        assert float(found) == pytest.approx(total / divisor, rel=1e-6)


@pytest.mark.parametrize("normalize", ["valid", "weights", "all"])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_value_and_gradient_are_the_loop_s(
    batch, value_and_gradient, numerical_gradient, normalize, class_weights, label_smoothing
):
    pixel_weights = np.random.default_rng(0).random(batch[0].shape)
    options = {"class_weights": class_weights, "normalize": normalize, "label_smoothing": label_smoothing}
    options["pixel_weights"] = pixel_weights
    value, gradient = value_and_gradient(lambda y, z: cross_entropy(y, z, **options), *batch)
    assert value == pytest.approx(loop(*batch, **options), rel=1e-5)  # float32
    expected = numerical_gradient(lambda y, z: loop(y, z, **options), *batch)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_compiled_by_xla_is_eager(batch, value_and_gradient):
    def loss(labels, logits):
        return cross_entropy(labels, logits, class_weights=WEIGHTS, label_smoothing=0.1)

    value, gradient = value_and_gradient(loss, *batch)
    jit_value, jit_gradient = value_and_gradient(loss, *batch, jit=True)
    assert jit_value == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(jit_gradient, gradient, rtol=1e-4, atol=1e-7)  # XLA's exp differs in the last bits


def test_keras_agrees(batch):
    labels, logits = batch
    # With ignore_class Keras's default reduction divides by the unmasked pixels: `valid`.
    oracle = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    expected = float(oracle(labels.astype(np.int32), logits))
    assert float(cross_entropy(labels, logits)) == pytest.approx(expected, rel=1e-5)


def test_keras_label_smoothing_agrees(batch):
    labels, logits = np.where(batch[0] == 255, 0, batch[0]), batch[1]
    oracle = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    expected = float(oracle(np.eye(4, dtype=np.float32)[labels], logits))
    assert float(cross_entropy(labels, logits, label_smoothing=0.2)) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
def test_permuting_the_classes_changes_nothing(seed, order):
    generator = np.random.default_rng(seed)
    labels, logits = generator.integers(0, 4, (1, 3, 3)), generator.normal(0, 3, (1, 3, 3, 4)).astype(np.float32)
    order = np.array(order)  # new class k is old class order[k]
    permuted = cross_entropy(np.argsort(order)[labels], logits[..., order], class_weights=np.array(WEIGHTS)[order])
    assert float(permuted) == pytest.approx(float(cross_entropy(labels, logits, class_weights=WEIGHTS)), rel=1e-5)


@pytest.mark.parametrize("normalize", ["valid", "weights"])
def test_equal_weights(batch, normalize):
    # All weights 3: three times the loss under `valid`, the same under `weights`.
    factor = 3 if normalize == "valid" else 1
    found = float(cross_entropy(*batch, class_weights=[3.0] * 4, normalize=normalize))
    assert found == pytest.approx(factor * float(cross_entropy(*batch)), rel=1e-6)


@pytest.mark.parametrize("normalize", ["valid", "weights", "all"])
def test_parts_of_a_batch_add_up_by_their_denominators(batch, normalize):
    labels, logits = batch
    options = {"class_weights": WEIGHTS, "normalize": normalize}
    parts = [(labels[:1], logits[:1]), (labels[1:], logits[1:])]
    divisors = [float(denominator(y, WEIGHTS, normalize=normalize)) for y, _ in parts]
    losses = [float(cross_entropy(y, z, **options)) for y, z in parts]
    assert np.average(losses, weights=divisors) == pytest.approx(float(cross_entropy(*batch, **options)), rel=1e-5)


@pytest.mark.parametrize("void", [255, 3, -7, 2])  # 2: a class index as void
def test_logits_at_void_change_nothing(batch, value_and_gradient, void):
    labels = batch[0].astype(np.int32)
    labels[labels == 2] = 0
    labels[batch[0] == 255] = void
    is_void = labels == void
    changed = batch[1].copy()
    changed[is_void] = 1e4 * np.array([1, -1, 1, -1])

    def loss(y, z):
        return cross_entropy(y, z, class_weights=WEIGHTS, ignore_index=void)

    value, gradient = value_and_gradient(loss, labels, batch[1])
    changed_value, changed_gradient = value_and_gradient(loss, labels, changed)
    assert changed_value == value
    np.testing.assert_array_equal(changed_gradient, gradient)
    assert (gradient[is_void] == 0).all() and (gradient[~is_void] != 0).all()


def test_as_many_columns_as_classes_do_not_broadcast():
    # W == C == 4: weights multiplied onto columns would give 4 to the last column, gathered ones give 0.5 everywhere.
    labels, logits = np.zeros((1, 2, 4), np.uint8), np.zeros((1, 2, 4, 4), np.float32)
    assert float(cross_entropy(labels, logits, class_weights=WEIGHTS)) == pytest.approx(0.5 * np.log(4), rel=1e-6)


@pytest.mark.parametrize("normalize", ["valid", "weights", "all"])
@pytest.mark.parametrize("jit", [False, True])
def test_no_valid_pixel_gives_zero(value_and_gradient, normalize, jit):
    labels, logits = np.full((2, 3, 3), 255, np.uint8), np.full((2, 3, 3, 4), 1e4, np.float32)
    value, gradient = value_and_gradient(
        lambda y, z: cross_entropy(y, z, class_weights=WEIGHTS, normalize=normalize), labels, logits, jit=jit
    )
    assert value == 0 and (gradient == 0).all()


def test_only_classes_of_weight_zero_give_zero(value_and_gradient):
    labels, logits = np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2, 2), np.float32)
    value, gradient = value_and_gradient(
        lambda y, z: cross_entropy(y, z, class_weights=[0.0, 1.0], normalize="weights"), labels, logits
    )
    assert value == 0 and (gradient == 0).all()


def test_an_empty_batch_gives_zero():
    assert float(cross_entropy(np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4, 4, 3), np.float32))) == 0


@pytest.mark.parametrize("jit", [False, True])
def test_extreme_logits_are_finite_and_right(value_and_gradient, jit):
    # Pixel 0 is certain and right (0), pixel 1 certain and wrong (2e4): the mean is 1e4.
    labels = np.array([[[0, 1]]], np.uint8)
    logits = np.array([[[[1e4, -1e4], [1e4, -1e4]]]], np.float32)
    value, gradient = value_and_gradient(cross_entropy, labels, logits, jit=jit)
    assert value == 1e4
    np.testing.assert_array_equal(gradient, [[[[0, 0], [0.5, -0.5]]]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_logits_are_averaged_in_float32(batch, value_and_gradient, dtype):
    labels, logits = batch
    rounded = tf.cast(tf.cast(logits, dtype), tf.float32).numpy()
    value, _ = value_and_gradient(cross_entropy, labels, logits, dtype=dtype)
    assert value == pytest.approx(loop(labels, rounded), rel=1e-5)  # only the logits are rounded, not the sums


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "int64"])
def test_any_integer_dtype(batch, dtype):
    labels = np.where(batch[0] == 255, 100, batch[0]).astype(dtype)
    assert float(cross_entropy(labels, batch[1], ignore_index=100)) == float(cross_entropy(*batch))


@pytest.mark.parametrize("label", [4, 254, -1])
def test_a_label_that_is_no_class_makes_the_loss_nan(batch, label):
    labels = batch[0].astype(np.int32)
    labels[0, 0, 0] = label
    assert np.isnan(float(cross_entropy(labels, batch[1])))


def test_docstring_example():
    assert float(cross_entropy([[[0, 255]]], [[[[0.0, 0.0], [9.0, 0.0]]]])) == pytest.approx(np.log(2), rel=1e-6)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_label_smoothing_out_of_range_is_refused(batch, value):
    for make in (lambda: cross_entropy(*batch, label_smoothing=value), lambda: CrossEntropy(label_smoothing=value)):
        with pytest.raises(ValueError, match="label_smoothing: got .*, allowed: 0 <= label_smoothing < 1"):
            make()


def test_messages(batch):
    with pytest.raises(ValueError, match=r"class_weights: got shape \(5,\), allowed: \(4,\)"):
        cross_entropy(*batch, class_weights=np.ones(5))
    with pytest.raises(ValueError, match=r"class_weights: got shape \(2, 3, 5\), allowed: \(4,\)"):
        cross_entropy(*batch, class_weights=np.ones((2, 3, 5)))
    with pytest.raises(ValueError, match=r"pixel_weights: got shape \(5,\), allowed: \(2, 3, 5\)"):
        cross_entropy(*batch, pixel_weights=np.ones(5))
    with pytest.raises(ValueError, match="normalize: got 'sum', allowed: valid, weights, all"):
        CrossEntropy(normalize="sum")


# --- soft targets -----------------------------------------------------------------------------------------------------
def soft_batch(void: bool = True):
    """Targets (2, 3, 5, 4) and logits; with void, two pixels have no targets."""
    generator = np.random.default_rng(5)
    targets = generator.dirichlet(np.ones(4), (2, 3, 5)).astype(np.float32)
    if void:
        targets[0, 1, 2] = targets[1, 0, 0] = 0
    return targets, generator.normal(0, 2, (2, 3, 5, 4)).astype(np.float32)


def soft_loop(targets, logits, class_weights=None, pixel_weights=None, label_smoothing=0.0, normalize="valid"):
    """The definition of MATHS.md for soft targets, pixel by pixel in float64."""
    num_classes = logits.shape[-1]
    weights = np.ones(num_classes) if class_weights is None else np.asarray(class_weights, np.float64)
    total, divisors = 0.0, {"valid": 0.0, "weights": 0.0, "all": float(targets[..., 0].size)}
    for index in np.ndindex(targets.shape[:-1]):
        t, z = targets[index].astype(np.float64), logits[index].astype(np.float64)
        if not t.any():
            continue
        log_p = z - z.max() - np.log(np.exp(z - z.max()).sum())
        smoothed = (1 - label_smoothing) * t + label_smoothing / num_classes
        total -= (weights * smoothed * log_p).sum() * (1 if pixel_weights is None else pixel_weights[index])
        divisors["valid"] += 1
        divisors["weights"] += (weights * t).sum()
    return total / divisors[normalize]


def test_soft_targets_by_hand():
    # Logits (0, ln 3): p = (1/4, 3/4). Target (1/2, 1/2), weights (2, 1): (2 ln 4 + ln(4/3)) / 2. The other is void.
    logits = np.tile(np.array([0, np.log(3)], np.float32), (1, 1, 2, 1))
    targets = np.array([[[[0.5, 0.5], [0, 0]]]], np.float32)
    found = soft_cross_entropy(targets, logits, class_weights=[2.0, 1.0])
    assert float(found) == pytest.approx((2 * np.log(4) + np.log(4 / 3)) / 2, rel=1e-6)


@pytest.mark.parametrize("normalize", ["valid", "weights", "all"])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_soft_targets_give_the_loop_s_value_and_gradient(
    value_and_gradient, numerical_gradient, normalize, class_weights, label_smoothing
):
    targets, logits = soft_batch()
    options = {"class_weights": class_weights, "normalize": normalize, "label_smoothing": label_smoothing}
    options["pixel_weights"] = np.random.default_rng(0).random(targets.shape[:-1])
    value, gradient = value_and_gradient(lambda t, z: soft_cross_entropy(t, z, **options), targets, logits)
    assert value == pytest.approx(soft_loop(targets, logits, **options), rel=1e-5)  # float32
    expected = numerical_gradient(lambda t, z: soft_loop(t, z, **options), targets, logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert (gradient[targets.sum(axis=-1) == 0] == 0).all()


def test_keras_agrees_on_soft_targets():
    targets, logits = soft_batch(void=False)
    expected = float(keras.losses.CategoricalCrossentropy(from_logits=True)(targets, logits))
    assert float(soft_cross_entropy(targets, logits)) == pytest.approx(expected, rel=1e-5)


def test_the_class_takes_soft_targets():
    targets, logits = soft_batch()
    weights = np.random.default_rng(0).random(targets.shape[:-1])
    loss = CrossEntropy(class_weights=WEIGHTS, label_smoothing=0.1, normalize="weights")
    options = {"class_weights": WEIGHTS, "label_smoothing": 0.1, "normalize": "weights"}
    found = loss(targets, logits, sample_weight=weights)
    assert float(found) == float(soft_cross_entropy(targets, logits, pixel_weights=weights, **options))


def test_messages_about_soft_targets():
    targets, logits = soft_batch()
    with pytest.raises(ValueError, match=r"targets: got dtype int32, allowed: any float dtype"):
        CrossEntropy()(targets.astype(np.int32), logits)
    for shape in ((2, 3, 5, 3), (2, 3, 1, 4), (1, 3, 5, 4)):
        with pytest.raises(ValueError, match=r"targets and logits: got shapes .*, allowed: \(N, H, W, C\) for both"):
            soft_cross_entropy(np.ones(shape, np.float32), logits)
    with pytest.raises(ValueError, match=r"targets and logits: got shapes \(3, 4\) and \(3, 4\)"):
        soft_cross_entropy(np.ones((3, 4), np.float32), np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"class_weights: got shape \(5,\), allowed: \(4,\)"):
        soft_cross_entropy(targets, logits, class_weights=np.ones(5))
    with pytest.raises(ValueError, match=r"pixel_weights: got shape \(4,\), allowed: \(2, 3, 5\)"):
        soft_cross_entropy(targets, logits, pixel_weights=np.ones(4))
    with pytest.raises(ValueError, match="label_smoothing: got 1.0"):
        soft_cross_entropy(targets, logits, label_smoothing=1.0)
    with pytest.raises(ValueError, match="normalize: got 'sum', allowed: valid, weights, all"):
        soft_cross_entropy(targets, logits, normalize="sum")


def test_labels_with_a_last_axis_of_one_are_told_apart_from_soft_targets() -> None:
    with pytest.raises(
        ValueError, match=r"labels: got shape \(1, 2, 2, 1\), allowed: \(N, H, W\) .* labels\[\.\.\., 0\]"
    ):
        CrossEntropy()(np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 3), np.float32))
