from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.errors import ConfigError
from seg.losses import BinaryCrossEntropy
from seg.metrics import confusion
from seg.metrics.confusion import ConfusionMatrix
from seg.metrics.iou import scores

MultiLabelConfusion = partial(ConfusionMatrix, multi_label=True)
NAMES = ("tree", "water", "road")
VOID = 255


def random_batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, VOID], (2, 5, 7, 3)).astype(np.uint8)
    return labels, generator.normal(size=(2, 5, 7, 3)).astype(np.float32)


def counted(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """(K, 2, 2) by a loop."""
    matrix = np.zeros((labels.shape[-1], 2, 2), np.int64)
    for index in np.ndindex(labels.shape):
        if labels[index] != VOID:
            matrix[index[-1], labels[index], int(predictions[index])] += 1
    return matrix


def numbers(metric: ConfusionMatrix) -> dict[str, float]:
    return {key: float(value) for key, value in metric.result().items()}


def test_by_hand():
    # tree   labels 1 1 / 0 v   predictions 1 0 / 1 1: TP 1, FN 1, FP 1, void not counted: IoU 1/3
    # water  labels 0 0 / 0 0   predictions 0 0 / 0 0: in neither
    labels = np.array([[[[1, 0], [1, 0]], [[0, 0], [VOID, 0]]]], np.uint8)
    logits = np.array([[[[2.0, -1], [-3, -1]], [[0.1, -1], [5, 0]]]], np.float32)  # a logit of 0 predicts absent
    metric = MultiLabelConfusion(NAMES[:2])
    metric.update_state(labels, logits)
    assert metric.matrix.numpy().tolist() == [[[0, 1], [1, 1]], [[4, 0], [0, 0]]]
    found = numbers(metric)
    assert list(found) == ["mean_iou", "iou/tree", "iou/water"]
    assert found["iou/tree"] == found["mean_iou"] == pytest.approx(1 / 3) and np.isnan(found["iou/water"])


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.tensorflow)])
def test_batches_add_up_to_the_matrices_of_the_split(jit):
    metric = MultiLabelConfusion(NAMES)
    update = tf.function(metric.update_state, jit_compile=True, autograph=False) if jit else metric.update_state
    batches = [random_batch(seed) for seed in range(3)]
    for labels, logits in batches:
        update(tf.constant(labels), tf.constant(logits))
    expected = sum(counted(labels, logits > 0) for labels, logits in batches)
    np.testing.assert_array_equal(metric.matrix.numpy(), expected)
    assert keras.backend.standardize_dtype(metric.matrix.dtype) == metric.matrix.numpy().dtype == "int64"
    found, iou = numbers(metric), scores(expected)
    assert found["mean_iou"] == pytest.approx(iou.mean_iou, rel=1e-6)
    assert [found[f"iou/{name}"] for name in NAMES] == pytest.approx(iou.iou.tolist(), rel=1e-6)
    metric.reset_state()
    assert not metric.matrix.numpy().any() and np.isnan(numbers(metric)["mean_iou"])


def test_scores_by_hand():
    # class a: TN 5, FP 1, FN 2, TP 4; class b: nothing present, nothing predicted, 9 rejected
    found = scores(np.array([[[5, 1], [2, 4]], [[9, 0], [0, 0]]]))
    assert found.iou[0] == pytest.approx(4 / 7) and np.isnan(found.iou[1])
    assert (found.precision[0], found.recall[0]) == pytest.approx((4 / 5, 4 / 6))
    assert found.dice[0] == pytest.approx(8 / 11)
    assert found.support.tolist() == [6, 0]
    assert (found.mean_iou, found.num_averaged) == (pytest.approx(4 / 7), 1)
    assert found.pixel_accuracy == pytest.approx((5 + 4 + 9) / 21)


def test_one_class_is_enough():
    found = scores(np.array([[[5, 1], [2, 4]]]))
    assert found.mean_iou == pytest.approx(4 / 7) and found.pixel_accuracy == pytest.approx(9 / 12)


def test_an_unknown_label_makes_every_score_nan():
    labels, logits = random_batch()
    labels[0, 0, 0, 0] = 2
    metric = MultiLabelConfusion(NAMES)
    metric.update_state(labels, logits)
    assert int(metric.unknown) == 1 and all(np.isnan(value) for value in numbers(metric).values())


@pytest.mark.tensorflow
def test_fit_and_evaluate_report_it():
    labels, _ = random_batch()
    images = np.random.default_rng(1).normal(size=(2, 5, 7, 2)).astype(np.float32)
    inputs = keras.Input((5, 7, 2))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    model.compile("sgd", loss=BinaryCrossEntropy(), metrics=[MultiLabelConfusion(NAMES)])
    history = model.fit(images, labels, validation_data=(images, labels), verbose=0).history
    assert {"mean_iou", "val_mean_iou", *(f"val_iou/{name}" for name in NAMES)} <= set(history)
    assert history["val_mean_iou"][0] == pytest.approx(
        scores(counted(labels, model.predict(images, verbose=0) > 0)).mean_iou
    )


def test_it_is_made_again_from_its_config():
    metric = MultiLabelConfusion(NAMES, ignore_index=7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert isinstance(again, ConfusionMatrix) and again.multi_label and again.get_config() == metric.get_config()


def test_messages(monkeypatch):
    metric, (labels, logits) = MultiLabelConfusion(NAMES), random_batch()
    with pytest.raises(ValueError, match=r"class_names: got \['a', 'a'\], allowed: one or more, each once"):
        MultiLabelConfusion(["a", "a"])
    with pytest.raises(ValueError, match=r"class_names: got \[\], allowed: one or more, each once"):
        MultiLabelConfusion([])
    with pytest.raises(ValueError, match="metric 'confusion': got labels of dtype float32, allowed: any integer dtype"):
        metric.update_state(labels.astype(np.float32), logits)
    with pytest.raises(
        ValueError, match=r"got shapes \(2, 5, 7\) and \(2, 5, 7, 3\), allowed: \(N, H, W, 3\) for both"
    ):
        metric.update_state(labels[..., 0], logits)
    with pytest.raises(ValueError, match="metric 'confusion': got sample_weight, allowed: none"):
        metric.update_state(labels, logits, sample_weight=np.ones((2, 5, 7)))
    monkeypatch.setattr(confusion, "has_int64", lambda: False)
    with pytest.raises(ConfigError, match="metric 'confusion': the Keras backend '.*' has no int64"):
        MultiLabelConfusion(NAMES)
