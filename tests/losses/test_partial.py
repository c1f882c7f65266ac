"""Labels that stand for sets of classes: against NumPy loops, by hand, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from seg.losses.cross_entropy import CrossEntropy, cross_entropy
from seg.losses.dice import Dice, dice_loss
from seg.losses.partial import possible_classes

SETS = ((4, (0, 2)), (5, (0, 1, 3)))  # 4: only classes 1 and 3 were annotated, 5: only class 2
VOID = 255
WEIGHTS = np.array([0.2, 1.0, 3.0, 0.5], np.float32)
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 5, 6, 4)).astype(np.float32) * 3
LABELS = RNG.choice([0, 1, 2, 3, 4, 5, VOID], size=(2, 5, 6)).astype(np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def classes_of(label: int) -> tuple[int, ...]:
    return dict(SETS).get(label, (label,))


def loop_cross_entropy(weights: np.ndarray | None, normalize: str) -> float:
    total = divided_by = 0.0
    for label, p in zip(LABELS.ravel(), softmax(LOGITS).reshape(-1, 4), strict=True):
        if label == VOID:
            continue
        weight = 1.0 if weights is None else min(weights[index] for index in classes_of(label))
        total -= weight * np.log(sum(p[index] for index in classes_of(label)))
        divided_by += weight if normalize == "weights" else 1
    return total / divided_by


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("normalize", ["valid", "weights"])
def test_cross_entropy_is_that_of_a_loop(weights, normalize):
    loss = cross_entropy(LABELS, LOGITS, class_weights=weights, normalize=normalize, sets=SETS)
    assert float(loss) == pytest.approx(loop_cross_entropy(weights, normalize), rel=1e-5)  # float32


def loop_dice(smooth: float) -> float:
    """Each class over the pixels that are known to be, or not to be, of it."""
    p, scores = softmax(LOGITS).reshape(-1, 4), []
    for index in range(4):
        overlap = predicted = labelled = 0.0
        for label, row in zip(LABELS.ravel(), p, strict=True):
            if label == VOID or (label in dict(SETS) and index in classes_of(label)):
                continue
            predicted += row[index]
            if label == index:
                overlap += row[index]
                labelled += 1
        scores.append((2 * overlap + smooth) / (predicted + labelled + smooth))
    return 1 - float(np.mean(scores))


def test_dice_is_that_of_a_loop():
    assert float(dice_loss(LABELS, LOGITS, sets=SETS)) == pytest.approx(loop_dice(1.0), rel=1e-5)  # float32
    parts = dice_loss(LABELS, LOGITS, sets=SETS, per_class=True)
    assert float(ops.sum(parts)) == pytest.approx(loop_dice(1.0), rel=1e-5)


def test_by_hand():
    """Equal logits of four classes: a set of two has probability 1/2, one of three 3/4."""
    logits = np.zeros((1, 1, 2, 4), np.float32)
    expected = -(np.log(1 / 2) + np.log(3 / 4)) / 2
    assert float(cross_entropy([[[4, 5]]], logits, sets=SETS)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss])
def test_without_such_labels_it_is_the_loss_of_classes(loss):
    labels = np.where(np.isin(LABELS, (4, 5)), 1, LABELS)
    plain = loss(labels, LOGITS, class_weights=WEIGHTS)
    assert float(loss(labels, LOGITS, class_weights=WEIGHTS, sets=SETS)) == pytest.approx(float(plain), rel=1e-5)


def test_a_certain_prediction_within_the_set_costs_nothing():
    logits = np.full((1, 1, 1, 4), -80, np.float32)
    logits[..., 2] = 80
    assert float(cross_entropy([[[4]]], logits, sets=SETS)) == 0
    assert np.isfinite(float(cross_entropy([[[5]]], logits, sets=SETS)))  # 160, not infinite
    assert float(cross_entropy([[[5]]], logits, sets=SETS)) == pytest.approx(160 - np.log(3), rel=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("loss", [cross_entropy, dice_loss])
def test_the_gradient_moves_no_probability_within_a_set_of_equals(loss):
    import tensorflow as tf

    logits = tf.Variable(np.zeros((1, 1, 1, 4), np.float32))
    with tf.GradientTape() as tape:
        value = loss(np.array([[[4]]]), logits, sets=SETS, **({"absent": "count"} if loss is dice_loss else {}))
    gradient = tape.gradient(value, logits).numpy()[0, 0, 0]
    assert gradient[0] == gradient[2] < 0 < gradient[1] == gradient[3]
    with tf.GradientTape() as tape:
        value = loss(np.array([[[VOID]]]), logits, sets=SETS)
    assert not np.any(tape.gradient(value, logits).numpy())


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss])
def test_an_unknown_label_is_nan(loss):
    assert np.isnan(float(loss(np.full((1, 1, 1), 6), LOGITS[:1, :1, :1], sets=SETS)))
    assert np.isnan(float(loss(np.full((1, 1, 1), 300), LOGITS[:1, :1, :1], sets=SETS)))


@pytest.mark.parametrize("cls", [CrossEntropy, Dice])
def test_the_classes_keep_their_sets(cls):
    loss = cls(sets=SETS)
    stored = keras.saving.serialize_keras_object(loss.get_config())
    again = cls.from_config(keras.saving.deserialize_keras_object(stored))
    assert float(again(LABELS, LOGITS)) == float(loss(LABELS, LOGITS))


def test_what_is_refused():
    with pytest.raises(ValueError, match="label_smoothing: got 0.1, allowed with sets: 0"):
        cross_entropy(LABELS, LOGITS, sets=SETS, label_smoothing=0.1)
    for sets in (((3, (0,)),), ((4, ()),), ((4, (0, 4)),), ((256, (0,)),)):
        with pytest.raises(ValueError, match="sets: got label .*, allowed: a label of 4 to 255"):
            possible_classes(sets, 4)
