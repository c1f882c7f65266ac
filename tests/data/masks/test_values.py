"""All values of a set of masks: the table, the section to paste, and the error that begins with both."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from seg.config import validate
from seg.data.masks.encodings import ColourEncoding, IndexEncoding, MergedEncoding, PaletteEncoding, ValueEncoding
from seg.data.masks.reading import read_mask
from seg.data.masks.values import set_values, telling_all_values
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet(("sky", "road", "car"), ((0, 0, 255), (9, 9, 9), (255, 0, 0)))


def masks(root: Path, *arrays: np.ndarray, palette: bool = False) -> list[Path]:
    paths = []
    for number, array in enumerate(arrays):
        image = Image.fromarray(np.asarray(array, np.uint8))
        if palette:
            image.putpalette(list(range(256)) * 3)
        image.save(root / f"{number}.png")
        paths.append(root / f"{number}.png")
    return paths


def section(found) -> dict:
    text = found.section()
    rest = {"name": "x", "data": {"name": "folders", "root": "."}, "training": {"epochs": 1, "batch_size": 1}}
    validate(yaml.safe_load(text) | rest, "pasted")
    return yaml.safe_load(text)["labels"]


def test_pixels_files_and_meanings(tmp_path):
    found = set_values(masks(tmp_path, [[1, 2], [2, 2]], [[1, 4], [255, 1]]), LABELS, IndexEncoding())
    rows = [(row.value, row.pixels, row.files, row.meaning) for row in found.rows]
    assert rows == [(1, 3, 2, "road"), (2, 3, 1, "car"), (4, 1, 1, "no class"), (255, 1, 1, "void")]
    assert found.summary() == "2 masks hold 4 value(s), of which 1 are no class"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], {"values": {1: "sky", 2: "road", 3: "car"}}),  # counted from 1
        ([0, 100, 200], {"values": {0: "sky", 100: "road", 200: "car"}}),
        ([0, 1, 3, 7], {"values": {0: "sky", 1: "road", 3: "value_3", 7: "value_7"}}),
        ([1, 2, 3, 255], {"values": {1: "sky", 2: "road", 3: "car"}, "ignore_values": [255]}),
    ],
)
def test_the_section_reads_all_of_them(tmp_path, values, expected):
    files = masks(tmp_path, [values, values])
    found = section(set_values(files, LABELS, IndexEncoding()))
    voids = {key: value for key, value in found.items() if key == "ignore_values"}
    assert {"values": found["encoding"]["values"]} | voids == expected
    pasted = validate(
        {"name": "x", "labels": found, "data": {"name": "folders", "root": "."},
         "training": {"epochs": 1, "batch_size": 1}}, "pasted",
    ).labels  # fmt: skip
    read_mask(files[0], pasted.label_set(), pasted.mask_encoding())


def test_of_palettes_and_colours(tmp_path):
    found = section(set_values(masks(tmp_path, [[0, 4]], palette=True), LABELS, PaletteEncoding()))
    assert found == {"names": ["sky", "road", "car", "index_3", "index_4"], "encoding": {"name": "palette"}}
    colours = np.array([[[0, 0, 255], [7, 7, 7], [9, 9, 9], [1, 2, 3], [0, 0, 0]]])
    found = section(set_values(masks(tmp_path, colours), LABELS, ColourEncoding(((0, 0, 0),))))
    assert found["names"] == ["sky", "road", "car", "colour_1_2_3", "colour_7_7_7"]
    assert found["colours"][3:] == [[1, 2, 3], [7, 7, 7]]
    assert found["encoding"] == {"name": "colour", "void_colours": [[0, 0, 0]]}


def test_merged_classes_are_told_as_the_files_have_them(tmp_path):
    stored = LabelSet.from_names(["sky", "oak", "fir"])
    merged = MergedEncoding(ValueEncoding(((5, 0), (6, 1), (7, 2))), stored, (0, 1, 1))
    found = set_values(masks(tmp_path, [[5, 6, 7, 8]]), LabelSet.from_names(["sky", "tree"]), merged)
    assert [row.meaning for row in found.rows] == ["sky", "oak", "fir", "no class"]


def test_the_error_begins_with_the_table(tmp_path):
    files = masks(tmp_path, [[1, 2]], [[3, 4]], [[0, 1]])
    (tmp_path / "broken.png").write_bytes(b"no")
    with (
        pytest.raises(DataError) as error,
        telling_all_values([*files, tmp_path / "broken.png"], LABELS, IndexEncoding()),
    ):
        read_mask(files[1], LABELS, IndexEncoding())
    lines = str(error.value).splitlines()
    assert lines[0] == "4 masks (1 could not be read) hold 5 value(s), of which 2 are no class"
    assert lines[1:3] == ["  value  pixels    share  files  meaning", "      0       1  16.667%      1  sky"]
    assert "    values: {0: sky, 1: road, 2: car, 3: value_3, 4: value_4}" in lines
    assert lines[-1].startswith(f"the first: {files[1]}: label value 3 in 1 pixels, 4 in 1 pixels")


def test_other_errors_stay(tmp_path):
    with pytest.raises(DataError, match="^gone$"), telling_all_values([], LABELS, IndexEncoding()):
        raise DataError("gone")


def test_many_values_are_of_interpolation(tmp_path):
    found = set_values(masks(tmp_path, np.arange(256).reshape(16, 16)), LABELS, IndexEncoding())
    assert found.section() == "# 252 values come from interpolation or lossy compression: resize by nearest pixel"
    assert len(found.table().rows) == 44 and "and 212 more values that are no class" in found.text()


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ([0, -32768, 1], "negative ids: labels above 32767"),
        ([0, -1, 1], "-1 marks 'nothing'"),
        ([0, 63, 128], "63, 128: quarters of 255"),
        ([0, 255, 0], "0 and 255 alone: a binary mask"),
        ([1, 2, 3], "nothing is 0: classes counted from 1, or class 0 was lost"),
        ([0] * 2000 + [5], "so few pixels are often of a resize"),
    ],
)
def test_likely_causes(tmp_path, values, cause):
    rasterio = pytest.importorskip("rasterio")
    array = np.array([[values]], np.int16)
    profile = {"driver": "GTiff", "height": 1, "width": len(values), "count": 1, "dtype": "int16"}
    with rasterio.open(tmp_path / "m.tif", "w", transform=rasterio.Affine(1, 0, 5, 0, -1, 5), **profile) as new:
        new.write(array)
    labels = LabelSet.from_names(["sky", "road", "car"], ignore_index=254)
    found = set_values([tmp_path / "m.tif"], labels, IndexEncoding())
    assert any(text.startswith(cause) for text in found.causes()), found.causes()
    assert f"likely: {cause}" in found.text()
