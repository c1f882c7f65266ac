"""What the sections `optimizer` and `schedule` build, against loops written by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter

from seg.config.optimizer import OptimizerKind
from seg.config.schedule import ScheduleKind
from seg.errors import ConfigError

RATE, DECAY = 0.1, 0.01
RANDOM = np.random.default_rng(0)
GRADIENTS = RANDOM.normal(size=(6, 3, 2)).astype(np.float32)
START = RANDOM.normal(size=(3, 2)).astype(np.float32)


def build(**section):
    return TypeAdapter(OptimizerKind).validate_python({"learning_rate": RATE, **section}).build(RATE)


def schedule(**section):
    return TypeAdapter(ScheduleKind).validate_python(section)


def rates(built, steps):
    return [float(built(step)) for step in steps]


# Each: (weights, gradient, state, number of the update from 1) -> the step that is taken off the weights.
def adam(weights, g, state, t, nesterov=False):
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g**2
    m = state["m"] / (1 - 0.9**t)
    return RATE * m / (np.sqrt(state["v"] / (1 - 0.999**t)) + 1e-7)


def momentum(weights, g, state, t):
    state["v"] = 0.9 * state.get("v", 0) - RATE * g
    return -state["v"]


def nesterov(weights, g, state, t):
    return -(0.9 * -momentum(weights, g, state, t) - RATE * g)


def rmsprop(weights, g, state, t):
    state["v"] = 0.9 * state.get("v", 0) + 0.1 * g**2
    return RATE * g / np.sqrt(state["v"] + 1e-7)


def lion(weights, g, state, t):
    step = RATE * np.sign(0.9 * state.get("m", 0) + 0.1 * g)
    state["m"] = 0.99 * state.get("m", 0) + 0.01 * g
    return step


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({"name": "adam"}, adam),
        ({"name": "adamw", "weight_decay": DECAY}, adam),
        ({"name": "sgd"}, momentum),
        ({"name": "sgd", "nesterov": True, "weight_decay": DECAY}, nesterov),
        ({"name": "rmsprop", "weight_decay": DECAY}, rmsprop),
        ({"name": "lion", "weight_decay": DECAY}, lion),
    ],
)
def test_updates_by_hand(section, rule):
    optimizer, variable = build(**section), keras.Variable(START, name="kernel")
    optimizer.build([variable])
    weights, state = START.astype(np.float64), {}
    for number, gradient in enumerate(GRADIENTS, 1):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        weights = weights * (1 - RATE * section.get("weight_decay", 0))  # decoupled: not in the gradient
        weights = weights - rule(weights, gradient.astype(np.float64), state, number)
        # 2e-5: float32; 1 - 0.999^t keeps four digits, and six steps are of size 0.1.
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), weights, rtol=2e-5, atol=2e-5)


def test_nadam_is_that_of_keras():
    optimizer = build(name="nadam", beta_2=0.99)
    assert type(optimizer) is keras.optimizers.Nadam
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.weight_decay) == (0.9, 0.99, None)


def test_only_a_whole_name_spares_a_variable_the_decay():
    """Keras searches for the names in the variable's path, so that a layer called `unbiased` would not be decayed."""
    optimizer = build(name="sgd", momentum=0.0, weight_decay=1.0)
    layers = [keras.layers.Dense(2, name=name) for name in ("unbiased", "beta_gamma")]
    model = keras.Sequential([keras.layers.Input((2,)), *layers, keras.layers.LayerNormalization()])
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in model.trainable_variables])
    for variable in model.trainable_variables:
        expected = 1.0 - RATE if variable.name == "kernel" else 1.0
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, rtol=1e-6, err_msg=variable.path)


# --- schedules, of 10 epochs of 4 updates -----------------------------------------------------------------------------
def test_poly_by_hand():
    built = schedule(name="poly", power=0.5, final_fraction=0.2).build(1.0, 10, 4)
    expected = [1.0, 0.2 + 0.8 * np.sqrt(0.75), 0.2 + 0.8 * np.sqrt(0.5), 0.2, 0.2]  # updates 0, 10, 20, 40, 50
    np.testing.assert_allclose(rates(built, [0, 10, 20, 40, 50]), expected, rtol=1e-6)


def test_steps_by_hand():
    built = schedule(name="step", epochs=(3, 6), factor=0.1, warmup_steps=5).build(1.0, 10, 4)
    expected = [0, 0.8, 1, 1, 0.1, 0.1, 0.01, 0.01]  # the third epoch ends with update 11, the sixth with 23
    np.testing.assert_allclose(rates(built, [0, 4, 5, 11, 12, 23, 24, 39]), expected, rtol=1e-6, atol=1e-8)


def test_one_cycle_ends_with_the_last_update():
    built = schedule(name="one_cycle", start_fraction=0.1, final_fraction=0.01).build(1.0, 10, 4)
    np.testing.assert_allclose(rates(built, [0, 39]), [0.1, 0.01], rtol=1e-5)
    assert max(rates(built, range(40))) == pytest.approx(1.0, abs=2e-3)  # the peak lies between two updates


def test_plateau_gives_the_rate_to_its_callback():
    section = schedule(name="plateau", patience=2, factor=0.5, warmup_epochs=1)
    assert section.build(0.25, 10, 4) == 0.25
    plateau = section.plateau(0.25, 4)
    assert (plateau.peak, plateau.warmup, plateau.patience, plateau.factor) == (0.25, 4, 2, 0.5)
    assert schedule(name="constant").plateau(0.25, 4) is None


@pytest.mark.parametrize("name", ["constant", "cosine", "poly", "plateau"])
def test_a_warm_up_as_long_as_the_training_is_refused(name):
    with pytest.raises(ConfigError, match=r"warmup_steps: got 40, allowed: less than the training's 40 updates"):
        schedule(name=name, warmup_steps=40).build(1.0, 10, 4)
    with pytest.raises(ConfigError, match=r"warmup_steps: got 9, allowed: less than the 2 epochs of 4 updates"):
        schedule(name="step", epochs=(2,), warmup_steps=9).build(1.0, 10, 4)
