"""seg.data.sampling.draws: seeds and orders that no two draws share."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from seg.data.sampling.draws import NO_CENTRE, epoch_draws, epoch_order, numbered, sample_seed, steps_per_epoch
from seg.errors import DataError


def test_no_two_draws_share_a_seed() -> None:
    grid = itertools.product((0, 1, 2**31), range(20), range(150), range(4))
    seeds = [sample_seed(*key) for key in grid]
    assert len(set(seeds)) == len(seeds) == 3 * 20 * 150 * 4
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_a_seed_is_the_same_in_every_process() -> None:
    assert sample_seed(1, 2, 3, 4) == 15323499849503866763  # NumPy guarantees SeedSequence's stream


def test_an_order_is_a_permutation_of_its_own() -> None:
    orders = [epoch_order(50, seed, epoch).tolist() for seed in (0, 1) for epoch in range(5)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 10
    assert orders[3] == epoch_order(50, 0, 3).tolist()


def test_steps_per_epoch_by_hand() -> None:
    assert steps_per_epoch(7, 2) == 3
    assert steps_per_epoch(7, 7) == 1
    assert steps_per_epoch(3, 4, crops_per_image=3) == 2


def test_fewer_samples_than_a_batch_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"has 3 samples, 2 crops each, fewer than one batch: got batch_size 8, .* 1 to"
    ):
        steps_per_epoch(3, 8, crops_per_image=2)


def test_numbers_by_hand() -> None:
    assert numbered(np.array([4, 2, 4, 4, 2, 7])).tolist() == [0, 0, 1, 2, 1, 0]
    assert numbered(np.zeros(0, np.int64)).tolist() == []


def test_an_epoch_draws_every_crop_of_every_sample_once() -> None:
    drawn = epoch_draws(5, 3, seed=1, epoch=2, count=15)
    assert drawn.dtype == np.int64
    assert sorted(map(tuple, drawn.tolist())) == [(sample, crop, NO_CENTRE) for sample in range(5) for crop in range(3)]
    assert epoch_draws(5, 3, seed=1, epoch=2, count=6).tolist() == drawn[:6].tolist()
