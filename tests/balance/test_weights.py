"""Class weights: by hand, laws, scikit-learn as a second opinion, edges, messages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from seg.balance.counts import ClassCounts
from seg.balance.weights import (
    NORMALIZATIONS,
    SCHEMES,
    cap_weights,
    class_weights,
    effective_number,
    inverse_frequency,
    inverse_sqrt,
    inverse_square,
    log_frequency,
    median_frequency,
    normalize_weights,
    uniform,
    weight_warnings,
)
from seg.errors import ConfigError, DataError

COMPUTED_SCHEMES = tuple(scheme for scheme in SCHEMES if scheme != "manual")
PIXEL_SCHEMES = ("uniform", "inverse_frequency", "inverse_square", "inverse_sqrt", "log_frequency")


def make_counts(
    pixels: list[int], images: list[int] | None = None, image_pixels: list[int] | None = None, num_images: int = 10
) -> ClassCounts:
    """Counts of which only what the weights read is chosen; by default every present class is in every image."""
    pixel_counts = np.array(pixels, np.int64)
    present = pixel_counts > 0
    return ClassCounts(
        names=tuple(f"class_{index}" for index in range(len(pixels))),
        ignore_index=255,
        encoding="index",
        pixel_counts=pixel_counts,
        image_counts=present * num_images if images is None else np.array(images, np.int64),
        image_pixels=present * pixel_counts.sum() if image_pixels is None else np.array(image_pixels, np.int64),
        void_pixels=0,
        num_images=num_images,
        fingerprint="0" * 64,
    )


@st.composite
def some_counts(draw: st.DrawFn) -> ClassCounts:
    """2 to 8 present classes with consistent counts: n_c <= image_pixels_c <= N, 1 <= images_c <= num_images."""
    pixels = draw(st.lists(st.integers(1, 10**11), min_size=2, max_size=8))
    images = draw(st.lists(st.integers(1, 500), min_size=len(pixels), max_size=len(pixels)))
    image_pixels = [draw(st.integers(count, sum(pixels))) for count in pixels]
    return make_counts(pixels, images, image_pixels, num_images=500)


# --- by hand ---

PIXELS = np.array([600, 300, 100])  # N = 1000, C = 3, f = .6 .3 .1


def test_inverse_schemes_by_hand() -> None:
    # N / (C n) = 1000 / 1800, 1000 / 900, 1000 / 300 = 5/9, 10/9, 10/3
    np.testing.assert_allclose(inverse_frequency(PIXELS), [5 / 9, 10 / 9, 10 / 3], rtol=1e-15)
    np.testing.assert_allclose(inverse_square(PIXELS), [25 / 81, 100 / 81, 100 / 9], rtol=1e-15)
    np.testing.assert_allclose(inverse_sqrt(PIXELS), np.sqrt([5 / 9, 10 / 9, 10 / 3]), rtol=1e-15)
    np.testing.assert_array_equal(uniform(PIXELS), [1, 1, 1])


def test_median_frequency_by_hand() -> None:
    # freq = 600/1000, 300/600, 100/125 = .6 .5 .8; median .6; weights .6/.6, .6/.5, .6/.8. The class with the fewest
    # pixels gets the smallest weight, because it fills the images that it is in.
    weights = median_frequency(PIXELS, np.array([1000, 600, 125]))
    np.testing.assert_allclose(weights, [1, 1.2, 0.75], rtol=1e-15)


def test_log_frequency_by_hand() -> None:
    # 1.02 + .6, 1.02 + .3, 1.02 + .1
    expected = [1 / math.log(1.62), 1 / math.log(1.32), 1 / math.log(1.12)]  # 2.07, 3.60, 8.82
    np.testing.assert_allclose(log_frequency(PIXELS), expected, rtol=1e-14)


def test_effective_number_by_hand() -> None:
    # beta 1/2: (1/2) / (1 - 1/2), (1/2) / (1 - 1/4), (1/2) / (1 - 1/8) = 1, 2/3, 4/7
    np.testing.assert_allclose(effective_number(np.array([1, 2, 3]), 6, 0.5), [1, 2 / 3, 4 / 7], rtol=1e-14)
    # auto with M = 2 is the same beta
    np.testing.assert_allclose(effective_number(np.array([1, 2]), 2, "auto"), [1, 2 / 3], rtol=1e-14)


def test_effective_number_units() -> None:
    counts = make_counts([900, 100], images=[4, 2], num_images=4)
    by_images = class_weights(counts, "effective_number", normalize="none", beta=0.5, unit="images")
    np.testing.assert_allclose(by_images, [8 / 15, 2 / 3], rtol=1e-14)  # .5 / (1 - 1/16), .5 / (1 - 1/4)
    by_pixels = class_weights(counts, "effective_number", normalize="none", beta=0.99, unit="pixels")
    np.testing.assert_allclose(by_pixels, [0.01 / (1 - 0.99**900), 0.01 / (1 - 0.99**100)], rtol=1e-12)


def test_normalizations_by_hand() -> None:
    weights = np.array([1.0, 2.0, 5.0])
    frequencies = PIXELS / 1000
    # sum f w = .6 + .6 + .5 = 1.7; sum w = 8
    np.testing.assert_allclose(normalize_weights(weights, frequencies, "mean_one"), weights / 1.7, rtol=1e-15)
    np.testing.assert_allclose(normalize_weights(weights, frequencies, "sum_one"), weights / 8, rtol=1e-15)
    np.testing.assert_allclose(normalize_weights(weights, frequencies, "sum_classes"), weights * 3 / 8, rtol=1e-15)
    np.testing.assert_array_equal(normalize_weights(weights, frequencies, "none"), weights)


def test_cap_clips_from_above_and_leaves_zero_weights() -> None:
    np.testing.assert_array_equal(cap_weights(np.array([0.0, 1.0, 3.0, 90.0]), 10), [0, 1, 3, 10])


def test_cap_comes_before_the_normalization() -> None:
    # inverse frequency 5/9 10/9 10/3 capped at 3 * 5/9: 5/9 10/9 15/9, so 1 : 2 : 3; sum f w = .6 + .6 + .3 = 1.5
    weights = class_weights(make_counts([600, 300, 100]), "inverse_frequency", cap=3)
    np.testing.assert_allclose(weights, np.array([1, 2, 3]) / 1.5, rtol=1e-14)


def test_manual_by_name_in_any_order() -> None:
    counts = make_counts([600, 300, 100])
    given_weights = {"class_2": 4.0, "class_0": 1.0, "class_1": 2.0}
    np.testing.assert_array_equal(class_weights(counts, "manual", normalize="none", manual=given_weights), [1, 2, 4])


# --- second opinions ---


@pytest.mark.parametrize("pixels", [[600, 300, 100], [7, 1], [1, 2, 3, 4, 5]])
def test_inverse_frequency_is_sklearns_balanced(pixels: list[int]) -> None:
    every_label = np.repeat(np.arange(len(pixels)), pixels)
    theirs = compute_class_weight("balanced", classes=np.arange(len(pixels)), y=every_label)
    np.testing.assert_allclose(inverse_frequency(np.array(pixels)), theirs, rtol=1e-15)


def test_effective_number_against_exact_arithmetic() -> None:
    # Integer arithmetic, no rounding at all: 1 - beta = 1/1000, m = 50: (1/1000) / (1 - (999/1000)^50)
    exact = (1000**49) / (1000**50 - 999**50)
    assert effective_number(np.array([50]), 1000, "auto")[0] == pytest.approx(exact, rel=1e-14)


def test_effective_number_auto_keeps_its_digits_on_pixel_counts() -> None:
    # M = 1e11 pixels: w_c M -> 1 / (1 - exp(-m_c / M)); via beta = (M - 1) / M the logarithm would be off by 1e-6.
    total = 10**11
    samples = np.array([9 * 10**10, 10**10])
    expected = 1 / -np.expm1(-samples / total)
    np.testing.assert_allclose(effective_number(samples, total, "auto") * total, expected, rtol=1e-10)


# --- laws ---


@settings(deadline=None)
@given(some_counts(), st.sampled_from(COMPUTED_SCHEMES), st.sampled_from([None, 1.0, 3.0, 100.0]))
def test_mean_one_keeps_the_scale_of_the_loss(counts: ClassCounts, scheme: str, cap: float | None) -> None:
    weights = class_weights(counts, scheme, cap=cap)
    assert counts.frequencies @ weights == pytest.approx(1, abs=1e-12)  # a handful of roundings of 1e-16


@settings(deadline=None)
@given(some_counts(), st.sampled_from(COMPUTED_SCHEMES))
def test_the_sums_of_the_other_normalizations(counts: ClassCounts, scheme: str) -> None:
    assert class_weights(counts, scheme, normalize="sum_one").sum() == pytest.approx(1, abs=1e-12)
    sum_classes = class_weights(counts, scheme, normalize="sum_classes").sum()
    assert sum_classes == pytest.approx(counts.num_classes, abs=1e-11)


@settings(deadline=None)
@given(some_counts(), st.sampled_from(COMPUTED_SCHEMES), st.sampled_from(NORMALIZATIONS), st.floats(1, 1000))
def test_the_cap_bounds_the_ratio(counts: ClassCounts, scheme: str, normalize: str, cap: float) -> None:
    weights = class_weights(counts, scheme, normalize=normalize, cap=cap)
    assert weights.max() / weights.min() <= cap * (1 + 1e-12)


@settings(deadline=None)
@given(some_counts(), st.sampled_from(COMPUTED_SCHEMES), st.sampled_from(NORMALIZATIONS))
def test_a_cap_above_the_ratio_changes_nothing(counts: ClassCounts, scheme: str, normalize: str) -> None:
    free = class_weights(counts, scheme, normalize=normalize)
    capped = class_weights(counts, scheme, normalize=normalize, cap=1e30)
    np.testing.assert_array_equal(free, capped)


@settings(deadline=None)
@given(some_counts(), st.integers(2, 1000), st.sampled_from([*PIXEL_SCHEMES, "median_frequency"]))
def test_scaling_all_counts_changes_nothing(counts: ClassCounts, factor: int, scheme: str) -> None:
    scaled = make_counts(
        (counts.pixel_counts * factor).tolist(),
        counts.image_counts.tolist(),
        (counts.image_pixels * factor).tolist(),
        counts.num_images,
    )
    np.testing.assert_allclose(class_weights(counts, scheme), class_weights(scaled, scheme), rtol=1e-12)


@settings(deadline=None)
@given(some_counts(), st.sampled_from(COMPUTED_SCHEMES), st.sampled_from(["images", "pixels"]))
def test_a_rarer_class_never_gets_a_smaller_weight(counts: ClassCounts, scheme: str, unit: str) -> None:
    """What 'rare' means is the scheme's own: pixels, the share within its images, or samples."""
    abundance = counts.pixel_counts / 1
    if scheme == "median_frequency":
        abundance = counts.pixel_counts / counts.image_pixels
    if scheme == "effective_number" and unit == "images":
        abundance = counts.image_counts / 1
    weights = class_weights(counts, scheme, unit=unit)
    from_rare_to_common = weights[np.argsort(abundance, kind="stable")]
    assert (np.diff(from_rare_to_common) <= 1e-12 * weights.max()).all()


@settings(deadline=None)
@given(some_counts(), st.sampled_from(COMPUTED_SCHEMES), st.randoms(use_true_random=False))
def test_permuting_the_classes_permutes_the_weights(counts: ClassCounts, scheme: str, random: object) -> None:
    order = list(range(counts.num_classes))
    random.shuffle(order)  # type: ignore[attr-defined]
    permuted = make_counts(
        counts.pixel_counts[order].tolist(),
        counts.image_counts[order].tolist(),
        counts.image_pixels[order].tolist(),
        counts.num_images,
    )
    np.testing.assert_allclose(class_weights(permuted, scheme), class_weights(counts, scheme)[order], rtol=1e-12)


@pytest.mark.parametrize("scheme", COMPUTED_SCHEMES)
def test_balanced_counts_give_every_class_weight_one(scheme: str) -> None:
    np.testing.assert_allclose(class_weights(make_counts([50, 50, 50]), scheme), 1, rtol=1e-14)


# --- edges ---


@pytest.mark.parametrize("scheme", COMPUTED_SCHEMES)
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_an_absent_class_gets_weight_zero(scheme: str, normalize: str) -> None:
    weights = class_weights(make_counts([600, 0, 100]), scheme, normalize=normalize, cap=5)
    assert weights[1] == 0
    assert (weights[[0, 2]] > 0).all()
    assert weights.dtype == np.float64


def test_an_absent_class_does_not_move_the_median() -> None:
    with_absent = class_weights(make_counts([600, 0, 300, 100]), "median_frequency", normalize="none")
    without = class_weights(make_counts([600, 300, 100]), "median_frequency", normalize="none")
    np.testing.assert_array_equal(with_absent[[0, 2, 3]], without)


def test_manual_weight_of_an_absent_class_is_dropped() -> None:
    manual = {"class_0": 1.0, "class_1": 9.0}
    counts = make_counts([10, 0])
    np.testing.assert_array_equal(class_weights(counts, "manual", manual=manual), [1, 0])


def test_beta_zero_is_uniform_and_one_image_too() -> None:
    np.testing.assert_array_equal(effective_number(np.array([5, 1, 0]), 6, 0), [1, 1, 0])
    np.testing.assert_array_equal(effective_number(np.array([1, 1, 0]), 1, "auto"), [1, 1, 0])


def test_extreme_counts_stay_finite() -> None:
    counts = make_counts([10**15, 1])
    for scheme in COMPUTED_SCHEMES:
        assert np.isfinite(class_weights(counts, scheme)).all(), scheme


# --- warnings and messages ---


def test_warning_for_an_absent_class() -> None:
    counts = make_counts([600, 0, 100])
    (message,) = weight_warnings(counts, class_weights(counts, "inverse_frequency"), "inverse_frequency")
    assert message == "no labelled pixel of class_1 in 10 masks: weight 0, so the model cannot learn it"


def test_warning_for_a_flat_effective_number() -> None:
    counts = make_counts([900_000, 700_000, 60_000])
    weights = class_weights(counts, "effective_number", beta=0.9999, unit="pixels")
    np.testing.assert_allclose(weights, [0.9999, 0.9999, 1.0024], atol=1e-4)  # MATHS: flat
    (message,) = weight_warnings(counts, weights, "effective_number")
    assert "effective_number is flat here: the largest weight is 1.0025 times the smallest" in message
    assert "the pixel counts differ 15 times" in message
    assert "'auto'" in message


def test_no_warning_without_a_reason() -> None:
    counts = make_counts([900_000, 700_000, 60_000])
    for scheme, unit in [("inverse_sqrt", "images"), ("effective_number", "pixels")]:
        assert weight_warnings(counts, class_weights(counts, scheme, unit=unit), scheme) == []
    balanced = make_counts([50, 50])
    assert weight_warnings(balanced, class_weights(balanced, "effective_number"), "effective_number") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"scheme": "inverse_freq"},
            "class_weights.scheme: got 'inverse_freq' (nearest: 'inverse_frequency'), allowed: "
            "uniform, inverse_frequency, inverse_square, inverse_sqrt, median_frequency, log_frequency, "
            "effective_number, manual",
        ),
        (
            {"scheme": "uniform", "normalize": "mean"},
            "class_weights.normalize: got 'mean' (nearest: 'mean_one'), allowed: mean_one, sum_one, sum_classes, none",
        ),
        ({"scheme": "uniform", "cap": 0.5}, "class_weights.cap: got 0.5, allowed: 1 or more"),
        ({"scheme": "uniform", "cap": math.nan}, "class_weights.cap: got nan, allowed: 1 or more"),
        ({"scheme": "effective_number", "beta": 1.0}, "class_weights.beta: got 1.0, allowed: 0 <= beta < 1, or auto"),
        ({"scheme": "effective_number", "beta": -0.1}, "class_weights.beta: got -0.1"),
        (
            {"scheme": "effective_number", "unit": "image"},
            "class_weights.unit: got 'image' (nearest: 'images'), allowed: images, pixels",
        ),
        ({"scheme": "manual"}, "class_weights.manual: missing, scheme 'manual' needs one weight per class name"),
        ({"scheme": "uniform", "manual": {"road": 1.0}}, "class_weights.manual: has no effect with scheme 'uniform'"),
        (
            {"scheme": "manual", "manual": {"class_0": 1.0, "clas_1": 2.0}},
            "class_weights.manual: 'clas_1' is no class "
            "(nearest: 'class_1'); no weight for class_1. Allowed: one weight for each of class_0, class_1",
        ),
        (
            {"scheme": "manual", "manual": {"class_0": -1.0, "class_1": math.inf}},
            "'class_0' has weight -1.0, allowed: 0 or more, finite; 'class_1' has weight inf",
        ),
        (
            {"scheme": "manual", "manual": {"class_0": 0.0, "class_1": 0.0}},
            "every class that the masks show has weight 0",
        ),
    ],
)
def test_messages(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        class_weights(make_counts([600, 400]), **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_masks_without_any_label_have_no_weights() -> None:
    with pytest.raises(DataError, match="no class weights: the 10 counted masks have no labelled pixel"):
        class_weights(make_counts([0, 0]), "uniform")
