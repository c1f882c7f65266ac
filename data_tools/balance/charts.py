"""Class weights by scheme, and which classes occur together, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np

from data_tools.balance.advisor import SchemeEffect
from seg.pictures.class_charts import as_text, class_figure
from seg.pictures.figures import figure_png

NUMBERED_CLASSES = 25  # a larger heat map has no room for numbers in its cells
WEIGHT_MARKERS = "osD^vP*X"


def weight_chart(names: Sequence[str], effects: Sequence[SchemeEffect]) -> bytes:
    """A PNG with one mark a class and scheme, on a logarithmic axis of weights; a weight of 0 has no mark."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, axes = class_figure(names)
    for effect, marker in zip(effects, cycle(WEIGHT_MARKERS), strict=False):
        rows = np.flatnonzero(effect.weights)
        axes.plot(effect.weights[rows], rows, marker, label=effect.name, markersize=6, alpha=0.8)
    axes.set_xscale("log")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))  # matplotlib's labels overlap on less than a decade
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("class weight (logarithmic)")
    axes.set_title("Class weights by scheme")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return figure_png(figure)


def co_occurrence_chart(names: Sequence[str], co_occurrence: np.ndarray) -> bytes:
    """A PNG heat map: of the masks that contain the row's class, the share that contains the column's.

    Args:
        names: The C classes.
        co_occurrence: (C, C), see `seg.balance.statistics.MaskStatistics`.
    """
    containing = np.diag(co_occurrence)[:, None]
    shares = np.divide(co_occurrence, containing, out=np.full(co_occurrence.shape, np.nan), where=containing > 0)
    figure, axes = class_figure(names, width=4.5 + 0.5 * len(names), spines=True)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    as_text(axes.get_xticklabels())
    if len(names) <= NUMBERED_CLASSES:
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                colour = "white" if share < 0.6 else "black"
                axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, label="of the row's masks", format=lambda x, _: f"{x:.0%}")
    axes.set_title("Classes that occur together")
    return figure_png(figure)
