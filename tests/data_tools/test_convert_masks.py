"""The convert_masks command: round trips, what it prints and writes, messages and exit codes."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.convert_masks import main

COLOURS = ["10,20,30", "40,50,60"]
CLASSES = ["--class-names", "ground,roof", "--colours", *COLOURS]
RGB = np.array([[(10, 20, 30), (40, 50, 60), (40, 50, 60), (0, 0, 0)]], np.uint8)


def pixels(path: Path) -> list[object]:
    with Image.open(path) as image:
        return np.asarray(image)[0].tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "masks" / "more").mkdir(parents=True)
    Image.fromarray(RGB).save(tmp_path / "masks" / "a.png")
    Image.fromarray(RGB[:, ::-1]).save(tmp_path / "masks" / "more" / "b.tif")
    return tmp_path / "masks"


def test_there_and_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, back, report = tmp_path / "index", tmp_path / "back", tmp_path / "r.json"
    void = ["--void-colours", "0,0,0"]
    assert main([str(folder), "--from", "colour", *CLASSES, *void, "--out", str(index), "--json", str(report)]) == 0
    out, err = capsys.readouterr()
    assert pixels(index / "a.png") == [0, 1, 1, 255]
    assert pixels(index / "more" / "b.png") == [255, 1, 1, 0]
    assert f"2 masks from colour to index in {index}, each read back and equal" in out
    assert "roof                              4 pixels  50.000%" in out
    assert err == ""  # no bar where nobody looks
    assert main([str(index), *CLASSES, *void, "--to", "colour", "--out", str(back)]) == 0
    assert pixels(back / "a.png") == RGB[0].tolist()
    content = json.loads(report.read_text())
    assert content["pixels"] == {"ground": 2, "roof": 4}
    assert (content["converted"], content["void_pixels"], content["snapped_pixels"]) == (2, 2, 0)
    assert content["files"] == [{"mask": "a.png", "snapped": 0}, {"mask": "more/b.png", "snapped": 0}]


def test_values_palette_and_binary(folder: Path, tmp_path: Path) -> None:
    index, values = tmp_path / "index", ["--values", "7=ground", "300=roof", "--ignore-values", "65535"]
    assert main([str(folder), "--from", "colour", *CLASSES, "--void-colours", "0,0,0", "--out", str(index)]) == 0
    for target, options, expected in (
        ("values", values, [7, 300, 300, 65535]),
        ("palette", [], [0, 1, 1, 255]),
        ("binary", ["--ignore-values", "128"], [0, 255, 255, 128]),
    ):
        there, back = tmp_path / target, tmp_path / f"{target}_back"
        names = ["--class-names", "ground,roof", *options]
        assert main([str(index), *names[:2], *options, "--to", target, "--out", str(there)]) == 0
        assert pixels(there / "a.png") == expected
        assert main([str(there), *names, "--from", target, "--out", str(back)]) == 0
        assert pixels(back / "a.png") == [0, 1, 1, 255]


CONFIG = """
name: t
labels:
  names: [tree, grass, road]
  colours: [[10, 20, 30], [40, 50, 60], [0, 0, 0]]
  encoding: {{name: colour}}
  merge: {{green: [tree, grass]}}
data: {{name: folders, root: {root}}}
training: {{epochs: 1, batch_size: 1}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in ("images", "masks"):
            (tmp_path / "data" / name / split).mkdir(parents=True)
            Image.fromarray(RGB).save(tmp_path / "data" / name / split / f"{split}.png")
    (tmp_path / "c.yaml").write_text(CONFIG.format(root=tmp_path / "data"))
    return tmp_path / "c.yaml"


def test_a_configuration_says_everything(config: Path, tmp_path: Path) -> None:
    assert main(["--config", str(config), "--out", str(tmp_path / "out")]) == 0
    # merged classes stay apart: that can be done at any time, and not undone
    assert pixels(tmp_path / "out" / "masks" / "train" / "train.png") == [0, 1, 1, 2]
    assert (tmp_path / "out" / "masks" / "val" / "val.png").exists()


def test_a_merge_where_it_is_asked_for(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), "--merge", "--out", str(tmp_path / "out")]) == 0
    assert pixels(tmp_path / "out" / "masks" / "train" / "train.png") == [0, 0, 0, 1]
    assert "classes were merged: green, road" in capsys.readouterr().out


def test_overrides_and_folders_beside_a_configuration(config: Path, folder: Path, tmp_path: Path) -> None:
    override = "labels.names=[a, b, c]"
    arguments = [str(folder), "--config", str(config), override, "labels.merge={}", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["pixels"] == {"a": 2, "b": 4, "c": 2}


def test_multi_label_masks_are_refused(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["labels.encoding={name: multi_label}", "labels.merge={}", "loss=[{name: binary_cross_entropy}]"]
    assert main(["--config", str(config), *overrides, "--out", str(tmp_path / "out")]) == 2
    assert "--from: got multi_label, whose " in capsys.readouterr().err


def test_snapped_pixels_are_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--from", "colour", *CLASSES, "--tolerance", "40", "--json", str(tmp_path / "r.json")]
    assert main([str(folder), *options, "--out", str(tmp_path / "out")]) == 0
    # (0, 0, 0) is sqrt(100 + 400 + 900) = 37.4 from ground, in both files
    line = "2 pixels (25.000%) were snapped to the nearest class colour or value; most of them in a.png (1)"
    assert line in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["snapped_pixels"] == 2


def test_broken_masks_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:-20])
    options = ["--from", "colour", *CLASSES, "--void-colours", "0,0,0", "--out", str(tmp_path / "out")]
    assert main([str(folder), *options, "--threads", "1"]) == 2
    assert f"error: {folder / 'cut.png'}: its PNG data are cut short or corrupt" in capsys.readouterr().err
    report = tmp_path / "r.json"
    assert main([str(folder), *options, "--on-error", "skip", "--overwrite", "--json", str(report)]) == 3
    assert f"skipped {folder / 'cut.png'}: its PNG data" in capsys.readouterr().err
    assert [one["mask"] for one in json.loads(report.read_text())["broken"]] == ["cut.png"]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["a.png", "b.png"]
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_what_is_there_stays(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    options = [str(folder), "--from", "colour", *CLASSES, "--void-colours", "0,0,0", "--out", str(out)]
    assert main(options) == 2
    assert f"error: {out / 'a.png'}: exists, and 0 more; allowed: another --out" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["a.png"]
    assert main([*options, "--skip-existing"]) == 0
    assert "1 masks were there already and were left as they are" in capsys.readouterr().out
    assert (out / "a.png").read_bytes() == b"mine"
    assert main([*options, "--overwrite"]) == 0
    assert pixels(out / "a.png") == [0, 1, 1, 255]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--class-names: missing, needed without --config (or --num-classes)"),
        (["--num-classes", "2"], "MASKS: got none, allowed: a folder or URL of masks, or --config FILE"),
        (["gone", "--num-classes", "2"], "gone: no such folder of masks"),
        ([".", "--num-classes", "2"], ".: no masks in it, looked for .gif, .jpeg, .jpg, .mat, .npy, .png, .tif, .tiff"),
        ([".", "--num-classes", "2", "--threads", "0"], "--threads: got 0, allowed: 1 or more"),
        ([".", "--num-classes", "2", "--merge"], "--merge: has no effect, the configuration has no labels.merge"),
        ([".", "--num-classes", "2", "--overwrite", "--skip-existing"], "--overwrite and --skip-existing: got both"),
        ([".", "--num-classes", "1"], "labels.names: got 1 classes, allowed: 2 to 255"),
        ([".", "--num-classes", "2", "--colours", "1,2"], "--colours: got '1,2', allowed: R,G,B, as in 255,0,0"),
        ([".", "--num-classes", "2", "--to", "colour"], "labels.colours: missing; the colour encoding needs"),
        ([".", "--num-classes", "2", "--values", "x=a"], "--values: got 'x=a', allowed: VALUE=NAME or FIRST-LAST=NAME"),
        (
            [".", "--num-classes", "2", "--tolerance", "5"],
            "--tolerance: has no effect on the encoding index; allowed: with colour, values",
        ),
        (
            [".", "--num-classes", "2", "--threshold", "5"],
            "--threshold: has no effect on the encoding index; allowed: with binary",
        ),
        (
            [".", "--class-names", "a,b", "--from", "values", "--values", "0=a", "9=c"],
            "labels.encoding.values.9: got 'c', allowed: a, b",
        ),
    ],
)
def test_messages(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--out", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_masks_of_one_name_and_a_target_that_is_a_source(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--from", "colour", *CLASSES, "--void-colours", "0,0,0"]
    assert main([str(folder), *options, "--out", str(folder), "--overwrite"]) == 2
    assert (
        f"{folder / 'a.png'}: is one of the data's own files, which are never replaced; allowed: another"
        in capsys.readouterr().err
    )
    Image.fromarray(RGB).save(folder / "a.tif")
    assert main([str(folder), *options, "--out", str(tmp_path / "out")]) == 2
    assert "both would become a.png; convert them apart" in capsys.readouterr().err


def test_masks_outside_of_the_root(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = tmp_path / "data" / "masks"
    masks.rename(tmp_path / "elsewhere")
    override = "data.masks=../elsewhere/{split}"
    assert main(["--config", str(config), override, "--out", str(tmp_path / "out")]) == 2
    assert "lies outside of data.root; allowed: masks under it, or their folder as MASKS" in capsys.readouterr().err


def test_a_full_disk_ends_it_and_blames_no_mask(tmp_path, monkeypatch, capsys):
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(masks / name)

    def full(path, _):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    arguments = [str(masks), "--class-names", "a,b", "--to", "palette", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--on-error", "skip", "--threads", "1"]) == 2
    expected = f"error: {tmp_path}/out/a.png: cannot be written (No space left on device)\n"
    assert capsys.readouterr().err == expected
    assert not list((tmp_path / "out").iterdir())
