from __future__ import annotations

import inspect
import re
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.losses import Combined, CrossEntropy, Dice, Focal
from seg.training import custom_step
from seg.training.custom_step import pixel_weight_map, training_step
from seg.training.segmenter import Segmenter

WEIGHTS = [0.5, 1.0, 4.0]
NAMES = ("a", "b", "c")


@pytest.fixture
def eager():
    """Operation by operation: the losses are float32, and two graphs may round their sums in different ways."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def layers(dtype="float64", regularizer=None):
    """Two convolutions, in float64 so that a step of learning rate 1 shows the gradient to 16 digits."""
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 2), dtype=dtype)
    hidden = keras.layers.Conv2D(4, 3, padding="same", activation="tanh", dtype=dtype)(images)
    return images, keras.layers.Conv2D(3, 1, dtype=dtype, kernel_regularizer=regularizer)(hidden)


def batch():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (2, 5, 3)).astype(np.uint8)  # as many columns as classes
    labels[generator.random(labels.shape) < 0.2] = 255
    images = generator.normal(size=(2, 5, 3, 2)).astype(np.float32)  # as `fit` would make them of float64 ones
    return images, labels


def moves(model, train):
    """What `train` subtracts from each variable: the gradient, under SGD with learning rate 1."""
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    train()
    after = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    assert any((old != new).any() for old, new in zip(before, after, strict=True))
    return [old - new for old, new in zip(before, after, strict=True)]


def step_moves(loss, **options):
    pixel_weights = options.pop("pixel_weights", None)
    model = keras.Model(*layers())
    step = training_step(model, keras.optimizers.SGD(1.0), loss, **options)
    return moves(model, lambda: step(*batch(), pixel_weights))


def fit_moves(loss, sample_weight=None):
    """As `moves`, of one step of `fit`; in eager mode of `train_on_batch`, the same step without tf.data."""
    eagerly = tf.config.functions_run_eagerly()
    model = keras.Model(*layers())
    model.compile(keras.optimizers.SGD(1.0), loss=loss, jit_compile=False, run_eagerly=eagerly)
    images, labels = batch()
    if eagerly:
        return moves(model, lambda: model.train_on_batch(images, labels, sample_weight=sample_weight))
    return moves(model, lambda: model.fit(images, labels, sample_weight=sample_weight, verbose=0, shuffle=False))


def assert_equal(found, expected, rtol, atol=1e-15):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


# 1e-12: the same operations in the same order, so float64 rounding of the last sums is all that may differ.
@pytest.mark.parametrize("loss", [CrossEntropy, Focal])
@pytest.mark.parametrize("given", [WEIGHTS, np.array(WEIGHTS), {2: 4, 0: 0.5, 1: 1}, {"c": 4.0, "a": 0.5, "b": 1.0}])
def test_class_weights_give_the_gradient_of_compile_and_fit(eager, loss, given):
    expected = fit_moves(loss(class_weights=WEIGHTS))
    names = NAMES if "a" in given else None
    assert_equal(step_moves(loss(), class_weights=given, class_names=names), expected, rtol=1e-12)


def test_a_ready_map_gives_the_gradient_of_compile_and_fit(eager):
    pixel_weights = np.random.default_rng(1).random(batch()[1].shape).astype(np.float32)
    expected = fit_moves(CrossEntropy(), sample_weight=pixel_weights)
    assert_equal(step_moves(CrossEntropy(), pixel_weights=pixel_weights), expected, rtol=1e-12)
    by_label = np.array([*WEIGHTS, 0.0], np.float32)[np.minimum(batch()[1], 3)]
    assert_equal(
        step_moves(CrossEntropy(), pixel_weights=by_label), fit_moves(CrossEntropy(class_weights=WEIGHTS)), 1e-12
    )


def test_class_and_pixel_weights_multiply():
    pixel_weights = np.random.default_rng(1).random(batch()[1].shape).astype(np.float32)
    expected = fit_moves(CrossEntropy(class_weights=WEIGHTS), sample_weight=pixel_weights)
    found = step_moves(CrossEntropy(), class_weights=WEIGHTS, pixel_weights=pixel_weights)
    # (w_c w_i) l_i here and (w_c l_i) w_i there, in the losses' float32.
    assert_equal(found, expected, rtol=1e-5, atol=1e-7)


def test_overlap_terms_stay_unweighted(eager):
    def loss(weights):
        return Combined([(1.0, CrossEntropy(class_weights=weights)), (0.5, Dice())])

    found = step_moves(loss(None), class_weights=WEIGHTS)
    assert_equal(found, fit_moves(loss(WEIGHTS)), rtol=1e-12)
    assert np.abs(np.subtract(found[2], fit_moves(Dice())[2])).max() > 1e-3


def test_the_segmenter_takes_the_same_step():
    def segmenter(weights):
        model = Segmenter(*layers())
        loss = Combined([(1.0, CrossEntropy(class_weights=weights))])
        model.compile(keras.optimizers.SGD(1.0), loss=loss, jit_compile=False)
        return model

    fitted, stepped = segmenter(WEIGHTS), segmenter(None)
    step = training_step(stepped, keras.optimizers.SGD(1.0), stepped.loss, class_weights=WEIGHTS)
    found = moves(stepped, lambda: step(*batch()))
    expected = moves(fitted, lambda: fitted.train_on_batch(*batch()))
    # The Segmenter's loss is compiled by XLA, whose float32 exp and log differ in the last bits.
    assert_equal(found, expected, rtol=1e-5, atol=1e-7)


def test_the_regularisation_of_the_model_counts_as_in_fit():
    images, labels = batch()

    def model():
        return keras.Model(*layers("float32", keras.regularizers.L2(0.1)))  # Keras cannot add float64 ones to the loss

    fitted, stepped = model(), model()
    fitted.compile(keras.optimizers.SGD(1.0), loss=CrossEntropy(), jit_compile=False)
    step = training_step(stepped, keras.optimizers.SGD(1.0), CrossEntropy())
    loss = float(CrossEntropy()(labels, stepped(images))) + float(stepped.losses[0])
    found = moves(stepped, lambda: np.testing.assert_allclose(step(images, labels), loss, rtol=1e-6))  # float32
    expected = moves(fitted, lambda: fitted.train_on_batch(images, labels))
    assert_equal(found, expected, rtol=1e-5, atol=1e-7)  # float32 weights of size 1 minus their step


def test_loss_scaling_optimizers_take_the_unscaled_step():
    def step_with(optimizer):
        model = keras.Model(*layers())
        step = training_step(model, optimizer, CrossEntropy(), class_weights=WEIGHTS)
        return moves(model, lambda: step(*batch()))

    scaled = step_with(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=1024.0))
    assert_equal(scaled, step_with(keras.optimizers.SGD(1.0)), rtol=1e-12)  # 1024: exact in binary


def test_runs_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Model(*layers())
        step = training_step(model, keras.optimizers.SGD(1.0), CrossEntropy(), class_weights=WEIGHTS)
    found = moves(model, lambda: strategy.run(step, args=tuple(map(tf.constant, batch()))))
    # Two graphs of float32 losses.
    assert_equal(found, fit_moves(CrossEntropy(class_weights=WEIGHTS)), rtol=1e-5, atol=1e-7)


def test_weights_are_gathered_by_label_and_void_is_finite():
    labels = np.array([[[0, 1, 2], [2, 255, 0]]])
    found = pixel_weight_map(labels, 3, WEIGHTS, pixel_weights=np.full(labels.shape, 2.0))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(np.asarray(found)[labels < 3], [1, 2, 8, 8, 1])
    assert pixel_weight_map(labels, 3, None) is None


def test_messages():
    model, sgd = keras.Model(*layers()), keras.optimizers.SGD(1.0)
    images, labels = batch()
    with pytest.raises(ValueError, match=r"class_weights: got shape \(2,\), allowed: \(3,\)"):
        training_step(model, sgd, CrossEntropy(), class_weights=[1.0, 2.0])(images, labels)
    with pytest.raises(ValueError, match="class_weights: got .*nan.*, allowed: finite"):
        training_step(model, sgd, CrossEntropy(), class_weights=[1.0, float("nan"), 1.0])(images, labels)
    with pytest.raises(ValueError, match="class_weights: got the names a, d, allowed: a, b, c"):
        training_step(model, sgd, CrossEntropy(), class_weights={"a": 1, "d": 1}, class_names=NAMES)(images, labels)
    with pytest.raises(ValueError, match=r"class_weights: got the keys \['a'\], allowed: class indices"):
        training_step(model, sgd, CrossEntropy(), class_weights={"a": 1})(images, labels)
    with pytest.raises(ValueError, match=r"class_weights: got shape \(2,\), allowed: \(3,\)"):
        training_step(model, sgd, CrossEntropy(), class_weights={0: 1, 1: 1})(images, labels)
    with pytest.raises(ValueError, match=r"pixel_weights: got shape \(3,\), allowed: \(2, 5, 3\)"):
        training_step(model, sgd, CrossEntropy())(images, labels, WEIGHTS)
    with pytest.raises(ValueError, match="class_weights: loss 'dice' weighs no single pixels"):
        training_step(model, sgd, Dice(), class_weights=WEIGHTS)
    with pytest.raises(ValueError, match="model 'bare': not built, allowed: a built one"):
        training_step(keras.Sequential([keras.layers.Conv2D(3, 1)], name="bare"), sgd, CrossEntropy())


def test_the_script_in_the_module_s_docstring_runs(tmp_path, monkeypatch, capsys):
    script = textwrap.dedent(inspect.getdoc(custom_step).partition("by name:\n\n")[2])
    monkeypatch.chdir(tmp_path)
    exec(script, {})  # noqa: S102 - our own docstring
    losses = [float(value) for value in re.findall(r"step \d: loss (\S+)", capsys.readouterr().out)]
    assert len(losses) == 4 and losses[-1] < losses[0]
