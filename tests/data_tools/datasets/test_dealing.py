"""Splits: by hand, laws of stratification, blocks and buffers against brute force, messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.datasets.dealing import (
    LEFT_OUT,
    blocks_of,
    check_feasible,
    consecutive_positions,
    grouped,
    groups_from_pattern,
    positions_from_pattern,
    presence_labels,
    random_split,
    shared_pixels,
    stratified_split,
    tile_places,
    within_buffer,
)
from seg.errors import ConfigError, DataError

THIRDS = (0.6, 0.2, 0.2)


def ones(number: int) -> np.ndarray:
    return np.ones(number, np.int64)


def test_a_rare_label_reaches_every_split() -> None:
    # 3 of 30 samples have it; 0.2 of 3 rounds to 1 in validation and test, and 1 is left for training
    presence = np.zeros((30, 1), np.int64)
    presence[[4, 11, 23]] = 1
    for seed in range(20):
        split = stratified_split(presence, ones(30), THIRDS, seed)
        assert sorted(split[[4, 11, 23]].tolist()) == [0, 1, 2]
        assert np.bincount(split).tolist() == [18, 6, 6]


def test_shares_by_hand() -> None:
    # 10 samples with a, 10 with b: 6, 2, 2 of each
    presence = np.repeat(np.eye(2, dtype=np.int64), 10, axis=0)
    split = stratified_split(presence, ones(20), THIRDS, 0)
    for half in (split[:10], split[10:]):
        assert np.bincount(half).tolist() == [6, 2, 2]


def test_units_that_weigh_more_go_first() -> None:
    # groups of 6, 2, 2, 1 and 1 samples into halves: 6 against 2 + 2 + 1 + 1
    split = stratified_split(np.array([[1], [2], [6], [1], [2]]), np.array([1, 2, 6, 1, 2]), (0.5, 0.5), 3)
    assert len({split[2], *split[[0, 1, 3, 4]].tolist()}) == 2
    assert len(set(split[[0, 1, 3, 4]].tolist())) == 1


@settings(max_examples=40)
@given(
    samples=st.integers(3, 60), labels=st.integers(0, 5), rarity=st.floats(0.05, 0.9), seed=st.integers(0, 2**31 - 1)
)
def test_laws_of_stratification(samples: int, labels: int, rarity: float, seed: int) -> None:
    presence = (np.random.default_rng(seed).random((samples, labels)) < rarity).astype(np.int64)
    split = stratified_split(presence, ones(samples), THIRDS, seed)
    assert set(split.tolist()) <= {0, 1, 2}  # every sample has one
    np.testing.assert_array_equal(split, stratified_split(presence, ones(samples), THIRDS, seed))
    sizes = np.bincount(split, minlength=3)
    # half a sample of rounding, and what the rule for scarce labels may override: two samples a label at most
    assert (np.abs(sizes - np.array(THIRDS) * samples) <= 1 + 2 * labels).all()


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_one_label_of_enough_units_is_in_every_split(seed: int) -> None:
    generator = np.random.default_rng(seed)
    presence = (generator.random((40, 1)) < 0.1).astype(np.int64)
    presence[generator.choice(40, 3, replace=False)] = 1
    split = stratified_split(presence, ones(40), (0.8, 0.1, 0.1), seed)
    assert set(split[presence[:, 0] > 0].tolist()) == {0, 1, 2}


def test_stratified_shares_are_nearer_than_random_ones() -> None:
    generator = np.random.default_rng(0)
    presence = (generator.random((200, 8)) < np.array([0.9, 0.5, 0.3, 0.2, 0.1, 0.08, 0.05, 0.03])).astype(np.int64)
    wanted = np.outer(THIRDS, presence.sum(axis=0))

    def deviation(split: np.ndarray) -> float:
        found = np.array([presence[split == index].sum(axis=0) for index in range(3)])
        return float(np.abs(found - wanted).sum())

    stratified = np.mean([deviation(stratified_split(presence, ones(200), THIRDS, seed)) for seed in range(5)])
    drawn = np.mean([deviation(random_split(ones(200), THIRDS, seed)) for seed in range(5)])
    assert stratified * 3 < drawn  # it is about a sixth


def test_random_splits_have_their_sizes_and_follow_the_seed() -> None:
    splits = [random_split(ones(50), THIRDS, seed) for seed in (0, 0, 1)]
    assert np.bincount(splits[0]).tolist() == [30, 10, 10]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert (splits[0] != splits[2]).any()


def test_labels_of_presence_and_of_amount_by_hand() -> None:
    counts = np.array([[5, 0, 0], [1, 2, 0], [3, 0, 0]])
    assert presence_labels(counts, 1).tolist() == [[1, 0], [1, 1], [1, 0]]  # the third class is in none
    # the median of 5, 1, 3 is 3; of the one mask with the second class, none has more than its median
    assert presence_labels(counts, 2).tolist() == [[1, 1, 0], [1, 0, 1], [1, 0, 0]]
    assert presence_labels(np.zeros((4, 2), np.int64), 3).shape == (4, 0)


def test_groups() -> None:
    units, names = grouped(["a", "", "b", "a", ""])
    assert (units.tolist(), names) == ([0, 1, 2, 0, 3], ["a", "", "b", ""])
    assert groups_from_pattern(["p1_s2", "p2_s1"], r"^(p\d+)_(s\d)") == ["p1_s2", "p2_s1"]
    assert groups_from_pattern(["p1_s2", "p2_s1"], r"^p\d+") == ["p1", "p2"]
    assert groups_from_pattern(["xa", "b"], "(x)?[ab]") == ["x", ""]


def test_positions_and_blocks() -> None:
    sources, positions = positions_from_pattern(["t_r0_c5", "u_r12_c3"], r"(?P<source>\w)_r(?P<row>\d+)_c(?P<col>\d+)")
    assert (sources, positions.tolist()) == (["t", "u"], [[0, 5], [12, 3]])
    assert blocks_of(sources, positions, 4) == ["t_block_0_1", "u_block_3_0"]
    assert positions_from_pattern(["r0_c5"], r"r(?P<row>\d+)_c(?P<col>\d+)")[0] == [""]
    assert consecutive_positions(["t10", "t2", "t1"]).tolist() == [[0, 2], [0, 1], [0, 0]]
    assert blocks_of(["", ""], np.array([[0, 3], [0, 4]]), 4) == ["block_0_0", "block_0_1"]


def test_a_buffer_by_hand() -> None:
    positions = consecutive_positions(["a", "b", "c", "d", "e", "f"])
    splits = np.array([0, 0, 1, 1, 2, 2])
    # b is next to c of a later split, d is next to e; c and e stay
    assert within_buffer([""] * 6, positions, splits, 1).tolist() == [False, True, False, True, False, False]
    assert not within_buffer([""] * 6, positions, splits, 0).any()
    assert not within_buffer(list("abcdef"), positions, splits, 3).any()  # other sources are no neighbours


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), side=st.integers(1, 4), buffer=st.integers(1, 3))
def test_kept_tiles_of_different_splits_are_farther_apart_than_the_buffer(seed: int, side: int, buffer: int) -> None:
    generator = np.random.default_rng(seed)
    positions = np.argwhere(generator.random((9, 11)) < 0.8)
    sources = ["a"] * len(positions)
    units, names = grouped(blocks_of(sources, positions, side))
    splits = generator.integers(0, 3, len(names))[units]
    out = within_buffer(sources, positions, splits, buffer)
    distances = np.abs(positions[:, None] - positions[None]).max(axis=-1)
    different = splits[:, None] != splits[None]
    near = different & (distances <= buffer)
    assert not near[np.ix_(~out, ~out)].any()
    np.testing.assert_array_equal(out, (near & (splits[:, None] < splits[None])).any(axis=1))  # and no tile for nothing


def test_tiles_that_share_pixels() -> None:
    # 10 x 10 pixels with a step of 8: neighbours share two columns, the next but one none
    positions = np.array([[0, 0], [0, 1], [0, 2]])
    rectangles = np.array([[0, 0, 10, 10], [0, 8, 10, 10], [0, 16, 10, 10]])
    assert shared_pixels(["s"] * 3, positions, rectangles, np.array([0, 1, 1])) == [(0, 1)]
    assert shared_pixels(["s"] * 3, positions, rectangles, np.array([0, LEFT_OUT, 1])) == []
    rectangles[2, 1] = 9  # shifted inwards at the edge
    assert shared_pixels(["s"] * 3, positions, rectangles, np.array([0, LEFT_OUT, 1])) == [(0, 2)]
    assert shared_pixels(["s", "t", "u"], positions, rectangles, np.array([0, 1, 2])) == []


def test_messages() -> None:
    with pytest.raises(ConfigError, match=r"--group: got '\(', which is no regular expression: missing \)"):
        groups_from_pattern(["a"], "(")
    with pytest.raises(
        ConfigError, match="--group: 'p1' does not match 'b', allowed: a pattern that matches every name"
    ):
        groups_from_pattern(["p1", "b"], "p1")
    with pytest.raises(ConfigError, match="--position: got 'r' without the group row and col, allowed: as in"):
        positions_from_pattern(["r"], "r")
    with pytest.raises(ConfigError, match="--position: in 'rx_c1' row is 'x' and col '1', allowed: digits"):
        positions_from_pattern(["rx_c1"], r"r(?P<row>\w+)_c(?P<col>\d)")
    with pytest.raises(DataError, match="two tiles of source 'a' are at row 1, column 2; allowed: one, so name the"):
        tile_places(["a", "a"], np.array([[1, 2], [1, 2]]))
    with pytest.raises(DataError, match=r"got 2 group\(s\) for 3 splits, allowed: at least one a split; use smaller"):
        check_feasible(2, 3)
