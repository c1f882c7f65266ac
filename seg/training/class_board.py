"""What TensorBoard shows of the classes: which are rare, their scores, shares and curves, their pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from seg.balance import ClassCounts
from seg.balance.rare import classes_below
from seg.config.tensorboard import TensorBoard
from seg.labels import LabelSet
from seg.metrics.iou import scores
from seg.metrics.pr_curve import precision_recall
from seg.pictures.panels import panel
from seg.training import event_file
from seg.training.dashboard import PER_CLASS, categories, layout
from seg.training.validation_watch import Findings, Watched

Drawing = tuple[str, Callable[[], np.ndarray]]  # a picture's tag, and what draws it
SHARES = ("pixel_share", "loss_share", "gradient_share")


class ClassBoard:
    """From the classes' numbers to TensorBoard's `Summary` messages, and to pictures that are still to be drawn.

    Attributes:
        rarest_first: All class indices.
        num_rare: How many of them, from the first on, are rare.
        tile_classes: Whose worst tiles are drawn.
        curve_classes: Whose precision-recall curves are written.
    """

    def __init__(
        self,
        labels: LabelSet,
        limits: TensorBoard,
        counts: ClassCounts | None,
        class_weights: Sequence[float] | np.ndarray | None,
    ) -> None:
        """The arguments are those of `SegmentationTensorBoard`, which says what raises a ValueError."""
        self.labels, self.limits, self.counts = labels, limits, counts
        self.class_weights = None if class_weights is None else np.asarray(class_weights, np.float64)
        self._check()
        counted = counts is not None and bool(counts.pixel_counts.any())
        shares = counts.frequencies if counts is not None and counted else np.ones(labels.num_classes)
        self.rarest_first = [int(index) for index in np.argsort(shares, kind="stable")]
        self.num_rare = len(classes_below(counts, limits.rare_share)) if counts is not None else 0
        # A class without a single training pixel is rare, but its pictures and curves would never change.
        shown = [index for index in self.rarest_first if shares[index] > 0]
        self.tile_classes = shown[: limits.tile_classes]
        chosen = limits.curve_classes
        self.curve_classes = (
            shown[:chosen] if isinstance(chosen, int) else [labels.names.index(name) for name in chosen]
        )

    def _check(self) -> None:
        if self.counts is not None and tuple(self.counts.names) != self.labels.names:
            raise ValueError(
                f"counts: got the classes {', '.join(self.counts.names)}, allowed: {', '.join(self.labels.names)}"
            )
        weights, num_classes = self.class_weights, self.labels.num_classes
        if weights is not None and weights.shape != (num_classes,):
            raise ValueError(f"class_weights: got shape {weights.shape}, allowed: ({num_classes},), one a class")
        if not isinstance(self.limits.curve_classes, int):
            for name in set(self.limits.curve_classes) - set(self.labels.names):
                raise ValueError(f"curve_classes: got '{name}', allowed: {', '.join(self.labels.names)}")

    def watched(self, samples: int | Sequence[int], sample_names: Sequence[str]) -> Watched:
        """What to look at in validation, `samples` so many or these positions."""
        positions = range(samples) if isinstance(samples, int) else samples
        names = {position: _name(position, sample_names) for position in positions}
        limits = self.limits
        return Watched(names, self.tile_classes, limits.tiles, self.curve_classes, limits.side, tuple(sample_names))

    def static_values(self, texts: Mapping[str, str]) -> list[Any]:
        """What is known before training: layout, `texts` (Markdown by tag), the class table and the chart."""
        folds = categories(self.labels.names, self.rarest_first, self.num_rare)
        values = [layout(folds), *(event_file.text(tag, markdown) for tag, markdown in texts.items())]
        if self.counts is not None:
            from seg.pictures.class_charts import share_chart

            if "classes" not in texts:
                values.append(event_file.text("classes", self._class_table(self.counts)))
            if self.counts.pixel_counts.any():
                png, width, height = share_chart(self.counts, self.labels.colours, self.class_weights)
                values.append(event_file.png_image("class_balance", png, width, height))
        return values

    def _class_table(self, counts: ClassCounts) -> str:
        """Markdown, the rarest class first."""
        rows = ["| class | pixels | share | images | weight | rare |", "|---|---:|---:|---:|---:|---|"]
        for place, index in enumerate(self.rarest_first):
            weight = "-" if self.class_weights is None else f"{self.class_weights[index]:.3f}"
            images = f"{counts.image_counts[index]:,}/{counts.num_images:,}"
            numbers = f"{counts.pixel_counts[index]:,} | {counts.frequencies[index]:.3%} | {images} | {weight}"
            rows.append(f"| {counts.names[index]} | {numbers} | {'rare' if place < self.num_rare else ''} |")
        return "\n".join([*rows, "", f"rare: below {self.limits.rare_share:.3g} of the labelled training pixels"])

    def score_values(self, matrix: np.ndarray | None) -> list[Any]:
        """Scores by class and over classes, of a matrix (C, C) or (K, 2, 2); none without one."""
        if matrix is None:
            return []
        result = scores(matrix)
        rare = result.iou[self.rarest_first[: self.num_rare]]
        values = [event_file.scalar("pixel_accuracy", result.pixel_accuracy)]
        if rare.size and not np.isnan(rare).all():
            values.append(event_file.scalar("mean_iou_rare", float(np.nanmean(rare))))
        for score in PER_CLASS[1:]:
            values += self.class_scalars(score, getattr(result, score))
        return values

    def class_scalars(self, name: str, numbers: np.ndarray) -> list[Any]:
        """name/<class> for each class; an undefined number has no point."""
        pairs = zip(self.labels.names, numbers.tolist(), strict=True)
        return [event_file.scalar(f"{name}/{class_name}", number) for class_name, number in pairs if number == number]

    def finding_values(self, findings: Findings) -> list[Any]:
        """Shares and precision-recall curves."""
        values: list[Any] = []
        if findings.shares is not None:
            for name, numbers in zip(SHARES, findings.shares, strict=True):
                values += self.class_scalars(name, numbers)
        if findings.histograms is not None:
            for index, histogram in zip(self.curve_classes, findings.histograms, strict=True):
                values.append(event_file.pr_curve(f"pr_curve/{self.labels.names[index]}", precision_recall(histogram)))
        return values

    def drawings(self, findings: Findings) -> list[Drawing]:
        """The fixed samples and the worst tiles."""
        drawings: list[Drawing] = [
            (f"overlay/{name}", partial(panel, tile, self.labels)) for name, tile in findings.samples.items()
        ]
        for index, worst in findings.worst.items():
            for place, (_, _, tile) in enumerate(worst, 1):
                tag = f"worst/{self.labels.names[index]}/{place}"
                drawings.append((tag, partial(panel, tile, self.labels, focus=index)))
        return drawings


def _name(position: int, sample_names: Sequence[str]) -> str:
    """A sample's name in tags: unique, because two pictures of one tag and step would be one."""
    if position >= len(sample_names):
        return f"{position:04d}"
    name = sample_names[position]
    return name if sample_names.count(name) == 1 else f"{name} ({position})"
