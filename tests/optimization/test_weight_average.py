import keras
import numpy as np
import pytest

from seg.optimization.weight_average import WeightAverage


def test_the_average_by_hand_and_the_swap_to_the_bit():
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(9, 3)).astype(np.float32)
    variable = keras.Variable(generator.normal(size=3).astype(np.float32))
    average = WeightAverage([variable], 0.7)
    for update, value in enumerate(weights, 1):
        variable.assign(value)
        average.follow([variable], update)
        # Adam's: sum of (1 - m) m^(t - s) w_s over 1 - m^t. 1e-5: float32.
        powers = 0.3 * 0.7 ** np.arange(update)[::-1]
        expected = powers @ weights[:update] / (1 - 0.7**update)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(average.others[0]), expected, rtol=1e-5, atol=1e-6)
    held = keras.ops.convert_to_numpy(average.others[0])
    average.swap([variable])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), held)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(average.others[0]), weights[-1])


def test_a_momentum_near_1_is_still_unbiased():
    variable = keras.Variable([2.0])
    average = WeightAverage([variable], 0.9999)
    for update in (1, 2, 3):
        variable.assign([float(update)])
        average.follow([variable], update)
    assert float(average.others[0][0]) == pytest.approx(2.0, rel=1e-3)  # the mean of 1, 2 and 3


@pytest.mark.parametrize("momentum", [0.0, 1.0, -0.5])
def test_a_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match="ema: got .+, allowed: 0 < ema < 1"):
        WeightAverage([], momentum)
