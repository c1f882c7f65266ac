"""mask_frequencies and make_scenes on classes that overlap."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from data_tools import make_scenes
from data_tools.mask_frequencies import main
from data_tools.scenes.attributes import ATTRIBUTE_LABELS
from seg.balance import ClassCounts
from seg.data.masks.planes import MultiLabelEncoding, write_planes
from seg.data.masks.reading import read_mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planes = {"a.tif": [[[1, 0], [1, 0]], [[0, 0], [255, 0]]], "b.tif": [[[0, 1], [0, 0]], [[0, 0], [0, 0]]]}
    for name, mask in planes.items():
        write_planes(tmp_path / "masks" / name, np.array(mask, np.uint8))
    return tmp_path / "masks"


BASICS = ["--class-names", "tree,water", "--encoding", "multi_label"]


def test_the_tables(folder: Path, capsys) -> None:
    assert main([str(folder), *BASICS]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    # tree is present at 2 of 7 labelled pixels, in one mask; water at 1 of 8, in one
    assert ["tree", "2", "7", "28.571", "1"] in rows
    assert ["water", "1", "8", "12.500", "1"] in rows
    weights = next(row for row in rows if row[:3] == ["tree", "1", "2.5"])  # uniform; negatives / positives 5 / 2
    assert weights[3:5] == ["6.25", "1.581"]  # its square and root


def test_json_csv_and_the_counts_that_train_takes(folder: Path, tmp_path: Path, capsys) -> None:
    paths = {option: tmp_path / f"{option}.out" for option in ("out", "json", "csv")}
    options = [text for option, path in paths.items() for text in (f"--{option}", str(path))]
    assert main([f"train={folder}", f"val={folder}", *BASICS, *options, "--threads", "1"]) == 0
    assert capsys.readouterr().out.count("wrote ") == 3
    counts = ClassCounts.load(paths["out"])
    assert counts.num_images == 2 and counts.pixel_counts.tolist() == [2, 1]  # of train alone
    content = json.loads(paths["json"].read_text())
    assert content["pos_weights"]["inverse_frequency"] == pytest.approx({"tree": 2.5, "water": 7}, rel=1e-12)  # float64
    assert content["splits"]["val"]["shares"] == {"tree": 2 / 7, "water": 1 / 8}
    with paths["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["class"], row["present"], row["labelled"]) for row in rows[:2]] == [
        ("train", "tree", "2", "7"),
        ("train", "water", "1", "8"),
    ]
    assert float(rows[1]["pos_weight inverse_frequency"]) == pytest.approx(7, rel=1e-12)


def test_a_broken_mask_is_skipped_if_asked_for(folder: Path, capsys) -> None:
    write_planes(folder / "b.tif", np.full((2, 2, 2), 7, np.uint8))
    assert main([str(folder), *BASICS]) == 2
    capsys.readouterr()
    assert main([str(folder), *BASICS, "--on-error", "skip", "--no-cache"]) == 3
    found = capsys.readouterr()
    assert ["tree", "2", "3", "66.667", "1"] in [line.split() for line in found.out.splitlines()]
    assert found.err.startswith("skipped b.tif: ") and "plane of class 'tree': value 7 in 4 pixels" in found.err


def test_a_class_that_is_nowhere_is_told(folder: Path, capsys) -> None:
    write_planes(folder / "a.tif", np.zeros((2, 2, 2), np.uint8))
    assert main([str(folder), *BASICS]) == 0
    out = capsys.readouterr().out
    assert "warning: tree: present in none of 2 masks, so the model learns to never predict it" in out
    write_planes(folder / "b.tif", np.zeros((2, 2, 2), np.uint8))
    assert main([str(folder), *BASICS]) == 0
    assert "pos_weight by scheme" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "option",
    [
        ["--components"],
        ["--normalize", "none"],
        ["--markdown", "x.md"],
        ["--html", "x.html"],
        ["--charts", "x"],
    ],
)  # fmt: skip
def test_options_of_one_class_a_pixel_are_refused(folder: Path, capsys, option: list[str]) -> None:
    assert main([str(folder), *BASICS, *option]) == 2
    assert capsys.readouterr().err == (
        f"error: {option[0]}: works with one class a pixel only; allowed with multi-label masks: --threads, --workers, "
        "--scheduler, --on-error, --no-cache, --out, --json, --csv\n"
    )


def test_make_scenes_writes_overlapping_attributes(tmp_path: Path, capsys) -> None:
    out, preview = tmp_path / "out", tmp_path / "preview.png"
    arguments = [str(out), "--count", "3", "--size", "64", "--multi-label", "--preview", str(preview)]
    assert make_scenes.main(arguments) == 0
    masks = sorted(path.relative_to(out / "masks").as_posix() for path in (out / "masks").rglob("*.*"))
    assert masks == ["test/0000.tif", "train/0000.tif", "val/0000.tif"]
    assert read_mask(out / "masks/val/0000.tif", ATTRIBUTE_LABELS, MultiLabelEncoding()).shape == (64, 64, 6)
    assert preview.exists()
