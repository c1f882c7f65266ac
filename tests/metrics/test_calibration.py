import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.metrics.calibration import expected_calibration_error, reliability_counts


def test_by_hand():
    # Two bins, (0, 0.5] and (0.5, 1]. Confidences 0.4 (wrong), 0.5 (right) | 0.8 (right), 1.0 (right), 0.6 (wrong):
    # bin 1: 2 pixels, accuracy 0.5, mean 0.45; bin 2: 3 pixels, accuracy 2/3, mean 0.8.
    # ECE = 2/5 * 0.05 + 3/5 * (0.8 - 2/3) = 0.02 + 0.08 = 0.10
    confidences = np.array([0.4, 0.5, 0.8, 1.0, 0.6])
    predictions, correct = np.array([0, 1, 0, 1, 0]), np.array([False, True, True, True, False])
    counts = reliability_counts(confidences, predictions, correct, 2, num_bins=2)
    np.testing.assert_allclose(counts[0], [[1, 0.4, 0], [2, 1.4, 1]])
    np.testing.assert_allclose(counts[1], [[1, 0.5, 1], [1, 1.0, 1]])
    assert expected_calibration_error(counts.sum(axis=0)) == pytest.approx(0.10)
    # class 0 alone: 1/3 * 0.4 + 2/3 * |0.5 - 0.7| = 0.8 / 3; class 1: 1/2 * 0.5 + 0
    np.testing.assert_allclose(expected_calibration_error(counts), [0.8 / 3, 0.25])


def test_edges_belong_to_the_lower_bin_and_zero_to_the_first():
    confidences = np.array([0.0, 1 / 15, 2 / 15, 1.0], np.float32)
    counts = reliability_counts(confidences, np.zeros(4, int), np.ones(4, bool), 1)
    assert np.flatnonzero(counts[0, :, 0]).tolist() == [0, 1, 14]
    assert counts[0, 0, 0] == 2


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0.001, 1), st.booleans(), st.integers(0, 2)), min_size=1, max_size=60))
def test_a_loop_over_the_bins_agrees(pixels):
    confidences = np.array([pixel[0] for pixel in pixels], np.float32)
    correct, predictions = np.array([pixel[1] for pixel in pixels]), np.array([pixel[2] for pixel in pixels])
    total = 0.0
    bins = np.ceil(confidences * np.float32(15))
    for number in range(1, 16):
        inside = bins == number
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidences[inside].mean(dtype=float))
    counts = reliability_counts(confidences, predictions, correct, 3)
    assert expected_calibration_error(counts.sum(axis=0)) == pytest.approx(total, abs=1e-12)


def test_a_calibrated_predictor_has_no_error_and_no_pixel_is_nan():
    confidences = np.full(10, 0.7)
    counts = reliability_counts(confidences, np.zeros(10, int), np.arange(10) < 7, 2)
    np.testing.assert_allclose(expected_calibration_error(counts), [0, np.nan], atol=1e-12)
    nothing = reliability_counts(np.zeros(0), np.zeros(0, int), np.zeros(0, bool), 2)
    assert np.isnan(expected_calibration_error(nothing)).all()


def test_counts_of_parts_add_up():
    generator = np.random.default_rng(0)
    parts = [(generator.random(50), generator.integers(0, 3, 50), generator.random(50) > 0.5) for _ in range(2)]
    whole = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    total = sum(reliability_counts(*part, 3) for part in parts)
    np.testing.assert_allclose(total, reliability_counts(*whole, 3), rtol=1e-12)


@pytest.mark.parametrize("value", [-0.1, 1.2, np.nan])
def test_a_confidence_that_is_none(value):
    with pytest.raises(ValueError, match=r"confidences: got .* allowed: 0 to 1"):
        reliability_counts(np.array([0.5, value]), np.zeros(2, int), np.ones(2, bool), 1)
