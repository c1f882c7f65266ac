import keras
import numpy as np
import pytest

from seg.optimization.schedules import OneCycle, WarmUp


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_a_rise_and_what_follows_it_from_its_own_beginning():
    line = keras.optimizers.schedules.PolynomialDecay(1.0, 10, 0.0)  # 1 - t / 10
    schedule = WarmUp(1.0, 4, line)
    # 1e-6: float32.
    np.testing.assert_allclose(rates(schedule, [0, 1, 3, 4, 9, 14]), [0, 0.25, 0.75, 1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(rates(WarmUp(0.5, 2, 0.5), [0, 1, 2, 100]), [0, 0.25, 0.5, 0.5], atol=1e-6)


def test_a_warmed_cosine_is_that_of_keras():
    ours = WarmUp(0.3, 7, keras.optimizers.schedules.CosineDecay(0.3, 20, alpha=0.1))
    theirs = keras.optimizers.schedules.CosineDecay(0.0, 20, alpha=0.1, warmup_target=0.3, warmup_steps=7)
    assert rates(ours, range(30)) == rates(theirs, range(30))  # to the bit: old runs keep their numbers


def test_one_cycle_by_hand():
    # 11 updates: t / 10 is the share. Up over 0.4: half-way at update 2, (0.1 + 1) / 2; down over 0.6: half-way at 7.
    schedule = OneCycle(2.0, 11, rise=0.4, start_fraction=0.1, final_fraction=0.0)
    np.testing.assert_allclose(rates(schedule, [0, 2, 4, 7, 10, 12]), [0.2, 1.1, 2, 1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        WarmUp(1.0, 3, 1.0),
        WarmUp(1.0, 3, keras.optimizers.schedules.CosineDecay(1.0, 5)),
        OneCycle(1.0, 9, 0.3, 0.1, 0.01),
    ],
)
def test_saved_and_loaded_a_schedule_is_the_same(schedule):
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert rates(loaded, range(10)) == rates(schedule, range(10))
