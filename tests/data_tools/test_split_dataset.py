"""The split_dataset command: the manifest that training reads, groups, blocks, warnings, messages."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.datasets.manifest import whole_file
from data_tools.split_dataset import main
from seg.config import load_config
from seg.data.files.storage import VolumeSlice
from seg.data.masks.planes import write_planes
from seg.errors import DataError

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "aerial_city"
REPOSITORY = Path(__file__).resolve().parents[2]


def make(folder: Path, number: int, rare: tuple[int, ...] = (), name: str = "tile_{}") -> list[str]:
    """`number` pairs of 4 x 4 pixels; class 2 is in `rare`."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(number):
        mask = np.zeros((4, 4), np.uint8)
        mask[0, : index % 4] = 1
        mask[3, 3] = 2 if index in rare else 0
        Image.fromarray(mask).save(folder / "images" / f"{name.format(index)}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name.format(index)}.png")
    return [str(folder / "images"), str(folder / "masks"), "--class-names", "field,road,boat"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_reads_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "splits" / "pairs.csv"
    assert main([*make(tmp_path / "d", 20, rare=(3, 9, 17)), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    section = text.partition("to train on it: ")[2].strip()
    config = tmp_path / "c.yaml"
    config.write_text(
        f"name: t\nlabels: {{names: [field, road, boat]}}\n{section}\ntraining: {{epochs: 1, batch_size: 1}}\n"
    )
    splits = load_config(config).samples()
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 14, "val": 3, "test": 3}
    # three masks with boats, one a split, as the table says
    table = [line.split() for line in text.splitlines()]
    assert [row[1::2] for row in table if row[0] == "boat"] == [["1", "1", "1"]]
    assert "warning" not in text


def test_images_without_a_mask_are_left_out_where_that_is_asked_for(tmp_path: Path, capsys) -> None:
    arguments = make(tmp_path / "d", 22)
    for index in (3, 5):
        (tmp_path / f"d/masks/tile_{index}.png").unlink()
    assert main([*arguments, "--out", str(tmp_path / "p.csv")]) == 2
    assert "2 of 22 images have no mask in it: tile_3.png, tile_5.png" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "p.csv"), "--without-mask", "skip"]) == 0
    assert "left out 2 of 22 images, without a mask: tile_3.png, tile_5.png" in capsys.readouterr().out
    assert len(rows(tmp_path / "p.csv")) == 20


def test_validity_masks_go_into_the_manifest(tmp_path: Path, capsys) -> None:
    make(tmp_path / "d", 20)
    config = tmp_path / "c.yaml"
    config.write_text(
        "name: t\nlabels: {names: [field, road, boat]}\ntraining: {epochs: 1, batch_size: 1}\n"
        f"data: {{name: patterns, root: {tmp_path}/d, val_share: 0.2, valid_values: [0, 1],\n"
        "  train: {image: 'images/{id}.png', mask: 'masks/{id}.png', valid: 'masks/{id}.png'}}\n"
    )
    assert main(["--config", str(config), "--out", str(tmp_path / "p.csv")]) == 0
    assert rows(tmp_path / "p.csv")[0]["valid"] == rows(tmp_path / "p.csv")[0]["mask"]
    assert "table: ../p.csv, valid_values: [0, 1]}" in capsys.readouterr().out


def test_the_seed_fixes_everything(tmp_path: Path) -> None:
    arguments = make(tmp_path / "d", 20)
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main([*arguments, "--seed", seed, "--out", str(tmp_path / f"{name}.csv")]) == 0
    first, again, other = ((tmp_path / f"{name}.csv").read_text() for name in "abc")
    assert first == again != other


def test_groups_stay_together(tmp_path: Path) -> None:
    arguments = make(tmp_path / "d", 24)
    assert main([*arguments, "--group", r"_(\d)\d*$", "--out", str(tmp_path / "p.csv")]) == 0
    split_of: dict[str, set[str]] = {}
    for row in rows(tmp_path / "p.csv"):
        split_of.setdefault(row["group"], set()).add(row["split"])
    assert set(split_of) == set("0123456789")
    assert all(len(splits) == 1 for splits in split_of.values())
    groups = "image,group\n" + "".join(f"tile_{index},p{index // 6}\n" for index in range(24))
    (tmp_path / "g.csv").write_text(groups)
    assert main([*arguments, "--groups", str(tmp_path / "g.csv"), "--out", str(tmp_path / "q.csv")]) == 0
    assert {row["group"] for row in rows(tmp_path / "q.csv")} == {"p0", "p1", "p2", "p3"}


def test_blocks_of_consecutive_names_with_a_buffer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "r.json"
    arguments = [*make(tmp_path / "d", 40), "--block", "5", "--buffer", "1", "--out", str(tmp_path / "p.csv")]
    assert main([*arguments, "--json", str(report)]) == 0
    number = {row["image"]: int(row["image"].split("_")[1].split(".")[0]) for row in rows(tmp_path / "p.csv")}
    kept = {number[row["image"]]: row["split"] for row in rows(tmp_path / "p.csv")}
    assert all(kept[one] == kept[one + 1] for one in kept if one + 1 in kept)
    left = json.loads(report.read_text())["left_out"]
    assert len(left) + len(kept) == 40
    assert f"left out, {len(left)} within the buffer: {left[0]}" in capsys.readouterr().out
    listed = rows(tmp_path / "p.left_out.csv")
    assert [row["image"] for row in listed] == [f"{name}.png" for name in left]


def test_blocks_by_rows_and_columns(tmp_path: Path) -> None:
    places = [f"{index // 8:02}_{index % 8:02}" for index in range(64)]
    arguments = make(tmp_path / "d", 0)
    for place in places:
        for part in ("images", "masks"):
            Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "d" / part / f"a_{place}.png")
    options = ["--position", r"_(?P<row>\d+)_(?P<col>\d+)$", "--block", "2", "--buffer", "1"]
    assert main([*arguments, *options, "--out", str(tmp_path / "p.csv")]) == 0
    kept = {tuple(map(int, row["image"][:-4].split("_")[1:])): row["split"] for row in rows(tmp_path / "p.csv")}
    for (row, column), split in kept.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                assert kept.get((row + dy, column + dx), split) == split


def test_a_class_in_fewer_images_than_splits_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = make(tmp_path / "d", 20, rare=(2, 3))
    assert main([*arguments, "--json", str(tmp_path / "r.json"), "--out", str(tmp_path / "p.csv")]) == 0
    out = capsys.readouterr().out
    assert "warning: class 'boat' is missing from " in out
    assert ": it is in 2 images, fewer than the 3 splits" in out
    assert len(json.loads((tmp_path / "r.json").read_text())["warnings"]) == 1
    arguments = make(tmp_path / "e", 20)
    assert main([*arguments, "--group", r"(\d)$", "--out", str(tmp_path / "q.csv")]) == 0
    assert "warning: class 'boat' is in no mask" in capsys.readouterr().out


def test_two_splits_and_a_random_one(tmp_path: Path) -> None:
    shares = ["--train", "0.5", "--val", "0.5", "--test", "0", "--assign", "random"]
    assert main([*make(tmp_path / "d", 10), *shares, "--out", str(tmp_path / "p.csv")]) == 0
    assert sorted(row["split"] for row in rows(tmp_path / "p.csv")) == ["train"] * 5 + ["val"] * 5


def test_multi_label_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "data", 10)
    for index, path in enumerate(sorted((tmp_path / "data" / "masks").iterdir())):
        path.unlink()
        planes = np.zeros((4, 4, 2), np.uint8)
        planes[0, 0] = (1, index < 3)
        write_planes(path.with_suffix(".tif"), planes)
    (tmp_path / "c.yaml").write_text(
        f"name: t\nlabels: {{names: [wet, red], encoding: {{name: multi_label}}}}\n"
        f"data: {{name: fractions, root: {tmp_path / 'data'}}}\nloss: [{{name: binary_cross_entropy}}]\n"
        "training: {epochs: 1, batch_size: 1}\n"
    )
    assert main(["--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "p.csv")]) == 0
    table = [line.split()[::2] for line in capsys.readouterr().out.splitlines()]
    assert ["red"] in [row[:1] for row in table]
    assert "warning" not in " ".join(" ".join(row) for row in table)  # three masks with red, one a split


TILES = "image,mask,group,tile_row,tile_col,row,col,height,width,labelled\n"


def test_tiles_that_overlap_need_a_buffer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, 16)
    lines = [
        f"images/tile_{k}.png,masks/tile_{k}.png,s,{k // 4},{k % 4},{k // 4 * 3},{k % 4 * 3},4,4,1" for k in range(16)
    ]
    (tmp_path / "tiles.csv").write_text(TILES + "\n".join(lines) + "\n")
    options = ["--tiles", str(tmp_path / "tiles.csv"), "--num-classes", "3", "--out", str(tmp_path / "p.csv")]
    options += ["--train", "0.6", "--val", "0.4", "--test", "0"]
    assert main(options) == 2  # tiles of one source stay together
    assert "got 1 group(s) for 2 splits" in capsys.readouterr().err
    for extra in (["--group", r"_(\d+)$"], ["--block", "2"]):
        assert main([*options, *extra]) == 2
        assert "of tiles in different splits have pixels in common, as images/tile_" in capsys.readouterr().err
        assert not (tmp_path / "p.csv").exists()
    assert main([*options, "--block", "2", "--buffer", "1"]) == 0
    assert {row["group"] for row in rows(tmp_path / "p.csv")} <= {f"s_block_{y}_{x}" for y in (0, 1) for x in (0, 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,mask\na,b\n", "has no group, tile_row, tile_col, row, col, height, width; allowed: a manifest of"),
        (TILES, "has no image, mask, group"),
        (TILES + "a,b,s,x,0,0,0,4,4,1\n", "a place is no whole number (invalid literal"),
        (TILES + "a,,s,0,0,0,0,4,4,1\n", "a tile has no mask, allowed: tiles of pairs"),
    ],
)
def test_messages_for_a_tile_manifest(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert main(["--tiles", str(tmp_path / "t.csv"), "--num-classes", "2", "--out", str(tmp_path / "p.csv")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "0.5"], "--train + --val + --test: got 0.8, allowed: 1"),
        (["--val", "0"], "--val: got 0, allowed: above 0"),
        (["--test", "-0.1"], "--test: got -0.1, allowed: above 0 (or 0)"),
        (["--levels", "0"], "--levels: got 0, allowed: 1 or more"),
        (["--levels", "2", "--assign", "random"], "--levels: has no effect with --assign random"),
        (["--block", "0"], "--block: got 0, allowed: 1 or more"),
        (["--block", "2", "--group", "x"], "--group and --block: got together, allowed: one of them"),
        (["--buffer", "1"], "--buffer: has no effect without --block"),
        (["--position", "x"], "--position: has no effect without --block"),
        (["--tiles", "t.csv", "--block", "1", "--position", "x"], "--position: has no effect with --tiles"),
        (["--tiles", "t.csv"], "got folders with --tiles, allowed: one of them"),
        (["third"], "IMAGES MASKS: got 3 folder(s), allowed: 2"),
        (["--block", "9"], "got 2 group(s) for 3 splits, allowed: at least one a split"),
        (["--block", "1", "--buffer", "9"], "is left without samples, allowed: smaller blocks, groups or buffer"),
        (["--groups", "gone.csv"], "gone.csv: cannot be read"),
        (["--groups", "empty.csv"], "empty.csv: got no rows with the columns image and group"),
        (["--groups", "some.csv"], "some.csv: has no group for images/tile_1.png, allowed: a row with its path"),
        (["--out", "there.csv"], "there.csv: exists, allowed: another --out, or --overwrite"),
    ],
)
def test_messages(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("there.csv", ""), ("empty.csv", "image,group\n"), ("some.csv", "image,group\ntile_0.png,a\n")):
        (tmp_path / name).write_text(text)
    inputs = make(tmp_path / "d", 12)
    assert main([*inputs, "--out", "p.csv", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_no_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--num-classes", "2", "--out", str(tmp_path / "p.csv")]) == 2
    assert "IMAGES MASKS: got none, allowed: two folders, --tiles CSV or --config FILE" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the data in ../shared/data/aerial_city")
def test_real_tiles_by_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(REPOSITORY / "configs" / "aerial_city.yaml")
    options = ["--config", config, f"data.root={REAL}", "--block", "10", "--buffer", "1"]
    assert main([*options, "--out", str(tmp_path / "p.csv")]) == 0
    assert "built_up" in capsys.readouterr().out
    assert len(rows(tmp_path / "p.csv")) + len(rows(tmp_path / "p.left_out.csv")) == 100


def test_volumes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="v.nii: is a volume, allowed: images and masks in files of their own; data: {na"
    ):
        whole_file(VolumeSlice(tmp_path / "v.nii", 0, 3))
