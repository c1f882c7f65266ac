"""The counts of masks whose classes may overlap, as tables, JSON and CSV: shares, and pos_weight by every scheme."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_tools.balance.advisor import COMPARED
from data_tools.balance.report import WEIGHTED_SPLIT
from seg.balance.counts import ClassCounts
from seg.balance.weights import class_weights, weight_warnings
from seg.tables import Table


class MultiLabelReport:
    """What multi-label masks, in one or more splits, tell about the balance of each class.

    Attributes:
        splits: Counts by split.
        weighted: Of the split that weights are made from: train, or all of them where there is no such split.
        pos_weights: (K,) float64 by scheme name; empty where no class is present.
        warnings: Sentences for the user, each once.
    """

    def __init__(self, splits: dict[str, ClassCounts]) -> None:
        self.splits = splits
        first, *others = splits.values()
        self.weighted = splits.get(WEIGHTED_SPLIT, sum(others, start=first))
        self.pos_weights: dict[str, np.ndarray] = {}
        warnings = weight_warnings(self.weighted, np.ones(len(self.weighted.names)), "uniform")
        if self.weighted.pixel_counts.any():
            for scheme, unit in COMPARED:
                name = f"{scheme} ({unit})" if scheme == "effective_number" else scheme
                self.pos_weights[name] = class_weights(self.weighted, scheme, unit=unit)
                warnings += weight_warnings(self.weighted, self.pos_weights[name], scheme)
        self.warnings = list(dict.fromkeys(warnings))

    def tables(self) -> list[Table]:
        """All of it as text, in the order to read it."""
        tables = [_class_table(split, counts) for split, counts in self.splits.items()]
        if self.pos_weights:
            rows = [
                (name, *(f"{weights[index]:.4g}" for weights in self.pos_weights.values()))
                for index, name in enumerate(self.weighted.names)
            ]
            tables.append(Table(("class", *map(_spaced, self.pos_weights)), rows, "pos_weight by scheme"))
        return tables

    def to_json(self) -> dict[str, Any]:
        """All numbers."""
        return {
            "splits": {
                split: counts.to_json() | {"shares": dict(zip(counts.names, counts.frequencies.tolist(), strict=True))}
                for split, counts in self.splits.items()
            },
            "pos_weights": {
                scheme: dict(zip(self.weighted.names, weights.tolist(), strict=True))
                for scheme, weights in self.pos_weights.items()
            },
            "warnings": self.warnings,
        }

    def csv(self) -> str:
        """One row a split and class: counts, share, and the pos_weight by every scheme."""
        schemes = [f"pos_weight {scheme}" for scheme in self.pos_weights]
        rows = []
        for split, counts in self.splits.items():
            columns = (counts.pixel_counts, counts.labelled_pixels, counts.frequencies, counts.image_counts)
            for index, name in enumerate(counts.names):
                weights = [weights[index] for weights in self.pos_weights.values()]
                rows.append([split, name, *(column[index] for column in columns), *weights])
        return Table(["split", "class", "present", "labelled", "share", "images", *schemes], rows).csv()


def _class_table(split: str, counts: ClassCounts) -> Table:
    rows: list[tuple[str, ...]] = [
        (name, f"{present:,}", f"{labelled:,}", f"{100 * share:.3f}", f"{images:,}")
        for name, present, labelled, share, images in zip(
            counts.names,
            counts.pixel_counts.tolist(),
            counts.labelled_pixels.tolist(),
            counts.frequencies.tolist(),
            counts.image_counts.tolist(),
            strict=True,
        )
    ]
    headings = ("class", "present pixels", "labelled pixels", "share %", "images")
    return Table(headings, rows, f"{split}: {counts.num_images:,} masks")


def _spaced(scheme: str) -> str:
    return scheme.replace("_", " ")
