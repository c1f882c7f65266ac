"""The report as JSON, CSV, Markdown, HTML and pictures: the numbers are the statistics', and names are escaped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.balance.advisor import SchemeEffect
from data_tools.balance.charts import WEIGHT_MARKERS, co_occurrence_chart, weight_chart
from data_tools.balance.report import BalanceReport
from seg.balance import MaskStatistics, collect_statistics
from seg.data.masks.reading import IndexEncoding
from seg.labels import LabelSet

LABELS = LabelSet.from_names(["field|wet", "<b>road</b>", "boat"], ignore_index=255)


def statistics(folder: Path, mask: list[list[int]]) -> MaskStatistics:
    folder.mkdir()
    assert cv2.imwrite(str(folder / "a.png"), np.array(mask, np.uint8))
    return collect_statistics([folder / "a.png"], LABELS, IndexEncoding())


@pytest.fixture
def report(tmp_path: Path) -> BalanceReport:
    train = statistics(tmp_path / "train", [[0, 0, 0, 0, 1, 255]])
    return BalanceReport({"train": train, "val": statistics(tmp_path / "val", [[0, 2]])}, LABELS)


def test_weights_are_those_of_the_training_masks(report: BalanceReport) -> None:
    assert report.weighted is report.splits["train"]
    assert report.total.counts.pixel_counts.tolist() == [5, 1, 1]
    inverse = report.effects[1].weights  # 5/(3*4), 5/3, absent; mean one over 4/5 and 1/5
    np.testing.assert_allclose(inverse, [0.625, 2.5, 0.0])


def test_without_a_training_split_all_masks_count(tmp_path: Path) -> None:
    report = BalanceReport({"masks": statistics(tmp_path / "masks", [[0, 1]])}, LABELS)
    assert report.weighted == report.total


def test_json_is_json(report: BalanceReport) -> None:
    content = json.loads(json.dumps(report.to_json()))
    assert content["splits"]["val"]["counts"]["pixel_counts"] == [1, 0, 1]
    assert content["splits"]["train"]["richest"]["<b>road</b>"] == [{"mask": "a.png", "pixels": 1}]
    assert content["schemes"]["inverse_frequency"]["weights"] == [0.625, 2.5, 0.0]
    assert content["splits"]["train"]["co_occurrence"] == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_csv_has_a_row_a_split_and_class(report: BalanceReport) -> None:
    rows = list(csv.DictReader(report.csv().splitlines()))
    assert [row["class"] for row in rows] == 2 * ["field|wet", "<b>road</b>", "boat"]
    assert float(rows[1]["share"]) == 0.2
    assert float(rows[1]["weight inverse_frequency"]) == 2.5
    assert "components" not in rows[0]


def test_names_are_escaped(report: BalanceReport) -> None:
    assert "| field\\|wet | 4 | 80.000 | 1 | 80.000 |" in report.markdown()
    page = report.html()
    assert "<b>road" not in page
    assert "&lt;b&gt;road&lt;/b&gt;" in page


def test_markdown_tables_are_rectangular(report: BalanceReport) -> None:
    widths: dict[str, set[int]] = {}
    title = ""
    for line in report.markdown().splitlines():
        title = line if line.startswith("##") else title
        if line.startswith("|"):
            widths.setdefault(title, set()).add(line.replace("\\|", "").count("|"))
    assert len(widths) == 7
    assert all(len(counts) == 1 for counts in widths.values())


def test_all_void_is_a_warning_and_no_pictures(tmp_path: Path) -> None:
    report = BalanceReport({"masks": statistics(tmp_path / "masks", [[255]])}, LABELS)
    assert report.warnings == ["all 1 pixels are void, there is nothing to balance"]
    assert report.charts() == {}
    assert report.recommendation is None
    json.dumps(report.to_json())
    assert "<img" not in report.html()
    assert "nothing to balance" in report.markdown()


def test_pictures_hold_many_classes_and_absent_ones() -> None:
    names = [f"a long class name {index}" for index in range(40)]
    co_occurrence = np.diag(np.arange(40))
    picture = cv2.imdecode(np.frombuffer(co_occurrence_chart(names, co_occurrence), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[0] > 40 * 30


def test_there_may_be_more_weighting_schemes_than_markers():
    schemes = [f"scheme {number}" for number in range(len(WEIGHT_MARKERS) + 1)]
    effects = [
        SchemeEffect(name, np.array([1.0, number + 1.0]), number + 1.0, np.array([0.5, 0.5]), 1.0, ())
        for number, name in enumerate(schemes)
    ]
    picture = cv2.imdecode(np.frombuffer(weight_chart(("a", "b"), effects), np.uint8), cv2.IMREAD_COLOR)
    assert min(picture.shape[:2]) > 100


def test_dollar_signs_in_names_are_no_mathematics() -> None:
    names = ["$broken^{", "$a$", "b"]
    effect = SchemeEffect("none", np.ones(3), 1.0, np.ones(3) / 3, 1.0, ())
    assert weight_chart(names, [effect]).startswith(b"\x89PNG")
    assert co_occurrence_chart(names, np.diag(np.arange(3))).startswith(b"\x89PNG")
