"""Everything that one pass over a set of masks tells: class counts, co-occurrence, components, richest masks.

Statistics of disjoint sets add up exactly, in any order and grouping, so that threads, processes and machines may each
count a part: all of it is integers, and ties among the richest masks are broken by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seg.balance.counts import ClassCounts

RICHEST = 10  # masks kept a class
EXACT_AREA = 1000  # larger component areas are kept to three digits, so that memory is bounded whatever the masks


@dataclass(frozen=True)
class FileCounts:
    """What one mask contains.

    Attributes:
        size: Of the file, in bytes.
        pixels: (C + 1,) int64: the pixels of each class, then the void pixels. Of K classes that may overlap (3 K,):
            the pixels where each is present, where each is absent and where each is not labelled.
        areas: For each class the areas of its components, see `MaskStatistics.areas`; None: not measured.
        snapped: Pixels that took the nearest class colour or value, within the encoding's tolerance, or were rounded.
    """

    size: int
    pixels: np.ndarray
    areas: tuple[Counter[int], ...] | None = None
    snapped: int = 0


@dataclass(frozen=True)
class MaskStatistics:
    """What a set of masks contains.

    Attributes:
        counts: The class counts.
        co_occurrence: (C, C) int64: masks that contain both classes; on the diagonal those that contain the class.
        richest: For each class the up to `RICHEST` masks with most of its pixels, as (pixels, mask name).
        areas: For each class how many connected components (8 neighbours) have which area in pixels, areas of
            `EXACT_AREA` and more to three digits; None where components were not asked for.
        skipped: (mask name, error) of the masks that could not be read, where that was allowed.
    """

    counts: ClassCounts
    co_occurrence: np.ndarray
    richest: tuple[tuple[tuple[int, str], ...], ...]
    areas: tuple[Counter[int], ...] | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: MaskStatistics) -> MaskStatistics:
        """The statistics of both sets together.

        Raises:
            DataError: Class names, ignore_index or encoding differ.
            ValueError: Only one has components.
        """
        if (self.areas is None) != (other.areas is None):
            raise ValueError("statistics with and without components cannot be added")
        areas = None
        if self.areas is not None and other.areas is not None:
            areas = tuple(mine + theirs for mine, theirs in zip(self.areas, other.areas, strict=True))
        return MaskStatistics(
            self.counts + other.counts,
            self.co_occurrence + other.co_occurrence,
            tuple(richest([*mine, *theirs]) for mine, theirs in zip(self.richest, other.richest, strict=True)),
            areas,
            tuple(sorted(self.skipped + other.skipped)),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskStatistics) and self.to_json() == other.to_json()

    def component_rows(self) -> list[dict[str, int]] | None:
        """For each class `components` (their number) and `area_5`, `area_50`, `area_95`, percentiles of their areas in
        pixels (0 without components); None where components were not counted."""
        if self.areas is None:
            return None
        keys = ("area_5", "area_50", "area_95")
        return [
            {"components": areas.total(), **dict(zip(keys, percentiles(areas, (5, 50, 95)), strict=True))}
            for areas in self.areas
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON's own types."""
        return {
            "counts": self.counts.to_json(),
            "co_occurrence": self.co_occurrence.tolist(),
            "richest": {
                name: [{"mask": mask, "pixels": pixels} for pixels, mask in masks]
                for name, masks in zip(self.counts.names, self.richest, strict=True)
            },
            "components": self.component_rows(),
            "skipped": [{"mask": mask, "error": error} for mask, error in self.skipped],
        }


def richest(masks: Sequence[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    """The `RICHEST` of (pixels, name) with most pixels, then by name."""
    return tuple(sorted(masks, key=lambda mask: (-mask[0], mask[1]))[:RICHEST])


def area_counts(areas: np.ndarray) -> Counter[int]:
    """How many of these component areas are equal, large ones rounded down to three digits."""
    large = areas >= EXACT_AREA
    rounded = areas.copy()
    unit = 10 ** (np.floor(np.log10(areas[large])).astype(np.int64) - 2)
    rounded[large] = areas[large] // unit * unit
    values, occurrences = np.unique(rounded, return_counts=True)
    return Counter(dict(zip(values.tolist(), occurrences.tolist(), strict=True)))


def percentiles(areas: Counter[int], percents: Sequence[float]) -> list[int]:
    """The smallest area that at least p % of the components do not exceed, for each p; 0 without components."""
    if not areas:
        return [0] * len(percents)
    values = np.array(sorted(areas))
    cumulated = np.cumsum([areas[value] for value in values.tolist()])
    ranks = np.ceil(np.array(percents) / 100 * cumulated[-1])
    return values[np.searchsorted(cumulated, ranks)].tolist()
