"""The class frequencies as a picture."""

from __future__ import annotations

import os
from pathlib import Path

from seg.balance.counts import ClassCounts
from seg.labels import Colour

INCHES_PER_CLASS = 0.32
INCHES_AROUND = 1.4  # title, axis and margins


def save_frequency_chart(counts: ClassCounts, colours: tuple[Colour, ...], path: Path) -> None:
    """Writes a PNG with one horizontal bar a class, in the class's colour, on a logarithmic axis of pixel counts.

    A logarithmic axis, because a linear one draws every rare class as an empty line.

    Args:
        counts: What to draw.
        colours: One RGB colour (0-255) per class.
        path: The PNG to write.

    Raises:
        DataError: No pixel is labelled.
    """
    # Here and not above: the import takes longer than the count of a small dataset. No pyplot: it picks a backend by
    # the display, and keeps every figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = counts.frequencies
    figure = Figure(figsize=(9, INCHES_AROUND + INCHES_PER_CLASS * counts.num_classes), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(
        range(counts.num_classes),
        counts.pixel_counts.tolist(),
        color=[tuple(value / 255 for value in colour) for colour in colours],
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
    axes.set_yticks(range(counts.num_classes), counts.names)
    axes.set_ylim(counts.num_classes - 0.4, -0.6)  # the first class on top
    axes.set_xlabel("labelled pixels (logarithmic)")
    imbalance = f"commonest to rarest {present.max() / present.min():,.0f} : 1"
    axes.set_title(f"Class frequencies of {counts.num_images:,} masks, {imbalance}")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    FigureCanvasAgg(figure).print_png(temporary)
    os.replace(temporary, path)
