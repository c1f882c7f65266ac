import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.losses import (
    CrossEntropy,
    Dice,
    Focal,
    GeneralisedDice,
    Lovasz,
    TopKCrossEntropy,
    Tversky,
)
from seg.losses.combined import Combined
from seg.training.class_shares import class_shares, has_class_shares

LABELS = np.array([[[0, 0, 1, 255], [2, 1, 0, 0]], [[0, 0, 0, 0], [255, 0, 1, 1]]], np.uint8)
LOGITS = np.random.default_rng(0).normal(scale=2, size=(2, 2, 4, 4)).astype(np.float32)  # class 3 is absent
WEIGHTS = [0.5, 2.0, 7.0, 1.0]


def shares(loss, *online, labels=LABELS, logits=LOGITS):
    return [part.numpy() for part in class_shares(loss, labels, logits, *online)]


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_weighted_cross_entropy_by_a_numpy_loop():
    pixels, losses, gradients = shares(CrossEntropy(class_weights=WEIGHTS))
    p, valid = softmax(LOGITS), np.argwhere(LABELS != 255)
    expected = np.zeros((3, 4))
    for place in map(tuple, valid):
        label = LABELS[place]
        # dL/dz = w (p - t) / |V|, whose length is what the pixel adds.
        push = WEIGHTS[label] * (p[place] - np.eye(4)[label]) / len(valid)
        expected[:, label] += 1, -WEIGHTS[label] * np.log(p[place][label]) / len(valid), np.linalg.norm(push)
    assert pixels.tolist() == expected[0].tolist() == [9, 4, 1, 0]
    np.testing.assert_allclose(losses, expected[1], rtol=1e-5)
    np.testing.assert_allclose(gradients, expected[2], rtol=1e-5)


TERMS = [
    CrossEntropy(class_weights=WEIGHTS, normalize="weights", label_smoothing=0.1),
    CrossEntropy(normalize="all"),
    Focal(class_weights=WEIGHTS),
    TopKCrossEntropy(fraction=0.3, class_weights=WEIGHTS),
    Dice(class_weights=WEIGHTS),
    Tversky(reduction="image"),
    GeneralisedDice(),
    Lovasz(class_weights=WEIGHTS, absent="count"),
]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_the_parts_of_any_loss_sum_to_it(term):
    _, losses, gradients = shares(Combined([(0.25, term), (2.0, CrossEntropy(name="second"))]))
    expected = 0.25 * float(term(LABELS, LOGITS)) + 2 * float(CrossEntropy()(LABELS, LOGITS))
    assert losses.sum() == pytest.approx(expected, rel=1e-5)  # float32
    assert gradients[3] == 0  # no pixel is labelled so


def test_the_gradient_is_of_the_whole_loss():
    loss = Combined([(1.0, CrossEntropy()), (0.5, Dice())])
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(LABELS, logits)
    lengths = np.linalg.norm(tape.gradient(value, logits).numpy(), axis=-1)
    expected = [lengths[index == LABELS].sum() for index in range(4)]
    np.testing.assert_allclose(shares(loss)[2], expected, rtol=1e-5)


def test_weights_of_the_batches_stand_in_for_the_terms_own():
    online = tf.constant(WEIGHTS)
    for ours, theirs in zip(
        shares(CrossEntropy(class_weights=[1.0] * 4), online), shares(CrossEntropy(class_weights=WEIGHTS)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    unweighted = shares(CrossEntropy())
    np.testing.assert_array_equal(shares(CrossEntropy(), online)[1], unweighted[1])


def test_weights_of_inverse_frequency_make_equal_shares_of_equal_losses():
    # Equal logits: every pixel loses log C, so that w_c = 1 / n_c shares the loss equally among the classes.
    parts = shares(CrossEntropy(class_weights=[1 / 9, 1 / 4, 1.0, 0.0]), logits=np.zeros_like(LOGITS))[1]
    np.testing.assert_allclose(parts / parts.sum(), [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6)


def test_all_void_moves_nothing():
    for parts in shares(Combined([(1.0, CrossEntropy()), (1.0, Dice())]), labels=np.full_like(LABELS, 255)):
        assert parts.tolist() == [0, 0, 0, 0]


def test_compiled_is_the_same():
    loss = CrossEntropy(class_weights=WEIGHTS)
    compiled = tf.function(lambda labels, logits: class_shares(loss, labels, logits), jit_compile=True)
    for ours, theirs in zip(compiled(LABELS, LOGITS), shares(loss), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)


def test_only_losses_of_this_project_have_shares():
    assert has_class_shares(Dice())
    assert not has_class_shares(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert not has_class_shares("mse")
