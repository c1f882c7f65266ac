from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import TopKCrossEntropy, cross_entropy, top_k_cross_entropy


def logits_of(losses: list[float]) -> np.ndarray:
    """Two-class logits (1, 1, W, 2) whose cross-entropies for label 0 are these."""
    p = np.exp(-np.array(losses))
    return np.log(np.stack([p, 1 - p], axis=-1))[None, None].astype(np.float32)


def test_by_hand():
    labels = np.array([[[0, 0, 0, 0, 255]]], np.uint8)
    logits = logits_of([1.0, 3.0, 2.0, 0.5, 9.0])
    for fraction, expected in {0.01: 3.0, 0.25: 3.0, 0.5: 2.5, 0.75: 2.0, 1.0: 6.5 / 4}.items():
        assert float(top_k_cross_entropy(labels, logits, fraction=fraction)) == pytest.approx(expected, rel=1e-5)


def test_class_and_pixel_weights_decide_what_is_hard():
    labels = np.array([[[0, 0, 1]]], np.uint8)
    logits = logits_of([1.0, 3.0, 2.0])
    third = -np.log(1 - np.exp(-2))  # label 1's loss where label 0's is 2
    found = top_k_cross_entropy(labels, logits, fraction=0.3, class_weights=[1.0, 100.0])
    assert float(found) == pytest.approx(100 * third, rel=1e-5)
    found = top_k_cross_entropy(labels, logits, fraction=0.3, pixel_weights=[[[4.0, 1.0, 1.0]]])
    assert float(found) == pytest.approx(4.0, rel=1e-5)


def test_ties_at_the_border_share_what_is_left(value_and_gradient):
    # k = 2 of one loss of 3 and four of 1: the mean is (3 + 1) / 2, and each of the four has a quarter of a place.
    labels, logits = np.zeros((1, 1, 5), np.uint8), logits_of([1.0, 1.0, 3.0, 1.0, 1.0])
    value, gradient = value_and_gradient(lambda y, z: top_k_cross_entropy(y, z, fraction=0.4), labels, logits)
    assert value == pytest.approx(2.0, rel=1e-5)
    plain = value_and_gradient(cross_entropy, labels, logits)[1] * 5 / 2  # 1/k where it has 1/|V|
    np.testing.assert_allclose(gradient[0, 0, :, 0], plain[0, 0, :, 0] * [0.25, 0.25, 1, 0.25, 0.25], rtol=1e-5)


def test_pixels_below_the_border_have_no_gradient(batch, value_and_gradient):
    labels, logits = batch
    gradient = value_and_gradient(lambda y, z: top_k_cross_entropy(y, z, fraction=0.2), labels, logits)[1]
    num_valid = (labels != 255).sum()
    assert ((gradient != 0).any(axis=-1)).sum() == round(0.2 * num_valid)


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from([0.0, 1e-6, 0.1, 0.1, 1.0, 2.0, 50.0]), min_size=1, max_size=12),
    st.floats(min_value=0.01, max_value=1),
)
def test_the_mean_of_the_k_largest(losses, fraction):
    losses = np.sort(losses)[::-1]
    k = max(1, int(np.round(np.float32(fraction) * np.float32(len(losses)))))
    p = np.exp(-losses)
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(np.stack([p, -np.expm1(-losses)], axis=-1)), -200)[None, None].astype(np.float32)
    found = top_k_cross_entropy(np.zeros((1, 1, len(losses)), np.uint8), logits, fraction=fraction)
    assert float(found) == pytest.approx(losses[:k].mean(), rel=1e-4, abs=1e-6)  # 1 - p is rounded in the logits


def test_rises_from_cross_entropy_to_the_hardest_pixel(batch):
    losses = [float(top_k_cross_entropy(*batch, fraction=fraction)) for fraction in (1.0, 0.5, 0.25, 0.1, 1e-3)]
    assert losses == sorted(losses) and losses[0] == pytest.approx(float(cross_entropy(*batch)), rel=1e-6)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_fraction_out_of_range_is_refused(batch, fraction):
    for make in (lambda: top_k_cross_entropy(*batch, fraction=fraction), lambda: TopKCrossEntropy(fraction=fraction)):
        with pytest.raises(ValueError, match="fraction: got .*, allowed: 0 < fraction <= 1"):
            make()


def test_messages(batch):
    with pytest.raises(ValueError, match=r"class_weights: got shape \(5,\), allowed: \(4,\)"):
        top_k_cross_entropy(*batch, class_weights=np.ones(5))
    with pytest.raises(ValueError, match=r"pixel_weights: got shape \(5,\), allowed: \(2, 3, 5\)"):
        top_k_cross_entropy(*batch, pixel_weights=np.ones(5))
