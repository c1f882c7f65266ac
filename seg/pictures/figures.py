"""Matplotlib without pyplot, which picks a backend by the display and keeps every figure alive."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from seg.labels import Colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120


def new_figure(width: float, height: float, dpi: int = DPI) -> Figure:
    """An empty figure of so many inches, whose parts make room for each other."""
    # Here and not above: the import takes longer than the count of a small dataset.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def paint(colours: Iterable[Colour]) -> list[tuple[float, ...]]:
    """RGB colours of 0 to 255 as matplotlib takes them, 0 to 1."""
    return [tuple(value / 255 for value in colour) for colour in colours]
