import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from seg.metrics.posterior import Rule
from seg.metrics.ranking import ranked_classes


def rule(weights=(1, 1, 1), temperature=1.0, biases=(0, 0, 0)):
    return Rule("a rule", np.array(weights, float), temperature, np.array(biases, float))


def some_logits(number=500, classes=3, seed=0):
    return (np.random.default_rng(seed).normal(size=(number, classes)) * 3).astype(np.float32)


def test_by_hand():
    # q = (1/2, 1/4, 1/4) with weights (1, 1, 4): divided by them (1/2, 1/4, 1/16), normalised (8, 4, 1) / 13.
    logits = np.log([[0.5, 0.25, 0.25]]).astype(np.float32)
    decisions = rule((1, 1, 4)).decide(logits)
    assert decisions.classes.tolist() == [0] and decisions.classes.dtype == np.uint8
    assert decisions.confidences[0] == pytest.approx(8 / 13, rel=1e-6)
    labels = np.array([2])
    assert rule((1, 1, 4)).log_probability(logits, labels, decisions)[0] == pytest.approx(math.log(1 / 13), rel=1e-5)
    # T = 1/2 squares the odds of 2 : 1 : 1: (4, 1, 1) / 6
    assert rule(temperature=0.5).decide(logits).confidences[0] == pytest.approx(4 / 6, rel=1e-6)
    # a bias of log 3 for class 1: 1/4 * 3 > 1/2, and the confidence is still its probability
    biased = rule(biases=(0, math.log(3), 0)).decide(logits)
    assert (biased.classes[0], biased.confidences[0]) == (1, pytest.approx(0.25, rel=1e-6))


def test_scipys_softmax_agrees():
    logits, labels = some_logits(), np.random.default_rng(1).integers(0, 3, 500)
    found = rule((0.5, 2, 1), 1.7, (0.3, -0.2, 0))
    adjusted = (logits - np.log([0.5, 2, 1])) / 1.7
    decisions = found.decide(logits)
    classes = (adjusted + [0.3, -0.2, 0]).argmax(axis=1)
    np.testing.assert_array_equal(decisions.classes, classes)
    expected = softmax(adjusted, axis=1)[np.arange(500), classes]
    np.testing.assert_allclose(decisions.confidences, expected, rtol=2e-5)  # float32 against float64
    expected = log_softmax(adjusted, axis=1)[np.arange(500), labels]
    np.testing.assert_allclose(found.log_probability(logits, labels, decisions), expected, rtol=1e-4, atol=2e-6)


def test_the_logits_stay_as_they_are():
    for number in (1, 7):  # the transpose of one row is contiguous: a view would be written to
        logits = some_logits(number)
        before = logits.copy()
        rule((1, 2, 3), 2.0, (0, 1, 0)).decide(logits)
        np.testing.assert_array_equal(logits, before)


@settings(max_examples=30)
@given(st.floats(0.1, 50), st.integers(0, 5))
def test_equal_weights_and_temperature_one_change_nothing(weight, seed):
    logits = some_logits(seed=seed)
    plain, equal = Rule.as_trained(3).decide(logits), rule((weight,) * 3).decide(logits)
    np.testing.assert_array_equal(plain.classes, logits.argmax(axis=1))
    np.testing.assert_array_equal(equal.classes, plain.classes)
    np.testing.assert_allclose(equal.confidences, plain.confidences, rtol=1e-5)
    np.testing.assert_array_equal(rule(temperature=1.0).decide(logits).confidences, plain.confidences)


@settings(max_examples=20)
@given(st.floats(0.06, 19))
def test_a_temperature_changes_no_class(temperature):
    logits = some_logits()
    np.testing.assert_array_equal(rule(temperature=temperature).decide(logits).classes, logits.argmax(axis=1))


def test_equal_logits_are_the_first_class_and_huge_ones_are_finite():
    assert rule().decide(np.zeros((2, 3), np.float32)).classes.tolist() == [0, 0]
    logits = np.array([[1e4, -1e4, 0]], np.float32)
    decisions = rule().decide(logits)
    assert decisions.confidences.tolist() == [1.0]
    assert rule().log_probability(logits, np.array([1]), decisions).tolist() == [-2e4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": (1, 0, 1)}, r"weights: got \[1.0, 0.0, 1.0\], allowed: finite, above 0"),
        ({"temperature": 0}, "temperature: got 0, allowed: finite, above 0"),
        ({"biases": (0, 0)}, "got 3 weights and 2 biases, allowed: one a class"),
    ],
)
def test_messages(arguments, message):
    with pytest.raises(ValueError, match=message):
        rule(**arguments)


@pytest.mark.parametrize("score", ["iou", "dice"])
def test_a_ranking_decides_on_the_probabilities_of_the_rule(score):
    logits = some_logits()
    ranked = Rule("ranked", np.array([0.5, 2, 1]), 1.7, np.zeros(3), score)
    probabilities = softmax((logits - np.log([0.5, 2, 1])) / 1.7, axis=1).astype(np.float32)
    decisions, labels = ranked.decide(logits), np.zeros(500, int)
    assert (decisions.classes == ranked_classes(np.ascontiguousarray(probabilities.T), score)).all()
    own = probabilities[np.arange(500), decisions.classes]
    np.testing.assert_allclose(decisions.confidences, own, rtol=2e-5)  # float32 against float64
    expected = rule((0.5, 2, 1), 1.7).log_probability(logits, labels, rule((0.5, 2, 1), 1.7).decide(logits))
    np.testing.assert_allclose(ranked.log_probability(logits, labels, decisions), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="got biases and the ranking"):
        Rule("both", np.ones(3), 1.0, np.array([0.0, 1, 0]), score)
