"""The papers' formulas by hand, epochs that hold what they promise, draws that no two share."""

from __future__ import annotations

import numpy as np
import pytest

from seg.data.sampling.draws import NO_CENTRE, epoch_order, sample_seed
from seg.data.sampling.mask_index import MaskIndex
from seg.data.sampling.sampler import ClassPresence, CropTargets, RepeatFactor, Sampler, systematic_counts
from seg.errors import ConfigError

# Four images of three classes: ground in all, road in two, boat in one.
PRESENCE = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]], bool)


def make_index(presence: np.ndarray = PRESENCE, located: tuple[int, ...] = (1, 2)) -> MaskIndex:
    """Masks of 10 x 20; a located class has three pixels, row = its image's number, columns 5 to 7 plus the class."""
    number, classes = presence.shape
    pixels = np.concatenate([presence * 3, np.zeros((number, 1), int)], axis=1)
    parts = [
        np.arange(3) + 20 * image + 5 + label if presence[image, label] else np.zeros(0, int)
        for label in located
        for image in range(number)
    ]
    return MaskIndex(
        shapes=np.tile([10, 20], (number, 1)),
        pixels=pixels.astype(np.int64),
        located=np.array(located),
        starts=np.cumsum([0, *map(len, parts)]),
        positions=np.concatenate(parts).astype(np.uint32),
    )


# --- which images -----------------------------------------------------------------------------------------------------
def test_repeat_factors_by_hand() -> None:
    """f = 1, 1/2, 1/4. t = 1: r_c = 1, sqrt 2, 2. t = 1/2: 1, 1, sqrt 2. t = 1/4: all 1."""
    assert RepeatFactor(1.0).factors(PRESENCE).tolist() == [1, pytest.approx(2**0.5), 2, 1]
    assert RepeatFactor(0.5).factors(PRESENCE).tolist() == [1, 1, pytest.approx(2**0.5), 1]
    assert RepeatFactor(0.25).factors(PRESENCE).tolist() == [1, 1, 1, 1]
    assert RepeatFactor(1.0).factors(np.zeros((2, 3), bool)).tolist() == [1, 1]  # no class: once


def test_fractions_of_repeats_are_rounded_at_random() -> None:
    """sqrt 2 = 1.414: twice in 41.4 % of the epochs; 3 crops an image: 4.243, 5 in 24.3 %."""
    generator = np.random.default_rng(0)
    for crops, factor in ((1, 2**0.5), (3, 3 * 2**0.5)):
        counts = np.array([RepeatFactor(1.0).repeats(PRESENCE, crops, generator) for _ in range(4000)])
        assert set(counts[:, 1].tolist()) == {int(factor), int(factor) + 1}
        assert counts[:, 1].mean() == pytest.approx(factor, abs=0.03)  # 4 standard errors of 0.5 / sqrt(4000)
        assert (counts[:, 2] == 2 * crops).all() and (counts[:, 0] == crops).all()


def test_class_presence_by_hand() -> None:
    """Each class a third: boat all on image 2, road half each on 1 and 2, ground a quarter each."""
    expected = np.array([1 / 12, 1 / 12 + 1 / 6, 1 / 12 + 1 / 6 + 1 / 3, 1 / 12])
    np.testing.assert_allclose(ClassPresence((1, 1, 1)).probabilities(PRESENCE), expected)
    weighted = ClassPresence((1, 1, 2)).probabilities(PRESENCE)
    np.testing.assert_allclose(weighted, [1 / 16, 1 / 16 + 1 / 8, 1 / 16 + 1 / 8 + 1 / 2, 1 / 16])
    absent = np.concatenate([PRESENCE, np.zeros((4, 1), bool)], axis=1)  # a class that no image holds takes no share
    np.testing.assert_allclose(ClassPresence((1, 1, 1, 5)).probabilities(absent), expected)


def test_systematic_counts_keep_sum_and_expectation() -> None:
    generator = np.random.default_rng(0)
    expected = np.array([0.25, 3.5, 0.0, 2.0, 1.25])
    counts = np.array([systematic_counts(expected, generator) for _ in range(4000)])
    assert (counts.sum(axis=1) == 7).all()
    assert (counts >= np.floor(expected)).all() and (counts <= np.ceil(expected)).all()
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.04)  # 5 standard errors of 0.5 / sqrt(4000)


# --- an epoch ---------------------------------------------------------------------------------------------------------
SAMPLERS = {
    "repeat factors": Sampler(make_index(), RepeatFactor(1.0)),
    "class presence": Sampler(make_index(), ClassPresence((1, 1, 1))),
    "centred": Sampler(make_index(), crops=CropTargets(0.5, (0, 1, 3), 0.5)),
    "all centred": Sampler(make_index(), crops=CropTargets(1.0, (0, 0, 1), 0.5)),
    "both": Sampler(make_index(), RepeatFactor(1.0), CropTargets(0.3, (0, 1, 1), 0.5)),
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


@every_sampler
def test_no_two_draws_of_a_run_are_the_same(sampler: Sampler) -> None:
    """Neither as (epoch, sample, crop) nor in their seeds, which are all that is random about a draw."""
    seen, seeds = set(), set()
    for epoch in range(30):
        for sample, crop, _ in sampler.draws(7, epoch, 24, 6).tolist():
            seen.add((epoch, sample, crop))
            seeds.add(sample_seed(7, epoch, sample, crop))
    assert len(seen) == len(seeds) == 30 * 24


@every_sampler
def test_an_epoch_follows_from_the_seed_alone(sampler: Sampler) -> None:
    first = sampler.draws(3, 5, 24, 6)
    assert first.dtype == np.int64 and first.shape == (24, 3)
    np.testing.assert_array_equal(first, sampler.draws(3, 5, 24, 6))
    others = [sampler.draws(3, 6, 24, 6), sampler.draws(4, 5, 24, 6)]
    if sampler is not SAMPLERS["all centred"]:  # there is one image with boats: nothing to choose
        assert not any(np.array_equal(first, other) for other in others)


def test_a_sampler_without_settings_draws_the_usual_order() -> None:
    drawn = Sampler(make_index()).draws(3, 5, 8, 2)
    assert sorted(drawn[:, 0].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3] and (drawn[:, 2] == NO_CENTRE).all()
    assert sorted(epoch_order(8, 3, 5).tolist()) == list(range(8))


def test_images_come_as_often_as_their_factors_say() -> None:
    """Shares 1 : 1.414 : 2 : 1, and of class presence 1/12, 1/4, 7/12, 1/12, over 400 epochs of 24 draws."""
    for images, expected in (
        (RepeatFactor(1.0), np.array([1, 2**0.5, 2, 1]) / (4 + 2**0.5)),
        (ClassPresence((1, 1, 1)), np.array([1, 3, 7, 1]) / 12),
    ):
        sampler = Sampler(make_index(), images)
        drawn = np.concatenate([sampler.draws(0, epoch, 24, 6)[:, 0] for epoch in range(400)])
        np.testing.assert_allclose(np.bincount(drawn) / len(drawn), expected, atol=0.015)  # 9600 draws


def test_a_share_of_the_crops_is_aimed_by_weight() -> None:
    """Half of 24 draws: 12 an epoch, of them 3 at road and 9 at boat; road in images 1 and 2 evenly, boat in 2."""
    for epoch in range(20):
        drawn = SAMPLERS["centred"].draws(0, epoch, 24, 6)
        centres = drawn[:, 2]
        assert [(centres == centre).sum() for centre in (NO_CENTRE, 0, 1, 2)] == [12, 0, 3, 9]
        assert set(drawn[centres == 2, 0].tolist()) == {2}
        assert sorted(np.bincount(drawn[centres == 1, 0], minlength=4).tolist()) == [0, 0, 1, 2]
    shares = [(SAMPLERS["both"].draws(0, epoch, 24, 6)[:, 2] != NO_CENTRE).sum() for epoch in range(500)]
    assert set(shares) == {7, 8} and np.mean(shares) == pytest.approx(7.2, abs=0.08)  # 0.3 x 24, rounded at random


def test_targets_are_pixels_of_the_class_each_as_often() -> None:
    sampler = SAMPLERS["centred"]
    places = [sampler.target(2, 2, seed) for seed in range(900)]
    assert {place.row for place in places} == {2} and {place.jitter for place in places} == {0.5}
    columns = np.bincount([place.column for place in places])
    assert np.flatnonzero(columns).tolist() == [7, 8, 9]
    assert columns[7:].min() > 240  # 300 each, 60 is 4 deviations
    assert sampler.target(2, 2, 5) == sampler.target(2, 2, 5)
    assert sampler.target(2, NO_CENTRE, 5) is None


def test_a_threshold_that_repeats_nothing_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        Sampler(make_index(), RepeatFactor(0.25))
    assert str(error.value) == (
        "sampler.images.threshold: got 0.25, which repeats no image: the rarest class is in 0.25 of them; "
        "allowed: above that"
    )
