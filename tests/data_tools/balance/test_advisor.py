"""What schemes do to a training: by hand, laws, a simulation as second opinion, the recommendation, the warnings."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.balance.advisor import (
    CALM_VARIANCE,
    compare_schemes,
    loss_shares,
    recommend,
    scarcity_warnings,
    split_warnings,
    variance_factor,
)
from seg.balance.counts import ClassCounts
from seg.balance.statistics import MaskStatistics
from seg.balance.weights import class_weights
from seg.errors import DataError

PIXELS = st.lists(st.integers(1, 10**9), min_size=2, max_size=12)


def counts(pixels: list[int], images: list[int] | None = None, num_images: int = 100) -> ClassCounts:
    shown = images or [num_images if number else 0 for number in pixels]
    return ClassCounts(
        tuple(f"class_{index}" for index in range(len(pixels))), 255, "index", np.array(pixels), np.array(shown),
        np.array([sum(pixels) if number else 0 for number in pixels]), 0, num_images, "0" * 64,
    )  # fmt: skip


# --- by hand ---


def test_loss_shares_by_hand() -> None:
    # 3/4 and 1/4 of the pixels, weights 1 and 2: 3/4 and 2/4 of the loss, over 5/4
    np.testing.assert_allclose(loss_shares(np.array([0.75, 0.25]), np.array([1.0, 2.0])), [0.6, 0.4], rtol=1e-15)


def test_the_variance_factor_by_hand() -> None:
    # E w^2 = 3/4 + 4/4 = 7/4, (E w)^2 = (5/4)^2
    assert variance_factor(np.array([0.75, 0.25]), np.array([1.0, 2.0])) == pytest.approx(28 / 25, rel=1e-15)


# --- laws ---


@given(PIXELS)
def test_inverse_frequency_gives_every_class_the_same_share(pixels: list[int]) -> None:
    effect = compare_schemes(counts(pixels))[1]
    assert effect.name == "inverse_frequency"
    np.testing.assert_allclose(effect.loss_shares, 1 / len(pixels), rtol=1e-9)  # rounding of float64 sums


@given(PIXELS, st.floats(1e-6, 1e6))
def test_scaling_the_weights_changes_neither(pixels: list[int], scale: float) -> None:
    frequencies = counts(pixels).frequencies
    weights = class_weights(counts(pixels), "inverse_sqrt")
    assert variance_factor(frequencies, scale * weights) == pytest.approx(variance_factor(frequencies, weights))
    np.testing.assert_allclose(loss_shares(frequencies, scale * weights), loss_shares(frequencies, weights))


@given(PIXELS)
def test_uniform_weights_have_the_smallest_factor(pixels: list[int]) -> None:
    effects = compare_schemes(counts(pixels))
    assert effects[0].variance_factor == pytest.approx(1)
    assert min(effect.variance_factor for effect in effects) >= 1 - 1e-12


@given(PIXELS)
def test_the_recommended_weights_are_calm(pixels: list[int]) -> None:
    made = counts(pixels)
    section = recommend(made).section
    weights = class_weights(made, str(section["scheme"]), cap=section.get("cap"))  # type: ignore[arg-type]
    assert variance_factor(made.frequencies, weights) <= CALM_VARIANCE


# --- a second opinion ---


def test_the_variance_factor_is_that_of_a_simulation() -> None:
    draw = np.random.default_rng(0)
    frequencies, weights = np.array([0.9, 0.08, 0.02]), np.array([0.5, 2.0, 15.0])
    classes = draw.choice(3, (4000, 500), p=frequencies)
    losses = draw.choice([-1.0, 1.0], classes.shape)  # a gradient of mean 0 and variance 1 a pixel
    weighted = (weights[classes] * losses).mean(1).var() / (frequencies @ weights) ** 2
    expected = variance_factor(frequencies, weights) * losses.mean(1).var()
    assert weighted == pytest.approx(expected, rel=0.1)  # 4000 batches: a standard error of 2 % for each variance


# --- recommendation and warnings ---


def test_balanced_classes_need_no_weights() -> None:
    recommendation = recommend(counts([100, 60, 40]))
    assert recommendation.section == {"scheme": "uniform"}
    assert recommendation.reason.startswith("the commonest class has only 2.5 times the rarest's pixels")


def test_a_calm_imbalance_needs_no_cap() -> None:
    recommendation = recommend(counts([1000, 100, 10]))
    assert recommendation.section == {"scheme": "inverse_sqrt"}
    assert recommendation.yaml() == "class_weights:\n  scheme: inverse_sqrt\n"


def test_a_wild_imbalance_gets_a_cap() -> None:
    recommendation = recommend(counts([39991, 3, 3, 3]))
    assert recommendation.section == {"scheme": "inverse_sqrt", "cap": 50}
    assert "uncapped its variance factor would be 3.8, with cap 50 it is 1.53" in recommendation.reason


def test_without_labels_there_is_no_recommendation() -> None:
    with pytest.raises(DataError, match="no class"):
        compare_schemes(counts([0, 0]))


def test_noise_and_flatness_are_warned_of() -> None:
    # inverse_frequency: the mean of w^2 is the mean over classes of 1 / (C f_c) = (1.0101 + 101.01 + 10101) / 9
    warnings = [warning for effect in compare_schemes(counts([10**6, 10**4, 100])) for warning in effect.warnings]
    assert any(warning.startswith("inverse_frequency: gradients 1133.7 times as noisy") for warning in warnings)
    assert any(warning.startswith("effective_number is flat here") for warning in warnings)


def test_scarce_classes_are_named() -> None:
    made = counts([1000, 50, 7, 0], images=[100, 50, 3, 0])
    areas = (Counter({5: 200}), Counter({5: 10}), Counter({1: 7}), Counter())
    statistics = MaskStatistics(made, np.zeros((4, 4), int), ((), (), (), ()), areas)
    assert scarcity_warnings(statistics) == [
        "few examples of class_1 (10 components), class_2 (3 masks): a weight repeats what these show, "
        "only more examples add to it"
    ]


def test_a_class_missing_from_a_split_is_named() -> None:
    splits = {"train": counts([5, 5, 0]), "val": counts([5, 0, 0])}
    assert split_warnings(splits) == ["val shows no pixel of class_1, which other splits do"]
