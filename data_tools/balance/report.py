"""Mask statistics as tables, JSON, CSV, Markdown and one self-contained HTML page."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_tools.balance.advisor import (
    Recommendation,
    SchemeEffect,
    compare_schemes,
    recommend,
    scarcity_warnings,
    split_warnings,
)
from data_tools.balance.charts import co_occurrence_chart, weight_chart
from seg.balance.rare import rare_classes
from seg.balance.statistics import MaskStatistics
from seg.labels import LabelSet
from seg.pictures.class_charts import frequency_chart
from seg.pictures.pages import render
from seg.tables import Table

RARE_SHOWN = 10  # classes whose richest masks are listed, of 150 perhaps; the JSON has all
WEIGHTED_SPLIT = "train"  # weights are made from its masks; from all of them where there is no such split


class BalanceReport:
    """What a set of masks, in one or more splits, tells about class balance.

    Attributes:
        splits: Statistics by split.
        total: Of all splits together.
        weighted: Of the split that weights are made from.
        effects: What each scheme does; empty where no pixel is labelled.
        recommendation: The scheme to start with; None where no pixel is labelled.
        warnings: Sentences for the user, each once.
    """

    def __init__(self, splits: dict[str, MaskStatistics], labels: LabelSet, normalize: str = "mean_one") -> None:
        self.splits, self.labels, self.normalize = splits, labels, normalize
        first, *others = splits.values()
        self.total = sum(others, start=first)
        self.weighted = splits.get(WEIGHTED_SPLIT, self.total)
        self.effects: list[SchemeEffect] = []
        self.recommendation: Recommendation | None = None
        warnings = split_warnings({split: statistics.counts for split, statistics in splits.items()})
        if self.weighted.counts.pixel_counts.any():
            self.effects = compare_schemes(self.weighted.counts, normalize)
            self.recommendation = recommend(self.weighted.counts)
            warnings += scarcity_warnings(self.weighted)
            warnings += [warning for effect in self.effects for warning in effect.warnings]
        else:
            warnings.append(f"all {self.weighted.counts.void_pixels:,} pixels are void, there is nothing to balance")
        self.warnings = list(dict.fromkeys(warnings))

    def tables(self) -> list[Table]:
        """All of it as text, in the order to read it."""
        tables = [self._class_table(split, statistics) for split, statistics in self.splits.items()]
        if len(self.splits) > 1:
            tables.append(self._class_table("all splits", self.total))
        if self.effects:
            tables += [self._weight_table(), self._effect_table(), self._co_occurrence_table(), self._richest_table()]
        return tables

    def summary(self) -> list[str]:
        """Void, imbalance and recommendation, a line each."""
        counts = self.weighted.counts
        lines = []
        for split, statistics in self.splits.items():
            void, labelled = statistics.counts.void_pixels, int(statistics.counts.pixel_counts.sum())
            lines.append(f"void in {split}: {void:,} of {void + labelled:,} pixels ({void / (void + labelled):.2%})")
            if statistics.counts.snapped_pixels:
                snapped = statistics.counts.snapped_pixels
                share = snapped / (void + labelled)
                lines.append(
                    f"snapped to the nearest class colour or value in {split}: {snapped:,} pixels ({share:.2%})"
                )
        if self.recommendation is not None:
            present = counts.pixel_counts[counts.pixel_counts > 0]
            ratio = present.max() / present.min()
            lines.append(f"imbalance: the commonest class has {ratio:,.1f} times the rarest's pixels")
            section = ", ".join(f"{key} {value}" for key, value in self.recommendation.section.items())
            lines.append(f"recommended: {section}: {self.recommendation.reason}")
        return lines

    def charts(self) -> dict[str, bytes]:
        """PNG pictures by name; none where no pixel is labelled."""
        if not self.effects:
            return {}
        names = self.labels.names
        return {
            "frequencies": frequency_chart(self.weighted.counts, self.labels.colours),
            "weights": weight_chart(names, self.effects),
            "co_occurrence": co_occurrence_chart(names, self.weighted.co_occurrence),
        }

    def to_json(self) -> dict[str, Any]:
        """All numbers."""
        return {
            "splits": {split: statistics.to_json() for split, statistics in self.splits.items()},
            "normalize": self.normalize,
            "schemes": {
                effect.name: {
                    "weights": effect.weights.tolist(),
                    "ratio": effect.ratio,
                    "loss_shares": effect.loss_shares.tolist(),
                    "variance_factor": effect.variance_factor,
                }
                for effect in self.effects
            },
            "recommended": self.recommendation and {
                "class_weights": self.recommendation.section,
                "reason": self.recommendation.reason,
            },
            "warnings": self.warnings,
        }  # fmt: skip

    def csv(self) -> str:
        """One row a split and class: counts, shares, components where measured, and the weight by every scheme."""
        measured = self.total.areas is not None
        area_keys = ["components", "area_5", "area_50", "area_95"] if measured else []
        headings = ["split", "class", "pixels", "share", "images", "share_in_images", *area_keys]
        headings += [f"weight {effect.name}" for effect in self.effects]
        lines = []
        for split, statistics in self.splits.items():
            counts, rows = statistics.counts, statistics.component_rows()
            shares, inside = class_shares(statistics)
            for index, name in enumerate(counts.names):
                areas = [rows[index][key] for key in area_keys] if rows else []
                weights = [effect.weights[index] for effect in self.effects]
                numbers = (counts.pixel_counts[index], shares[index], counts.image_counts[index], inside[index])
                lines.append([split, name, *numbers, *areas, *weights])
        return Table(headings, lines).csv()

    def markdown(self) -> str:
        """All tables, the recommendation and the warnings."""
        parts = ["# Class balance", *(f"- {line}" for line in self.summary())]
        for table in self.tables():
            parts += ["", f"## {table.title}", "", table.markdown().rstrip()]
        if self.recommendation is not None:
            parts += ["", "## Recommended", "", self.recommendation.reason, "", "```yaml"]
            parts += [self.recommendation.yaml().rstrip(), "```"]
        if self.warnings:
            parts += ["", "## Warnings", "", *(f"- {warning}" for warning in self.warnings)]
        return "\n".join(parts) + "\n"

    def html(self) -> str:
        """One page with everything, pictures included; it loads nothing from anywhere."""
        colours = dict(zip(self.labels.names, self.labels.colours, strict=True))
        return render("data_tools.balance", "report.html", report=self, colours=colours)

    def _class_table(self, split: str, statistics: MaskStatistics) -> Table:
        counts, components = statistics.counts, statistics.component_rows()
        shares, inside = class_shares(statistics)
        headings: tuple[str, ...] = ("class", "pixels", "share %", "images", "share in them %")
        if components is not None:
            headings += ("components", "area 5 %", "median area", "area 95 %")
        rows = []
        for index, name in enumerate(counts.names):
            row: tuple[str, ...] = (name, f"{counts.pixel_counts[index]:,}", f"{100 * shares[index]:.3f}")
            row += (f"{counts.image_counts[index]:,}", f"{100 * inside[index]:.3f}")
            if components is not None:
                row += tuple(f"{number:,}" for number in components[index].values())
            rows.append(row)
        return Table(headings, rows, f"{split}: {counts.num_images:,} masks")

    def _weight_table(self) -> Table:
        rows = [
            (name, *(f"{effect.weights[index]:.4g}" for effect in self.effects))
            for index, name in enumerate(self.labels.names)
        ]
        rows.append(("max / min", *(f"{effect.ratio:.4g}" for effect in self.effects)))
        rows.append(("variance factor", *(f"{effect.variance_factor:.3g}" for effect in self.effects)))
        return Table(self._scheme_headings(), rows, f"class weights by scheme, normalised to {self.normalize}")

    def _effect_table(self) -> Table:
        rows = [
            (name, *(f"{100 * effect.loss_shares[index]:.2f}" for effect in self.effects))
            for index, name in enumerate(self.labels.names)
        ]
        title = "share of the loss in % by scheme, while all pixels have the same loss"
        return Table(self._scheme_headings(), rows, title)

    def _scheme_headings(self) -> tuple[str, ...]:
        return ("class", *(effect.name.replace("_", " ") for effect in self.effects))

    def _co_occurrence_table(self) -> Table:
        names = self.labels.names
        rows = [
            (name, *(f"{number:,}" for number in row))
            for name, row in zip(names, self.weighted.co_occurrence.tolist(), strict=True)
        ]
        return Table(("class", *names), rows, "masks that contain both classes")

    def _richest_table(self) -> Table:
        rows: list[tuple[str, ...]] = [
            (self.labels.names[index], f"{pixels:,}", mask)
            for index in rare_classes(self.weighted.counts)[:RARE_SHOWN]
            for pixels, mask in self.weighted.richest[index]
        ]
        return Table(("class", "pixels", "mask"), rows, "masks richest in the rare classes")


def class_shares(statistics: MaskStatistics) -> tuple[np.ndarray, np.ndarray]:
    """(C,) float64 twice: each class's share of the labelled pixels, and of those of the masks that contain it; 0
    where there are none."""
    counts = statistics.counts
    total = max(1, int(counts.pixel_counts.sum()))
    return counts.pixel_counts / total, counts.pixel_counts / np.maximum(1, counts.image_pixels)
