import keras
import numpy as np
import pytest

from seg.losses import Dice, GeneralisedDice, Lovasz, Tversky

LABELS = np.array([[[0, 0, 1], [1, 255, 0]], [[2, 2, 1], [0, 0, 255]]])  # (2, 2, 3); the second image alone has class 2
LOGITS = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)  # class 3 is absent
LOSSES = (Dice, GeneralisedDice, Lovasz, Tversky)


@pytest.mark.parametrize("absent", ["skip", "count"])
@pytest.mark.parametrize("reduction", ["batch", "image"])
@pytest.mark.parametrize("weights", [None, [1.0, 5.0, 0.5, 2.0]])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_classes_parts_sum_to_the_loss(loss, weights, reduction, absent):
    term = loss(class_weights=weights, reduction=reduction, absent=absent)
    parts = keras.ops.convert_to_numpy(term.class_parts(LABELS, LOGITS))
    assert parts.shape == (4,)
    assert (parts >= -1e-6).all()
    assert (parts[3] > 0) == (absent == "count")
    # Both are float32 sums of the same numbers in another order.
    assert parts.sum() == pytest.approx(float(term(LABELS, LOGITS)), rel=1e-5)


def test_dice_parts_by_hand():
    # Certain predictions 0, 1, 1 of labels 0, 0, 1. D_0 = 2 / (1 + 2), D_1 = 2 / (2 + 1), weights 3 and 1:
    # parts 3/4 (1 - 2/3) = 1/4 and 1/4 (1 - 2/3) = 1/12.
    logits = np.array([[[[50.0, 0.0], [0.0, 50.0], [0.0, 50.0]]]], np.float32)
    parts = Dice(class_weights=[3.0, 1.0], smooth=0.0).class_parts(np.array([[[0, 0, 1]]]), logits)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(parts), [1 / 4, 1 / 12], rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_no_valid_pixel_are_0(loss):
    parts = loss().class_parts(np.full((1, 2, 2), 255), LOGITS[:1, :, :2])
    assert keras.ops.convert_to_numpy(parts).tolist() == [0, 0, 0, 0]
