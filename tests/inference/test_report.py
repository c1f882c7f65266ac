import csv
import json
import math

import numpy as np
import pytest
from rich.console import Console

from seg.errors import DataError
from seg.inference.report import (
    check_report_folder,
    difference_lines,
    difference_text,
    interval_text,
    mean_iou_line,
    results_table,
    rules_table,
    scores_table,
    shown,
    write_report,
)
from seg.metrics.iou import scores
from seg.metrics.posterior import Rule
from seg.tables import Table

# Rows = labels, columns = predictions; class c neither labelled nor predicted.
#        a  b  c
MATRIX = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]], np.int64)
NAMES = ("a", "b, c", "void-like")
# IoU a = 3 / (3 + 1) = 0.75, b = 4 / (4 + 1) = 0.8, c undefined; mean over 2 of 3 = 0.775; accuracy 7 / 8.
FILES = {"metrics.json", "metrics.csv", "per_image.csv", "reliability.png", "report.html"}


def printed(*renderables):
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    for renderable in renderables:
        console.print(renderable)
    console.file.close()
    return console.export_text()


def test_the_table_says_how_many_classes_the_mean_is_over():
    text = printed(scores_table(scores(MATRIX), NAMES, title="test: 8 images"))
    assert "test: 8 images" in text
    assert "mean IoU 0.775 over 2 of 3 classes, pixel accuracy 0.875" in text
    row = next(line for line in text.splitlines() if "void-like" in line)
    assert row.count("-") == 1 + 4  # the name's own, and four scores that are undefined


def test_a_mean_over_no_class_is_no_number():
    nothing = np.zeros((2, 2), np.int64)
    assert mean_iou_line(scores(nothing)) == "mean IoU - over 0 of 2 classes, pixel accuracy -"


def test_writes_the_files_and_nothing_else_twice(tmp_path, made_up):
    folder = tmp_path / "evaluation" / "test"
    for content in (made_up(), made_up(num_classes=4)):
        write_report(folder, content, "<p>page</p>", Table(["image"], [["0.png"]]), {"reliability": b"png"})
    assert {path.name for path in folder.iterdir()} == FILES
    assert json.loads((folder / "metrics.json").read_text()) == content
    assert len(content["classes"]) == 4
    assert (folder / "report.html").read_text() == "<p>page</p>"
    assert (folder / "per_image.csv").read_text() == "image\n0.png\n"
    assert (folder / "reliability.png").read_bytes() == b"png"


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_has_a_row_a_class_and_leaves_undefined_scores_empty(tmp_path, made_up):
    content = made_up()
    content["classes"] = {"a, b": content["classes"].pop("class 0"), **content["classes"]}
    content["classes"]["class 1"]["precision"] = None
    write_report(tmp_path, content, "", Table([], []), {})
    rows = read_csv(tmp_path / "metrics.csv")
    assert list(rows[0])[:6] == ["class", "iou", "dice", "precision", "recall", "support"]
    assert rows[0]["class"] == "a, b" and rows[1]["precision"] == ""
    assert float(rows[0]["iou"]) == content["classes"]["a, b"]["iou"]
    assert [float(rows[2][key]) for key in ("iou_low", "iou_high")] == content["classes"]["class 2"]["intervals"]["iou"]
    assert "iou_difference" not in rows[0]


def test_the_csv_has_the_differences(tmp_path, made_up):
    content = made_up(against=True)
    write_report(tmp_path, content, "", Table([], []), {})
    row = read_csv(tmp_path / "metrics.csv")[1]
    expected = content["against"]["rules"][-1]["classes"]["class 1"]["recall"]
    assert float(row["recall_difference"]) == expected["difference"]
    assert [float(row[f"recall_difference_{end}"]) for end in ("low", "high")] == expected["interval"]


def test_the_terminal_tables(made_up):
    rules = (Rule.as_trained(3), Rule("temperature", np.ones(3), 2.0, np.zeros(3)))
    content = made_up(rules=rules, against=True)
    text = printed(results_table(content, "test: 12 images"), rules_table(content["rules"]))
    row = content["classes"]["class 2"]
    line = next(line for line in text.splitlines() if "class 2" in line)
    assert f"{row['iou']:.3f} │ {interval_text(row['intervals']['iou'])}" in line
    assert f"mean IoU {content['mean_iou']:.3f} over 3 of 3 classes, interval [" in text
    assert "frequency-weighted IoU" in text and "temperature" in text
    lines = difference_lines(content["against"])
    assert lines[0] == "against runs/other (last.keras), paired over the images:"
    assert lines[1].startswith("  mean IoU, as trained: +0.") and lines[1].endswith("] better")
    assert [line.partition(":")[0] for line in lines[3:]] == ["  class 0", "  class 1", "  class 2"]


def test_a_difference_in_words():
    entry = {"difference": 0.0312, "interval": [-0.01, 0.0621], "verdict": "no difference shown"}
    assert difference_text(entry) == "+0.031 [-0.010, +0.062] no difference shown"
    entry = {"difference": None, "interval": [None, None], "verdict": "no difference shown"}
    assert difference_text(entry) == "not defined for both, no difference shown"


def test_undefined_numbers_are_dashes():
    assert [shown(value) for value in (None, math.nan, 0.12345)] == ["-", "-", "0.123"]
    assert interval_text([None, 0.5]) == "-"


def test_nan_is_never_written_as_json(tmp_path, made_up):
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_report(tmp_path, made_up() | {"cross_entropy": math.nan}, "", Table([], []), {})
    assert not list(tmp_path.iterdir())


def test_a_report_is_replaced_by_one_of_the_same_question(tmp_path):
    run, folder = tmp_path / "run", tmp_path / "out"
    check_report_folder(folder, (run, "test"))
    folder.mkdir()
    (folder / "notes.txt").write_text("beside a report")
    check_report_folder(folder, (run, "test"))
    (folder / "metrics.json").write_text(json.dumps({"run": str(run), "split": "test"}))
    check_report_folder(folder, (run, "test"))
    check_report_folder(folder, (tmp_path / "out/../run", "test"))
    told = "metrics.json: exists, and is of no report of .* allowed: another --out, or --overwrite to replace it"
    for question in ((run, "val"), (tmp_path / "other", "test")):
        with pytest.raises(DataError, match=told):
            check_report_folder(folder, question)
    check_report_folder(folder, None)
    (folder / "metrics.json").write_text("{")
    with pytest.raises(DataError, match=told):
        check_report_folder(folder, (run, "test"))
    with pytest.raises(DataError, match="metrics.json: is no folder"):
        check_report_folder(folder / "metrics.json", (run, "test"))
