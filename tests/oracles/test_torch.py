"""torch.nn.functional.cross_entropy: what it shares with `cross_entropy`, and where it differs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import cross_entropy

torch = pytest.importorskip("torch", reason="torch is not installed (make test-oracles installs it)")
functional = torch.nn.functional

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40)
@given(seeds, st.booleans(), st.sampled_from([0.0, 0.1, 0.7]))
def test_mean_is_normalize_weights(draw, ours, torchs, assert_agree, seed, weighted, smoothing):
    labels, logits, weights = draw(seed)
    weights = weights if weighted else None
    options = {"ignore_index": 255, "label_smoothing": smoothing}
    tensor = None if weights is None else torch.tensor(weights)
    expected = torchs(lambda z, y: functional.cross_entropy(z, y, weight=tensor, **options), labels, logits)
    found = ours(
        lambda y, z: cross_entropy(y, z, class_weights=weights, normalize="weights", **options), labels, logits
    )
    assert_agree(found, expected)


@settings(max_examples=20)
@given(seeds, st.sampled_from(["valid", "all"]))
def test_sum_is_the_numerator_of_the_other_denominators(draw, ours, torchs, assert_agree, seed, normalize):
    labels, logits, weights = draw(seed)

    def loss(logits, labels):
        return functional.cross_entropy(logits, labels, torch.tensor(weights), ignore_index=255, reduction="sum")

    found = ours(lambda y, z: cross_entropy(y, z, class_weights=weights, normalize=normalize), labels, logits)
    divisor = labels.size if normalize == "all" else (labels != 255).sum()
    assert_agree(found, torchs(loss, labels, logits), factor=1 / divisor)


@settings(max_examples=20)
@given(seeds)
def test_pixel_weights_multiply_reduction_none(draw, ours, torchs, assert_agree, seed):
    labels, logits, weights = draw(seed)
    pixel_weights = np.random.default_rng(seed).random(labels.shape).astype(np.float32)

    def loss(logits, labels):
        losses = functional.cross_entropy(logits, labels, torch.tensor(weights), ignore_index=255, reduction="none")
        return (losses * torch.tensor(pixel_weights)).sum() / (labels != 255).sum()

    def our_loss(y, z):
        return cross_entropy(y, z, class_weights=weights, pixel_weights=pixel_weights)

    assert_agree(ours(our_loss, labels, logits), torchs(loss, labels, logits))


def test_extreme_logits(ours, torchs, assert_agree):
    labels = np.array([[[0, 1, 0]]])
    logits = np.array([[[[1e4, -1e4], [1e4, -1e4], [0, 1e-3]]]], np.float32)
    assert_agree(ours(cross_entropy, labels, logits), torchs(functional.cross_entropy, labels, logits))


def test_torch_differs_where_no_pixel_is_valid(ours, torchs):
    """0 / 0 is NaN there; here a batch without a label is 0 with a zero gradient, and training goes on."""
    labels, logits = np.full((1, 2, 2), 255), np.ones((1, 2, 2, 3), np.float32)
    value, _ = torchs(lambda z, y: functional.cross_entropy(z, y, ignore_index=255), labels, logits)
    assert np.isnan(value)
    value, gradient = ours(cross_entropy, labels, logits)
    assert value == 0 and not gradient.any()
