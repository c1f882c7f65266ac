"""Cross-entropy, Dice and scores of overlapping classes against torch, Keras, MONAI, scikit-learn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import binary_cross_entropy, dice_loss
from seg.metrics.confusion import ConfusionMatrix
from seg.metrics.iou import scores

VOID = 255
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="session")
def entries():
    """(labels (N, H, W, K), logits, pos_weight (K,)) of random shapes, shares, dtypes and void patterns, by seed."""

    def run(seed: int, *, void: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        shape = tuple(int(length) for length in generator.integers((1, 1, 1, 1), (4, 9, 9, 7)))
        labels = (generator.random(shape) < generator.beta(0.5, 0.5, shape[-1])).astype(np.int64)
        if void:
            labels[generator.random(shape) < generator.choice([0.0, 0.3, 0.9])] = VOID
            labels.flat[0] = 1
        logits = generator.normal(0, generator.choice([0.5, 2.0, 8.0]), shape).astype(np.float32)
        weights = generator.uniform(0.1, 20.0, shape[-1])
        return labels.astype(generator.choice(["uint8", "int32", "int64"])), logits, weights

    return run


def torch_bce(labels, logits, weights, *, soft=None):
    """(value, gradient) of torch's loss in float64, void entries masked, over the number of valid entries."""
    torch = pytest.importorskip("torch", reason="torch is not installed (make test-oracles installs it)")
    inputs = torch.tensor(logits.astype(np.float64), requires_grad=True)
    valid = torch.tensor(labels != VOID)
    targets = torch.tensor(np.where(labels == VOID, 0, labels if soft is None else soft).astype(np.float64))
    pos_weight = None if weights is None else torch.tensor(weights)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        inputs, targets, pos_weight=pos_weight, reduction="none"
    )
    value = losses[valid].sum() / valid.sum()
    value.backward()
    return float(value.detach()), inputs.grad.numpy()


@settings(max_examples=40)
@given(seeds, st.booleans())
def test_torch_bce_with_logits_and_pos_weight(entries, ours, assert_agree, seed, weighted):
    labels, logits, weights = entries(seed)
    weights = weights if weighted else None
    found = ours(lambda y, z: binary_cross_entropy(y, z, pos_weight=weights), labels, logits)
    assert_agree(found, torch_bce(labels, logits, weights))


@settings(max_examples=20)
@given(seeds)
def test_torch_with_soft_targets(entries, ours, assert_agree, seed):
    labels, logits, weights = entries(seed, void=False)
    soft = np.random.default_rng(seed).random(labels.shape).astype(np.float32)
    found = ours(lambda y, z: binary_cross_entropy(y, z, pos_weight=weights), soft, logits)
    assert_agree(found, torch_bce(labels, logits, weights, soft=soft))


@settings(max_examples=20)
@given(seeds)
def test_torch_s_module_is_the_mean_over_all_entries(entries, ours, assert_agree, seed):
    torch = pytest.importorskip("torch", reason="torch is not installed (make test-oracles installs it)")
    labels, logits, weights = entries(seed, void=False)
    inputs = torch.tensor(logits.astype(np.float64), requires_grad=True)
    value = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights))(
        inputs, torch.tensor(labels.astype(np.float64))
    )
    value.backward()
    found = ours(lambda y, z: binary_cross_entropy(y, z, pos_weight=weights, normalize="all"), labels, logits)
    assert_agree(found, (float(value.detach()), inputs.grad.numpy()))


def test_torch_loses_what_is_sure_and_right_in_float32(ours):
    """-z + softplus(z) at z = -20 is 0 in float32 there; ours keeps e^-20."""
    torch = pytest.importorskip("torch", reason="torch is not installed (make test-oracles installs it)")
    labels, logits = np.array([[[[0, 1]]]]), np.array([[[[-20.0, 20.0]]]], np.float32)
    tensors = torch.tensor(logits), torch.tensor(labels.astype(np.float32))
    losses = torch.nn.functional.binary_cross_entropy_with_logits(*tensors, reduction="none").numpy()
    value, _ = ours(binary_cross_entropy, labels, logits)
    assert value == pytest.approx(np.exp(-20), rel=1e-5)
    assert (np.abs(losses / np.exp(-20) - 1) > 1e-3).any()


@settings(max_examples=15)
@given(seeds, st.sampled_from([0.0, 0.2]))
def test_keras_binary_crossentropy(entries, ours, assert_agree, seed, smoothing):
    """Without void and weights, which it has not; its smoothing is ours."""
    labels, logits, _ = entries(seed, void=False)
    keras_loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing, dtype="float64")
    expected = ours(lambda y, z: keras_loss(y.astype(np.float64), z), labels, logits.astype(np.float64))
    found = ours(lambda y, z: binary_cross_entropy(y, z, label_smoothing=smoothing), labels, logits)
    assert_agree(found, expected)


@settings(max_examples=15)
@given(seeds, st.booleans())
def test_monai_sigmoid_dice(entries, ours, assert_agree, seed, batch):
    """Absent classes counted, as MONAI does; its smoothing stands in both sums as ours does."""
    torch = pytest.importorskip("torch", reason="torch is not installed (make test-oracles installs it)")
    monai = pytest.importorskip("monai.losses", reason="MONAI is not installed (make test-oracles installs it)")
    labels, logits, _ = entries(seed, void=False)
    dice = monai.DiceLoss(sigmoid=True, batch=batch, smooth_nr=1.0, smooth_dr=1.0)
    inputs = torch.tensor(np.moveaxis(logits.astype(np.float64), -1, 1).copy(), requires_grad=True)
    value = dice(inputs, torch.tensor(np.moveaxis(labels.astype(np.float64), -1, 1).copy()))
    value.backward()
    reduction = "batch" if batch else "image"
    found = ours(lambda y, z: dice_loss(y, z, multi_label=True, reduction=reduction, absent="count"), labels, logits)
    assert_agree(found, (float(value.detach()), np.moveaxis(inputs.grad.numpy(), 1, -1)))


@settings(max_examples=5)  # each shape is compiled anew
@given(seeds)
def test_sklearn_s_matrices_and_jaccard(entries, seed):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    labels, logits, _ = entries(seed, void=False)
    confusion = ConfusionMatrix([str(index) for index in range(labels.shape[-1])], multi_label=True)
    for _ in range(2):  # streamed
        confusion.update_state(labels, logits)
    matrix = keras.ops.convert_to_numpy(confusion.matrix)
    pair = [np.tile(array.reshape(-1, labels.shape[-1]), (2, 1)).astype(int) for array in (labels, logits > 0)]
    if labels.shape[-1] > 1:  # scikit-learn takes a single column for a two-class problem
        np.testing.assert_array_equal(matrix, metrics.multilabel_confusion_matrix(*pair))
    found = scores(matrix)
    for k in range(labels.shape[-1]):
        expected = metrics.jaccard_score(pair[0][:, k], pair[1][:, k], zero_division=0)
        seen = matrix[k, 0, 1] + matrix[k, 1].sum() > 0
        assert found.iou[k] == pytest.approx(expected, rel=1e-12) if seen else np.isnan(found.iou[k])
