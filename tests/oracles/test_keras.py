"""Keras's own losses and metrics: focal loss agrees; what is wrong or another definition is pinned."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import CrossEntropy, cross_entropy, dice_loss, focal_loss

seeds = st.integers(0, 2**32 - 1)


def one_hot(labels, num_classes):
    """(N, H, W, C) float32, a row of zeros at void."""
    return np.eye(256, num_classes, dtype=np.float32)[labels]


def unclipped(logits):
    """Logits whose probabilities stay clear of Keras's clipping at 1e-7, where it has no gradient."""
    return np.clip(logits, -4, 4)


@settings(max_examples=25)
@given(seeds, st.sampled_from([0.0, 1.0, 2.0, 5.0]))
def test_categorical_focal_crossentropy(draw, ours, assert_agree, seed, gamma):
    """A list alpha is the class weights. Void, a row of zeros, stays in Keras's mean: `normalize='all'`."""
    labels, logits, weights = draw(seed)
    logits = unclipped(logits)
    keras_loss = keras.losses.CategoricalFocalCrossentropy(
        alpha=weights.tolist(), gamma=gamma, from_logits=True, dtype="float64"
    )
    found = ours(lambda y, z: focal_loss(y, z, gamma=gamma, class_weights=weights, normalize="all"), labels, logits)
    expected = ours(lambda y, z: keras_loss(one_hot(y, logits.shape[-1]), z), labels, logits.astype(np.float64))
    assert_agree(found, expected)


@settings(max_examples=25)
@given(seeds)
def test_sparse_categorical_crossentropy(draw, ours, assert_agree, seed):
    labels, logits, _ = draw(seed)
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255, dtype="float64")
    expected = ours(lambda y, z: keras_loss(y.astype(np.int32), z), labels, logits.astype(np.float64))
    assert_agree(ours(cross_entropy, labels, logits), expected)


def test_keras_clips_probabilities_and_loses_the_gradient_of_hopeless_pixels(ours):
    labels, logits = np.zeros((1, 1, 1), np.uint8), np.array([[[[-20.0, 20.0]]]], np.float32)
    keras_loss = keras.losses.CategoricalFocalCrossentropy(alpha=[1.0, 1.0], gamma=0.0, from_logits=True)
    value, gradient = ours(lambda y, z: keras_loss(one_hot(y, 2), z), labels, logits)
    assert value == pytest.approx(-np.log(1e-7), rel=1e-3) and not gradient.any()
    value, gradient = ours(lambda y, z: focal_loss(y, z, gamma=0.0), labels, logits)
    assert value == pytest.approx(40.0, rel=1e-6)
    np.testing.assert_allclose(gradient, [[[[-1.0, 1.0]]]], rtol=1e-6)


def test_keras_tversky_swaps_alpha_and_beta():
    """Salehi 2017: alpha weighs false positives. One object pixel of four, all predicted: 3 false positives."""
    labels, prediction = np.array([[[[1.0], [0.0], [0.0], [0.0]]]], np.float32), np.ones((1, 1, 4, 1), np.float32)
    loss = float(keras.losses.Tversky(alpha=0.9, beta=0.1)(labels, prediction))
    assert loss == pytest.approx(1 - 1 / (1 + 0.1 * 3), rel=1e-5)  # by the paper: 1 - 1 / (1 + 0.9 * 3)


def test_keras_dice_counts_absent_classes_as_wrong():
    """A perfect prediction of one class, two others absent: 2/3 there, 0 here."""
    labels = np.zeros((1, 2, 2), np.uint8)
    perfect = one_hot(labels, 3)
    assert float(keras.losses.Dice(axis=(0, 1, 2))(perfect, perfect)) == pytest.approx(2 / 3, rel=1e-5)
    assert float(dice_loss(labels, 100 * perfect)) == 0


def test_keras_mean_iou_drops_unknown_labels_and_truncates_weights():
    metric = keras.metrics.MeanIoU(num_classes=2)
    metric.update_state([0, 1, 1], [0, 1, 1], sample_weight=[0.9, 0.9, 0.9])
    assert float(np.sum(metric.total_cm)) == 0  # 0.9 became 0: nothing was counted


def test_fit_s_class_weight_cannot_weigh_pixels():
    """Keras takes `class_weight` by arg max over the last axis of (N, H, W) labels, which is W: one weight a row."""
    labels, images = np.array([[[0, 1], [1, 1]]], np.uint8), np.zeros((1, 2, 2, 1), np.float32)
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Conv2D(2, 1)])
    model.compile("sgd", loss=CrossEntropy(), jit_compile=False)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(1)
    with pytest.raises(ValueError, match=r"pixel_weights: got shape \(None, 2\), allowed: \(None, 2, 2\)"):
        model.fit(batches, class_weight={0: 1.0, 1: 3.0}, shuffle=False, verbose=0)
