"""Which sample goes to which split: by class presence, whole groups, spatial blocks with a buffer. Plain NumPy.

A unit is what stays together: a sample, a group, a block of neighbouring tiles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from seg.data.samples.pairs import natural_key
from seg.errors import ConfigError, DataError

LEFT_OUT = -1


def stratified_split(presence: np.ndarray, sizes: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Iterative stratification: every split gets its share of every label, the rarest labels first.

    The label that the fewest units are left of is dealt out next, its units one by one: each to the split that wants
    most of this label yet, of several such to the one that wants most samples, of those to one drawn. Two things are
    added to the paper's rule. Units that weigh more go first, so that groups fit. And as soon as a label has no more
    units left than there are splits without it, those splits get them: a label of at least as many units as there are
    splits would otherwise miss the smallest splits, whose share of it rounds to nothing.

    Args:
        presence: (U, L) integers of 0 or more: how many samples of each unit have each label; all 1 or 0 where a unit
            is a sample.
        sizes: (U,) integers: samples of each unit.
        fractions: The share of each split, above 0, summing to 1.
        seed: Fixes the draws.

    Returns:
        (U,) int64: the split of each unit.

    Source: Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, algorithm 1.
    """
    generator = np.random.default_rng(seed)
    shares = np.array(fractions, np.float64)
    wanted = shares[:, None] * presence.sum(axis=0)  # (S, L) samples with the label that a split still wants
    wanted_samples = shares * sizes.sum()
    has = np.zeros(wanted.shape, bool)  # (S, L) whether a split has the label
    chosen = np.full(len(sizes), LEFT_OUT, np.int64)
    shuffled = generator.permutation(len(sizes))
    present = presence > 0
    left = present.sum(axis=0)  # (L,) units without a split that have the label

    def assign(unit: int, candidates: np.ndarray, label: int | None) -> None:
        if label is not None:
            candidates = _most(candidates, wanted[:, label])
        split = int(generator.choice(_most(candidates, wanted_samples)))
        chosen[unit] = split
        wanted[split] -= presence[unit]
        wanted_samples[split] -= sizes[unit]
        has[split] |= present[unit]
        left[present[unit]] -= 1

    def with_room(unit: int) -> np.ndarray:
        room = np.flatnonzero(wanted_samples >= sizes[unit] / 2)
        return room if len(room) else np.arange(len(shares))

    while left.any():
        label = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        units = shuffled[(chosen[shuffled] == LEFT_OUT) & present[shuffled, label]]
        for unit in units[np.argsort(-presence[units, label], kind="stable")]:
            without = np.flatnonzero(~has[:, label])
            scarce = len(without) > 0 and left[label] <= len(without)
            assign(int(unit), without if scarce else with_room(unit), label)
    for unit in shuffled[chosen[shuffled] == LEFT_OUT]:
        assign(int(unit), with_room(unit), None)
    return chosen


def _most(candidates: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Those of the candidates whose key is the largest, but for rounding."""
    return candidates[key[candidates] >= key[candidates].max() - 1e-9]


def presence_labels(counts: np.ndarray, levels: int) -> np.ndarray:
    """The labels to stratify by: for each class whether a sample has it and, level by level, whether it has much of it.

    Args:
        counts: (n, C) pixels of each class in each sample.
        levels: 1: presence only. 2: also "more of it than the median of the samples that have it", and so on by
            quantiles.

    Returns:
        (n, C * levels) int64 of 0 and 1, without the labels that no sample has.
    """
    labels = []
    for column in counts.T:
        some = column[column > 0]
        limits = [0.0, *(np.quantile(some, level / levels) for level in range(1, levels))] if len(some) else []
        labels += [column > limit for limit in limits]
    chosen = [label for label in labels if label.any()]
    return np.array(chosen, np.int64).reshape(len(chosen), len(counts)).T


def random_split(sizes: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """(U,) int64: the split of each unit, in a drawn order, each to the split that wants most samples yet."""
    return stratified_split(np.zeros((len(sizes), 0), np.int64), sizes, fractions, seed)


def grouped(groups: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """(unit of each sample, the units' names): samples of one group are one unit, a sample of group "" is its own."""
    names: dict[tuple[str, int], int] = {}
    units = [names.setdefault((group, 0 if group else index), len(names)) for index, group in enumerate(groups)]
    return np.array(units, np.int64), [group for group, _ in names]


def groups_from_pattern(names: Sequence[str], pattern: str) -> list[str]:
    """The group of each name: what the pattern's groups capture, joined by "_"; what it matches if it has none.

    Raises:
        ConfigError: The pattern is not a regular expression, or does not match a name.
    """
    matches = _matches(names, pattern, "--group")
    return ["_".join(part or "" for part in match.groups()) if match.groups() else match[0] for match in matches]


def positions_from_pattern(names: Sequence[str], pattern: str) -> tuple[list[str], np.ndarray]:
    """(source, (row, column)) of each tile from its name.

    Args:
        names: The tiles' names.
        pattern: A regular expression with the groups `row` and `col`, and `source` where tiles of several rasters lie
            in one folder, which are then no neighbours.

    Returns:
        The sources, and (n, 2) int64 rows and columns, counted in tiles.

    Raises:
        ConfigError: The pattern lacks a group, does not match a name, or captures something else than digits.
    """
    matches = _matches(names, pattern, "--position")
    missing = [group for group in ("row", "col") if group not in matches[0].re.groupindex]
    if missing:
        raise ConfigError(
            f"--position: got '{pattern}' without the group {' and '.join(missing)}, "
            r"allowed: as in '(?P<source>.+)_r(?P<row>\d+)_c(?P<col>\d+)'"
        )
    sources, positions = [], []
    for name, match in zip(names, matches, strict=True):
        found = match.groupdict()
        if not all((found[key] or "").isdecimal() for key in ("row", "col")):
            raise ConfigError(
                f"--position: in '{name}' row is {found['row']!r} and col {found['col']!r}, allowed: digits"
            )
        sources.append(found.get("source") or "")
        positions.append((int(found["row"]), int(found["col"])))
    return sources, np.array(positions, np.int64)


def consecutive_positions(names: Sequence[str]) -> np.ndarray:
    """(n, 2) int64: each name's place in natural order as its column, in row 0."""
    order = sorted(range(len(names)), key=lambda index: natural_key(names[index]))
    positions = np.zeros((len(names), 2), np.int64)
    positions[order, 1] = np.arange(len(names))
    return positions


def blocks_of(sources: Sequence[str], positions: np.ndarray, side: int) -> list[str]:
    """The name of each tile's block of `side` x `side` tiles, counted from row 0 and column 0 of its source."""
    return [
        f"{source}{'_' if source else ''}block_{row}_{column}"
        for source, (row, column) in zip(sources, (positions // side).tolist(), strict=True)
    ]


def within_buffer(sources: Sequence[str], positions: np.ndarray, splits: np.ndarray, buffer: int) -> np.ndarray:
    """Which tiles to leave out, so that kept tiles of different splits are more than `buffer` tiles apart.

    The distance is the larger one of rows and columns: with 1 a tile's eight neighbours are within it. Of two tiles
    that are too near the one of the earlier split goes: training gives way to validation, validation to the test.

    Args:
        sources: What each tile was cut from; only tiles of one source are neighbours.
        positions: (n, 2) rows and columns in tiles.
        splits: (n,) the split of each, in the order train, val, test.
        buffer: Tiles; 0 leaves out none.

    Returns:
        (n,) bool.
    """
    out = np.zeros(len(splits), bool)
    steps = range(-buffer, buffer + 1)
    place = tile_places(sources, positions)
    for (source, row, column), index in place.items():
        around = (place.get((source, row + dy, column + dx)) for dy in steps for dx in steps)
        out[index] = any(other is not None and splits[other] > splits[index] for other in around)
    return out


def tile_places(sources: Sequence[str], positions: np.ndarray) -> dict[tuple[str, int, int], int]:
    """(source, row, column) -> the index of the tile there.

    Raises:
        DataError: Two tiles are at one place.
    """
    places: dict[tuple[str, int, int], int] = {}
    for index, (source, (row, column)) in enumerate(zip(sources, positions.tolist(), strict=True)):
        if (source, row, column) in places:
            raise DataError(
                f"two tiles of source '{source}' are at row {row}, column {column}; allowed: one, so name the source "
                "in --position"
            )
        places[source, row, column] = index
    return places


def shared_pixels(
    sources: Sequence[str], positions: np.ndarray, rectangles: np.ndarray, splits: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs of tiles in different splits that have pixels in common.

    Args:
        sources: What each tile was cut from.
        positions: (n, 2) rows and columns in tiles.
        rectangles: (n, 4) first row, first column, height, width of each tile in pixels of its source.
        splits: (n,) the split of each; `LEFT_OUT` tiles are in none.
    """
    place = tile_places(sources, positions)
    pairs = []
    for (source, row, column), one in place.items():
        for step in (
            (0, 1),
            (1, -1),
            (1, 0),
            (1, 1),
            (0, 2),
            (2, 0),
            (2, 1),
            (2, -1),
            (2, 2),
            (2, -2),
            (1, 2),
            (1, -2),
        ):
            other = place.get((source, row + step[0], column + step[1]))
            if other is None or LEFT_OUT in (splits[one], splits[other]) or splits[one] == splits[other]:
                continue
            begin = np.maximum(rectangles[one, :2], rectangles[other, :2])
            end = np.minimum(rectangles[one, :2] + rectangles[one, 2:], rectangles[other, :2] + rectangles[other, 2:])
            if (begin < end).all():
                pairs.append((one, other))
    return pairs


def check_feasible(num_units: int, num_splits: int) -> None:
    """Refuses more splits than units.

    Raises:
        DataError: With what there is.
    """
    if num_units < num_splits:
        raise DataError(
            f"got {num_units} group(s) for {num_splits} splits, allowed: at least one a split; "
            "use smaller groups or blocks"
        )


def _matches(names: Sequence[str], pattern: str, option: str) -> list[re.Match[str]]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{option}: got '{pattern}', which is no regular expression: {error}") from None
    matches = []
    for name in names:
        match = compiled.search(name)
        if match is None:
            raise ConfigError(
                f"{option}: '{pattern}' does not match '{name}', allowed: a pattern that matches every name"
            )
        matches.append(match)
    return matches
