from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from seg.errors import ConfigError
from seg.losses import CrossEntropy
from seg.metrics import confusion
from seg.metrics.confusion import ConfusionMatrix
from seg.metrics.iou import confusion_matrix, scores

NAMES = ("sky", "road", "pole")


def logits_of(predictions: np.ndarray, num_classes: int = 3) -> np.ndarray:
    return np.eye(num_classes, dtype=np.float32)[predictions]


def random_batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, 255], (2, 5, 7)).astype(np.uint8)
    return labels, generator.normal(size=(2, 5, 7, 3)).astype(np.float32)


def numbers(metric: ConfusionMatrix) -> dict[str, float]:
    return {key: float(value) for key, value in metric.result().items()}


def test_by_hand():
    # labels  0 0   predictions  0 1   IoU_0 = 1 / 2 (one missed), IoU_1 = 1 / 2 (one too many), class 2 in neither
    #         1 v                1 0
    metric = ConfusionMatrix(NAMES)
    metric.update_state(np.array([[[0, 0], [1, 255]]], np.uint8), logits_of(np.array([[[0, 1], [1, 0]]])))
    assert metric.matrix.numpy().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    found = numbers(metric)
    assert list(found) == ["mean_iou", "iou/sky", "iou/road", "iou/pole"]
    assert found["iou/sky"] == found["iou/road"] == found["mean_iou"] == 0.5 and np.isnan(found["iou/pole"])


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.tensorflow)])
def test_batches_add_up_to_the_matrix_of_the_split(jit):
    metric = ConfusionMatrix(NAMES)
    update = tf.function(metric.update_state, jit_compile=True, autograph=False) if jit else metric.update_state
    batches = [random_batch(seed) for seed in range(3)]
    for labels, logits in batches:
        update(tf.constant(labels), tf.constant(logits))
    labels = np.concatenate([labels for labels, _ in batches])
    predictions = np.concatenate([logits.argmax(-1) for _, logits in batches])
    expected = confusion_matrix(labels, predictions, 3)
    valid = labels != 255
    np.testing.assert_array_equal(metric.matrix.numpy(), expected)
    np.testing.assert_array_equal(metric.matrix.numpy(), sklearn_confusion_matrix(labels[valid], predictions[valid]))
    assert keras.backend.standardize_dtype(metric.matrix.dtype) == metric.matrix.numpy().dtype == "int64"
    found, iou = numbers(metric), scores(expected)
    assert found["mean_iou"] == pytest.approx(iou.mean_iou, rel=1e-6)
    assert [found[f"iou/{name}"] for name in NAMES] == pytest.approx(iou.iou.tolist(), rel=1e-6)
    metric.reset_state()
    assert metric.matrix.numpy().sum() == 0


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("logits_dtype", ["bfloat16", "float16", "float32"])
def test_any_dtype(dtype, logits_dtype):
    labels, logits = random_batch()
    logits = tf.cast(logits, logits_dtype)
    metric = ConfusionMatrix(NAMES)
    metric.update_state(labels.astype(dtype), logits)
    predictions = tf.argmax(tf.cast(logits, "float32"), -1).numpy()
    np.testing.assert_array_equal(metric.matrix.numpy(), confusion_matrix(labels, predictions, 3))


@pytest.mark.parametrize("void", [-1, 3, 200])
def test_any_void_value(void):
    labels, logits = random_batch()
    metric = ConfusionMatrix(NAMES, ignore_index=void)
    metric.update_state(np.where(labels == 255, void, labels.astype(np.int32)), logits)
    np.testing.assert_array_equal(metric.matrix.numpy(), confusion_matrix(labels, logits.argmax(-1), 3))
    assert int(metric.unknown.numpy()) == 0


def test_no_pixel_at_all_and_only_void_give_nan():
    metric = ConfusionMatrix(NAMES)
    assert all(np.isnan(value) for value in numbers(metric).values())
    metric.update_state(np.full((1, 2, 2), 255, np.uint8), np.zeros((1, 2, 2, 3), np.float32))
    metric.update_state(np.zeros((0, 2, 2), np.uint8), np.zeros((0, 2, 2, 3), np.float32))
    assert all(np.isnan(value) for value in numbers(metric).values())
    assert metric.matrix.numpy().sum() == 0


@pytest.mark.parametrize("label", [3, 254, -1])
def test_unknown_labels_turn_every_result_to_nan_until_reset(label):
    labels, logits = random_batch()
    labels = labels.astype(np.int32)
    labels[0, 0, 0] = label
    metric = ConfusionMatrix(NAMES)
    metric.update_state(labels, logits)
    assert int(metric.unknown.numpy()) == 1
    assert all(np.isnan(value) for value in numbers(metric).values())
    metric.reset_state()
    metric.update_state(*random_batch())
    assert np.isfinite(numbers(metric)["mean_iou"])


def test_counts_beyond_int32():
    metric = ConfusionMatrix(NAMES)
    metric.matrix.assign(np.diag([2**40, 2**40, 0]))
    metric.update_state(*random_batch())
    assert metric.matrix.numpy()[0, 0] >= 2**40 and numbers(metric)["iou/sky"] == pytest.approx(1.0)


# Keras 3.15 reads TensorFlow variables with np.array(), which NumPy 2 warns about.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_save_and_load(tmp_path, jit_compile):
    images = np.random.default_rng(0).random((2, 5, 7, 2), np.float32)
    labels, _ = random_batch()
    model = keras.Sequential([keras.Input((None, None, 2)), keras.layers.Conv2D(3, 1)])
    model.compile("sgd", loss=CrossEntropy(), metrics=[ConfusionMatrix(NAMES)], jit_compile=jit_compile)
    history = model.fit(images, labels, validation_data=(images, labels), verbose=0).history
    assert {"mean_iou", "iou/sky", "val_mean_iou", "val_iou/pole"} <= set(history)
    expected = scores(confusion_matrix(labels, keras.ops.convert_to_numpy(model(images)).argmax(-1), 3))
    assert history["val_mean_iou"] == pytest.approx([expected.mean_iou], rel=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = loaded.evaluate(images, labels, verbose=0, return_dict=True)
    assert found["mean_iou"] == pytest.approx(expected.mean_iou, rel=1e-6)


def test_configuration_is_plain():
    config = ConfusionMatrix(NAMES, ignore_index=9, name="counts").get_config()
    assert config == {"class_names": list(NAMES), "ignore_index": 9, "name": "counts", "multi_label": False, "sets": [],
                      "labelled_only": False}  # fmt: skip
    assert ConfusionMatrix.from_config(config).get_config() == config


def test_a_backend_without_int64_is_refused(monkeypatch):
    monkeypatch.setattr(confusion, "has_int64", lambda: False)
    with pytest.raises(ConfigError, match="metric 'confusion': the Keras backend .* has no int64 and pixel counts"):
        ConfusionMatrix(NAMES)


@pytest.mark.parametrize("names", [["sky"], ["sky", "sky"]])
def test_class_names_are_two_or_more_and_unique(names):
    with pytest.raises(ValueError, match="class_names: got .*, allowed: two or more, each once"):
        ConfusionMatrix(names)


def test_messages():
    labels, logits = random_batch()
    metric = ConfusionMatrix(NAMES)
    with pytest.raises(ValueError, match=r"metric 'confusion': got sample_weight, allowed: none"):
        metric.update_state(labels, logits, sample_weight=np.ones(labels.shape))
    with pytest.raises(ValueError, match="got labels of dtype float32, allowed: any integer dtype"):
        metric.update_state(labels.astype(np.float32), logits)
    with pytest.raises(ValueError, match=r"allowed: labels \(N, H, W\) and logits \(N, H, W, 3\)"):
        metric.update_state(labels, logits[..., :2])
    with pytest.raises(ValueError, match=r"got shapes \(2, 5, 7, 1\) and \(2, 5, 7, 3\)"):
        metric.update_state(labels[..., None], logits)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_class_without_a_label_has_no_iou_where_that_is_asked(multi_label: bool) -> None:
    """Predicted once, never labelled: 0 by definition, and nothing to say of a class that a resize took away."""
    metric = ConfusionMatrix(("a", "b", "c"), multi_label=multi_label, labelled_only=True)
    plain = ConfusionMatrix(("a", "b", "c"), multi_label=multi_label)
    labels, predicted = np.array([[[0, 1, 1]]]), np.array([[[0, 1, 2]]])
    logits = np.where(np.eye(3)[predicted] > 0, 5.0, -5.0).astype(np.float32)
    for one in (metric, plain):
        one.update_state(np.eye(3, dtype=np.int64)[labels] if multi_label else labels, logits)
    own, other = ({key: float(value) for key, value in one.result().items()} for one in (metric, plain))
    assert np.isnan(own["iou/c"]) and own["mean_iou"] == 0.75  # of 1 and 1/2
    assert other["iou/c"] == 0 and other["mean_iou"] == 0.5
    matrix = np.asarray(metric.matrix)
    assert (scores(matrix, True).num_averaged, scores(matrix).num_averaged) == (2, 3)
    assert scores(matrix, True).mean_iou == 0.75 and np.isnan(scores(matrix, True).precision[2])
    assert scores(matrix, True).pixel_accuracy == scores(matrix).pixel_accuracy
