from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.balance import ClassCounts, class_weights
from seg.losses.online_weights import SCHEMES, OnlineClassWeights

ROOT = Path(__file__).resolve().parents[2]
NORMALIZE = ["mean_one", "sum_one", "sum_classes", "none"]
OPTIONS = [
    {"scheme": "effective_number", "beta": "auto", "unit": "images"},
    {"scheme": "effective_number", "beta": 0.9, "unit": "images"},
    {"scheme": "effective_number", "beta": 0.999, "unit": "pixels"},
    {"scheme": "effective_number", "beta": "auto", "unit": "pixels"},
    {"scheme": "effective_number", "beta": 0.0, "unit": "images"},
    *({"scheme": scheme} for scheme in SCHEMES[:-1]),
]


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def counted(labels, num_classes, times=1.0):
    """The `ClassCounts` of masks (N, H, W), times a factor."""
    pixels = np.stack([(labels == index).sum((1, 2)) for index in range(num_classes)], axis=1)  # (N, C)
    labelled = pixels.sum(1, keepdims=True)
    return ClassCounts(
        names=tuple(map(str, range(num_classes))),
        ignore_index=255,
        encoding="index",
        pixel_counts=pixels.sum(0) * times,
        image_counts=(pixels > 0).sum(0) * times,
        image_pixels=((pixels > 0) * labelled).sum(0) * times,
        void_pixels=0,
        num_images=len(labels) * times,
        fingerprint="0",
    )


def masks(seed, num_classes=4, shares=None):
    generator = np.random.default_rng(seed)
    labels = generator.choice(num_classes, (3, 8, 6), p=shares).astype(np.uint8)
    labels[generator.random(labels.shape) < 0.1] = 255
    return labels


def test_by_hand():
    # Batch 1: 3 pixels of class 0, 1 of class 1; batch 2: 1 and 3; momentum 1/2. The average of the counts goes from
    # (3, 1) / 2 to (3/4 + 1/2, 1/4 + 3/2) = (5/4, 7/4), that of ones from 1/2 to 3/4; corrected: (5/3, 7/3), N = 4.
    online = OnlineClassWeights(2, "inverse_frequency", momentum=0.5, normalize="none")
    np.testing.assert_allclose(numpy(online.update(np.array([[[0, 0, 0, 1]]]))), [4 / 6, 4 / 2], rtol=1e-6)
    found = numpy(online.update(np.array([[[0, 1, 1, 1, 255]]])))
    np.testing.assert_allclose(found, [4 / (2 * 5 / 3), 4 / (2 * 7 / 3)], rtol=1e-6)
    np.testing.assert_array_equal(numpy(online.current()), found)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(OPTIONS), st.sampled_from(NORMALIZE))
def test_one_batch_gives_the_weights_of_its_counts(seed, options, normalize):
    """The formulas of seg.balance.weights, in float64, are the second opinion. Momentum 3/4 remembers 4 batches."""
    labels = masks(seed, shares=[0.7, 0.28, 0.02, 0.0])  # class 2 is absent now and then, class 3 always
    online = OnlineClassWeights(4, momentum=0.75, normalize=normalize, cap=20.0, **options)
    expected = class_weights(counted(labels, 4, times=4.0), normalize=normalize, cap=20.0, **options)
    np.testing.assert_allclose(numpy(online.update(labels)), expected, rtol=2e-5)  # float32 against float64


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_batches_count_by_age(options):
    momentum, batches = 0.8, [masks(seed, shares=[0.6, 0.3, 0.09, 0.01]) for seed in range(6)]
    online = OnlineClassWeights(4, momentum=momentum, **options)
    for labels in batches:
        found = online.update(labels)
    ages = momentum ** np.arange(len(batches))[::-1]
    parts = [counted(labels, 4, times=age / ages.sum() * 5) for labels, age in zip(batches, ages, strict=True)]
    total = {
        key: sum(getattr(part, key) for part in parts)
        for key in ("pixel_counts", "image_counts", "image_pixels", "num_images")
    }
    expected = class_weights(
        ClassCounts(("a", "b", "c", "d"), 255, "index", void_pixels=0, fingerprint="0", **total), **options
    )
    # float32 against float64; 1e-3 where class_weights rounds the 640 pixels in all down to a whole number.
    rtol = 1e-3 if options.get("unit") == "pixels" and options["beta"] == "auto" else 2e-5
    np.testing.assert_allclose(numpy(found), expected, rtol=rtol)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_class_that_is_missing_never_gives_nan(options):
    online = OnlineClassWeights(3, momentum=0.01, **options)
    void = np.full((1, 2, 2), 255, np.uint8)
    np.testing.assert_array_equal(numpy(online.current()), 1)  # nothing seen yet
    np.testing.assert_array_equal(numpy(online.update(void)), 1)
    found = numpy(online.update(np.array([[[0, 1, 0, 0]]])))
    assert np.isfinite(found).all() and found[2] == 0 and (found[:2] > 0).all()
    for _ in range(9):  # class 1 fades to 0.01 ** 9 of its count
        found = numpy(online.update(np.zeros((1, 1, 4), np.uint8)))
    assert np.isfinite(found).all() and (found[:2] > 0).all() and found[2] == 0
    assert np.isfinite(numpy(online.update(void))).all()


def test_another_ignore_index_and_unknown_labels_are_no_class():
    online = OnlineClassWeights(2, "inverse_frequency", ignore_index=1, normalize="none")
    np.testing.assert_allclose(numpy(online.update(np.array([[[0, 0, 1, 7]]]))), [0.5, 0], rtol=1e-6)


def test_serialised_and_back():
    online = OnlineClassWeights(3, "effective_number", momentum=0.7, ignore_index=9, cap=3.0, beta=0.9, unit="pixels")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(online))
    assert copy.get_config() == online.get_config()
    assert [tuple(variable.shape) for variable in copy.non_trainable_variables] == [(3,), (3,), (3,), (), ()]
    assert copy.trainable_variables == []


REPLICAS = """
import numpy as np, tensorflow as tf
cpus = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], cpus)
from seg.losses.online_weights import OnlineClassWeights
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    split = OnlineClassWeights(3, "inverse_frequency")
whole = OnlineClassWeights(3, "inverse_frequency")
for labels in np.random.default_rng(0).integers(0, 3, (2, 4, 2, 2)):
    part = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(labels[2 * context.replica_id_in_sync_group :][:2])
    )
    found = tf.function(lambda part: strategy.run(split.update, args=(part,)))(part)
    expected = whole.update(labels)
    for each in strategy.experimental_local_results(found):
        np.testing.assert_array_equal(each, expected)
    np.testing.assert_array_equal(split.current(), expected)
print("equal")
"""


@pytest.mark.slow
@pytest.mark.tensorflow
def test_replicas_sum_their_counts():
    # In a process of its own: TensorFlow fixes its devices when it starts.
    done = subprocess.run([sys.executable, "-c", REPLICAS], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "equal\n", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "uniform"}, "scheme: got 'uniform', allowed: inverse_frequency, "),
        ({"normalize": "sum"}, "normalize: got 'sum', allowed: mean_one, sum_one, sum_classes, none"),
        ({"unit": "masks"}, "unit: got 'masks', allowed: images, pixels"),
        ({"momentum": 1.0}, "momentum: got 1.0, allowed: 0 < momentum < 1"),
        ({"cap": 0.5}, "cap: got 0.5, allowed: 1 or more"),
        ({"beta": 1.0}, "beta: got 1.0, allowed: 0 <= beta < 1, or auto"),
    ],
)
def test_messages(options, message):
    with pytest.raises(ValueError, match=message):
        OnlineClassWeights(3, **{"scheme": "inverse_frequency"} | options)


def test_labels_that_are_no_class_indices_are_refused():
    online = OnlineClassWeights(3, "inverse_frequency")
    with pytest.raises(ValueError, match=r"got labels of dtype float32 and shape \(1, 2, 2, 3\), allowed: integers"):
        online.update(np.zeros((1, 2, 2, 3), np.float32))
