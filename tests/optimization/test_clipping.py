import keras
import numpy as np
import pytest

from seg.optimization.clipping import check_clip, clipped

GRADIENTS = [np.array([3.0, 4.0], np.float32), np.array([[0.0], [-12.0]], np.float32)]  # norms 5 and 12, together 13


def values(by, limit, gradients=GRADIENTS):
    return [keras.ops.convert_to_numpy(gradient) for gradient in clipped(gradients, by, limit)]


@pytest.mark.parametrize(
    ("by", "limit", "expected"),
    [
        ("global_norm", 6.5, [[1.5, 2.0], [[0.0], [-6.0]]]),
        ("norm", 6.0, [[3.0, 4.0], [[0.0], [-6.0]]]),
        ("value", 3.5, [[3.0, 3.5], [[0.0], [-3.5]]]),
    ],
)
def test_by_hand(by, limit, expected):
    for ours, value in zip(values(by, limit), expected, strict=True):
        np.testing.assert_allclose(ours, value, rtol=1e-6)


@pytest.mark.parametrize("by", ["global_norm", "norm", "value"])
def test_gradients_within_the_limit_keep_every_bit(by):
    for ours, gradient in zip(values(by, 13.5), GRADIENTS, strict=True):
        np.testing.assert_array_equal(ours, gradient)


@pytest.mark.parametrize("by", ["global_norm", "norm", "value"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_stays_seen(by, wrong):
    if by == "value" and wrong == np.inf:
        return  # that is what cutting to a value means
    found = values(by, 1.0, [np.array([wrong, 1.0], np.float32)])
    assert np.isnan(found[0]).any()


@pytest.mark.parametrize("clip", [("norms", 1.0), ("norm", 0.0), ("norm", float("inf"))])
def test_an_option_out_of_range_is_refused(clip):
    with pytest.raises(ValueError, match=r"clip: got .+, allowed: \(global_norm \| norm \| value, a limit above 0\)"):
        check_clip(clip)
