"""Scores for people and programs: tables on the terminal, and the files of an evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from seg.data.files.outputs import check_folder
from seg.data.files.storage import write_bytes
from seg.errors import DataError
from seg.metrics.iou import PER_CLASS, Scores
from seg.tables import Table

CHARTS = ("reliability.png", "confusion_matrix.png")
REPORT_FILES = ("metrics.json", "metrics.csv", "per_image.csv", "report.html", *CHARTS)
CLASS_COLUMNS = (
    *PER_CLASS,
    "support",
    "boundary_f1",
    "expected_calibration_error",
    "images",
    "share",
    "weight",
    "rare",
)


def scores_table(scores: Scores, class_names: Sequence[str], title: str) -> RichTable:
    """Per-class IoU, Dice, precision, recall and support, the mean IoU below with how many classes it averages."""
    rows = []
    for index, name in enumerate(class_names):
        values = [shown(getattr(scores, column)[index]) for column in PER_CLASS]
        rows.append([name, *values, f"{scores.support[index]:,}"])
    return _drawn(("class", "IoU", "Dice", "precision", "recall", "pixels"), rows, title, mean_iou_line(scores))


def mean_iou_line(scores: Scores) -> str:
    """`mean IoU 0.612 over 11 of 11 classes, pixel accuracy 0.890`."""
    classes = f"{scores.num_averaged} of {len(scores.iou)} classes"
    return f"mean IoU {shown(scores.mean_iou)} over {classes}, pixel accuracy {shown(scores.pixel_accuracy)}"


def results_table(content: Mapping[str, Any], title: str) -> RichTable:
    """The per-class scores of an evaluation with the interval of the IoU; overall scores below."""
    rows = []
    for name, row in content["classes"].items():
        values = [shown(row[key]) for key in ("dice", "precision", "recall", "boundary_f1")]
        interval = interval_text(row["intervals"]["iou"])
        rows.append([name, shown(row["iou"]), interval, *values, f"{row['support']:,}"])
    headings = ("class", "IoU", "95 % interval", "Dice", "precision", "recall", "boundary F1", "pixels")
    return _drawn(headings, rows, title, overall_line(content))


def overall_line(content: Mapping[str, Any]) -> str:
    """Mean IoU with its interval and its number of classes, the other scores of all pixels."""
    classes = f"{content['classes_averaged']} of {len(content['classes'])} classes"
    return (
        f"mean IoU {shown(content['mean_iou'])} over {classes}, "
        f"interval {interval_text(content['intervals']['mean_iou'])}\n"
        f"frequency-weighted IoU {shown(content['frequency_weighted_iou'])}, "
        f"pixel accuracy {shown(content['pixel_accuracy'])}, "
        f"calibration error {shown(content['expected_calibration_error'])}"
    )


def rules_table(rules: Sequence[Mapping[str, Any]]) -> RichTable:
    """What each correction does: a row a rule."""
    columns = ("mean_iou", "pixel_accuracy", "expected_calibration_error", "cross_entropy")
    rows = [[rule["rule"], *(shown(rule[column]) for column in columns)] for rule in rules]
    return _drawn(["rule", *(column.replace("_", " ") for column in columns)], rows, "with and without corrections")


def _drawn(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str, caption: str | None = None) -> RichTable:
    return Table(headings, rows).rich(title=title, caption=caption, caption_justify="left", title_justify="left")


def difference_lines(against: Mapping[str, Any]) -> list[str]:
    """A line for the mean IoU under each rule and, under the last, for each class's IoU: by how much it differs from
    the other run's, and whether that is more than chance."""
    rules = against["rules"]
    lines = [f"against {against['run']} ({against['checkpoint']}), paired over the images:"]
    lines += [f"  mean IoU, {row['rule']}: {difference_text(row['mean_iou'])}" for row in rules]
    return lines + [f"  {name}: {difference_text(scores['iou'])}" for name, scores in rules[-1]["classes"].items()]


def difference_text(entry: Mapping[str, Any]) -> str:
    """`+0.031 [0.012, 0.048] better`, or `... no difference shown`."""
    if entry["difference"] is None:
        return f"not defined for both, {entry['verdict']}"
    return f"{entry['difference']:+.3f} {interval_text(entry['interval'], signed=True)} {entry['verdict']}"


def write_report(
    folder: Path,
    content: Mapping[str, Any],
    page: str,
    images: Table,
    charts: Mapping[str, bytes],
) -> None:
    """Writes metrics.json, metrics.csv, per_image.csv, report.html and the charts, each in one step.

    Args:
        folder: Made if it is not there.
        content: What was evaluated, and `seg.inference.results.split_results`.
        page: `seg.inference.page.report_page` of the same.
        images: Of per_image.csv.
        charts: PNG pictures by file name, without the suffix.
    """
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_bytes(folder / "metrics.json", text.encode())
    write_bytes(folder / "metrics.csv", _class_table(content).csv().encode())
    write_bytes(folder / "per_image.csv", images.csv().encode())
    for name, png in charts.items():
        write_bytes(folder / f"{name}.png", png)
    write_bytes(folder / "report.html", page.encode())


def check_report_folder(folder: Path, question: tuple[Path, str] | None) -> None:
    """Refuses, before the work, a folder that cannot be written to, or whose files are no report of the same question.

    Args:
        folder: For the report.
        question: The run and the split; None: whatever report is there may be replaced.

    Raises:
        DataError: Says what is in the way.
    """
    check_folder(folder)
    there = [folder / name for name in REPORT_FILES if (folder / name).exists()]
    if not there or question is None:
        return
    try:
        kept = json.loads((folder / "metrics.json").read_text("utf-8"))
        same = (Path(kept["run"]).resolve(), kept["split"]) == (question[0].resolve(), question[1])
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise DataError(
            f"{there[0]}: exists, and is of no report of {question[0]} on {question[1]}; allowed: another --out, or "
            "--overwrite to replace it"
        )


def _class_table(content: Mapping[str, Any]) -> Table:
    """A row a class with its scores, the ends of their intervals, and the differences from the other run."""
    against = content.get("against")
    ends = [f"{key}_{end}" for key in PER_CLASS for end in ("low", "high")]
    compared = [f"{key}_{part}" for key in PER_CLASS for part in ("difference", "difference_low", "difference_high")]
    rows = []
    for name, row in content["classes"].items():
        values = [row[column] for column in CLASS_COLUMNS]
        values += [value for key in PER_CLASS for value in row["intervals"][key]]
        if against:
            entries = against["rules"][-1]["classes"][name]
            values += [value for key in PER_CLASS for value in (entries[key]["difference"], *entries[key]["interval"])]
        rows.append([name, *values])
    return Table(["class", *CLASS_COLUMNS, *ends, *(compared if against else [])], rows)


def interval_text(bounds: Sequence[float | None], signed: bool = False) -> str:
    """`[0.512, 0.587]`, or `-` where there is none."""
    if any(bound is None for bound in bounds):
        return "-"
    return "[" + ", ".join(f"{bound:+.3f}" if signed else f"{bound:.3f}" for bound in bounds) + "]"


def shown(value: float | None) -> str:
    """Three decimals, `-` where a score is not defined."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
