"""Validity masks: outside, a mask is void, whatever it and its reader are."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seg.balance.counting import count_masks
from seg.data.files.limited import valid_pixels
from seg.data.files.reading import reader
from seg.data.files.storage import LimitedMask, VolumeSlice, file_state, holder, relative_name
from seg.data.files.windows import Window
from seg.data.masks.encodings import IndexEncoding, MultiLabelEncoding
from seg.data.masks.planes import count_planes, write_planes
from seg.data.masks.reading import read_mask
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(["wall", "vessel"])
MASK = np.arange(12, dtype=np.uint8).reshape(3, 4) % 2
VALID = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]], bool)
READ = np.where(VALID, MASK, 255)


def limited(root: Path, valid: np.ndarray, name: str = "valid.png", values=None) -> LimitedMask:
    cv2.imwrite(str(root / "mask.png"), MASK)
    Image.fromarray(valid).save(root / name)
    return LimitedMask(root / "mask.png", root / name, values)


def test_outside_is_void(tmp_path):
    file = limited(tmp_path, VALID.astype(np.uint8) * 255)
    assert (read_mask(file, LABELS, IndexEncoding()) == READ).all()
    assert (read_mask(file, LABELS, IndexEncoding(), Window(1, 0, 2, 3)) == READ[1:, :3]).all()


@pytest.mark.parametrize("name", ["v.gif", "v.tif", "v.bmp.png"])
def test_any_picture_and_any_value_but_0(tmp_path, name):
    file = limited(tmp_path, VALID.astype(np.uint8) * 7, name)
    assert (read_mask(file, LABELS, IndexEncoding()) == READ).all()


def test_a_palette_counts_by_its_colours(tmp_path):
    picture = Image.fromarray(np.where(VALID, 0, 1).astype(np.uint8))  # index 0 is white here
    picture.putpalette([255, 255, 255, 0, 0, 0])
    file = limited(tmp_path, VALID)
    picture.save(tmp_path / "p.png")
    assert (read_mask(LimitedMask(file.mask, tmp_path / "p.png"), LABELS, IndexEncoding()) == READ).all()


def test_values_that_mean_valid_as_of_a_scene_classification(tmp_path):
    codes = np.where(VALID, 4, 9).astype(np.uint8)  # 9 is cloud
    codes[1, 1] = 5
    assert (read_mask(limited(tmp_path, codes, values=(4, 5)), LABELS, IndexEncoding()) == READ).all()
    clouds = np.where(VALID, 0, 1).astype(np.uint8)
    assert (read_mask(limited(tmp_path, clouds, values=(0,)), LABELS, IndexEncoding()) == READ).all()


def test_counts_leave_it_out(tmp_path):
    counts = count_masks([limited(tmp_path, VALID.astype(np.uint8))], LABELS, IndexEncoding(), root=tmp_path)
    assert counts.pixel_counts.tolist() == [(READ == 0).sum(), (READ == 1).sum()]
    assert counts.void_pixels == (~VALID).sum()


def test_planes_of_classes_that_overlap_are_void_outside(tmp_path):
    planes = np.stack([MASK, 1 - MASK], axis=2)
    write_planes(tmp_path / "mask.tif", planes)
    file = LimitedMask(tmp_path / "mask.tif", limited(tmp_path, VALID.astype(np.uint8)).valid)
    labels = LabelSet.from_names(["a", "b"], multi_label=True)
    assert (read_mask(file, labels, MultiLabelEncoding()) == np.where(VALID[..., None], planes, 255)).all()
    assert count_planes(file, labels)[:, 2].tolist() == [(~VALID).sum()] * 2


def test_another_size_names_both(tmp_path):
    file = limited(tmp_path, np.ones((2, 4), np.uint8))
    with pytest.raises(DataError, match=r"valid.png: is 2 x 4 \(height x width\), but .*mask.png, whose .* is 3 x 4"):
        read_mask(file, LABELS, IndexEncoding())


def test_losses_and_colours_are_refused(tmp_path):
    file = limited(tmp_path, VALID.astype(np.uint8) * 255, "valid.jpg")
    with pytest.raises(DataError, match="valid.jpg: was compressed with losses, allowed for a validity mask: PNG"):
        read_mask(file, LABELS, IndexEncoding())
    file = limited(tmp_path, np.dstack([VALID, VALID, ~VALID]).astype(np.uint8))
    with pytest.raises(DataError, match="has 3 bands that differ, allowed for a validity mask: one"):
        read_mask(file, LABELS, IndexEncoding())


def test_nan_and_nodata_are_not_valid(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "height": 3, "width": 4, "count": 1, "dtype": "float32", "nodata": -1}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "v.tif", "w", **profile) as new,
    ):
        new.write(np.where(VALID, 1, np.nan).astype(np.float32)[None])
        new.write(np.array([[[-1]]], np.float32), window=rasterio.windows.Window(1, 0, 1, 1))
    expected = VALID.copy()
    expected[0, 1] = False
    assert (valid_pixels(reader(tmp_path / "v.tif").read()) == expected).all()


def test_another_validity_mask_is_another_mask(tmp_path):
    file = limited(tmp_path, VALID.astype(np.uint8))
    other = limited(tmp_path, VALID.astype(np.uint8), "other.png")
    assert relative_name(file, tmp_path) == "mask.png (valid: valid.png)" != relative_name(other, tmp_path)
    assert file_state(file).size == sum(path.stat().st_size for path in (file.mask, file.valid))
    assert holder(LimitedMask(VolumeSlice(file.mask, 0, 1), file.valid)) == file.mask
    assert (file.name, file.stem, file.resolve()) == ("mask.png", "mask", file.mask.resolve())
