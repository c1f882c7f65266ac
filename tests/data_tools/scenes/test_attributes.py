from __future__ import annotations

import json

import numpy as np
import pytest

from data_tools.scenes.attributes import ATTRIBUTE_LABELS, NEAR, scene_attributes
from data_tools.scenes.objects import BOAT, BUILDING, FIELD, FOREST, SOLAR_PANEL, WATER
from data_tools.scenes.scene import draw_scene, scene_seed, write_scenes
from seg.data.masks.planes import MultiLabelEncoding
from seg.data.masks.reading import read_mask
from seg.errors import DataError

NAMES = ATTRIBUTE_LABELS.names
VOID = ATTRIBUTE_LABELS.ignore_index


def planes(mask):
    return dict(zip(NAMES, np.moveaxis(scene_attributes(np.asarray(mask, np.uint8)), -1, 0), strict=True))


def test_attributes_of_each_class():
    found = planes([[FIELD, FOREST, BUILDING, SOLAR_PANEL, BOAT, WATER]])
    present = {name: np.flatnonzero(plane == 1).tolist() for name, plane in found.items()}
    assert present == {
        "vegetation": [0, 1],
        "trees": [1],
        "built": [2, 3],
        "water_surface": [4, 5],
        "small_object": [3, 4],
        "near_water": [0, 1, 2, 3],
    }


def test_near_water_ends_where_it_says_and_is_void_by_the_void():
    row = np.full((1, 100), FIELD)
    row[0, 0], row[0, 99] = WATER, VOID
    near = planes(row)["near_water"][0]
    assert near[0] == 0 and (near[1 : NEAR + 1] == 1).all() and near[NEAR + 1] == 0
    assert (near[99 - NEAR :] == VOID).all() and near[98 - NEAR] == 0
    assert (planes(row)["vegetation"][0, 1:99] == 1).all()  # known although near_water is not


def test_void_is_void_in_all_planes_and_a_scene_without_water_has_no_shore():
    assert (scene_attributes(np.full((3, 3), VOID, np.uint8)) == VOID).all()
    assert not planes(np.full((30, 30), FIELD))["near_water"].any()


def test_attributes_overlap_in_a_drawn_scene():
    _, mask = draw_scene(256, scene_seed(0, "train", 0))
    attributes = scene_attributes(mask)
    assert attributes.shape == (256, 256, 6) and set(np.unique(attributes)) <= {0, 1, VOID}
    assert ((attributes == 1).sum(axis=-1) >= 2).mean() > 0.1


def test_written_scenes_read_back_and_the_two_kinds_are_kept_apart(tmp_path):
    root, splits = tmp_path / "scenes", {"train": 2, "val": 1}
    write_scenes(root, splits, 64, 7, multi_label=True)
    _, mask = draw_scene(64, scene_seed(7, "train", 1))
    stored = read_mask(root / "masks/train/0001.tif", ATTRIBUTE_LABELS, MultiLabelEncoding())
    np.testing.assert_array_equal(stored, scene_attributes(mask))
    before = (root / "masks/train/0001.tif").stat().st_mtime_ns
    write_scenes(root, splits, 64, 7, multi_label=True)
    assert (root / "masks/train/0001.tif").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="holds scenes of masks multi_label, got index; choose another folder"):
        write_scenes(root, splits, 64, 7)


def test_a_folder_drawn_before_masks_were_named_is_taken_as_it_is(tmp_path):
    write_scenes(tmp_path, {"train": 1}, 64, 7)
    manifest = json.loads((tmp_path / "scenes.json").read_text())
    del manifest["masks"]
    (tmp_path / "scenes.json").write_text(json.dumps(manifest))
    before = (tmp_path / "masks/train/0000.png").stat().st_mtime_ns
    write_scenes(tmp_path, {"train": 1}, 64, 7)
    assert (tmp_path / "masks/train/0000.png").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="holds scenes of masks index, got multi_label"):
        write_scenes(tmp_path, {"train": 1}, 64, 7, multi_label=True)
