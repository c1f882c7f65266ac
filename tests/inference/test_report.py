import csv
import json
import math

import cv2
import numpy as np
import pytest
from rich.console import Console

from seg.inference.report import confusion_matrix_png, mean_iou_line, scores_table, write_report
from seg.metrics.iou import scores

# Rows = labels, columns = predictions; class c neither labelled nor predicted.
#        a  b  c
MATRIX = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]], np.int64)
NAMES = ("a", "b, c", "void-like")
# IoU a = 3 / (3 + 1) = 0.75, b = 4 / (4 + 1) = 0.8, c undefined; mean over 2 of 3 = 0.775; accuracy 7 / 8.


@pytest.fixture
def folder(tmp_path):
    facts = {"run": "runs/x", "split": "test"}
    write_report(tmp_path / "evaluation" / "test", MATRIX, scores(MATRIX), NAMES, facts)
    return tmp_path / "evaluation" / "test"


def test_only_the_three_files_are_left(folder):
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "metrics.csv", "confusion_matrix.png"}


def test_writing_again_replaces_the_report(folder):
    other = np.diag([1, 1, 1])
    write_report(folder, other, scores(other), NAMES, {})
    assert json.loads((folder / "metrics.json").read_text())["mean_iou"] == 1.0
    assert len(list(folder.iterdir())) == 3


def test_json_has_the_facts_first_and_null_where_a_score_is_undefined(folder):
    content = json.loads((folder / "metrics.json").read_text())
    assert list(content)[:2] == ["run", "split"]
    assert content["mean_iou"] == pytest.approx(0.775)
    assert content["classes_averaged"] == 2
    assert content["pixel_accuracy"] == 7 / 8
    assert content["confusion_matrix"] == MATRIX.tolist()
    assert content["classes"]["a"] == {
        "iou": 0.75,
        "dice": pytest.approx(6 / 7),  # 2 * 3 / (2 * 3 + 1)
        "precision": 1.0,
        "recall": 0.75,
        "support": 4,
    }
    empty = dict.fromkeys(("iou", "dice", "precision", "recall"))
    assert content["classes"]["void-like"] == {**empty, "support": 0}


def test_csv_quotes_names_and_leaves_undefined_scores_empty(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "iou", "dice", "precision", "recall", "support"]
    assert rows[2][0] == "b, c"
    assert (float(rows[2][1]), rows[2][5]) == (0.8, "4")
    assert rows[3] == ["void-like", "", "", "", "", "0"]


def test_the_table_says_how_many_classes_the_mean_is_over():
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(scores_table(scores(MATRIX), NAMES, title="test: 8 images"))
    text = console.export_text()
    console.file.close()
    assert "test: 8 images" in text
    assert "mean IoU 0.775 over 2 of 3 classes, pixel accuracy 0.875" in text
    row = next(line for line in text.splitlines() if "void-like" in line)
    assert row.count("-") == 1 + 4  # the name's own, and four scores that are undefined


def test_a_mean_over_no_class_is_no_number():
    nothing = np.zeros((2, 2), np.int64)
    assert mean_iou_line(scores(nothing)) == "mean IoU - over 0 of 2 classes, pixel accuracy -"


@pytest.mark.parametrize("num_classes", [2, 11, 40, 150])
def test_the_confusion_matrix_is_a_picture_of_sensible_size(num_classes):
    matrix = np.random.default_rng(0).integers(0, 50, (num_classes, num_classes)) + 300 * np.eye(num_classes, dtype=int)
    matrix[1] = 0  # a class without labelled pixels
    png = confusion_matrix_png(matrix, [f"class number {index}" for index in range(num_classes)])
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    height, width = pixels.shape[:2]
    assert 300 <= height <= 3000
    assert 300 <= width <= 3000
    assert pixels.std() > 5  # something is drawn


def test_names_of_any_letters_are_drawn_as_they_are():
    # matplotlib would read the dollar signs as mathematics, and fail on the first.
    png = confusion_matrix_png(MATRIX, ["a$_{$b", "Straße", "x" * 40])
    assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) is not None


def test_nan_is_never_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_report(tmp_path, MATRIX, scores(MATRIX), NAMES, {"cross_entropy": math.nan})
