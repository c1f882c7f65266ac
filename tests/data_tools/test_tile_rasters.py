"""The tile_rasters command: manifest, what void is, folders, messages; its tiles split and train."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from data_tools import split_dataset
from data_tools.tile_rasters import main
from seg.config.labels import Labels
from seg.config.masks import BinaryMasks, ColourMasks, IndexMasks
from seg.data.samples.tables import samples_from_table

# rasterio 1.4 multiplies transforms in a way that affine 3 means to drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]


def scene(folder: Path, name: str, height: int = 64, width: int = 96, void_rows: int = 0) -> None:
    generator = np.random.default_rng(len(name))
    for part, count in (("images", 3), ("masks", 1)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        values = generator.integers(0, 3, (count, height, width)).astype(np.uint8)
        if part == "masks":
            values[:, :void_rows] = 255
        with rasterio.open(
            folder / part / f"{name}.tif", "w", driver="GTiff", count=count, height=height, width=width, dtype="uint8",
            crs="EPSG:32633", transform=Affine(1, 0, 100, 0, -1, 900),
        ) as target:  # fmt: skip
            target.write(values)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_folders_to_tiles_to_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("north", "south", "west"):
        scene(tmp_path, name, void_rows=32 if name == "west" else 0)
    out = tmp_path / "tiles"
    arguments = [str(tmp_path / "images"), str(tmp_path / "masks"), "--out", str(out), "--size", "32", "--void", "255"]
    assert main([*arguments, "--json", str(tmp_path / "r.json")]) == 0
    text, errors = capsys.readouterr()
    assert f"{tmp_path / 'images' / 'west.tif'}: 3 of 6 tiles" in text
    assert f"15 tiles of 32 x 32, 3 left out, labelled share 1.000; wrote {out / 'tiles.csv'}" in text
    assert errors == ""
    assert sorted(path.name for path in out.iterdir()) == ["images", "masks", "tiles.csv"]
    assert json.loads((tmp_path / "r.json").read_text())["left_out"] == 3
    first = rows(out / "tiles.csv")[0]
    assert first == {
        "image": "images/north_r0_c0.tif", "mask": "masks/north_r0_c0.tif", "group": "north", "tile_row": "0",
        "tile_col": "0", "row": "0", "col": "0", "height": "32", "width": "32", "labelled": "1.000000",
    }  # fmt: skip
    split = ["--tiles", str(out / "tiles.csv"), "--num-classes", "3", "--out", str(out / "pairs.csv")]
    assert split_dataset.main([*split, "--train", "0.4", "--val", "0.3", "--test", "0.3"]) == 0
    splits = samples_from_table(out, out / "pairs.csv")
    assert sorted(len(samples) for samples in splits.values()) == [3, 6, 6]  # whole rasters


def test_one_raster_overlap_and_share(tmp_path: Path) -> None:
    scene(tmp_path, "a", void_rows=40)
    files = [str(tmp_path / part / "a.tif") for part in ("images", "masks")]
    options = ["--size", "32", "48", "--overlap", "8", "--void", "255", "--out", str(tmp_path / "tiles")]
    assert main([*files, *options, "--min-labelled", "0.5", "--threads", "1"]) == 0
    # rows begin at 0, 24 and 32; of the tile at 24 half (rows 40 to 55) is labelled, of that at 32 three quarters
    assert [(row["row"], row["labelled"]) for row in rows(tmp_path / "tiles" / "tiles.csv")] == [
        *[("24", "0.500000")] * 3,
        *[("32", "0.750000")] * 3,
    ]


def test_images_without_masks_and_png(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("b10", "b9"):
        Image.fromarray(np.ones((20, 20, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    assert main([str(tmp_path / "images"), "--out", str(tmp_path / "tiles"), "--size", "16"]) == 0
    found = rows(tmp_path / "tiles" / "tiles.csv")
    assert [row["group"] for row in found] == ["b9"] * 4 + ["b10"] * 4
    assert {row["mask"] for row in found} == {""}


def test_what_void_is_by_configuration(tmp_path: Path) -> None:
    index = Labels(names=("a", "b"), ignore_index=9, ignore_values=(7,), encoding=IndexMasks(name="index"))
    assert index.encoding.void_values(index) == ((9,), (7,))
    binary = Labels(names=("a", "b"), ignore_values=(7,), encoding=BinaryMasks(name="binary"))
    assert binary.encoding.void_values(binary) == ((7,),)
    colour = ColourMasks(name="colour", void_colours=((1, 2, 3),))
    assert colour.void_values(Labels(names=("a", "b"), encoding=colour)) == ((1, 2, 3),)
    scene(tmp_path, "a", void_rows=32)
    config = tmp_path / "c.yaml"
    config.write_text(
        "name: t\nlabels: {names: [a, b, c]}\ndata: {name: folders, root: x}\ntraining: {epochs: 1, batch_size: 1}\n"
    )
    arguments = [str(tmp_path / "images"), str(tmp_path / "masks"), "--config", str(config), "--size", "32"]
    assert main([*arguments, "--out", str(tmp_path / "tiles")]) == 0
    assert {row["tile_row"] for row in rows(tmp_path / "tiles" / "tiles.csv")} == {"1"}


def test_an_error_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene(tmp_path, "a")
    path = tmp_path / "images" / "a.tif"
    data = bytearray(path.read_bytes())
    path.write_bytes(bytes(data[: len(data) // 2]))  # the header is whole, half of the pixels are gone
    assert main([str(tmp_path / "images"), "--out", str(tmp_path / "tiles"), "--size", "32"]) == 2
    assert f"error: {path}: cannot be read as a raster" in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["images", "masks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone: no such file or folder"),
        (["images", "gone"], "gone: no such file or folder"),
        (["images", "masks/a.tif"], "images and masks/a.tif: one is a folder, allowed: two folders or two files"),
        (["empty"], "empty: holds no file with a suffix of .png"),
        (["twice"], "twice: a.png, a.tif share a stem, allowed: one raster a stem"),
        (["images", "--size", "1", "2", "3"], "--size: got 3 numbers, allowed: one, or height and width"),
        (["images", "--threads", "0"], "--threads: got 0, allowed: 1 or more"),
        (["images", "masks", "--void", "x"], "--void: got 'x', allowed: a number, or one a band as in 0,0,0"),
        (["images", "--void", "1"], "--void: has no effect without MASKS"),
        (["images", "--mask-suffix", "_m"], "--mask-suffix: has no effect without MASKS"),
        (["images", "masks", "--void", "1", "--config", "x"], "--void: has no effect with --config, which says it"),
        (["images", "masks", "--void", "0", "1", "2"], "images: no tile is labelled enough, allowed: a smaller"),
        (["images", "--out", "empty/.."], "empty/..: is not empty, allowed: a new or empty folder"),
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
    scene(tmp_path, "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "twice").mkdir()
    for name in ("a.png", "a.tif"):
        (tmp_path / "twice" / name).touch()
    assert main(["--size", "32", "--out", "tiles", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tiles").exists()
