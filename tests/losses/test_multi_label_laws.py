"""What holds for both losses of overlapping classes, and for each a second implementation in float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import binary_cross_entropy, dice_loss

WEIGHTS = [0.5, 1.0, 2.0, 4.0]
VOID = 255


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def cross_entropy_reference(labels, logits, weights, *, smoothing=0.0, normalize="valid") -> float:
    valid = labels != VOID
    hard = np.where(valid, labels, 0)
    t, s = (1 - smoothing) * hard + smoothing / 2, sigmoid(logits)
    losses = np.where(valid, -(weights * t * np.log(s) + (1 - t) * np.log(1 - s)), 0)
    sides = np.where(valid, weights * hard + 1 - hard, 0)
    return losses.sum() / {"valid": valid.sum(), "weights": sides.sum(), "all": labels.size}[normalize]


def dice_reference(labels, logits, weights, *, smooth=1.0, reduction="batch", absent="skip") -> float:
    results = []
    for images in [slice(None)] if reduction == "batch" else [slice(n, n + 1) for n in range(len(labels))]:
        total = share = 0.0
        for k in range(labels.shape[-1]):
            valid = labels[images, ..., k] != VOID
            t, p = labels[images, ..., k][valid].astype(float), sigmoid(logits[images, ..., k][valid])
            if t.sum() > 0 or (absent == "count" and valid.any()):
                total += weights[k] * (1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth))
                share += weights[k]
        if share:
            results.append(total / share)
    return float(np.mean(results))


@dataclass(frozen=True)
class Case:
    name: str
    function: Callable  # (labels, logits, <weights>=)
    weights_key: str
    options: dict
    reference: Callable  # (labels, float64 logits, weights)

    def loss(self, weights=None, **more) -> Callable:
        return partial(self.function, **{self.weights_key: weights}, **self.options, **more)


def entropy(name: str, **options) -> Case:
    renamed = {"smoothing" if key == "label_smoothing" else key: value for key, value in options.items()}
    reference = partial(cross_entropy_reference, **renamed)
    return Case(name, binary_cross_entropy, "pos_weight", options, reference)


def dice(name: str, **options) -> Case:
    function = partial(dice_loss, multi_label=True)
    return Case(name, function, "class_weights", options, partial(dice_reference, **options))


CASES = [
    entropy("cross-entropy"),
    entropy("cross-entropy, weights", normalize="weights"),
    entropy("cross-entropy, all, smoothed", normalize="all", label_smoothing=0.1),
    dice("dice"),
    dice("dice, image, count", reduction="image", absent="count", smooth=2.0),
]
every_loss = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture
def entries() -> tuple[np.ndarray, np.ndarray]:
    """Labels (2, 3, 5, 4) uint8 with void entries, odd sizes, class 3 absent from image 1; logits of that shape."""
    generator = np.random.default_rng(7)
    labels = (generator.random((2, 3, 5, 4)) < [0.5, 0.1, 0.9, 0.3]).astype(np.uint8)
    labels[1, ..., 3] = 0
    labels[generator.random(labels.shape) < 0.2] = VOID
    return labels, generator.normal(0, 2, labels.shape).astype(np.float32)


def certain(labels: np.ndarray) -> np.ndarray:
    """Logits whose sigmoid is 0 or 1 in float32; void entries claim to be present."""
    return np.where(labels == 0, -200, 200).astype(np.float32)


# --- value and gradient -----------------------------------------------------------------------------------------------
@every_loss
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_value_and_gradient_are_the_formula_s(entries, value_and_gradient, numerical_gradient, case, weights):
    plain = np.ones(4) if weights is None else np.array(weights)
    value, gradient = value_and_gradient(case.loss(weights), *entries)
    assert value == pytest.approx(case.reference(*entries, plain), rel=1e-5)  # float32
    expected = numerical_gradient(partial(case.reference, weights=plain), *entries)  # exact to about 1e-10
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


@every_loss
def test_compiled_by_xla_is_eager(entries, value_and_gradient, case):
    value, gradient = value_and_gradient(case.loss(WEIGHTS), *entries)
    jit_value, jit_gradient = value_and_gradient(case.loss(WEIGHTS), *entries, jit=True)
    assert jit_value == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(jit_gradient, gradient, rtol=1e-4, atol=1e-7)  # XLA's exp differs in the last bits


@pytest.mark.tensorflow
@every_loss
def test_graphs_of_unknown_size(entries, case):
    signature = [tf.TensorSpec((None, None, None, 4), tf.uint8), tf.TensorSpec((None, None, None, 4))]
    compiled = tf.function(case.loss(WEIGHTS), input_signature=signature, autograph=False)
    for labels, logits in (entries, (entries[0][:1, 1:], entries[1][:1, 1:])):
        assert float(compiled(labels, logits)) == pytest.approx(float(case.loss(WEIGHTS)(labels, logits)), rel=1e-5)


@every_loss
def test_float_targets_of_0_and_1_are_integer_labels(entries, value_and_gradient, case):
    value, gradient = value_and_gradient(case.loss(WEIGHTS), *entries)
    soft, soft_gradient = value_and_gradient(case.loss(WEIGHTS), entries[0].astype(np.float32), entries[1])
    assert soft == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(soft_gradient, gradient, rtol=1e-5, atol=1e-8)


# --- invariance -------------------------------------------------------------------------------------------------------
@every_loss
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)))
def test_permuting_the_classes_changes_nothing(case, seed, order):
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, VOID], (2, 3, 3, 4), p=[0.5, 0.3, 0.2])
    logits = generator.normal(0, 3, labels.shape).astype(np.float32)
    order = np.array(order)
    found = case.loss(np.array(WEIGHTS)[order])(labels[..., order], logits[..., order])
    assert float(found) == pytest.approx(float(case.loss(WEIGHTS)(labels, logits)), rel=1e-5, abs=1e-6)


@every_loss
def test_as_many_columns_as_classes_do_not_broadcast(value_and_gradient, case):
    # W == K == 4 and H == 3: weights multiplied onto columns would tell an image from its transpose.
    generator = np.random.default_rng(3)
    labels, logits = generator.integers(0, 2, (2, 3, 4, 4)), generator.normal(0, 2, (2, 3, 4, 4)).astype(np.float32)
    value, gradient = value_and_gradient(case.loss(WEIGHTS), labels, logits)
    turned, turned_gradient = value_and_gradient(case.loss(WEIGHTS), labels.swapaxes(1, 2), logits.swapaxes(1, 2))
    assert turned == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(turned_gradient.swapaxes(1, 2), gradient, rtol=1e-4, atol=1e-7)


@every_loss
@pytest.mark.parametrize("void", [255, 2, -7])
def test_logits_of_void_entries_change_nothing(entries, value_and_gradient, case, void):
    labels = entries[0].astype(np.int32)
    is_void = labels == VOID
    labels[is_void] = void
    changed = entries[1].copy()
    changed[is_void] = np.resize([1e4, -1e4], is_void.sum())
    value, gradient = value_and_gradient(case.loss(WEIGHTS, ignore_index=void), labels, entries[1])
    changed_value, changed_gradient = value_and_gradient(case.loss(WEIGHTS, ignore_index=void), labels, changed)
    assert changed_value == value and value > 0
    np.testing.assert_array_equal(changed_gradient, gradient)
    assert (gradient[is_void] == 0).all()
    seen = ~is_void & (case.options.get("absent") == "count" or (labels == 1).any(axis=(0, 1, 2)))
    assert (gradient[seen] != 0).all()


@every_loss
def test_an_entry_matters_whether_or_not_the_pixel_s_others_are_void(case):
    labels, logits = np.full((1, 1, 1, 4), VOID, np.uint8), np.zeros((1, 1, 1, 4), np.float32)
    labels[..., 2] = 1
    assert float(case.loss(WEIGHTS)(labels, logits)) > 0.05


@every_loss
def test_the_flattened_image_has_the_same_loss(entries, case):
    flat = [array.reshape(2, 1, 15, 4) for array in entries]
    assert float(case.loss(WEIGHTS)(*flat)) == pytest.approx(float(case.loss(WEIGHTS)(*entries)), rel=1e-6)


# --- range and edges --------------------------------------------------------------------------------------------------
@every_loss
def test_a_perfect_prediction_scores_0(entries, value_and_gradient, case):
    value, gradient = value_and_gradient(case.loss(WEIGHTS), entries[0], certain(entries[0]))
    if "label_smoothing" in case.options:
        assert value > 1  # smoothing forbids certainty
        return
    assert value == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_extreme_logits_are_finite(value_and_gradient, case, dtype):
    labels = np.array([[[[0, 1], [1, 0], [VOID, 1]]]], np.uint8)
    logits = np.array([[[[1e4, 1e4], [-1e4, -1e4], [1e4, 0]]]], np.float32)  # wrong, right, void, tied
    value, gradient = value_and_gradient(case.loss([1.0, 3.0]), labels, logits, dtype=dtype)
    assert np.isfinite(value) and value > 0 and np.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_logits_are_computed_in_float32(entries, value_and_gradient, case, dtype):
    rounded = tf.cast(tf.cast(entries[1], dtype), tf.float32).numpy()
    value, _ = value_and_gradient(case.loss(), *entries, dtype=dtype)
    assert value == value_and_gradient(case.loss(), entries[0], rounded)[0]
    assert keras.backend.standardize_dtype(case.loss()(entries[0], tf.cast(entries[1], dtype)).dtype) == "float32"


@every_loss
@pytest.mark.parametrize("jit", [False, True])
def test_no_valid_entry_gives_zero(value_and_gradient, case, jit):
    labels, logits = np.full((2, 3, 3, 4), VOID, np.uint8), np.full((2, 3, 3, 4), 1e4, np.float32)
    value, gradient = value_and_gradient(case.loss(WEIGHTS), labels, logits, jit=jit)
    assert value == 0 and (gradient == 0).all()


@every_loss
def test_an_empty_batch_gives_zero(value_and_gradient, case):
    labels, logits = np.zeros((0, 4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.float32)
    value, gradient = value_and_gradient(case.loss(), labels, logits)
    assert value == 0 and gradient.shape == logits.shape


@every_loss
def test_classes_absent_everywhere_are_no_nan(value_and_gradient, case):
    labels, logits = np.zeros((2, 3, 3, 4), np.uint8), np.ones((2, 3, 3, 4), np.float32)
    value, gradient = value_and_gradient(case.loss(WEIGHTS), labels, logits)
    skipped = case.function is not binary_cross_entropy and case.options.get("absent") != "count"
    assert (value == 0) == skipped and np.isfinite(value) and (gradient == 0).all() == skipped


@every_loss
@pytest.mark.parametrize("wrong", [2, 254, -1, 0.5])
def test_a_label_that_is_none_makes_the_loss_nan(entries, case, wrong):
    labels = entries[0].astype(np.float32 if wrong == 0.5 else np.int32)
    labels[0, 0, 0, 0] = wrong
    value = float(case.loss()(labels, entries[1]))
    assert np.isnan(value) if wrong != 0.5 else np.isfinite(value)  # a float between 0 and 1 is a soft target


@every_loss
def test_nan_logits_are_seen(entries, case):
    logits = entries[1].copy()
    logits[tuple(np.argwhere(entries[0] == 1)[0])] = np.nan
    assert np.isnan(float(case.loss()(entries[0], logits)))


@every_loss
def test_wrong_shapes_and_dtypes(entries, case):
    labels, logits = entries
    with pytest.raises(
        ValueError, match=r"labels and logits: got shapes \(2, 3, 5\) and \(2, 3, 5, 4\), allowed: \(N,"
    ):
        case.loss()(labels[..., 0], logits)
    with pytest.raises(ValueError, match=r"got shapes \(3, 5, 4\) and \(3, 5, 4\), allowed"):
        case.loss()(labels[0], logits[0])
    with pytest.raises(ValueError, match=r"labels: got dtype bool, allowed: integers 0, 1 and ignore_index, or floats"):
        case.loss()(labels == 1, logits)
    with pytest.raises(ValueError, match=r"class_weights: got shape \(3,\), allowed: \(4,\), one weight a class"):
        case.loss([1.0, 2.0, 3.0])(labels, logits)


@every_loss
def test_one_class_takes_labels_without_the_last_axis(entries, case):
    labels, logits = entries[0][..., :1], entries[1][..., :1]
    assert float(case.loss([3.0])(labels[..., 0], logits)) == float(case.loss([3.0])(labels, logits))
