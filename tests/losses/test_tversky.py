from __future__ import annotations

import numpy as np
import pytest

from seg.losses import Tversky, tversky_loss

LABELS = np.array([[[0, 1], [1, 255]]], np.uint8)
LOGITS = np.tile(np.array([0, np.log(3)], np.float32), (1, 2, 2, 1))  # p = (1/4, 3/4) everywhere


def test_by_hand():
    # Class 0: TP 1/4, FP 1/2, FN 3/4. Class 1: TP 3/2, FP 3/4, FN 1/2. alpha 0.2, beta 0.8, smooth 1:
    # T_0 = (1/4 + 1) / (1/4 + 0.1 + 0.6 + 1), T_1 = (3/2 + 1) / (3/2 + 0.15 + 0.4 + 1)
    t0, t1 = 1.25 / 1.95, 2.5 / 3.05
    found = tversky_loss(LABELS, LOGITS, alpha=0.2, beta=0.8, class_weights=[3.0, 1.0])
    assert float(found) == pytest.approx((3 * (1 - t0) + (1 - t1)) / 4, rel=1e-5)
    focal = tversky_loss(LABELS, LOGITS, alpha=0.2, beta=0.8, gamma=4 / 3, class_weights=[3.0, 1.0])
    assert float(focal) == pytest.approx((3 * (1 - t0) ** 0.75 + (1 - t1) ** 0.75) / 4, rel=1e-5)


def test_alpha_weighs_false_positives_and_beta_false_negatives():
    # Everything is predicted as class 1 where half is class 0: class 1 has false positives, class 0 false negatives.
    labels = np.array([[[0, 1]]], np.uint8)
    logits = np.tile(np.array([-100, 100], np.float32), (1, 1, 2, 1))

    def loss(alpha, beta, class_weights):
        return float(tversky_loss(labels, logits, alpha=alpha, beta=beta, smooth=0.0, class_weights=class_weights))

    assert loss(1.0, 0.0, [0.0, 1.0]) == pytest.approx(1 / 2, rel=1e-6)  # 1 - 1 / (1 + 1)
    assert loss(0.0, 1.0, [0.0, 1.0]) == pytest.approx(0, abs=1e-6)
    assert loss(0.0, 1.0, [1.0, 0.0]) == pytest.approx(1, rel=1e-6)
    assert loss(1.0, 0.0, [1.0, 0.0]) == 0


def test_falls_in_neither_alpha_nor_beta(batch):
    for key in ("alpha", "beta"):
        losses = [float(tversky_loss(*batch, **{key: value})) for value in (0.0, 0.3, 1.0, 5.0)]
        assert losses == sorted(losses) and losses[0] < losses[-1]


@pytest.mark.parametrize("gamma", [0.5, 1.0, 4 / 3, 3.0, 100.0])
@pytest.mark.parametrize("gap", [0.0, 8.0, 16.0, 17.0, 100.0])
def test_the_focal_gradient_is_finite_down_to_a_loss_of_0(value_and_gradient, gamma, gap):
    labels = np.zeros((1, 8, 8), np.uint8)
    logits = np.tile(np.array([gap, 0], np.float32), (1, 8, 8, 1))
    value, gradient = value_and_gradient(lambda y, z: tversky_loss(y, z, gamma=gamma), labels, logits)
    assert 0 <= value <= 1 and np.isfinite(gradient).all()
    assert (gradient[..., 0] <= 0).all()  # towards the label
    if gap == 100:
        assert value == 0


def test_steeper_than_tversky_near_a_perfect_score(value_and_gradient):
    labels = np.zeros((1, 8, 8), np.uint8)
    logits = np.tile(np.array([6, 0], np.float32), (1, 8, 8, 1))
    plain = value_and_gradient(tversky_loss, labels, logits)[1]
    focal = value_and_gradient(lambda y, z: tversky_loss(y, z, gamma=4 / 3), labels, logits)[1]
    assert (np.abs(focal) > np.abs(plain)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, "alpha: got -0.1, allowed: 0 or more, finite"),
        ({"alpha": float("nan")}, "alpha: got nan, allowed: 0 or more, finite"),
        ({"beta": float("inf")}, "beta: got inf, allowed: 0 or more, finite"),
        ({"alpha": 0.0, "beta": 0.0}, "alpha, beta: got 0 and 0, allowed: at least one above 0"),
        ({"gamma": 0.0}, "gamma: got 0.0, allowed: above 0, finite"),
        ({"gamma": float("inf")}, "gamma: got inf, allowed: above 0, finite"),
        ({"smooth": -1.0}, "smooth: got -1.0, allowed: 0 or more, finite"),
        ({"reduction": "mean"}, "reduction: got 'mean', allowed: batch, image"),
        ({"absent": "ignore"}, "absent: got 'ignore', allowed: skip, count"),
    ],
)
def test_messages(batch, options, message):
    for make in (lambda: tversky_loss(*batch, **options), lambda: Tversky(**options)):
        with pytest.raises(ValueError, match=message):
            make()


def test_pixel_weights_are_refused(batch):
    with pytest.raises(ValueError, match=r"loss 'tversky': got pixel weights \(sample_weight\), allowed: none"):
        Tversky()(*batch, sample_weight=np.ones(batch[0].shape))
