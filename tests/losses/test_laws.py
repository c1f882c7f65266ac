"""Laws that every loss obeys, and for every loss a second implementation: its formula in float64 NumPy."""

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
from keras import ops

from seg.losses import (
    Combined,
    CrossEntropy,
    Dice,
    cross_entropy,
    dice_loss,
    focal_loss,
    generalised_dice_loss,
    lovasz_loss,
    soft_cross_entropy,
    top_k_cross_entropy,
    tversky_loss,
)

WEIGHTS = [0.5, 1.0, 2.0, 4.0]
VOID = 255


# --- the formulas in NumPy --------------------------------------------------------------------------------------------
def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def valid_pixels(labels: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (V,) and float64 probabilities (V, C) of the valid pixels."""
    valid = labels != VOID
    return labels[valid].astype(int), softmax(logits[valid])


def pixel_losses(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    labels, p = valid_pixels(labels, logits)
    targets = (1 - smoothing) * np.eye(p.shape[-1])[labels] + smoothing / p.shape[-1]
    return -(weights * targets * np.log(p)).sum(axis=-1)


def pixel_reference(labels, logits, weights, *, gamma=0.0, smoothing=0.0, normalize="valid") -> float:
    classes, p = valid_pixels(labels, logits)
    losses = pixel_losses(labels, logits, weights, smoothing) * (1 - p[np.arange(len(p)), classes]) ** gamma
    divisor = {"valid": len(classes), "weights": weights[classes].sum(), "all": labels.size}[normalize]
    return losses.sum() / divisor


def top_k_reference(labels, logits, weights, *, fraction) -> float:
    losses = np.sort(pixel_losses(labels, logits, weights))[::-1]
    return losses[: max(1, round(fraction * len(losses)))].mean()


def overlap_reference(labels, logits, weights, class_losses, *, reduction="batch", absent="skip") -> float:
    """`class_losses(p, t)` gives the loss of each class from (V, C) probabilities and one-hot targets."""
    results = []
    for images in [slice(None)] if reduction == "batch" else [slice(n, n + 1) for n in range(len(labels))]:
        classes, p = valid_pixels(labels[images], logits[images])
        t = np.eye(p.shape[-1])[classes]
        shares = weights * (t.any(axis=0) | (absent == "count" and len(t) > 0))
        if shares.sum() > 0:
            results.append((shares * class_losses(p, t)).sum() / shares.sum())
    return float(np.mean(results))


def tversky_losses(p, t, *, alpha, beta, smooth, gamma=1.0) -> np.ndarray:
    hits = (p * t).sum(axis=0)
    index = (hits + smooth) / (hits + alpha * (p * (1 - t)).sum(axis=0) + beta * ((1 - p) * t).sum(axis=0) + smooth)
    return (1 - index) ** (1 / gamma)


def lovasz_losses(p, t) -> np.ndarray:
    """By the definition, IoU by IoU: pixels become wrong one after the other, the largest error first."""
    losses = np.zeros(p.shape[-1])
    for c in range(p.shape[-1]):
        errors, target = np.abs(t[:, c] - p[:, c]), t[:, c] == 1
        wrong, last = np.zeros(len(t), bool), 0.0
        for i in np.argsort(-errors):
            wrong[i] = True
            predicted = target ^ wrong
            jaccard = 1 - (predicted & target).sum() / max((predicted | target).sum(), 1)
            losses[c] += errors[i] * (jaccard - last)
            last = jaccard
    return losses


def generalised_dice_reference(labels, logits, weights, *, reduction="batch") -> float:
    results = []
    for images in [slice(None)] if reduction == "batch" else [slice(n, n + 1) for n in range(len(labels))]:
        classes, p = valid_pixels(labels[images], logits[images])
        t = np.eye(p.shape[-1])[classes]
        n = t.sum(axis=0)
        shares = np.where(n > 0, weights / np.maximum(n, 1) ** 2, 0)
        results.append(1 - 2 * (shares * (p * t).sum(axis=0)).sum() / (shares * (p + t).sum(axis=0)).sum())
    return float(np.mean(results))


# --- the losses -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    name: str
    function: Callable
    options: dict
    reference: Callable  # (labels, float64 logits, weights)
    overlap: bool = True

    @property
    def loss(self) -> Callable:  # (labels, logits, class_weights=, ignore_index=)
        return partial(self.function, **self.options)

    @property
    def counts_absent(self) -> bool:
        return self.options.get("absent") == "count"


def soft(labels, logits, *, ignore_index=VOID, **options):
    """`soft_cross_entropy` of one-hot targets."""
    num_classes = logits.shape[-1]
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")
    targets = ops.one_hot(ops.where(labels == ignore_index, -1, labels), num_classes)
    is_known = ops.all((labels == ignore_index) | ((labels >= 0) & (labels < num_classes)))
    return ops.where(is_known, soft_cross_entropy(targets, logits, **options), np.nan)


def pixel(name: str, function: Callable, reference: Callable = pixel_reference, **options) -> Case:
    renamed = {"smoothing" if key == "label_smoothing" else key: value for key, value in options.items()}
    return Case(name, function, options, partial(reference, **renamed), overlap=False)


def overlap(name: str, function: Callable, class_losses: Callable, reduction="batch", absent="skip", **options) -> Case:
    choices = {"reduction": reduction, "absent": absent}
    reference = partial(overlap_reference, class_losses=class_losses, **choices)
    return Case(name, function, choices | options, reference)


def tversky(name: str, reduction="batch", absent="skip", **options) -> Case:
    return overlap(name, tversky_loss, partial(tversky_losses, **options), reduction, absent, **options)


def generalised_dice(name: str, **options) -> Case:
    return Case(name, generalised_dice_loss, options, partial(generalised_dice_reference, **options))


DICE = partial(tversky_losses, alpha=0.5, beta=0.5, smooth=0.5)  # the smoothing of Dice stands in both its doubled sums
CASES = [
    pixel("cross_entropy", cross_entropy),
    pixel("cross_entropy, smoothed", cross_entropy, label_smoothing=0.1, normalize="weights"),
    pixel("cross_entropy, soft", soft, label_smoothing=0.1, normalize="weights"),
    pixel("cross_entropy, all", cross_entropy, normalize="all"),
    pixel("focal", focal_loss, gamma=2.0),
    pixel("top_k_cross_entropy", top_k_cross_entropy, top_k_reference, fraction=0.3),
    overlap("dice", dice_loss, DICE, smooth=1.0),
    overlap("dice, image, count", dice_loss, DICE, "image", "count", smooth=1.0),
    tversky("jaccard", alpha=1.0, beta=1.0, smooth=1.0),
    tversky("tversky", alpha=0.3, beta=0.7, smooth=0.0),
    tversky("tversky, image, count", "image", "count", alpha=0.8, beta=0.0, smooth=2.0),
    tversky("focal tversky", alpha=0.3, beta=0.7, gamma=4 / 3, smooth=1.0),
    generalised_dice("generalised_dice", reduction="batch"),
    generalised_dice("generalised_dice, image", reduction="image"),
    overlap("lovasz", lovasz_loss, lovasz_losses),
    overlap("lovasz, image", lovasz_loss, lovasz_losses, "image"),
    overlap("lovasz, count", lovasz_loss, lovasz_losses, absent="count"),
]
every_loss = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_overlap_loss = pytest.mark.parametrize("case", [c for c in CASES if c.overlap], ids=lambda case: case.name)


def certain(labels: np.ndarray, num_classes: int = 4) -> np.ndarray:
    """Logits whose softmax is one-hot in float32; void pixels claim class 0."""
    return np.where(np.eye(num_classes)[np.where(labels == VOID, 0, labels)] == 1, 100, -100).astype(np.float32)


# --- value and gradient -----------------------------------------------------------------------------------------------
@every_loss
@pytest.mark.parametrize("class_weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_value_and_gradient_are_the_formula_s(batch, value_and_gradient, numerical_gradient, case, class_weights):
    weights = np.ones(4) if class_weights is None else np.array(class_weights)
    value, gradient = value_and_gradient(partial(case.loss, class_weights=class_weights), *batch)
    assert value == pytest.approx(case.reference(*batch, weights), rel=1e-5)  # float32
    # Steps of 1e-5 in float64: differences are exact to about 1e-10; Lovasz and top-k have no kink that near.
    expected = numerical_gradient(partial(case.reference, weights=weights), *batch)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@every_loss
def test_compiled_by_xla_is_eager(batch, value_and_gradient, case):
    loss = partial(case.loss, class_weights=WEIGHTS)
    value, gradient = value_and_gradient(loss, *batch)
    jit_value, jit_gradient = value_and_gradient(loss, *batch, jit=True)
    assert jit_value == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(jit_gradient, gradient, rtol=1e-4, atol=1e-7)  # XLA's exp differs in the last bits


@pytest.mark.tensorflow
@every_loss
def test_graphs_of_unknown_size(batch, case):
    signature = [tf.TensorSpec((None, None, None), tf.uint8), tf.TensorSpec((None, None, None, 4))]
    compiled = tf.function(case.loss, input_signature=signature, autograph=False)
    for labels, logits in (batch, (batch[0][:1, 1:], batch[1][:1, 1:])):
        assert float(compiled(labels, logits)) == pytest.approx(float(case.loss(labels, logits)), rel=1e-5)


# --- invariance -------------------------------------------------------------------------------------------------------
@every_loss
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)))
def test_permuting_the_classes_changes_nothing(case, seed, order):
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, 3, VOID], (2, 3, 3), p=[0.3, 0.2, 0.2, 0.2, 0.1])
    logits = generator.normal(0, 3, (2, 3, 3, 4)).astype(np.float32)
    order = np.array(order)  # new class k is old class order[k]
    permuted = np.where(labels == VOID, VOID, np.argsort(order)[np.where(labels == VOID, 0, labels)])
    found = case.loss(permuted, logits[..., order], class_weights=np.array(WEIGHTS)[order])
    expected = case.loss(labels, logits, class_weights=np.array(WEIGHTS))
    assert float(found) == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


@every_loss
def test_permuting_the_pixels_of_an_image_permutes_the_gradient(batch, value_and_gradient, case):
    order = np.random.default_rng(0).permutation(15)

    def shuffled(values: np.ndarray) -> np.ndarray:
        return values.reshape(2, 15, -1)[:, order].reshape(values.shape)

    loss = partial(case.loss, class_weights=WEIGHTS)
    value, gradient = value_and_gradient(loss, *batch)
    found, found_gradient = value_and_gradient(loss, shuffled(batch[0]), shuffled(batch[1]))
    assert found == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(found_gradient, shuffled(gradient), rtol=1e-4, atol=1e-7)  # sums in another order


@every_loss
def test_as_many_columns_as_classes_do_not_broadcast(value_and_gradient, case):
    # W == C == 4 and H == 3: weights multiplied onto columns would tell an image from its transpose.
    generator = np.random.default_rng(3)
    labels, logits = generator.integers(0, 4, (2, 3, 4)), generator.normal(0, 2, (2, 3, 4, 4)).astype(np.float32)
    loss = partial(case.loss, class_weights=WEIGHTS)
    value, gradient = value_and_gradient(loss, labels, logits)
    turned, turned_gradient = value_and_gradient(loss, labels.swapaxes(1, 2), logits.swapaxes(1, 2))
    assert turned == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(turned_gradient.swapaxes(1, 2), gradient, rtol=1e-4, atol=1e-7)


@every_loss
def test_weights_that_are_all_1_change_nothing(batch, value_and_gradient, case):
    value, gradient = value_and_gradient(case.loss, *batch)
    found, found_gradient = value_and_gradient(partial(case.loss, class_weights=[1.0] * 4), *batch)
    assert found == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(found_gradient, gradient, rtol=1e-5, atol=1e-8)


@every_overlap_loss
def test_only_ratios_of_weights_matter_to_overlap_losses(batch, case):
    once, thrice = (float(case.loss(*batch, class_weights=np.array(WEIGHTS) * factor)) for factor in (1, 3))
    assert once == pytest.approx(thrice, rel=1e-6)


@every_loss
@pytest.mark.parametrize("void", [255, 2, -7])  # 2: a class index as void
def test_logits_at_void_change_nothing(batch, value_and_gradient, case, void):
    labels = batch[0].astype(np.int32)
    labels[labels == 2] = 0
    labels[batch[0] == VOID] = void
    is_void = labels == void
    changed = batch[1].copy()
    changed[is_void] = 1e4 * np.array([1, -1, 1, -1])
    loss = partial(case.loss, ignore_index=void, class_weights=WEIGHTS)
    value, gradient = value_and_gradient(loss, labels, batch[1])
    changed_value, changed_gradient = value_and_gradient(loss, labels, changed)
    assert changed_value == value and value > 0
    np.testing.assert_array_equal(changed_gradient, gradient)
    assert (gradient[is_void] == 0).all() and (gradient[~is_void] != 0).any()


# --- range ------------------------------------------------------------------------------------------------------------
@every_overlap_loss
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.0, 1.0, 30.0, 1e4]))
def test_overlap_losses_are_in_0_1(case, seed, spread):
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, 3, VOID], (2, 3, 3))
    logits = generator.normal(0, spread, (2, 3, 3, 4)).astype(np.float32)
    assert -1e-6 <= float(case.loss(labels, logits, class_weights=generator.random(4))) <= 1 + 1e-6  # float32 rounding


@every_loss
def test_a_perfect_prediction_scores_0(batch, value_and_gradient, case):
    labels = batch[0]
    value, gradient = value_and_gradient(partial(case.loss, class_weights=WEIGHTS), labels, certain(labels))
    if "label_smoothing" in case.options:
        assert value > 1  # smoothing forbids certainty
        return
    assert value == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@every_overlap_loss
def test_an_entirely_wrong_prediction_scores_1(case):
    labels = np.zeros((2, 64, 64), np.uint8)
    found = float(case.loss(labels, certain(np.ones_like(labels))))
    # Smoothing by s is worth at most s pixels of 4096 / 0.5; `count` averages over the two classes concerned and two
    # that are right.
    expected = 0.5 if case.counts_absent else 1
    if case.options.get("beta") == 0:
        expected /= 2  # only the class of the false positives is charged
    assert found == pytest.approx(expected, abs=2e-3)


# --- edges ------------------------------------------------------------------------------------------------------------
@every_loss
def test_absent_classes_are_no_nan(value_and_gradient, case):
    labels, logits = np.zeros((2, 3, 3), np.uint8), np.random.default_rng(0).normal(0, 1, (2, 3, 3, 4))
    value, gradient = value_and_gradient(case.loss, labels, logits.astype(np.float32))
    assert value > 0 and np.isfinite(gradient).all() and (gradient != 0).any()


@every_loss
def test_a_single_class_has_nothing_to_learn(value_and_gradient, case):
    labels, logits = np.zeros((2, 3, 3), np.uint8), np.ones((2, 3, 3, 1), np.float32)
    value, gradient = value_and_gradient(partial(case.loss, class_weights=[2.0]), labels, logits)
    assert value == 0
    np.testing.assert_allclose(gradient, 0, atol=1e-7)  # 1/18 twice, rounded in two ways


@every_loss
@pytest.mark.parametrize("jit", [False, True])
def test_no_valid_pixel_gives_zero(value_and_gradient, case, jit):
    labels, logits = np.full((2, 3, 3), VOID, np.uint8), np.full((2, 3, 3, 4), 1e4, np.float32)
    value, gradient = value_and_gradient(partial(case.loss, class_weights=WEIGHTS), labels, logits, jit=jit)
    assert value == 0 and (gradient == 0).all()


@every_loss
def test_an_image_of_void_alone_changes_nothing(batch, case):
    if case.options.get("normalize") == "all":
        return  # which counts void pixels
    labels = np.concatenate([batch[0], np.full((1, 3, 5), VOID, np.uint8)])
    logits = np.concatenate([batch[1], batch[1][:1]])
    assert float(case.loss(labels, logits)) == pytest.approx(float(case.loss(*batch)), rel=1e-6)


@every_loss
def test_only_classes_of_weight_0_give_zero(value_and_gradient, case):
    labels, logits = np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2, 2), np.float32)
    if case.counts_absent or "label_smoothing" in case.options:
        return  # the other class counts, or has a part of the target
    value, gradient = value_and_gradient(partial(case.loss, class_weights=[0.0, 1.0]), labels, logits)
    assert value == 0 and (gradient == 0).all()


@every_loss
def test_an_empty_batch_gives_zero(value_and_gradient, case):
    labels, logits = np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4, 4, 3), np.float32)
    value, gradient = value_and_gradient(case.loss, labels, logits)
    assert value == 0 and gradient.shape == logits.shape


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_extreme_logits_are_finite(value_and_gradient, case, dtype):
    labels = np.array([[[0, 1, 1], [0, VOID, 1]]], np.uint8)
    logits = np.array([[[[1e4, -1e4, -1e4]] * 3, [[-1e4, 1e4, 1e4]] * 3]], np.float32)  # right, wrong and tied
    value, gradient = value_and_gradient(case.loss, labels, logits, dtype=dtype)
    assert np.isfinite(value) and value > 0 and np.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_logits_are_computed_in_float32(batch, value_and_gradient, case, dtype):
    rounded = tf.cast(tf.cast(batch[1], dtype), tf.float32).numpy()
    value, _ = value_and_gradient(case.loss, *batch, dtype=dtype)
    assert value == value_and_gradient(case.loss, batch[0], rounded)[0]
    assert keras.backend.standardize_dtype(case.loss(batch[0], tf.cast(batch[1], dtype)).dtype) == "float32"


@every_loss
def test_a_label_that_is_no_class_makes_the_loss_nan(batch, case):
    assert np.isnan(float(case.loss(np.where(batch[0] == 3, 4, batch[0]), batch[1])))


@every_loss
def test_nan_logits_are_seen(batch, case):
    logits = batch[1].copy()
    logits[0, 0, np.argmax(batch[0][0, 0] != VOID)] = np.nan
    assert np.isnan(float(case.loss(batch[0], logits)))


# --- how losses are related -------------------------------------------------------------------------------------------
SMOOTHED = {"label_smoothing": 0.2, "normalize": "weights", "class_weights": WEIGHTS}


@pytest.mark.parametrize(
    ("loss", "limit"),
    [
        (partial(focal_loss, gamma=0.0), cross_entropy),
        (partial(top_k_cross_entropy, fraction=1.0), cross_entropy),
        (soft, cross_entropy),
        (partial(soft, **SMOOTHED), partial(cross_entropy, **SMOOTHED)),
        (partial(tversky_loss, alpha=0.5, beta=0.5, smooth=1.5), partial(dice_loss, smooth=3.0)),
        (partial(tversky_loss, gamma=1 + 1e-9), tversky_loss),
        (Combined([(1.0, CrossEntropy()), (2.0, Dice())]).call, lambda y, z: cross_entropy(y, z) + 2 * dice_loss(y, z)),
    ],
    ids=["gamma 0", "fraction 1", "one-hot", "one-hot, smoothed", "Dice", "focal Tversky, gamma to 1", "sum"],
)
def test_limits(batch, value_and_gradient, loss, limit):
    value, gradient = value_and_gradient(loss, *batch)
    expected, expected_gradient = value_and_gradient(limit, *batch)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-8)  # float32 in another order


def test_jaccard_and_dice_of_a_class_say_the_same(batch):
    labels, logits = np.zeros((1, 3, 5), np.uint8), batch[1][:1]
    jaccard = 1 - float(tversky_loss(labels, logits, alpha=1.0, beta=1.0, smooth=0.0))
    dice = 1 - float(dice_loss(labels, logits, smooth=0.0))
    assert jaccard == pytest.approx(dice / (2 - dice), rel=1e-5)
