"""The report of an evaluation as one self-contained HTML page with a sortable per-class table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import cv2
import numpy as np

from seg.inference.report import difference_text, interval_text, shown
from seg.labels import LabelSet
from seg.metrics.iou import OVERALL, PER_CLASS
from seg.pictures.pages import render
from seg.tables import Score, Table

JPEG_QUALITY = 88
PICTURE_SIDE = 360  # pixels of one part of a panel at most, so that 30 panels stay below 2 MB
PARTS = 4  # of a panel, side by side; captions and legends make it higher


@dataclass(frozen=True)
class Picture:
    """An image | labels | prediction | errors panel: (H, W, 3) uint8 RGB, and what stands below it."""

    class_name: str
    which: str
    caption: str
    pixels: np.ndarray

    def jpeg(self) -> bytes:
        """A picture of at most `PICTURE_SIDE` pixels a part; colours are kept sharp (4:4:4)."""
        height, width = self.pixels.shape[:2]
        scale = min(1.0, 1.5 * PICTURE_SIDE / height, PARTS * PICTURE_SIDE / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else self.pixels
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def report_page(
    content: Mapping[str, Any], labels: LabelSet, pictures: Sequence[Picture], charts: Mapping[str, bytes], config: str
) -> str:
    """The page; it loads nothing from anywhere.

    Args:
        content: What was evaluated, and `seg.inference.results.split_results`, with `against` where runs are compared.
        labels: Names and colours.
        pictures: Overlays of the rare classes.
        charts: PNG pictures by title, with _ for spaces.
        config: The run's configuration as YAML.
    """
    against = content.get("against")
    # A temperature changes no class: a rule that decides as the one before it is left out.
    told = [next(rows) for _, rows in groupby(against["rules"], itemgetter("classes"))] if against else []
    left_out = {"classes", "rules", "confusion_matrix", "objects", "against", "intervals", "quantiles", "date"}
    size = content["image_size"]
    return render(
        "seg.inference",
        "page.html",
        content=content,
        labels=labels,
        size=size if isinstance(size, str) else f"{size[0]} x {size[1]} pixels",
        classes=_class_table(content),
        against=against,
        against_rules=told,
        against_table=_against_table,
        overall=OVERALL,
        rules=_rule_table(content["rules"]),
        rules_by_class=_rule_class_table(content),
        objects=_object_table(content["objects"]["classes"]),
        images=_image_table(content),
        pictures=pictures,
        charts=charts,
        facts=json.dumps({key: value for key, value in content.items() if key not in left_out}, indent=1),
        config=config,
        shown=shown,
        interval=interval_text,
        difference=difference_text,
    )


def _class_table(content: Mapping[str, Any]) -> Table:
    headings = [
        "class",
        f"{content['counts_of']} share %",
        "weight",
        f"{content['split']} pixels",
        "images",
        "IoU",
        "95 % interval",
    ]
    headings += ["Dice", "precision", "recall", "boundary F1", "ECE", "IoU of images: 5 %", "median", "95 %"]
    rows = []
    for name, row in content["classes"].items():
        low, _, median, _, high = row["image_iou_quantiles"]
        rows.append(
            [
                name + (" (rare)" if row["rare"] else ""),
                Score(f"{100 * row['share']:.3f}", row["share"]),
                Score("-" if row["weight"] is None else f"{row['weight']:.3g}", row["weight"]),
                Score(f"{row['support']:,}", row["support"]),
                Score(f"{row['images']:,}", row["images"]),
                _score(row["iou"]),
                Score(interval_text(row["intervals"]["iou"]), row["intervals"]["iou"][0]),
                *(_score(row[key]) for key in ("dice", "precision", "recall", "boundary_f1")),
                _score(row["expected_calibration_error"]),
                *map(_score, (low, median, high)),
            ]
        )
    return Table(headings, rows)


def _against_table(row: Mapping[str, Any]) -> Table:
    headings = ["class", "IoU", "other's IoU", "difference", "Dice difference"]
    headings += ["precision difference", "recall difference"]
    rows = []
    for name, entries in row["classes"].items():
        differences = [Score(difference_text(entries[key]), entries[key]["difference"]) for key in PER_CLASS]
        rows.append([name, _score(entries["iou"]["ours"]), _score(entries["iou"]["theirs"]), *differences])
    return Table(headings, rows)


def _rule_table(rules: Sequence[Mapping[str, Any]]) -> Table:
    columns = (*OVERALL, "expected_calibration_error", "cross_entropy", "temperature")
    headings = ["rule", *(column.replace("_", " ") for column in columns)]
    return Table(headings, [[rule["rule"], *(_score(rule[column]) for column in columns)] for rule in rules])


def _rule_class_table(content: Mapping[str, Any]) -> Table:
    rules = content["rules"]
    columns = [(key, rule) for key in ("precision", "recall", "iou") for rule in rules]
    headings = ["class", *(f"{key} {rule['rule']}" for key, rule in columns), "weight taken out", "threshold"]
    rows = [
        [
            name,
            *(_score(rule["classes"][name][key]) for key, rule in columns),
            _score(rules[-1]["weights_removed"][name]),
            _score(rules[-1]["thresholds"][name]),
        ]
        for name in content["classes"]
    ]
    return Table(headings, rows)


def _object_table(classes: Mapping[str, Any]) -> Table | None:
    if not classes:
        return None
    sizes = list(next(iter(classes.values())))
    return Table(["class", *sizes], [[name, *(_found(row[size]) for size in sizes)] for name, row in classes.items()])


def _found(entry: Mapping[str, Any]) -> Score:
    text = f"{shown(entry['recall'])} ({entry['found']} of {entry['objects']})" if entry["objects"] else "-"
    return Score(text, entry["recall"])


def _image_table(content: Mapping[str, Any]) -> Table:
    headings = ["", *(f"{quantile:.0%}" for quantile in content["quantiles"])]
    return Table(headings, [["mean IoU of an image", *map(_score, content["image_mean_iou_quantiles"])]])


def _score(value: float | None) -> Score:
    return Score(shown(value), value)
