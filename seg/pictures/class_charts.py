"""Class frequencies and weights as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seg.balance.counts import ClassCounts
from seg.labels import Colour
from seg.pictures.figures import figure_png, new_figure, paint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

INCHES_PER_CLASS = 0.32
INCHES_AROUND = 1.4  # title, axis and margins
MOST_INCHES = 24.0  # of all rows of a chart with many classes
LEAST_INCHES = 3.4  # of a figure: legend and colour bar need this much beside two classes


def frequency_chart(counts: ClassCounts, colours: tuple[Colour, ...]) -> bytes:
    """A PNG with one horizontal bar a class, in the class's colour, on a logarithmic axis of pixel counts.

    A logarithmic axis, because a linear one draws every rare class as an empty line.

    Args:
        counts: What to draw.
        colours: One RGB colour (0-255) per class.

    Raises:
        DataError: No pixel is labelled.
    """
    shares = counts.frequencies
    figure, axes = class_figure(counts.names)
    axes.barh(
        range(counts.num_classes),
        counts.pixel_counts.tolist(),
        color=paint(colours),
        edgecolor="0.3",
        linewidth=0.6,
    )
    present = counts.pixel_counts[counts.pixel_counts > 0]
    left, right = present.min() / 5, present.max() * 12  # room for the smallest bar, and for the longest bar's text
    for row, (pixels, share) in enumerate(zip(counts.pixel_counts.tolist(), shares, strict=True)):
        text = f"{share:.3%}  ({pixels:,})" if pixels else "no pixel"
        axes.annotate(text, (max(pixels, left), row), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_xlabel("labelled pixels (logarithmic)")
    imbalance = f"commonest to rarest {present.max() / present.min():,.0f} : 1"
    axes.set_title(f"Class frequencies of {counts.num_images:,} masks, {imbalance}")
    return figure_png(figure)


def share_chart(
    counts: ClassCounts, colours: tuple[Colour, ...], weights: np.ndarray | None = None
) -> tuple[bytes, int, int]:
    """A PNG of each class's share of the labelled pixels and, beside it, its weight; the rarest class on top.

    Args:
        counts: What to draw.
        colours: One RGB colour (0-255) per class.
        weights: (C,), or None for the shares alone.

    Returns:
        The PNG, its width and its height in pixels.

    Raises:
        DataError: No pixel is labelled.
    """
    shares = counts.frequencies
    order = np.argsort(shares, kind="stable")
    names = [counts.names[index] for index in order]
    per_class = min(INCHES_PER_CLASS, MOST_INCHES / len(names))
    height = max(LEAST_INCHES, INCHES_AROUND + per_class * len(names))
    figure = new_figure(7.2, height, dpi=100)
    columns = [(shares[order], "share of the pixels (logarithmic)", lambda value: f"{value:.3%}")]
    if weights is not None:
        columns.append((np.asarray(weights)[order], "class weight", lambda value: f"{value:.2f}"))
    fontsize = min(9.0, 65 * per_class)
    for number, (values, title, shown) in enumerate(columns):
        axes = figure.add_subplot(1, len(columns), number + 1)
        present = values[values > 0]
        left = present.min() / 5 if number == 0 and present.size else 0.0
        axes.barh(
            range(len(names)),
            np.maximum(values, left),
            color=paint(colours[index] for index in order),
            edgecolor="0.3",
            linewidth=0.5,
        )
        for row, value in enumerate(values):
            place = (max(float(value), left), row)
            axes.annotate(shown(value), place, (3, 0), textcoords="offset points", va="center", fontsize=fontsize)
        if number == 0:
            axes.set_xscale("log")
            axes.set_xticks(
                [10.0**power for power in range(-9, 1)], [f"{10.0 ** (power + 2):g} %" for power in range(-9, 1)]
            )
            axes.minorticks_off()
        axes.set_xlim(left or None, present.max() * (30 if number == 0 else 1.25) if present.size else None)
        axes.set_yticks(range(len(names)), names if number == 0 else [""] * len(names), fontsize=fontsize)
        as_text(axes.get_yticklabels())
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title, fontsize=10)
    return figure_png(figure), round(7.2 * 100), round(height * 100)


def class_figure(names: Sequence[str], width: float = 9, spines: bool = False) -> tuple[Figure, Axes]:
    """A figure with one row a class, the first on top."""
    figure = new_figure(width, max(LEAST_INCHES, INCHES_AROUND + INCHES_PER_CLASS * len(names)))
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), names)
    as_text(axes.get_yticklabels())
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines[["top", "right"]].set_visible(spines)
    return figure, axes


def as_text(labels: Sequence[Text]) -> None:
    """Names are drawn as they are: matplotlib would read dollar signs as mathematics."""
    for label in labels:
        label.set_parse_math(False)
