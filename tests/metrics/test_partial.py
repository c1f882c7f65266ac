"""The confusion matrix where labels may stand for sets of classes."""

import numpy as np
import pytest

from seg.metrics.confusion import ConfusionMatrix
from seg.metrics.iou import confusion_matrix, false_alarms, matrix_sums, scores

SETS = ((3, (0, 2)),)  # only class 1 was annotated
NAMES = ["background", "liver", "spleen"]


def one_hot(predictions: np.ndarray) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[predictions]


def test_by_hand():
    """Of the four pixels of the set the one that is predicted as the annotated class is its false alarm; the others
    count nowhere."""
    labels = np.array([[[0, 1, 1, 2, 3, 3, 3, 3, 255]]])
    predictions = np.array([[[0, 1, 0, 2, 1, 0, 2, 2, 1]]])
    metric = ConfusionMatrix(NAMES, sets=SETS)
    metric.update_state(labels, one_hot(predictions))
    matrix = np.asarray(metric.matrix)
    assert matrix.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]]
    result = {key: float(value) for key, value in metric.result().items()}
    assert (result["iou/background"], result["iou/spleen"]) == (0.5, 1)
    assert result["iou/liver"] == pytest.approx(1 / 3)  # one hit, one miss, one false alarm
    found = scores(matrix)
    assert found.iou.tolist() == [0.5, pytest.approx(1 / 3), 1]
    assert found.support.tolist() == [1, 2, 1] and found.pixel_accuracy == 0.75
    assert found.precision.tolist() == [0.5, 0.5, 1] and found.recall.tolist() == [1, 0.5, 1]


def test_against_numpy_and_in_parts():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 3, 4, 255], size=(4, 8, 9))
    predictions = rng.integers(0, 3, labels.shape)
    sets = (*SETS, (4, (0, 1)))
    metric = ConfusionMatrix(NAMES, sets=sets)
    for part in range(4):
        metric.update_state(labels[part : part + 1], one_hot(predictions[part : part + 1]))
    known = np.where(labels > 2, 255, labels)
    expected = np.vstack([confusion_matrix(known, predictions, 3), false_alarms(labels, predictions, 3, sets)])
    assert np.asarray(metric.matrix).tolist() == expected.tolist()
    assert expected[3].tolist() == [
        0,
        ((labels == 3) & (predictions == 1)).sum(),
        ((labels == 4) & (predictions == 2)).sum(),
    ]
    assert matrix_sums(expected)[:, 2].tolist() == expected.sum(axis=0).tolist()
    again = ConfusionMatrix.from_config(metric.get_config())
    again.update_state(labels, one_hot(predictions))
    assert np.asarray(again.matrix).tolist() == expected.tolist()


def test_an_unknown_label_is_nan():
    metric = ConfusionMatrix(NAMES, sets=SETS)
    metric.update_state(np.array([[[0, 7]]]), one_hot(np.array([[[0, 0]]])))
    assert np.isnan(float(metric.result()["mean_iou"]))
