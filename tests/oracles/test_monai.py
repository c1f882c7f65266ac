"""MONAI's Dice and focal loss: equal where the definitions are, by known factors where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import cross_entropy, dice_loss, focal_loss, generalised_dice_loss, tversky_loss

torch = pytest.importorskip("torch", reason="torch is not installed (make test-oracles installs it)")
monai = pytest.importorskip("monai.losses", reason="MONAI is not installed (make test-oracles installs it)")

seeds = st.integers(0, 2**32 - 1)
smoothings = st.sampled_from([1e-5, 1.0, 30.0])


def dice(smooth: float, **options):
    module = monai.DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=smooth, smooth_dr=smooth, **options)
    return lambda logits, labels: module(logits, labels[:, None])


def focal(gamma: float, **options):
    module = monai.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=gamma, **options)
    return lambda logits, labels: module(logits, labels[:, None])


@settings(max_examples=30)
@given(seeds, smoothings, st.booleans())
def test_dice_of_every_class(draw, ours, torchs, assert_agree, seed, smooth, batch):
    """MONAI counts the classes that are absent: `absent='count'`."""
    labels, logits, _ = draw(seed, void=False)
    options = {"smooth": smooth, "reduction": "batch" if batch else "image", "absent": "count"}
    found = ours(lambda y, z: dice_loss(y, z, **options), labels, logits)
    assert_agree(found, torchs(dice(smooth, batch=batch), labels, logits))


@settings(max_examples=30)
@given(seeds, smoothings)
def test_weighted_dice_differs_by_the_sum_of_the_weights_over_c(draw, ours, torchs, assert_agree, seed, smooth):
    """MONAI means w (1 - D) over C classes and never divides by the weights, so its loss may exceed 1."""
    labels, logits, weights = draw(seed, void=False)
    found = ours(lambda y, z: dice_loss(y, z, class_weights=weights, smooth=smooth, absent="count"), labels, logits)
    expected = torchs(dice(smooth, batch=True, weight=torch.tensor(weights)), labels, logits)
    assert_agree(found, expected, factor=len(weights) / weights.sum())


@settings(max_examples=30)
@given(seeds, st.sampled_from([1.0, 2.0, 5.0]), st.booleans())
def test_focal_differs_by_c(draw, ours, torchs, assert_agree, seed, gamma, weighted):
    """MONAI's mean runs over pixels and classes: it is 1 / C of the paper's mean over pixels."""
    labels, logits, weights = draw(seed, void=False)
    given_weights = {"weight": torch.tensor(weights)} if weighted else {}
    expected = torchs(focal(gamma, **given_weights), labels, logits)
    found = ours(
        lambda y, z: focal_loss(y, z, gamma=gamma, class_weights=weights if weighted else None), labels, logits
    )
    assert_agree(found, expected, factor=logits.shape[-1])


@settings(max_examples=15)
@given(seeds, smoothings)
def test_dice_and_cross_entropy_is_their_sum(draw, ours, torchs, assert_agree, seed, smooth):
    labels, logits, _ = draw(seed, void=False)
    module = monai.DiceCELoss(
        softmax=True, to_onehot_y=True, batch=True, smooth_nr=smooth, smooth_dr=smooth, lambda_dice=0.5, lambda_ce=2.0
    )

    def our_loss(y, z):
        return 0.5 * dice_loss(y, z, smooth=smooth, absent="count") + 2.0 * cross_entropy(y, z)

    assert_agree(ours(our_loss, labels, logits), torchs(lambda z, y: module(z, y[:, None]), labels, logits))


@settings(max_examples=20)
@given(seeds)
def test_void_leaves_dice_as_ours_does(draw, ours, torchs, assert_agree, seed):
    labels, logits, _ = draw(seed)
    found = ours(lambda y, z: dice_loss(y, z, absent="count"), labels, logits)
    assert_agree(found, torchs(dice(1.0, batch=True, ignore_index=255), labels, logits))


@settings(max_examples=20)
@given(seeds)
def test_focal_with_an_ignore_index_agrees_and_without_differs_by_c(draw, ours, torchs, assert_agree, seed):
    """Told an ignore_index, MONAI 1.6 divides by the valid pixels alone: a C times larger loss, void or not."""
    labels, logits, weights = draw(seed)
    found = ours(lambda y, z: focal_loss(y, z, class_weights=weights), labels, logits)
    expected = torchs(focal(2.0, ignore_index=255, weight=torch.tensor(weights)), labels, logits)
    assert_agree(found, expected)


def test_a_focal_gradient_for_gamma_below_1_is_nan_at_certain_pixels(ours, torchs):
    """(1 - p)^gamma has an infinite slope at p = 1; ours is clamped just below."""
    labels, logits = np.array([[[0, 1]]]), np.array([[[[60.0, -60.0], [0.0, 0.0]]]], np.float32)
    assert np.isnan(torchs(focal(0.5), labels, logits)[1]).any()
    assert np.isfinite(ours(lambda y, z: focal_loss(y, z, gamma=0.5), labels, logits)[1]).all()


def test_weighted_dice_leaves_the_unit_interval():
    labels, logits = np.zeros((1, 2, 2), np.int64), np.tile(np.array([-50.0, 50.0], np.float32), (1, 2, 2, 1))
    value = dice(1e-5, batch=True, weight=torch.tensor([3.0, 1.0]))(
        torch.tensor(np.moveaxis(logits, -1, 1).copy()), torch.tensor(labels)
    )
    assert float(value) == pytest.approx(2.0, rel=1e-4)  # (3 * 1 + 1 * 1) / 2, up to the smoothing
    assert float(dice_loss(labels, logits, class_weights=[3.0, 1.0], absent="count", smooth=1e-5)) <= 1.0


@settings(max_examples=20)
@given(
    seeds,
    st.sampled_from([1e-5, 1.0]),
    st.sampled_from([(0.3, 0.7), (0.5, 0.5), (1.0, 1.0), (0.9, 0.1)]),
    st.booleans(),
)
def test_tversky_of_every_class(draw, ours, torchs, assert_agree, seed, smooth, weights, batch):
    """The same alpha (false positives) and beta (false negatives), absent classes counted."""
    labels, logits, _ = draw(seed, void=False)
    alpha, beta = weights
    module = monai.TverskyLoss(
        softmax=True, to_onehot_y=True, alpha=alpha, beta=beta, batch=batch, smooth_nr=smooth, smooth_dr=smooth
    )
    options = {"alpha": alpha, "beta": beta, "smooth": smooth, "absent": "count"}
    found = ours(lambda y, z: tversky_loss(y, z, reduction="batch" if batch else "image", **options), labels, logits)
    assert_agree(found, torchs(lambda z, y: module(z, y[:, None]), labels, logits))


@settings(max_examples=20)
@given(seeds)
def test_generalised_dice_where_every_class_is_present(draw, ours, torchs, assert_agree, seed):
    """Over the batch, without smoothing: the ratio of the weighted sums, with the weights 1 / n^2."""
    labels, logits, _ = draw(seed, void=False, all_present=True)
    module = monai.GeneralizedDiceLoss(softmax=True, to_onehot_y=True, batch=True, smooth_nr=0.0, smooth_dr=0.0)
    found = ours(generalised_dice_loss, labels, logits)
    assert_agree(found, torchs(lambda z, y: module(z, y[:, None]), labels, logits))
