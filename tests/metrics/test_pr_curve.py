import keras
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from seg.metrics.pr_curve import precision_recall, probability_histogram


def histogram(labels, logits, classes, **options):
    return keras.ops.convert_to_numpy(probability_histogram(labels, logits, classes, **options))


def test_histogram_by_hand():
    # p of class 1 is 1/2, 3/4 and 1/4: with 5 thresholds (0, 1/4, ..., 1) bins 2, 3 and 1. The fourth pixel is void.
    odds = np.log([[1.0, 1.0], [1.0, 3.0], [3.0, 1.0], [1.0, 9.0]]).astype(np.float32)
    counts = histogram(np.array([[[1, 0, 1, 255]]]), odds[None, None] + [0, 1e-6], [1], num_thresholds=5)
    assert counts.tolist() == [[[0, 0, 0, 1, 0], [0, 1, 1, 0, 0]]]


def test_curve_by_hand():
    # Positives in bins 1 and 2, a negative in bin 3: at 1/4 all three are found, at 1/2 two, at 3/4 the wrong one.
    curve = precision_recall([[0, 0, 0, 1, 0], [0, 1, 1, 0, 0]])
    assert curve.true_positives.tolist() == [2, 2, 1, 0, 0]
    assert curve.false_positives.tolist() == [1, 1, 1, 1, 0]
    assert curve.false_negatives.tolist() == [0, 0, 1, 2, 2]
    assert curve.true_negatives.tolist() == [0, 0, 0, 0, 1]
    np.testing.assert_allclose(curve.precision, [2 / 3, 2 / 3, 1 / 2, 0, 1])
    np.testing.assert_allclose(curve.recall, [1, 1, 1 / 2, 0, 0])


@pytest.mark.parametrize("num_classes", [2, 5])
def test_scikit_learn_agrees_at_every_threshold(num_classes):
    random = np.random.default_rng(num_classes)
    labels = random.integers(0, num_classes, (2, 9, 7))
    labels[0, :2] = 255
    logits = random.normal(scale=2, size=(2, 9, 7, num_classes)).astype(np.float32)
    classes = [num_classes - 1, 0]
    p = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[labels != 255]
    counts = histogram(labels, logits, classes, num_thresholds=21)
    for row, index in enumerate(classes):
        curve, truth = precision_recall(counts[row]), labels[labels != 255] == index
        for step in range(21):
            said = np.floor(p[:, index] * 20) >= step
            negatives, positives = confusion_matrix(truth, said, labels=[False, True])
            assert negatives.tolist() == [curve.true_negatives[step], curve.false_positives[step]]
            assert positives.tolist() == [curve.false_negatives[step], curve.true_positives[step]]
            assert curve.precision[step] == pytest.approx(precision_score(truth, said, zero_division=1.0))
            assert curve.recall[step] == pytest.approx(recall_score(truth, said))


def test_histograms_of_parts_add_up():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (4, 5, 6))
    logits = random.normal(size=(4, 5, 6, 3)).astype(np.float32)
    parts = histogram(labels[:1], logits[:1], [2]) + histogram(labels[1:], logits[1:], [2])
    np.testing.assert_array_equal(parts, histogram(labels, logits, [2]))


def test_all_void_is_an_empty_histogram_and_a_curve_without_recall():
    counts = histogram(np.full((1, 2, 2), 255), np.zeros((1, 2, 2, 2), np.float32), [0, 1])
    assert counts.shape == (2, 2, 101)
    assert not counts.any()
    curve = precision_recall(counts[0])
    assert curve.precision.tolist() == [1] * 101
    assert curve.recall.tolist() == [0] * 101


def test_certain_pixels_are_in_the_last_bin_whatever_their_logits():
    counts = histogram(np.array([[[0]]]), np.array([[[[1e4, -1e4]]]], np.float32), [0, 1], num_thresholds=3)
    assert counts.tolist() == [[[0, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 0]]]
