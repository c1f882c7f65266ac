import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.labels import LabelSet
from seg.losses import CrossEntropy, Dice
from seg.metrics.confusion import ConfusionMatrix
from seg.metrics.pr_curve import probability_histogram
from seg.training import validation_watch
from seg.training.class_shares import class_shares
from seg.training.validation_watch import EAGER_CALLS, Traced, ValidationWatch, Watched

LABELS = LabelSet.from_names(["a", "b", "c"])
random = np.random.default_rng(0)
IMAGES = random.normal(size=(7, 8, 6, 3)).astype(np.float32)
MASKS = random.integers(0, 3, (7, 8, 6)).astype(np.uint8)
MASKS[:, :2] = 255
WATCHED = Watched({1: "one", 6: "six"}, [2, 0], 2, [1, 2], 4, ("first", "second"))


def conv_model(loss=None, **options):
    keras.utils.set_random_seed(1)
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(3, 1)(images))
    model.compile("sgd", loss or CrossEntropy(), metrics=[ConfusionMatrix(LABELS.names)], **options)
    return model


def watched_evaluation(model, data, watched=WATCHED, look=True):
    watch = ValidationWatch(model, LABELS, watched)
    watch.install()
    watch.begin(look)
    logs = model.evaluate(data, verbose=0, return_dict=True)
    findings = watch.end()
    watch.remove()
    return logs, findings


@pytest.fixture(scope="module")
def data():
    return tf.data.Dataset.from_tensor_slices((IMAGES, MASKS)).batch(3)


@pytest.fixture(scope="module")
def findings(data):
    return watched_evaluation(conv_model(), data)[1]


@pytest.fixture(scope="module")
def predictions():
    return conv_model().predict(IMAGES, verbose=0).argmax(-1)


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": True}])
def test_the_logs_are_those_of_an_unwatched_evaluation(options, data):
    expected = conv_model().evaluate(data, verbose=0, return_dict=True)
    model = conv_model(**options)
    logs, findings = watched_evaluation(model, data)
    assert logs == pytest.approx(expected, rel=1e-6)
    assert set(findings.samples) == {"one", "six"}
    assert model.evaluate(data, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-6)


def test_images_of_several_sizes_are_not_compiled_by_xla():
    """XLA would compile anew for each size; the scores are those of the images one by one."""
    sizes = [(8, 6), (4, 6), (8, 2)]
    pairs = [(IMAGES[:1, :height, :width], MASKS[:1, :height, :width]) for height, width in sizes]
    spec = tf.TensorSpec((None, None, None, 3), tf.float32), tf.TensorSpec((None, None, None), tf.uint8)
    data = tf.data.Dataset.from_generator(lambda: iter(pairs), output_signature=spec)
    data = data.apply(tf.data.experimental.assert_cardinality(3))
    model = conv_model(jit_compile=True)
    watch = ValidationWatch(model, LABELS, WATCHED)
    watch.install()
    watch.begin(look=True)
    model.evaluate(data, verbose=0)
    watch.remove()
    assert watch._step.experimental_get_tracing_count() == 0 < watch._step_of_sizes.experimental_get_tracing_count()
    expected = np.zeros((3, 3), int)
    for images, masks in pairs:
        inside = masks != 255
        np.add.at(expected, (masks[inside], conv_model().predict(images, verbose=0).argmax(-1)[inside]), 1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.metrics[1].metrics[0].matrix), expected)


def test_what_is_called_often_becomes_a_graph_with_the_same_results():
    seen = []

    def double(values):
        seen.append(tf.executing_eagerly())
        return 2 * values

    traced, eager = Traced(double), Traced(double, eager=True)
    for number in range(EAGER_CALLS + 5):
        values = tf.fill((1, 1 + number % 3), float(number))
        np.testing.assert_array_equal(traced(values), np.full((1, 1 + number % 3), 2.0 * number))
    assert seen[:EAGER_CALLS] == [True] * EAGER_CALLS and not any(seen[EAGER_CALLS:])
    seen.clear()
    for _ in range(EAGER_CALLS + 1):
        eager(tf.zeros(2))
    assert all(seen)


def test_several_steps_per_execution_see_every_batch(data):
    _, findings = watched_evaluation(conv_model(steps_per_execution=2), data)
    assert findings.histograms.sum() == 2 * (MASKS != 255).sum()


def test_the_models_test_function_comes_back(data):
    model = conv_model()
    model.evaluate(data, verbose=0)
    before = model.test_function
    watched_evaluation(model, data)
    assert model.test_function is before
    assert "compute_metrics" not in vars(model)


def test_histograms_are_of_all_validation_pixels(findings):
    expected = probability_histogram(MASKS, conv_model().predict(IMAGES, verbose=0), [1, 2])
    np.testing.assert_array_equal(findings.histograms, keras.ops.convert_to_numpy(expected))


def test_samples_are_those_of_the_positions(findings, predictions):
    for name, position in (("one", 1), ("six", 6)):
        tile = findings.samples[name]
        np.testing.assert_array_equal(tile.mask, MASKS[position, ::2, ::2])  # 8 pixels shown by 4
        np.testing.assert_array_equal(tile.prediction, predictions[position, ::2, ::2])
    assert findings.samples["one"].caption == "second"
    assert findings.samples["six"].caption == "sample 6"


@pytest.mark.parametrize("index", [2, 0])
def test_worst_tiles_by_brute_force(index, findings, predictions):
    wrong = ((index == MASKS) != (predictions == index)) & (MASKS != 255)
    counts = wrong.sum((1, 2))
    order = sorted(range(7), key=lambda position: (-counts[position], position))[:2]
    assert [(number, position) for number, position, _ in findings.worst[index]] == [(counts[p], p) for p in order]
    tile = findings.worst[index][0][2]
    most = max(wrong[order[0], top : top + 4, left : left + 4].sum() for top in range(5) for left in range(3))
    inside = ((tile.mask == index) != (tile.prediction == index)) & (tile.mask != 255)
    assert inside.sum() == most
    assert f"{counts[order[0]]:,} wrong pixels; shown: from row" in tile.caption


def test_shares_are_of_every_fourth_batch():
    data = tf.data.Dataset.from_tensor_slices((IMAGES, MASKS)).batch(1)
    loss = CrossEntropy(class_weights=[1.0, 2.0, 9.0])
    _, findings = watched_evaluation(conv_model(loss), data)
    logits = conv_model().predict(IMAGES, verbose=0)
    parts = [class_shares(loss, MASKS[n : n + 1], logits[n : n + 1]) for n in (0, 4)]
    sums = np.sum([np.stack([part.numpy() for part in three]) for three in parts], axis=0)
    np.testing.assert_allclose(findings.shares, sums / sums.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(findings.shares.sum(1), 1)


def test_shares_of_large_batches_are_of_every_so_many_rows_and_columns(data, monkeypatch):
    monkeypatch.setattr(validation_watch, "SHARE_LOGITS", 200)  # of 3 x 8 x 6 x 3 = 432: every second row and column
    _, findings = watched_evaluation(conv_model(), data)
    logits = conv_model().predict(IMAGES[:3], verbose=0)
    parts = class_shares(CrossEntropy(), MASKS[:3, ::2, ::2], logits[:, ::2, ::2])
    expected = np.stack([part.numpy() for part in parts])
    np.testing.assert_allclose(findings.shares, expected / expected.sum(1, keepdims=True), rtol=1e-5)


def test_a_perfect_prediction_has_no_worst_tile():
    model = conv_model()
    model.layers[-1].set_weights([np.eye(3, dtype=np.float32)[None, None] * 9, np.zeros(3, np.float32)])
    masks = IMAGES.argmax(-1).astype(np.uint8)
    _, findings = watched_evaluation(model, tf.data.Dataset.from_tensor_slices((IMAGES, masks)).batch(7))
    assert findings.worst == {2: [], 0: []}


def test_images_of_many_sizes_are_looked_at():
    sizes = [(4 + n, 5 + n) for n in range(6)]

    def pairs():
        for height, width in sizes:
            yield np.ones((1, height, width, 3), np.float32), np.ones((1, height, width), np.uint8)

    shapes = tf.TensorSpec((1, None, None, 3)), tf.TensorSpec((1, None, None), tf.uint8)
    data = tf.data.Dataset.from_generator(pairs, output_signature=shapes)
    data = data.apply(tf.data.experimental.assert_cardinality(len(sizes)))
    _, findings = watched_evaluation(conv_model(), data, Watched({5: "last"}, [1], 1, [1], 512))
    assert findings.histograms.sum() == sum(height * width for height, width in sizes)
    assert findings.samples["last"].mask.shape == sizes[5]


def test_other_labels_and_losses_are_left_alone():
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(3, 1)(images))
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, np.zeros((7, 8, 6, 3), np.float32))).batch(3)
    logs, findings = watched_evaluation(model, data)
    assert logs["loss"] > 0
    assert (findings.samples, findings.worst, findings.histograms, findings.shares) == ({}, {}, None, None)


def test_a_loss_of_keras_has_no_shares_but_everything_else(data):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    _, findings = watched_evaluation(conv_model(loss), data)
    assert findings.shares is None
    assert findings.histograms.sum() == 2 * (MASKS != 255).sum()


def test_nothing_is_computed_when_nobody_looks(data):
    assert watched_evaluation(conv_model(), data, look=False)[1] is None


def test_classes_that_overlap_are_looked_at():
    labels = LabelSet.from_names(["a", "b", "c"], multi_label=True)
    masks = random.integers(0, 2, (7, 8, 6, 3)).astype(np.uint8)
    masks[:, :2] = 255
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(3, 1)(images))
    model.compile("sgd", Dice(multi_label=True), metrics=[ConfusionMatrix(labels.names, multi_label=True)])
    watch = ValidationWatch(model, labels, WATCHED)
    watch.install()
    watch.begin(True)
    model.evaluate(IMAGES, masks, batch_size=3, verbose=0)
    findings = watch.end()
    logits = model.predict(IMAGES, verbose=0)
    valid = masks != 255
    for row, index in enumerate(WATCHED.curve_classes):
        p = 1 / (1 + np.exp(-logits[..., index][valid[..., index]]))
        truth = masks[..., index][valid[..., index]] == 1
        for side, chosen in enumerate((p[~truth], p[truth])):
            expected = np.histogram(chosen, np.arange(102) / 100)[0]
            assert np.abs(findings.histograms[row, side] - expected).sum() <= 2  # a pixel at a bin's edge, by rounding
    wrong = (((masks == 1) != (logits > 0)) & valid)[..., 2].sum((1, 2))
    assert [number for number, _, _ in findings.worst[2]] == sorted(wrong, reverse=True)[:2]
    np.testing.assert_array_equal(findings.samples["one"].prediction, (logits[1, ::2, ::2] > 0))
    assert findings.shares is None
