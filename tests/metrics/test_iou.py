from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from seg.errors import DataError
from seg.metrics.iou import confusion_matrix, scores


def test_by_hand():
    # labels  0 0   predictions  0 1   one void pixel (predicted 0), so:
    #         1 v                1 0   label 0: one right, one taken for 1; label 1: one right
    matrix = confusion_matrix(np.array([[0, 0], [1, 255]]), np.array([[0, 1], [1, 0]]), 2)
    assert matrix.tolist() == [[1, 1], [0, 1]] and matrix.dtype == np.int64
    found = scores(matrix)
    assert found.iou.tolist() == [1 / 2, 1 / 2]  # 0: TP 1, FN 1; 1: TP 1, FP 1
    assert found.dice.tolist() == [2 / 3, 2 / 3]
    assert found.precision.tolist() == [1.0, 1 / 2]
    assert found.recall.tolist() == [1 / 2, 1.0]
    assert found.support.tolist() == [2, 1] and found.support.dtype == np.int64
    assert (found.mean_iou, found.num_averaged) == (1 / 2, 2)
    assert found.pixel_accuracy == 2 / 3


@settings(max_examples=50)
@given(arrays(np.uint8, (3, 5), elements=st.integers(0, 3)), arrays(np.int64, (3, 5), elements=st.integers(0, 3)))
def test_sklearn_agrees(labels, predictions):
    matrix = confusion_matrix(labels, predictions, 4)
    flat = labels.ravel(), predictions.ravel()
    np.testing.assert_array_equal(matrix, sklearn_confusion_matrix(*flat, labels=range(4)))
    found = scores(matrix)
    present = np.unique(flat)
    iou = jaccard_score(*flat, labels=present, average=None)  # asked for the present ones: it knows no NaN
    np.testing.assert_allclose(found.iou[present], iou, rtol=1e-12)
    assert found.num_averaged == len(present) and found.mean_iou == pytest.approx(iou.mean())
    oracles = {"dice": f1_score, "precision": precision_score, "recall": recall_score}
    for key, oracle in oracles.items():
        expected = oracle(*flat, labels=range(4), average=None, zero_division=np.nan)
        np.testing.assert_allclose(getattr(found, key), expected, rtol=1e-12)
    assert found.pixel_accuracy == pytest.approx(accuracy_score(*flat))


@settings(max_examples=25)
@given(arrays(np.int64, (4, 4), elements=st.integers(0, 9)), st.permutations(range(4)))
def test_permuting_the_classes_permutes_the_scores(matrix, order):
    before, after = scores(matrix), scores(matrix[np.ix_(order, order)])
    for key in ("iou", "dice", "precision", "recall", "support"):
        np.testing.assert_array_equal(getattr(after, key), getattr(before, key)[order])
    assert after.mean_iou == pytest.approx(before.mean_iou, nan_ok=True)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(before.iou, before.dice / (2 - before.dice), rtol=1e-12)


def test_matrices_of_parts_add_up():
    generator = np.random.default_rng(0)
    labels, predictions = generator.choice([0, 1, 2, 255], (6, 7, 5)), generator.integers(0, 3, (6, 7, 5))
    parts = sum(confusion_matrix(labels[k], predictions[k], 3) for k in range(6))
    np.testing.assert_array_equal(parts, confusion_matrix(labels, predictions, 3))


def test_absent_classes_are_nan_and_leave_the_mean():
    # class 1: absent from both; class 2: predicted once, never labelled; class 3: labelled once, never predicted
    found = scores(np.array([[3, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
    np.testing.assert_array_equal(found.iou, [3 / 5, np.nan, 0, 0])
    np.testing.assert_array_equal(found.precision, [3 / 4, np.nan, 0, np.nan])
    np.testing.assert_array_equal(found.recall, [3 / 4, np.nan, np.nan, 0])
    assert (found.mean_iou, found.num_averaged) == (pytest.approx(1 / 5), 3)


def test_nothing_but_void_is_nan_without_a_warning():
    found = scores(confusion_matrix(np.full((2, 2), 255), np.zeros((2, 2), int), 3))
    assert np.isnan(found.iou).all() and np.isnan(found.mean_iou) and np.isnan(found.pixel_accuracy)
    assert found.num_averaged == 0 and found.support.sum() == 0


def test_counts_beyond_float_precision_stay_exact():
    matrix = np.array([[2**60 + 1, 0], [0, 1]])
    assert scores(matrix).support.tolist() == [2**60 + 1, 1]


def test_predictions_at_void_may_be_anything():
    labels, predictions = np.array([0, 255], np.uint8), np.array([0, 77], np.uint8)
    assert confusion_matrix(labels, predictions, 2).tolist() == [[1, 0], [0, 0]]


def test_unknown_labels_are_refused_with_their_pixel_counts():
    labels = np.array([[0, 7], [7, 3]])
    with pytest.raises(DataError, match="got value 3 at 1 pixels, value 7 at 2 pixels, allowed: 0 to 2 and 255"):
        confusion_matrix(labels, np.zeros((2, 2), int), 3)
    with pytest.raises(DataError, match="labels: got value -1 at 1 pixels"):
        confusion_matrix(np.array([-1]), np.array([0]), 3)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (np.zeros(3, int), np.zeros(2, int), r"labels of shape \(3,\), predictions of \(2,\), allowed: the same"),
        (np.zeros(2), np.zeros(2, int), "labels: got dtype float64, allowed: any integer dtype"),
        (np.zeros(2, int), np.zeros(2), "predictions: got dtype float64, allowed: any integer dtype"),
        (np.zeros(2, int), np.array([0, 3]), "predictions: got value 3 at 1 pixels, allowed: 0 to 2"),
    ],
)
def test_messages_of_confusion_matrix(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(labels, predictions, 3)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3), int), r"matrix: got shape \(2, 3\) of int64, allowed: \(C, C\) or \(K, 2, 2\) integers"),
        (np.zeros((2, 2)), r"matrix: got shape \(2, 2\) of float64, allowed: \(C, C\) or \(K, 2, 2\) integers"),
        (np.array([[1, -1], [0, 0]]), "matrix: got a negative count, allowed: 0 or more"),
    ],
)
def test_messages_of_scores(matrix, message):
    with pytest.raises(ValueError, match=message):
        scores(matrix)


def test_importing_it_imports_no_tensorflow():
    code = "import sys, seg.metrics.iou; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
