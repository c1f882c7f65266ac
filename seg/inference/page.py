"""The report of an evaluation as one self-contained HTML page with a sortable per-class table."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from seg.inference.report import difference_text, interval_text, shown
from seg.labels import LabelSet
from seg.metrics.iou import OVERALL, PER_CLASS
from seg.pictures.page_style import STYLE

JPEG_QUALITY = 88
PICTURE_SIDE = 360  # pixels of one part of a panel at most, so that 30 panels stay below 2 MB
PARTS = 4  # of a panel, side by side; captions and legends make it higher
Cell = str | tuple[str, float | None]  # text, or text and what it is sorted by


@dataclass(frozen=True)
class Picture:
    """An image | labels | prediction | errors panel: (H, W, 3) uint8 RGB, and what stands below it."""

    class_name: str
    which: str
    caption: str
    pixels: np.ndarray


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
    parts = [
        _summary(content),
        _class_section(content, labels),
        _against_section(content),
        _rules_section(content),
        _objects_section(content),
        _picture_section(pictures, labels),
        _images_section(content),
        *(_chart_section(title.replace("_", " "), png) for title, png in charts.items()),
        _facts_section(content, config),
    ]
    title = html.escape(f"Evaluation of {content['run']} on {content['split']}")
    return PAGE.format(title=title, style=STYLE + MORE_STYLE, body="\n".join(filter(None, parts)), script=SCRIPT)


def _summary(content: Mapping[str, Any]) -> str:
    intervals = content["intervals"]
    lines = [
        f"mean IoU {shown(content['mean_iou'])} {interval_text(intervals['mean_iou'])} over "
        f"{content['classes_averaged']} of {len(content['classes'])} classes",
        f"frequency-weighted IoU {shown(content['frequency_weighted_iou'])} "
        f"{interval_text(intervals['frequency_weighted_iou'])}, pixel accuracy {shown(content['pixel_accuracy'])} "
        f"{interval_text(intervals['pixel_accuracy'])}",
        f"expected calibration error {shown(content['expected_calibration_error'])}, cross-entropy "
        f"{shown(content['cross_entropy'])}",
        f"{content['images']} images of split {content['split']}, {_size(content['image_size'])}, checkpoint "
        f"{content['checkpoint']}, rule: {content['rules'][-1]['rule']}, views: {content['tta']}",
        f"intervals: {content['interval_method']}",
    ]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    heading = f"<h1>Evaluation of {html.escape(str(content['run']))}</h1>"
    return f'{heading}<p class="date">{html.escape(content["date"])}</p><ul>{items}</ul>'


def _class_section(content: Mapping[str, Any], labels: LabelSet) -> str:
    headings = ["class", f"{content['counts_of']} share %", "weight", f"{content['split']} pixels"]
    headings += ["images", "IoU", "95 % interval", "Dice"]
    headings += ["precision", "recall", "boundary F1", "ECE", "IoU of images: 5 %", "median", "95 %"]
    rows = []
    for name, row in content["classes"].items():
        low, _, median, _, high = row["image_iou_quantiles"]
        rows.append(
            [
                (name + (" (rare)" if row["rare"] else ""), None),
                (f"{100 * row['share']:.3f}", row["share"]),
                ("-" if row["weight"] is None else f"{row['weight']:.3g}", row["weight"]),
                (f"{row['support']:,}", row["support"]),
                (f"{row['images']:,}", row["images"]),
                _score(row["iou"]),
                (interval_text(row["intervals"]["iou"]), row["intervals"]["iou"][0]),
                *(_score(row[key]) for key in ("dice", "precision", "recall", "boundary_f1")),
                _score(row["expected_calibration_error"]),
                *(_score(value) for value in (low, median, high)),
            ]
        )
    note = "Click a heading to sort. Boundary F1 within " + f"{content['boundary_tolerance']} pixels. "
    note += f"Rare: below {content['rare_share']:.3g} of the {content['counts_of']} pixels, or else the rarest class."
    return _section("Classes", f"<p>{html.escape(note)}</p>" + _table(headings, rows, labels, sortable=True))


def _against_section(content: Mapping[str, Any]) -> str:
    against = content.get("against")
    if not against:
        return ""
    parts = [
        f"<p>Paired differences on the same images, this run minus {html.escape(against['run'])} "
        f"({html.escape(against['checkpoint'])}). '{html.escape('no difference shown')}' where the interval contains "
        "0. An interval misses the truth in 1 case of 20: with many classes, some will.</p>"
    ]
    headings = ["class", "IoU", "other's IoU", "difference", "Dice difference"]
    headings += ["precision difference", "recall difference"]
    previous = None
    for row in against["rules"]:
        if row["classes"] == previous:  # a temperature changes no class
            continue
        previous = row["classes"]
        rows: list[list[Cell]] = []
        for name, entries in row["classes"].items():
            iou = entries["iou"]
            cells: list[Cell] = [(name, None), _score(iou["ours"]), _score(iou["theirs"])]
            cells += [(difference_text(entries[key]), entries[key]["difference"]) for key in PER_CLASS]
            rows.append(cells)
        overall = "".join(
            f"<li>{key.replace('_', ' ')}: {shown(row[key]['ours'])} against {shown(row[key]['theirs'])}, "
            f"{html.escape(difference_text(row[key]))}</li>"
            for key in OVERALL
        )
        parts.append(f"<h3>{html.escape(row['rule'])}</h3><ul>{overall}</ul>{_table(headings, rows, sortable=True)}")
    return _section(f"Against {against['run']}", "".join(parts))


def _rules_section(content: Mapping[str, Any]) -> str:
    rules = content["rules"]
    if len(rules) == 1:
        return ""
    columns = (*OVERALL, "expected_calibration_error", "cross_entropy")
    headings = ["rule", *(column.replace("_", " ") for column in columns), "temperature"]
    rows = [
        [(rule["rule"], None), *(_score(rule[column]) for column in columns), _score(rule["temperature"])]
        for rule in rules
    ]
    names = list(content["classes"])
    per_class = ["class", *(f"{key} {rule['rule']}" for key in ("precision", "recall", "iou") for rule in rules)]
    per_class += ["weight taken out", "threshold"]
    class_rows: list[list[Cell]] = [
        [
            (name, None),
            *(_score(rule["classes"][name][key]) for key in ("precision", "recall", "iou") for rule in rules),
            _score(rules[-1]["weights_removed"][name]),
            _score(rules[-1]["thresholds"][name]),
        ]
        for name in names
    ]
    note = "<p>Each rule has what stands above it. A class wins where its probability divided by its threshold is "
    note += "highest. Temperature and thresholds are fitted on the val split.</p>"
    body = note + _table(headings, rows) + _table(per_class, class_rows, sortable=True)
    return _section("With and without corrections", body)


def _objects_section(content: Mapping[str, Any]) -> str:
    classes = content["objects"]["classes"]
    if not classes:
        return ""
    sizes = list(next(iter(classes.values())))
    rows: list[list[Cell]] = []
    for name, row in classes.items():
        cells: list[Cell] = [(name, None)]
        for size in sizes:
            entry = row[size]
            text = f"{shown(entry['recall'])} ({entry['found']} of {entry['objects']})" if entry["objects"] else "-"
            cells.append((text, entry["recall"]))
        rows.append(cells)
    share = content["objects"]["found_share"]
    note = f"<p>Connected labelled pixels of a rare class, found if at least {share:.0%} of them are predicted as it; "
    note += "by size in pixels.</p>"
    return _section("Objects of the rare classes", note + _table(["class", *sizes], rows))


def _images_section(content: Mapping[str, Any]) -> str:
    headings = ["", *(f"{quantile:.0%}" for quantile in content["quantiles"])]
    row: list[Cell] = [("mean IoU of an image", None), *map(_score, content["image_mean_iou_quantiles"])]
    return _section("How images differ: quantiles", _table(headings, [row]))


def _picture_section(pictures: Sequence[Picture], labels: LabelSet) -> str:
    if not pictures:
        return ""
    swatches = "".join(
        f'<span><i style="background:rgb{colour}"></i>{html.escape(name)}</span> '
        for name, colour in zip(labels.names, labels.colours, strict=True)
    )
    parts = [f'<p>Image, labels (void is black), prediction, errors.</p><p class="legend">{swatches}</p>']
    for picture in pictures:
        caption = html.escape(f"{picture.class_name}, {picture.which}: {picture.caption}")
        parts.append(f"<figure>{_jpeg(caption, picture.pixels)}<figcaption>{caption}</figcaption></figure>")
    return _section("Worst, median and best image of each rare class", "".join(parts))


def _facts_section(content: Mapping[str, Any], config: str) -> str:
    left_out = {"classes", "rules", "confusion_matrix", "objects", "against", "intervals", "quantiles", "date"}
    facts = {key: value for key, value in content.items() if key not in left_out}
    body = f"<pre>{html.escape(json.dumps(facts, indent=1))}</pre>"
    config_part = f"<details><summary>configuration</summary><pre>{html.escape(config)}</pre></details>"
    return _section("What was evaluated, with what", body + config_part)


def _table(
    headings: Sequence[str], rows: Iterable[Sequence[Cell]], labels: LabelSet | None = None, *, sortable: bool = False
) -> str:
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    colours = list(labels.colours) if labels else []
    lines = []
    for number, row in enumerate(rows):
        cells = [cell if isinstance(cell, tuple) else (cell, None) for cell in row]
        swatch = f'<i style="background:rgb{colours[number]}"></i>' if colours else ""
        first = f"<th>{swatch}{html.escape(cells[0][0])}</th>"
        others = "".join(
            f'<td data-value="{"" if value is None else repr(float(value))}">{html.escape(text)}</td>'
            for text, value in cells[1:]
        )
        lines.append(f"<tr>{first}{others}</tr>")
    body = "\n".join(lines)
    style = ' class="sortable"' if sortable else ""
    return f"<table{style}><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _chart_section(title: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return _section(title.capitalize(), f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">')


def _jpeg(title: str, pixels: np.ndarray) -> str:
    """A picture of at most `PICTURE_SIDE` pixels a part; colours are kept sharp (4:4:4)."""
    scale = min(1.0, 1.5 * PICTURE_SIDE / pixels.shape[0], PARTS * PICTURE_SIDE / pixels.shape[1])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    return f'<img alt="{title}" src="data:image/jpeg;base64,{base64.b64encode(encoded).decode()}">'


def _score(value: float | None) -> tuple[str, float | None]:
    return shown(value), value


def _size(size: Any) -> str:
    return size if isinstance(size, str) else f"{size[0]} x {size[1]} pixels"


MORE_STYLE = """
body { max-width: 104rem }
table { margin-bottom: 1rem }
h3 { font-size: 1rem; margin: 1rem 0 .3rem }
figure { display: inline-block; margin: 0 1.2rem 1.2rem 0 }
figure img { margin: 0 0 .2rem }
figcaption, .date { color: #666; font-size: .9em; margin: 0 }
.legend span { display: inline-block; margin-right: .9em; white-space: nowrap }
.sortable thead th { cursor: pointer }
.sortable thead th:hover { background: #eef3fa }
thead th { position: sticky; top: 0; background: #fff }
"""
SCRIPT = """
for (const head of document.querySelectorAll(".sortable thead th")) {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0], column = head.cellIndex;
    const down = head.dataset.order !== "down";
    for (const other of head.parentNode.children) delete other.dataset.order;
    head.dataset.order = down ? "down" : "up";
    const value = row => {
      const cell = row.cells[column];
      if (column === 0) return cell.textContent;
      return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
    };
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (column === 0) return down ? x.localeCompare(y) : y.localeCompare(x);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return down ? y - x : x - y;
    });
    body.append(...rows);
  });
}
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>
<body>
{body}
<script>{script}</script>
</body></html>
"""
