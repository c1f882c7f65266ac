"""segmentation-models-pytorch: Dice where the definitions meet; its focal loss and weighted IoU are something else."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import dice_loss, focal_loss, lovasz_loss, tversky_loss

torch = pytest.importorskip("torch", reason="torch is not installed (make test-oracles installs it)")

NAME = "segmentation_models_pytorch"
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", autouse=True)
def smp():
    """(its losses, its metrics), without its encoders: those need torchvision and timm, which losses do not."""
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.origin is None:
        pytest.skip("segmentation-models-pytorch is not installed (make test-oracles installs it)")
    bare = types.ModuleType(NAME)
    bare.__path__ = [str(Path(spec.origin).parent)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, NAME, bare)
        yield importlib.import_module(f"{NAME}.losses"), importlib.import_module(f"{NAME}.metrics.functional")
        for name in [name for name in sys.modules if name.startswith(NAME + ".")]:
            patch.delitem(sys.modules, name)


@settings(max_examples=25)
@given(seeds, st.booleans(), st.sampled_from([0.0, 1.0]))
def test_dice_where_every_class_is_present(smp, draw, ours, torchs, assert_agree, seed, weighted, smooth):
    labels, logits, weights = draw(seed, void=False, all_present=True)
    given_weights = weights.tolist() if weighted else None
    module = smp[0].DiceLoss("multiclass", smooth=smooth, class_weights=given_weights)
    # smp smooths the halved fraction, (tp + s) / (tp + fp / 2 + fn / 2 + s): ours with 2 s.
    found = ours(lambda y, z: dice_loss(y, z, class_weights=given_weights, smooth=2 * smooth), labels, logits)
    assert_agree(found, torchs(module, labels, logits))


@settings(max_examples=20)
@given(seeds, st.booleans())
def test_lovasz_of_the_present_classes(smp, draw, ours, torchs, assert_agree, seed, per_image):
    labels, logits, _ = draw(seed)
    if per_image:  # smp averages over images, also those without a labelled pixel
        labels = np.where(labels == 255, 0, labels)
    module = smp[0].LovaszLoss("multiclass", per_image=per_image, ignore_index=255)
    found = ours(lambda y, z: lovasz_loss(y, z, reduction="image" if per_image else "batch"), labels, logits)
    assert_agree(found, torchs(module, labels, logits, "float32"))  # its own labels are float32


@settings(max_examples=15)
@given(seeds, st.sampled_from([0.5, 1.0, 2.0]))
def test_focal_tversky_takes_the_power_gamma_of_the_mean(smp, draw, torchs, seed, gamma):
    """Ours takes each class's loss to the power 1 / gamma, as the paper does; at 1 both are plain Tversky."""
    labels, logits, _ = draw(seed, void=False, all_present=True)
    value, _ = torchs(smp[0].TverskyLoss("multiclass", alpha=0.3, beta=0.7, gamma=gamma), labels, logits)
    plain = float(tversky_loss(labels, logits, alpha=0.3, beta=0.7, smooth=0.0))
    assert value == pytest.approx(plain**gamma, rel=1e-4)  # smp's eps of 1e-7 in the denominator, float32


def test_absent_classes_count_as_right(smp, torchs):
    """It zeroes their loss but keeps them in the mean: one wrong class among two absent ones is a third of the loss."""
    labels, logits = np.zeros((1, 2, 2), np.int64), np.zeros((1, 2, 2, 3), np.float32)
    value, _ = torchs(smp[0].DiceLoss("multiclass"), labels, logits)
    right = float(dice_loss(labels, logits, smooth=0.0))
    assert right == pytest.approx(1 - 2 * (4 / 3) / (4 / 3 + 4), rel=1e-5)
    assert value == pytest.approx(right / 3, rel=1e-5)


@settings(max_examples=15)
@given(seeds)
def test_multiclass_focal_is_one_sigmoid_a_class(smp, draw, torchs, seed):
    """Not the softmax form of MATHS and the paper's detectors: other probabilities, another loss."""
    labels, logits, _ = draw(seed, void=False)
    value, _ = torchs(smp[0].FocalLoss("multiclass", gamma=2.0), labels, logits)
    targets = np.eye(logits.shape[-1])[labels]
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    p_t = np.where(targets == 1, p, 1 - p)
    log_p_t = -np.logaddexp(0, np.where(targets == 1, -1, 1) * logits.astype(np.float64))
    assert value == pytest.approx((-((1 - p_t) ** 2) * log_p_t).mean(), rel=1e-4)  # float32, means of thousands
    assert value != pytest.approx(float(focal_loss(labels, logits)), rel=1e-3)


def test_weighted_macro_iou_divides_by_the_classes_twice(smp):
    """Two classes, both perfect, equal weights: 1/2 there."""
    counts = {key: torch.tensor([[value, value]]) for key, value in {"tp": 4, "fp": 0, "fn": 0, "tn": 4}.items()}
    found = smp[1].iou_score(**counts, reduction="macro", class_weights=[1.0, 1.0])
    assert float(found) == pytest.approx(0.5)
