from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import Dice, dice_loss

WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def loop(labels, logits, class_weights=None, ignore_index=255, smooth=1.0, reduction="batch", absent="skip"):
    """The definition of MATHS.md, class by class and pixel by pixel in float64."""
    num_classes = logits.shape[-1]
    weights = np.ones(num_classes) if class_weights is None else np.asarray(class_weights, np.float64)
    groups = [range(len(labels))] if reduction == "batch" else [[image] for image in range(len(labels))]
    losses = []
    for images in groups:
        overlap, predicted, labelled, num_valid = np.zeros((3, num_classes)).tolist() + [0]
        for image, row, column in itertools.product(images, range(labels.shape[1]), range(labels.shape[2])):
            label, z = int(labels[image, row, column]), logits[image, row, column].astype(np.float64)
            if label == ignore_index:
                continue
            num_valid += 1
            p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            overlap[label] += p[label]
            labelled[label] += 1
            predicted = [old + new for old, new in zip(predicted, p, strict=True)]
        numerator = total = 0.0
        for c in range(num_classes):
            if num_valid and (absent == "count" or labelled[c]):
                score = (2 * overlap[c] + smooth) / (predicted[c] + labelled[c] + smooth)
                numerator += weights[c] * (1 - score)
                total += weights[c]
        if total:
            losses.append(numerator / total)
    return float(np.mean(losses)) if losses else 0.0


def perfect(labels, num_classes=4):
    """Logits so certain that the softmax is one-hot in float32; void pixels claim class 0."""
    return np.where(np.eye(num_classes)[np.where(labels == 255, 0, labels)] == 1, 100, -100).astype(np.float32)


def test_by_hand():
    # Logits (0, ln 3): p = (1/4, 3/4) at each of 3 valid pixels, labels 0, 1, 1; smooth 1.
    # D_0 = (2 * 1/4 + 1) / (3/4 + 1 + 1) = 6/11;  D_1 = (2 * 6/4 + 1) / (9/4 + 2 + 1) = 16/21
    labels = np.array([[[0, 1], [1, 255]]], np.uint8)
    logits = np.tile(np.array([0, np.log(3)], np.float32), (1, 2, 2, 1))
    expected = (3 * (1 - 6 / 11) + (1 - 16 / 21)) / 4
    assert float(dice_loss(labels, logits, class_weights=[3.0, 1.0])) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["batch", "image"])
@pytest.mark.parametrize("absent", ["skip", "count"])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_value_and_gradient_are_the_loop_s(
    batch, value_and_gradient, numerical_gradient, reduction, absent, class_weights, smooth
):
    options = {"reduction": reduction, "absent": absent, "class_weights": class_weights, "smooth": smooth}
    value, gradient = value_and_gradient(lambda y, z: dice_loss(y, z, **options), *batch)
    assert value == pytest.approx(loop(*batch, **options), rel=1e-5)  # float32
    expected = numerical_gradient(lambda y, z: loop(y, z, **options), *batch)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", ["batch", "image"])
def test_compiled_by_xla_is_eager(batch, value_and_gradient, reduction):
    def loss(labels, logits):
        return dice_loss(labels, logits, class_weights=WEIGHTS, reduction=reduction)

    value, gradient = value_and_gradient(loss, *batch)
    jit_value, jit_gradient = value_and_gradient(loss, *batch, jit=True)
    assert jit_value == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(jit_gradient, gradient, rtol=1e-4, atol=1e-7)  # XLA's exp differs in the last bits


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["batch", "image"]),
    st.sampled_from(["skip", "count"]),
    st.sampled_from([0.0, 1.0, 100.0]),
    st.permutations(range(4)),
)
def test_in_0_1_and_blind_to_the_order_of_classes(seed, reduction, absent, smooth, order):
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, 3, 255], (2, 3, 3))
    logits = generator.normal(0, 10, (2, 3, 3, 4)).astype(np.float32)
    weights = generator.random(4)
    options = {"reduction": reduction, "absent": absent, "smooth": smooth}
    loss = float(dice_loss(labels, logits, class_weights=weights, **options))
    assert -1e-6 <= loss <= 1 + 1e-6  # float32 rounding of the ratio
    order = np.array(order)  # new class k is old class order[k]
    permuted = np.where(labels == 255, 255, np.argsort(order)[np.where(labels == 255, 0, labels)])
    assert float(dice_loss(permuted, logits[..., order], class_weights=weights[order], **options)) == pytest.approx(
        loss, rel=1e-5, abs=1e-6
    )


@pytest.mark.parametrize("reduction", ["batch", "image"])
@pytest.mark.parametrize("absent", ["skip", "count"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_a_perfect_prediction_scores_0_whatever_is_absent(batch, reduction, absent, smooth):
    options = {"reduction": reduction, "absent": absent, "smooth": smooth, "class_weights": WEIGHTS}
    if (absent, smooth) == ("count", 0.0):
        return  # an absent class then scores 0 / 0, or 0 for the last trace of softmax: count needs smoothing
    for labels in (batch[0], np.where(batch[0] == 255, 255, 1)):
        assert float(dice_loss(labels, perfect(labels), **options)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("reduction", ["batch", "image"])
def test_an_entirely_wrong_prediction_scores_1(reduction):
    labels = np.zeros((2, 4, 4), np.uint8)
    found = dice_loss(labels, perfect(labels + 1), smooth=0.0, reduction=reduction)
    assert float(found) == pytest.approx(1, abs=1e-6)


def test_absent_classes_count_only_when_asked():
    # All of class 0, perfectly predicted but for p = 1/2 on class 1 in one of four pixels:
    # D_0 = (2 * 3.5 + 1) / (3.5 + 4 + 1), D_1 = (0 + 1) / (0.5 + 0 + 1), D_2 = 1.
    labels = np.zeros((1, 2, 2), np.uint8)
    logits = perfect(labels, 3)
    logits[0, 0, 0] = [100, 100, -100]
    d0, d1 = 8 / 8.5, 1 / 1.5
    assert float(dice_loss(labels, logits)) == pytest.approx(1 - d0, rel=1e-5)
    assert float(dice_loss(labels, logits, absent="count")) == pytest.approx((2 - d0 - d1) / 3, rel=1e-5)


def test_only_ratios_of_weights_matter(batch):
    once, thrice = (float(dice_loss(*batch, class_weights=np.array(WEIGHTS) * factor)) for factor in (1, 3))
    assert once == pytest.approx(thrice, rel=1e-6)
    equal = float(dice_loss(*batch, class_weights=[2.0] * 4))
    assert equal == pytest.approx(float(dice_loss(*batch)), rel=1e-6)


@pytest.mark.parametrize("reduction", ["batch", "image"])
@pytest.mark.parametrize("void", [255, 3, -7, 2])  # 2: a class index as void
def test_logits_at_void_change_nothing(batch, value_and_gradient, reduction, void):
    labels = batch[0].astype(np.int32)
    labels[labels == 2] = 0
    labels[batch[0] == 255] = void
    is_void = labels == void
    changed = batch[1].copy()
    changed[is_void] = 1e4 * np.array([1, -1, 1, -1])

    def loss(y, z):
        return dice_loss(y, z, ignore_index=void, reduction=reduction)

    value, gradient = value_and_gradient(loss, labels, batch[1])
    changed_value, changed_gradient = value_and_gradient(loss, labels, changed)
    assert changed_value == value and (gradient[is_void] == 0).all()
    np.testing.assert_array_equal(changed_gradient, gradient)


@pytest.mark.parametrize("reduction", ["batch", "image"])
@pytest.mark.parametrize("absent", ["skip", "count"])
def test_an_image_of_void_alone_changes_nothing(batch, reduction, absent):
    labels = np.concatenate([batch[0], np.full((1, 3, 5), 255, np.uint8)])
    logits = np.concatenate([batch[1], batch[1][:1]])
    options = {"reduction": reduction, "absent": absent}
    assert float(dice_loss(labels, logits, **options)) == pytest.approx(float(dice_loss(*batch, **options)), rel=1e-6)


@pytest.mark.parametrize("reduction", ["batch", "image"])
@pytest.mark.parametrize("absent", ["skip", "count"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("jit", [False, True])
def test_no_valid_pixel_gives_zero(value_and_gradient, reduction, absent, smooth, jit):
    labels, logits = np.full((2, 3, 3), 255, np.uint8), np.full((2, 3, 3, 4), 1e4, np.float32)
    value, gradient = value_and_gradient(
        lambda y, z: dice_loss(y, z, reduction=reduction, absent=absent, smooth=smooth), labels, logits, jit=jit
    )
    assert value == 0 and (gradient == 0).all()


@pytest.mark.parametrize("reduction", ["batch", "image"])
def test_only_classes_of_weight_zero_give_zero(value_and_gradient, reduction):
    labels, logits = np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2, 2), np.float32)
    value, gradient = value_and_gradient(
        lambda y, z: dice_loss(y, z, class_weights=[0.0, 1.0], reduction=reduction), labels, logits
    )
    assert value == 0 and (gradient == 0).all()


@pytest.mark.parametrize("reduction", ["batch", "image"])
def test_an_empty_batch_gives_zero(reduction):
    logits = np.zeros((0, 4, 4, 3), np.float32)
    assert float(dice_loss(np.zeros((0, 4, 4), np.uint8), logits, reduction=reduction)) == 0


@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("absent", ["skip", "count"])
def test_extreme_logits_are_finite(value_and_gradient, smooth, absent):
    labels = np.array([[[0, 1]]], np.uint8)
    logits = np.array([[[[1e4, -1e4, -1e4], [1e4, -1e4, -1e4]]]], np.float32)  # class 2: no label, no softmax mass
    value, gradient = value_and_gradient(lambda y, z: dice_loss(y, z, smooth=smooth, absent=absent), labels, logits)
    assert 0 <= value <= 1 and np.isfinite(gradient).all()


def test_half_precision_logits_are_summed_in_float32(value_and_gradient):
    # bfloat16 stops counting at 256: 4096 equal pixels are summed right only in float32.
    labels, logits = np.zeros((1, 64, 64), np.uint8), np.zeros((1, 64, 64, 2), np.float32)
    value, gradient = value_and_gradient(lambda y, z: dice_loss(y, z, smooth=0.0), labels, logits, dtype="bfloat16")
    assert value == pytest.approx(1 - 2 * 2048 / (2048 + 4096), rel=1e-5) and (gradient != 0).all()


def test_a_label_that_is_no_class_makes_the_loss_nan(batch):
    assert np.isnan(float(dice_loss(np.where(batch[0] == 3, 4, batch[0]), batch[1])))


def test_weights_are_a_tensor_too(batch):
    found = dice_loss(*batch, class_weights=tf.Variable(WEIGHTS))
    assert float(found) == pytest.approx(float(dice_loss(*batch, class_weights=WEIGHTS)), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smooth": -1.0}, "smooth: got -1.0, allowed: 0 or more, finite"),
        ({"reduction": "mean"}, "reduction: got 'mean', allowed: batch, image"),
        ({"absent": "ignore"}, "absent: got 'ignore', allowed: skip, count"),
    ],
)
def test_messages(batch, options, message):
    for make in (lambda: dice_loss(*batch, **options), lambda: Dice(**options)):
        with pytest.raises(ValueError, match=message):
            make()


def test_class_weights_of_the_wrong_length_are_refused(batch):
    with pytest.raises(ValueError, match=r"class_weights: got shape \(1,\), allowed: \(4,\)"):
        dice_loss(*batch, class_weights=[1.0])


def test_pixel_weights_are_refused(batch):
    with pytest.raises(ValueError, match=r"loss 'dice': got pixel weights \(sample_weight\), allowed: none"):
        Dice()(*batch, sample_weight=np.ones(batch[0].shape))
