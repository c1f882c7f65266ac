from __future__ import annotations

import numpy as np
import pytest

from seg.losses import GeneralisedDice, dice_loss, generalised_dice_loss

LABELS = np.array([[[0, 1], [1, 255]]], np.uint8)
LOGITS = np.tile(np.array([0, np.log(3)], np.float32), (1, 2, 2, 1))  # p = (1/4, 3/4) everywhere


def test_by_hand():
    # Class 0: 1 pixel, overlap 1/4, sum 3/4 + 1. Class 1: 2 pixels, overlap 3/2, sum 9/4 + 2. u = (1, 1/4):
    # 1 - 2 (1/4 + 3/8) / (7/4 + 17/16)
    expected = 1 - 2 * (1 / 4 + 3 / 8) / (7 / 4 + 17 / 16)
    assert float(generalised_dice_loss(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)
    # Weights (2, 1): u = (2, 1/4)
    expected = 1 - 2 * (2 / 4 + 3 / 8) / (7 / 2 + 17 / 16)
    assert float(generalised_dice_loss(LABELS, LOGITS, class_weights=[2.0, 1.0])) == pytest.approx(expected, rel=1e-5)


def test_an_absent_class_counts_as_the_rarest_present_one():
    # Labels 0, 0, 1 and softmax (1/2, 1/4, 1/4): n = (2, 1, 0), so u = (1/4, 1, 1) with count.
    labels = np.array([[[0, 0, 1]]], np.uint8)
    logits = np.tile(np.log([2, 1, 1]).astype(np.float32), (1, 1, 3, 1))
    overlap, total = 1 / 4 * 1 + 1 / 4, 1 / 4 * (3 / 2 + 2) + (3 / 4 + 1)
    assert float(generalised_dice_loss(labels, logits)) == pytest.approx(1 - 2 * overlap / total, rel=1e-5)
    counted = generalised_dice_loss(labels, logits, absent="count")
    assert float(counted) == pytest.approx(1 - 2 * overlap / (total + 3 / 4), rel=1e-5)


def test_one_class_is_dice_without_smoothing(batch):
    labels = np.where(batch[0] == 255, 255, 2)
    expected = float(dice_loss(labels, batch[1], smooth=0.0))
    assert float(generalised_dice_loss(labels, batch[1])) == pytest.approx(expected, rel=1e-5)


def test_many_pixels_leave_no_number_small_enough_to_vanish(value_and_gradient):
    # 1 / n^2 of 2**20 pixels is 1e-12: no denormal number, and no sum of them is lost.
    labels, logits = np.zeros((1, 1024, 1024), np.uint8), np.zeros((1, 1024, 1024, 2), np.float32)
    value, gradient = value_and_gradient(generalised_dice_loss, labels, logits)
    assert value == pytest.approx(1 - 2 * 0.5 / 1.5, rel=1e-5) and (gradient != 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "mean"}, "reduction: got 'mean', allowed: batch, image"),
        ({"absent": "ignore"}, "absent: got 'ignore', allowed: skip, count"),
    ],
)
def test_messages(batch, options, message):
    for make in (lambda: generalised_dice_loss(*batch, **options), lambda: GeneralisedDice(**options)):
        with pytest.raises(ValueError, match=message):
            make()


def test_pixel_weights_are_refused(batch):
    with pytest.raises(ValueError, match=r"loss 'generalised_dice': got pixel weights \(sample_weight\)"):
        GeneralisedDice()(*batch, sample_weight=np.ones(batch[0].shape))
