from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import Lovasz, lovasz, lovasz_loss


def test_by_hand():
    # Class 1 of pixels labelled (1, 1, 0) with p_1 = (3/4, 1/4, 1/2): errors (1/4, 3/4, 1/2), sorted 3/4, 1/2, 1/4.
    # Wrong one by one, IoU falls from 1 to 1/2 (a miss), 1/3 (a false alarm), 0: 3/4 * 1/2 + 1/2 * 1/6 + 1/4 * 1/3.
    # Class 0 of the same, targets (0, 0, 1): the errors are the same, IoU falls to 1/2 (a false alarm), 0, 0.
    labels = np.array([[[1, 1, 0]]], np.uint8)
    p = np.array([0.75, 0.25, 0.5])
    logits = np.log(np.stack([1 - p, p], axis=-1))[None, None].astype(np.float32)
    l1, l0 = 3 / 8 + 1 / 12 + 1 / 12, 3 / 8 + 1 / 4
    assert float(lovasz_loss(labels, logits)) == pytest.approx((l0 + l1) / 2, rel=1e-5)
    assert float(lovasz_loss(labels, logits, class_weights=[1.0, 3.0])) == pytest.approx((l0 + 3 * l1) / 4, rel=1e-5)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["batch", "image"]))
def test_of_hard_predictions_it_is_one_minus_iou(seed, reduction):
    generator = np.random.default_rng(seed)
    labels, predicted = generator.integers(0, 3, (2, 2, 3, 4))
    labels[generator.random(labels.shape) < 0.2] = 255
    logits = np.where(np.eye(3)[predicted] == 1, 100, -100).astype(np.float32)
    groups = [(labels, predicted)] if reduction == "batch" else list(zip(labels, predicted, strict=True))
    means = []
    for y, found in groups:
        present = [c for c in range(3) if (y == c).any()]
        ious = [((y == c) & (found == c)).sum() / ((y == c) | (found == c) & (y != 255)).sum() for c in present]
        means.append(1 - np.mean(ious))
    assert float(lovasz_loss(labels, logits, reduction=reduction)) == pytest.approx(np.mean(means), abs=1e-6)


def test_a_counted_absent_class_costs_its_largest_error():
    labels = np.zeros((1, 2, 2), np.uint8)
    p = np.array([[0.1, 0.2], [0.3, 0.0]])
    logits = np.log(np.stack([1 - p, p + 1e-9], axis=-1))[None].astype(np.float32)
    # Class 0 misses one after the other: 1/4 of each error. Class 1 has no target: the first false alarm is all.
    found = lovasz_loss(labels, logits, absent="count")
    assert float(found) == pytest.approx((0.6 / 4 + 0.3) / 2, rel=1e-5)
    assert float(lovasz_loss(labels, logits)) == pytest.approx(0.6 / 4, rel=1e-5)


@pytest.mark.parametrize("reduction", ["batch", "image"])
def test_ties_have_one_value_whatever_their_order(value_and_gradient, reduction):
    # Equal logits: each class has two errors only, and any order within them is right.
    labels = np.random.default_rng(0).integers(0, 3, (2, 4, 4))
    value, gradient = value_and_gradient(
        lambda y, z: lovasz_loss(y, z, reduction=reduction), labels, np.zeros((2, 4, 4, 3), np.float32)
    )
    flipped = lovasz_loss(labels[:, ::-1], np.zeros((2, 4, 4, 3), np.float32), reduction=reduction)
    assert value == pytest.approx(float(flipped), rel=1e-6) and np.isfinite(gradient).all()


@pytest.mark.tensorflow
def test_the_integer_sort_orders_as_argsort_does(monkeypatch):
    generator = np.random.default_rng(0)
    errors = generator.choice([0, 1e-37, 1e-7, 0.25, 0.5, 1 - 2**-24, 1], (3, 50)).astype(np.float32)
    errors[:, :5] = -1  # void
    targets = generator.integers(0, 2, (3, 50)).astype(np.int32)
    order, sorted_targets = (result.numpy() for result in lovasz._sort(tf.constant(errors), tf.constant(targets)))
    np.testing.assert_array_equal(order, np.argsort(errors, axis=-1, kind="stable"))
    np.testing.assert_array_equal(sorted_targets, np.take_along_axis(targets, order, -1))
    # What the other backends take, on TensorFlow:
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    plain_order, plain_targets = (result.numpy() for result in lovasz._sort(tf.constant(errors), tf.constant(targets)))
    np.testing.assert_array_equal(np.take_along_axis(errors, plain_order, -1), np.sort(errors, axis=-1))
    np.testing.assert_array_equal(plain_targets, np.take_along_axis(targets, plain_order, -1))


def test_half_a_million_pixels_are_counted_exactly():
    # 2**19 pixels, half of them class 1, all errors 1/2: any order gives 1/2 (the slopes add up to 1).
    labels = np.indices((2, 512, 512))[2] % 2
    assert float(lovasz_loss(labels, np.zeros((2, 512, 512, 2), np.float32))) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "mean"}, "reduction: got 'mean', allowed: batch, image"),
        ({"absent": "ignore"}, "absent: got 'ignore', allowed: skip, count"),
    ],
)
def test_messages(batch, options, message):
    for make in (lambda: lovasz_loss(*batch, **options), lambda: Lovasz(**options)):
        with pytest.raises(ValueError, match=message):
            make()


def test_pixel_weights_are_refused(batch):
    with pytest.raises(ValueError, match=r"loss 'lovasz': got pixel weights \(sample_weight\), allowed: none"):
        Lovasz()(*batch, sample_weight=np.ones(batch[0].shape))
