from __future__ import annotations

import numpy as np
import pytest

from data_tools.checks import duplicates
from data_tools.checks.duplicates import MOST_BITS, Match, near, same
from data_tools.checks.perceptual_hash import PerceptualHash

CENTRES = (0x0123456789ABCDEF, 0xFFFF0000FFFF0000, 0x5A5A5A5A00FF00FF)


def looks(rng: np.random.Generator, number: int, flipped: int = 0) -> list[PerceptualHash]:
    """Looks with hashes of a few kinds, each with 0 to `flipped` bits flipped, and random thumbnails."""
    found = []
    for _ in range(number):
        flips = sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, flipped + 1), replace=False))
        thumbnail = rng.integers(-127, 128, 256).astype(np.int8)
        found.append(PerceptualHash(CENTRES[rng.integers(len(CENTRES))] ^ flips, thumbnail))
    return found


def brute_force(queries: list[PerceptualHash], others: list[PerceptualHash], bits: int, least: float) -> list[Match]:
    distances = [[(query.hash ^ other.hash).bit_count() for other in others] for query in queries]
    small, large = (np.stack([one.thumbnail for one in some]).astype(np.float64) for some in (queries, others))
    small, large = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in (small, large))
    matches = []
    for place, (row, values) in enumerate(zip(distances, small @ large.T, strict=True)):
        alike = [(-v, d, at) for at, (d, v) in enumerate(zip(row, values, strict=True)) if d <= bits and v >= least]
        if alike:
            value, distance, at = min(alike)
            matches.append(Match(place, at, distance, -value, len(alike)))
    return matches


@pytest.mark.parametrize("bits", [0, 1, 4, 5, 8, 9, 10, MOST_BITS])
@pytest.mark.parametrize("seed", range(3))
def test_near_finds_what_comparing_all_finds(bits, seed):
    rng = np.random.default_rng(seed)
    queries, others = looks(rng, 80, bits), looks(rng, 120, bits)  # up to twice as many bits apart as are allowed
    got, expected = near(queries, others, bits, -0.02), brute_force(queries, others, bits, -0.02)
    plain = [(match.query, match.best, match.bits, match.number) for match in got]
    assert plain == [(match.query, match.best, match.bits, match.number) for match in expected]
    assert len(got) > 40
    np.testing.assert_allclose([m.correlation for m in got], [m.correlation for m in expected], atol=1e-5)


def test_candidates_in_pieces_are_the_same(monkeypatch):
    rng = np.random.default_rng(5)
    queries, others = looks(rng, 50, 3), looks(rng, 80, 3)
    whole = near(queries, others, 8, -1)
    monkeypatch.setattr(duplicates, "COMPARED_AT_ONCE", 7)
    assert near(queries, others, 8, -1) == whole
    assert len(whole) > 40


def test_nothing_is_like_nothing():
    some = looks(np.random.default_rng(0), 3)
    assert near([], some, 8, 0.7) == near(some, [], 8, 0.7) == []


@pytest.mark.parametrize("bits", [-1, MOST_BITS + 1])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match=f"bits: got {bits}, allowed: 0 to {MOST_BITS}"):
        near([], [], bits, 0.7)


def test_same_groups_equal_digests_and_leaves_out_empty_ones():
    assert same([b"a", b"", b"b", b"a", b"", b"c", b"b", b"a"]) == [[0, 3, 7], [2, 6]]
