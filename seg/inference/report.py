"""Scores for people and programs: a table, JSON, CSV and the confusion matrix as a picture."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from seg.data.storage import write_bytes
from seg.metrics.iou import Scores

COLUMNS = ("iou", "dice", "precision", "recall")
MAX_NUMBERED_CLASSES = 30  # above, numbers in the confusion matrix would be too small to read


def scores_table(scores: Scores, class_names: Sequence[str], title: str) -> Table:
    """Per-class IoU, Dice, precision, recall and support, the mean IoU below with how many classes it averages."""
    table = Table(title=title, caption=mean_iou_line(scores), caption_justify="left", title_justify="left")
    table.add_column("class")
    for column in ("IoU", "Dice", "precision", "recall", "pixels"):
        table.add_column(column, justify="right")
    for index, name in enumerate(class_names):
        values = [_shown(getattr(scores, column)[index]) for column in COLUMNS]
        table.add_row(name, *values, f"{scores.support[index]:,}")
    return table


def mean_iou_line(scores: Scores) -> str:
    """`mean IoU 0.612 over 11 classes, pixel accuracy 0.890`."""
    classes = f"{scores.num_averaged} of {len(scores.iou)} classes"
    return f"mean IoU {_shown(scores.mean_iou)} over {classes}, pixel accuracy {_shown(scores.pixel_accuracy)}"


def write_report(
    folder: Path, matrix: np.ndarray, scores: Scores, class_names: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Writes metrics.json, metrics.csv and, of classes that do not overlap, confusion_matrix.png, each in one step.

    Args:
        folder: Made if it is not there.
        matrix: (C, C) int64, rows = labels, columns = predictions; or (K, 2, 2) of multi-label classes.
        scores: Of the matrix.
        class_names: C names.
        facts: What was evaluated (checkpoint, split, image size ...); stands first in the JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "metrics.json", _json(matrix, scores, class_names, facts).encode())
    write_bytes(folder / "metrics.csv", _csv(scores, class_names).encode())
    if matrix.ndim == 2:
        write_bytes(folder / "confusion_matrix.png", confusion_matrix_png(matrix, class_names))


def confusion_matrix_png(matrix: np.ndarray, class_names: Sequence[str]) -> bytes:
    """The row-normalised confusion matrix (each row: where the pixels of a class went) as a PNG.

    A class without labelled pixels has an empty row. Above 30 classes the cells carry no numbers.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(class_names)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    side = min(3.0 + 0.45 * count, 24.0)  # inches
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # Names are taken as they are: matplotlib would read dollar signs as mathematics.
    style: dict[str, Any] = {"fontsize": min(9.0, 40.0 * side / count), "parse_math": False}
    axes.set_xticks(range(count), class_names, rotation=90, **style)
    axes.set_yticks(range(count), class_names, **style)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    axes.set_title("share of each labelled class", fontsize=10)
    if count <= MAX_NUMBERED_CLASSES:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                colour = "white" if share > 0.5 else "black"
                axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color=colour)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _json(matrix: np.ndarray, scores: Scores, class_names: Sequence[str], facts: Mapping[str, Any]) -> str:
    per_class = {
        name: {column: _number(getattr(scores, column)[index]) for column in COLUMNS}
        | {"support": int(scores.support[index])}
        for index, name in enumerate(class_names)
    }
    content = {
        **facts,
        "mean_iou": _number(scores.mean_iou),
        "classes_averaged": scores.num_averaged,
        "pixel_accuracy": _number(scores.pixel_accuracy),
        "classes": per_class,
        "confusion_matrix": matrix.tolist(),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _csv(scores: Scores, class_names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *COLUMNS, "support"])
    for index, name in enumerate(class_names):
        values = (_number(getattr(scores, column)[index]) for column in COLUMNS)
        writer.writerow([name, *("" if value is None else value for value in values), scores.support[index]])
    return text.getvalue()


def _number(value: float) -> float | None:
    """NaN has no JSON; an undefined score is null."""
    return None if math.isnan(value) else float(value)


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
