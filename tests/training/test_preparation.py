"""Preprocessing and preparation where images are rasters, volumes, clipped or normalised by counting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from rich.console import Console

from seg.config import validate
from seg.config.input import Input
from seg.config.tree import Config
from seg.data.files.storage import VolumeSlice
from seg.data.views.band_statistics import BandStatistics
from seg.data.views.clip import Clip
from seg.data.views.preprocessing import ValueRange
from seg.errors import DataError
from seg.runs.run_dir import RunDir
from seg.training.preparation import count_training, prepare

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NAMES = ["ground", "road", "tree"]
console = Console(quiet=True)


def config(root: Path, data: dict | None = None, **sections: dict) -> Config:
    tree = {
        "name": "test",
        "labels": {"names": NAMES},
        "data": {"name": "folders", "root": str(root), **(data or {})},
        "training": {"epochs": 1, "batch_size": 1},
    }
    return validate(tree | sections, "test")


@pytest.fixture
def rasters(tmp_path: Path, write_raster: Callable, noise: Callable) -> Path:
    """A folder dataset of one raster a split, with nodata in a corner."""
    for split in ("train", "val"):
        image = noise((90, 100, 4), "int16", 3)
        image[:30, :30] = -1
        mask = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (90, 100))
        write_raster(tmp_path / f"images/{split}/{split}.tif", image, nodata=-1)
        write_raster(tmp_path / f"masks/{split}/{split}.tif", mask)
    return tmp_path


def statistics(**changes: object) -> BandStatistics:
    known = {
        "dtype": "int16", "bands": 2, "clip": None, "pixels": (9, 9), "minimum": (0.0, 0.0), "maximum": (9.0, 9.0),
        "low": None, "high": None, "mean": (4.0, 5.0), "std": (1.0, 2.0), "fingerprint": "f",
    }  # fmt: skip
    return BandStatistics(**known | changes)


# --- preprocessing ---
@pytest.mark.parametrize(
    ("section", "expected"),
    [({}, False), ({"normalize": "counted"}, True), ({"clip": {"values": [0, 1]}}, False),
     ({"clip": {"percentiles": [1, 99]}}, True)],
)  # fmt: skip
def test_what_has_to_be_counted(tmp_path: Path, section: dict, expected: bool) -> None:
    made = config(tmp_path, input=section)
    assert made.input.needs_statistics == expected
    if expected:
        with pytest.raises(ValueError, match="statistics: got None, allowed with input.normalize: counted or percent"):
            made.input.preprocessing()


def test_preprocessing_of_each_kind(tmp_path: Path) -> None:
    fixed = config(tmp_path, input={"bands": [4, 2], "nodata": -1.0, "clip": {"values": [-5, 7]}}).input.preprocessing()
    assert (fixed.bands, fixed.selection, fixed.nodata) == (2, (4, 2), -1.0)
    assert fixed.value_range == ValueRange((-5.0, -5.0), (7.0, 7.0), clip=True)
    assert (fixed.mean, fixed.std) == ((0.5, 0.5), (0.25, 0.25))
    counted = config(tmp_path, input={"bands": 2, "normalize": "counted"}).input.preprocessing(statistics())
    assert counted.value_range == ValueRange((2.0, 1.0), (6.0, 9.0), clip=False)
    assert (counted.mean, counted.std, counted.selection) == ((0.5, 0.5), (0.25, 0.25), None)
    ends = statistics(low=(0.0, 1.0), high=(8.0, 11.0), clip=Clip(percentiles=(1, 99)))
    section = {"bands": 2, "clip": {"percentiles": [1, 99]}}
    clipped = config(tmp_path, input=section).input.preprocessing(ends)
    assert clipped.value_range == ValueRange((0.0, 1.0), (8.0, 11.0), clip=True) and clipped.mean == (0.5, 0.5)
    both = config(tmp_path, input=section | {"normalize": "counted"}).input.preprocessing(ends)
    np.testing.assert_allclose([both.mean, both.std], [[0.5, 0.4], [0.125, 0.2]])  # (4 - 0) / 8, (5 - 1) / 10
    eight = config(tmp_path, input={"bands": 2, "normalize": "counted"}).input.preprocessing(statistics(dtype="uint8"))
    assert eight.value_range is None
    np.testing.assert_allclose(eight.mean, [4 / 255, 5 / 255])


def test_counted_values_beyond_their_range_are_kept(tmp_path: Path) -> None:
    assert config(tmp_path).build_augmentation().saturate
    assert not config(tmp_path, input={"normalize": "counted"}).build_augmentation().saturate
    assert config(tmp_path, input={"normalize": "counted", "clip": {"values": [0, 9]}}).build_augmentation().saturate
    assert config(tmp_path, input={"bands": [5, 4, 9, 1]}).build_augmentation().bands == 4


# --- samples ---
def test_a_mask_on_another_grid_is_found_before_training(rasters: Path, write_raster: Callable) -> None:
    assert len(config(rasters).samples()["train"]) == 1
    write_raster(rasters / "masks/val/val.tif", np.zeros((90, 100), np.uint8), crs="EPSG:32634")
    with pytest.raises(DataError, match=r"val\.tif and its mask .*val\.tif are not on one grid: coordinate reference"):
        config(rasters).samples()


def test_volumes_become_slices_where_the_configuration_says_so(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for folder, kind in (("images", np.int16), ("masks", np.uint8)):
            (tmp_path / folder / split).mkdir(parents=True)
            volume = nibabel.Nifti1Image(np.zeros((6, 7, 3), kind), np.eye(4))
            nibabel.save(volume, tmp_path / folder / split / f"{split}_1.nii.gz")
    splits = config(tmp_path, {"slices": {"axis": 1}}).samples()
    assert [len(splits[split]) for split in ("train", "val")] == [7, 7]
    first = splits["train"][0].image
    assert first == VolumeSlice(tmp_path / "images/train/train_1.nii.gz", 1, 0)
    with pytest.raises(DataError, match=r"train_1\.nii\.gz: is a volume; allowed: data\.slices"):
        config(tmp_path).samples()
    assert config(tmp_path).input.may_miss_pixels(splits["train"])


def test_slices_of_pictures_are_refused(tmp_path: Path) -> None:
    for path in ("images/train/a", "masks/train/a", "images/val/b", "masks/val/b"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"{path}.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: is no volume, allowed with data\.slices"):
        config(tmp_path, {"slices": {"axis": 0}}).samples()
    pictures = config(tmp_path).samples()["train"]
    assert not config(tmp_path).input.may_miss_pixels(pictures)
    assert config(tmp_path, input={"nodata": 0.0}).input.may_miss_pixels(pictures)


# --- counting ---
def test_a_resumed_run_normalises_by_its_own_statistics(rasters: Path) -> None:
    made = config(rasters, input={"bands": 4, "normalize": "counted", "clip": {"percentiles": [1, 99]}})
    samples, run = made.samples()["train"], RunDir.new(rasters / "run", made)
    counts, first = count_training(made, run, samples, console)
    assert first is not None and first.bands == 4 and counts.pixel_counts.sum() < 90 * 100 - 900
    counts.save(run.counts)
    first.save(run.bands)
    assert count_training(made, run, samples, console) == (counts, first)
    content = json.loads(run.bands.read_text())
    run.bands.write_text(json.dumps(content | {"mean": [1.5, 2.5, 3.5, 4.5]}))
    again = count_training(made, run, samples, console)[1]
    assert again is not None and again.mean == (1.5, 2.5, 3.5, 4.5)  # read, not counted
    assert run.band_statistics() == again
    other = config(rasters, input={"bands": [1, 2, 3, 4], "normalize": "counted"})
    with pytest.raises(DataError, match=r"bands\.json: these band statistics do not match the data: bands: got 4, e"):
        count_training(other, run, samples, console)
    run.bands.unlink()
    with pytest.raises(DataError, match=r"bands\.json: cannot read the band statistics: No such file"):
        run.band_statistics()


def test_images_are_looked_into_only_where_pixels_may_be_missing(
    rasters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(rasters, input={"bands": 4, "max_value": 30000})
    counts, none = count_training(made, RunDir(rasters / "run"), made.samples()["train"], console)
    assert none is None and counts.pixel_counts.sum() < 90 * 100 - 900
    monkeypatch.setattr(Input, "may_miss_pixels", lambda *_: False)
    masks_alone, _ = count_training(made, RunDir(rasters / "run"), made.samples()["train"], console)
    assert masks_alone.pixel_counts.sum() > counts.pixel_counts.sum()
    run = RunDir.new(rasters / "run", made)
    assert run.band_statistics() is None


def test_counts_and_weights_are_of_the_size_that_is_trained(tmp_path: Path) -> None:
    """Dots of 2 x 2 pixels in three images, of which a resize to a quarter leaves one."""
    for k, place in enumerate((2, 4, 4)):
        mask = np.zeros((32, 32), np.uint8)
        mask[:, 16:] = 1
        mask[place : place + 2, place : place + 2] = 2
        for split in ("train", "val"):
            (tmp_path / "masks" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / split).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "masks" / split / f"{k}{split}.png"), mask)
            cv2.imwrite(str(tmp_path / "images" / split / f"{k}{split}.png"), np.full((32, 32, 3), k, np.uint8))
    resized = config(tmp_path, input={"resize": [8, 8]})
    prepared = prepare(resized, RunDir(tmp_path / "run"), resized.samples()["train"], console)
    assert prepared.counts.pixel_counts.tolist() == [95, 96, 1]
    told = [line for line in prepared.remarks(resized) if "input.resize" in line]
    assert told == [
        "warning: input.resize to 8 x 8 (height x width) leaves nothing of small objects: 'tree' is in 3 images, in 1 "
        "after it"
    ]
    plain = config(tmp_path)
    as_stored = prepare(plain, RunDir(tmp_path / "other"), plain.samples()["train"], console)
    assert as_stored.counts.pixel_counts.tolist() == [1524, 1536, 12]
    as_stored.counts.save(tmp_path / "counts.json")
    other = config(tmp_path, input={"resize": [8, 8]}, class_weights={"counts": str(tmp_path / "counts.json")})
    with pytest.raises(DataError, match=r"counts\.json: .*encoding: got index, expected index, resized to 8 x 8"):
        prepare(other, RunDir(tmp_path / "run"), other.samples()["train"], console)


def test_torn_counts_of_a_run_are_made_anew(rasters: Path) -> None:
    made = config(rasters, input={"bands": 4, "normalize": "counted"})
    samples, run = made.samples()["train"], RunDir.new(rasters / "run", made)
    first = prepare(made, run, samples, console)
    first.save(run)
    whole = run.counts.read_bytes(), run.bands.read_bytes()
    for torn in (b"", whole[0][:100]):
        for path in (run.counts, run.bands):
            path.write_bytes(torn)
        (run.path / "class_weights.json").unlink()
        prepare(made, run, samples, console).save(run)
        assert (run.counts.read_bytes(), run.bands.read_bytes()) == whole
        assert run.class_weights(first.counts.names).keys() == set(first.counts.names)
    run.counts.write_text(json.dumps(json.loads(whole[0]) | {"fingerprint": "0" * 64}))
    told = r"counts\.json: these class counts do not match the data: .* To mend it, bring back the files"
    with pytest.raises(DataError, match=told):
        prepare(made, run, samples, console)
