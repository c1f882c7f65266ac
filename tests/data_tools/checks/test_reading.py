"""Rasters through the check: clean ones give no finding, broken ones do; by blocks the same is found as in one read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rasterio import Affine

import data_tools.checks.reading
import seg.data.files.reading
from data_tools.checks import CheckReport, Finding, Rules, check_dataset
from data_tools.checks.reading import Values, middle_window, not_finite, see_image, see_mask
from data_tools.checks.survey import survey_folders
from seg.data.files.rasters import Raster
from seg.data.files.windows import Window, blocks
from seg.data.masks.reading import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MergedEncoding,
    PaletteEncoding,
    ValueEncoding,
)
from seg.errors import DataError
from seg.labels import LabelSet

SIZE = (192, 240)
NAMES = ("train/0", "train/1", "val/0")
LABELS = LabelSet(("soil", "water", "roof"), ((120, 90, 40), (20, 60, 220), (230, 30, 30)), 255)
INDEX = Rules(LABELS, IndexEncoding(), bands=4)
GAP = (slice(0, 20), slice(0, 200))  # of each raster, without data
SHARE = "masks/train/0"


@functools.cache
def scene(name: str, bands: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, bands) uint16 of 1000 to 61000 and (H, W) uint8: three wavy stripes, one a class."""
    rng = np.random.default_rng(NAMES.index(name))
    wave = 6 * np.sin(np.arange(SIZE[0])[:, None] / rng.uniform(6, 12) + rng.uniform(0, 6))
    column = np.arange(SIZE[1])[None] + wave
    mask = (column > SIZE[1] * 0.33).astype(np.uint8) + (column > SIZE[1] * rng.uniform(0.5, 0.7))
    image = np.array([[100, 90, 60, 9], [40, 70, 180, 5], [200, 60, 60, 7]], np.float32)[mask][..., :bands]
    blobs = cv2.GaussianBlur(rng.normal(size=SIZE).astype(np.float32), (0, 0), 8)
    image = image + 18 * (blobs / blobs.std())[..., None] + rng.normal(0, 2, image.shape)
    return (np.clip(image, 4, 240) * 250).astype(np.uint16), mask.astype(np.uint8)


@pytest.fixture
def rasters(tmp_path: Path, write_raster: Callable[..., Path]) -> Path:
    """4 bands of uint16 with nodata 65535 in a corner, 255 there in the masks."""
    for name in NAMES:
        image, mask = (array.copy() for array in scene(name))
        image[GAP], mask[GAP] = 65535, 255
        write_raster(tmp_path / f"images/{name}.tif", image, nodata=65535)
        write_raster(tmp_path / f"masks/{name}.tif", mask, nodata=255)
    return tmp_path


def report(root: Path, rules: Rules = INDEX) -> CheckReport:
    return check_dataset(survey_folders(root), rules, workers=1)


def check(root: Path, rules: Rules = INDEX) -> tuple[Finding, ...]:
    return report(root, rules).findings


def only(findings: tuple[Finding, ...], kind: str, *files: str) -> str:
    """The text of the only finding."""
    assert [(one.kind, one.files) for one in findings] == [(kind, files)], findings
    return findings[0].text


@pytest.fixture(params=["whole", "by blocks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Twice: as one picture, and as a large raster of twelve blocks, of which no read is larger than a few."""
    if request.param == "by blocks":
        real = Raster.read

        def bounded(
            raster: object, window: Window | None = None, bands: object = None, longest: object = None
        ) -> object:
            assert longest or (window is not None and window.height * window.width <= max(64 * 64, 40 * 40))
            return real(raster, window, bands, longest)

        monkeypatch.setattr(seg.data.files.reading, "LARGE_PIXELS", 64 * 64)
        monkeypatch.setattr(seg.data.files.reading, "blocks", functools.partial(blocks, pixels=64 * 64))
        monkeypatch.setattr(data_tools.checks.reading, "WINDOW", 40)
        monkeypatch.setattr(Raster, "read", bounded)
    return request.param


def test_clean_rasters_of_four_bands_have_no_finding(rasters: Path, way: str) -> None:
    found = report(rasters)
    assert found.findings == ()
    masks = [scene(name)[1].copy() for name in NAMES[:2]]
    for mask in masks:
        mask[GAP] = 255
    expected = [sum(int((mask == value).sum()) for mask in masks) for value in (0, 1, 2, 255)]
    assert found.pixels["train"].tolist() == expected


def test_missing_values_are_not_looked_at(rasters: Path, way: str, write_raster: Callable[..., Path]) -> None:
    """65535 as nodata: the brightest value is another. 5000 of 65535 is dark; one pixel of 65535 would hide it."""
    for name in NAMES:
        image = (scene(name)[0] // 13).copy()
        image[GAP] = 65535
        write_raster(rasters / f"images/{name}.tif", image, nodata=65535)
    assert "of all 3 images is" in only(check(rasters), "dark-images")


def test_the_nodata_of_the_rules_counts_where_the_file_names_none(
    rasters: Path, way: str, write_raster: Callable[..., Path]
) -> None:
    for name in NAMES:
        write_raster(rasters / f"images/{name}.tif", np.where(scene(name)[0] > 0, scene(name)[0], 0))
    write_raster(rasters / "images/train/1.tif", np.full((*SIZE, 4), 7, np.uint16))
    assert "pixels are [7, 7, 7, 7]" in only(check(rasters), "constant-image", "images/train/1.tif")
    text = only(check(rasters, Rules(LABELS, IndexEncoding(), 4, nodata=7.0)), "constant-image", "images/train/1.tif")
    assert text == "all 46080 pixels are nodata"
    refused = check(rasters, Rules(LABELS, IndexEncoding(), 4, nodata=-1.0))
    assert {one.kind for one in refused} == {"unsupported-image"} and len(refused) == 3
    assert refused[0].text.startswith("holds uint16 values, which input.nodata -1 is none of")


@pytest.mark.parametrize("declared", [False, True])
def test_nan_in_a_float_raster(rasters: Path, way: str, declared: bool, write_raster: Callable[..., Path]) -> None:
    for name in NAMES:
        image = scene(name)[0].astype(np.float32)
        image[30:33, 40:44, 1] = np.nan if name == "train/1" else 0
        write_raster(rasters / f"images/{name}.tif", image, nodata=np.nan if declared else None)
    found = check(rasters)
    if declared:
        assert found == ()
    else:
        text = only(found, "not-finite", "images/train/1.tif")
        assert text == "12 values are NaN and 0 infinite, of 184320; allowed: finite values"


def test_infinity_is_told_beside_a_declared_nan(rasters: Path, way: str, write_raster: Callable[..., Path]) -> None:
    for name in NAMES:
        image = scene(name)[0].astype(np.float32)
        image[30, 40] = np.nan
        image[100, 100] = np.inf if name == "val/0" else 1000
        write_raster(rasters / f"images/{name}.tif", image, nodata=np.nan)
    assert only(check(rasters), "not-finite", "images/val/0.tif").startswith("0 values are NaN and 4 infinite")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"crs": "EPSG:32634"}, "not on one grid: coordinate reference system EPSG:32633 against EPSG:32634; allowed"),
        ({"transform": (10, 0, 500_010, 0, -10, 5_000_000)}, "not on one grid: transform (10, 0, 500000, "),
    ],
)
def test_other_grids(rasters: Path, way: str, change: dict, text: str, write_raster: Callable[..., Path]) -> None:
    if "transform" in change:
        change = {"transform": Affine(*change["transform"])}
    write_raster(rasters / "masks/train/0.tif", scene("train/0")[1], **change)
    found = only(check(rasters), "grid-mismatch", "images/train/0.tif", "masks/train/0.tif")
    assert found.startswith(text) and str(rasters) not in found


def test_another_size(rasters: Path, way: str, write_raster: Callable[..., Path]) -> None:
    write_raster(rasters / "masks/train/0.tif", scene("train/0")[1][:-2])
    found = only(check(rasters), "size-mismatch", "images/train/0.tif", "masks/train/0.tif")
    assert found == "not on one grid: size (height x width) 192 x 240 against 190 x 240; allowed: the image's grid"


def test_unknown_values_are_counted_over_the_blocks(rasters: Path, way: str, write_raster: Callable[..., Path]) -> None:
    mask = scene("val/0")[1].copy()
    mask[10, 10], mask[150, 200:203] = 9, 9
    write_raster(rasters / "masks/val/0.tif", mask)
    found = only(check(rasters), "unknown-labels", "masks/val/0.tif")
    assert found.startswith("label value 9 in 4 pixels (nearest: 2 'roof'); allowed: 0 to 2 and 255 (void)")


def test_unknown_colours_are_counted_over_the_blocks(rasters: Path, way: str, write_raster: Callable) -> None:
    for name in NAMES:
        colours = np.array(LABELS.colours, np.uint8)[scene(name)[1]]
        if name == "train/0":
            colours[10, 10] = colours[150, 200:203] = (1, 2, 3)
        write_raster(rasters / f"masks/{name}.tif", colours)
    found = only(check(rasters, Rules(LABELS, ColourEncoding(), 4)), "unknown-labels", "masks/train/0.tif")
    assert found.startswith("colour [1, 2, 3] in 4 pixels (nearest: [120, 90, 40] 'soil'); allowed: the 3 class")


def test_a_threshold_that_hides_a_raster_mask(rasters: Path, way: str, write_raster: Callable[..., Path]) -> None:
    two = LabelSet.from_names(["ground", "roof"], 255)
    for name in NAMES:
        roof = (scene(name)[1] == 2) * np.uint8(1 if name == "val/0" else 200)
        write_raster(rasters / f"masks/{name}.tif", roof)
    found = [one for one in check(rasters, Rules(two, BinaryEncoding(), 4)) if one.kind == "wrong-encoding"]
    assert "the largest value is 1, so that threshold 127" in only(tuple(found), "wrong-encoding", "masks/val/0.tif")


def test_a_raster_cut_short_is_unreadable(rasters: Path, way: str) -> None:
    for name in ("images/train/0.tif", "masks/val/0.tif"):
        data = (rasters / name).read_bytes()
        (rasters / name).write_bytes(data[: int(0.6 * len(data))])
    found = {(one.kind, one.files) for one in check(rasters) if one.kind != "missing-class"}
    assert found == {
        ("unreadable-image", ("images/train/0.tif",)),
        ("unreadable-mask", ("masks/val/0.tif",)),
    }


def test_other_bands_are_unsupported(rasters: Path, way: str) -> None:
    found = check(rasters, Rules(LABELS, IndexEncoding(), bands=3))
    assert {one.kind for one in found} == {"unsupported-image"}
    assert found[0].text.startswith("has 4 bands where input.bands is 3")


def test_a_shifted_mask_and_specks_of_a_raster(rasters: Path, write_raster: Callable, monkeypatch) -> None:
    """The middle of a large raster tells a shift as well; small_components need all of it and are left out."""
    mask = scene("train/0")[1]
    write_raster(rasters / "masks/train/0.tif", np.roll(mask, 7, axis=1))
    speckled = scene("train/1")[1].copy()
    speckled[100, 10] = 2
    write_raster(rasters / "masks/train/1.tif", speckled)
    whole = {one.kind: one.text for one in check(rasters)}
    assert set(whole) == {"shifted-mask", "small-components"} and "7 pixels left" in whole["shifted-mask"]
    monkeypatch.setattr(seg.data.files.reading, "LARGE_PIXELS", 64 * 64)
    large = {one.kind: one.text for one in check(rasters)}
    assert large == {"shifted-mask": whole["shifted-mask"]}


def test_a_large_raster_is_found_again_in_another_split(rasters: Path, write_raster: Callable, monkeypatch) -> None:
    """The look comes from a decimated read."""
    monkeypatch.setattr(seg.data.files.reading, "LARGE_PIXELS", 64 * 64)
    monkeypatch.setattr(data_tools.checks.reading, "PREVIEW", 160)
    image = scene("train/0")[0].copy()
    image[GAP] = 65535
    write_raster(rasters / "images/val/0.tif", np.where(image < 65535, image + 300, image), nodata=65535)
    found = only(
        tuple(one for one in check(rasters) if one.kind != "shifted-mask"),
        "near-duplicate", "images/val/0.tif", "images/train/0.tif",
    )  # fmt: skip
    assert found.startswith("nearly images/train/0.tif of train (")


def test_one_look_at_a_raster_both_ways(rasters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing has to be shrunk, all that is kept of an image and a mask is the same."""
    files = rasters / "images/val/0.tif", rasters / "masks/val/0.tif"
    image, mask = see_image(files[0], 4, None), see_mask(files[1], LABELS, IndexEncoding())
    monkeypatch.setattr(seg.data.files.reading, "LARGE_PIXELS", 64 * 64)
    monkeypatch.setattr(seg.data.files.reading, "blocks", functools.partial(blocks, pixels=64 * 64))
    other, covered = see_image(files[0], 4, None), see_mask(files[1], LABELS, IndexEncoding())
    assert (image.shape, image.dtype, image.values.largest) == (other.shape, other.dtype, other.values.largest)
    assert (image.values.size, image.values.present) == (other.values.size, other.values.present)
    assert image.values.present == 4 * (SIZE[0] * SIZE[1] - 20 * 200)
    assert (
        image.perceptual_hash is not None
        and other.perceptual_hash is not None
        and image.perceptual_hash.hash == other.perceptual_hash.hash
    )
    np.testing.assert_array_equal(image.perceptual_hash.thumbnail, other.perceptual_hash.thumbnail)
    np.testing.assert_array_equal(image.middle, other.middle)  # smaller than the window
    np.testing.assert_array_equal(mask.pixels, covered.pixels)
    np.testing.assert_array_equal(mask.middle, covered.middle)


def test_the_middle() -> None:
    assert middle_window((20_000, 100)) == Window(9860, 0, 280, 100)
    assert middle_window((281, 280)) == Window(0, 0, 280, 280)


def test_values_by_hand() -> None:
    """Two pieces of one pixel each: [1, NaN], then [3, 5] with its 5 missing."""
    sums = Values()
    sums.add(np.array([[[1, np.nan]]], np.float32), None)
    assert (sums.size, sums.nan, sums.infinite) == (2, 1, 0) and sums.problem
    sums = Values(nan_is_nodata=True)
    first = sums.add(np.array([[[1, np.nan]]], np.float32), np.array([[[False, True]]]))
    assert first.tolist() == [[[1, 0]]] and sums.constant and not sums.problem
    second = sums.add(np.array([[[3, 5]]], np.float32), np.array([[[False, True]]]))
    assert second.tolist() == [[[3, 0]]] and not sums.constant
    assert (sums.size, sums.present, sums.largest) == (4, 2, 3.0)
    assert not_finite(np.array([[1, np.inf]], np.float32)).startswith("0 values are NaN and 1 infinite, of 2")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.tif"):
        see_image(tmp_path / "gone.tif", 3, None)


# --- encodings through the check ---
def as_gif(mask: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(mask)
    picture.putpalette([value for value in range(256) for _ in range(3)])
    picture.save(path, "GIF")


def saved(values: np.ndarray, path: Path) -> None:
    Image.fromarray(values).save(path)


FIVE = LabelSet(("soil", "water", "roof", "tile"), (*LABELS.colours, (250, 60, 60)), 255)
NOISY = np.array([[3, -2, 1], [-3, 0, 2]])
ENCODINGS = {
    "values": (ValueEncoding(((0, 0), (128, 1), (200, 2))), "png", lambda m, p: saved(np.uint8([0, 128, 200])[m], p)),
    "merged": (
        MergedEncoding(IndexEncoding(), FIVE, (0, 1, 2, 2)), "png",
        lambda m, p: saved(np.where((m == 2) & (np.arange(SIZE[1]) % 40 < 20), np.uint8(3), m), p),
    ),
    "ignored": (
        IndexEncoding((77,)), "png", lambda m, p: saved(np.where(np.arange(SIZE[1]) < 30, np.uint8(77), m), p)
    ),
    "tolerance": (
        ColourEncoding(tolerance=8), "png",
        lambda m, p: saved((np.array(LABELS.colours)[m] + NOISY[np.indices(m.shape).sum(0) % 2]).astype(np.uint8), p),
    ),
    "GIF": (PaletteEncoding(), "gif", as_gif),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings(tmp_path: Path, name: str) -> None:
    """Clean: no finding. One pixel that means nothing: one, that names the file and the value."""
    encoding, suffix, write = ENCODINGS[name]
    for file in NAMES:
        image, mask = scene(file, 3)
        for kind in ("images", "masks"):
            (tmp_path / kind / file).parent.mkdir(parents=True, exist_ok=True)
        saved((image // 257).astype(np.uint8), tmp_path / f"images/{file}.png")
        write(mask, tmp_path / f"masks/{file}.{suffix}")
    rules = Rules(LABELS, encoding)
    assert check(tmp_path, rules) == ()
    path = tmp_path / f"{SHARE}.{suffix}"
    with Image.open(path) as picture:
        stored = np.array(picture)
    wrong = 3 if suffix == "gif" else 99  # PIL leaves no gaps among the indices of a GIF
    stored[5, 5] = wrong
    as_gif(stored, path) if suffix == "gif" else saved(stored, path)
    text = only(check(tmp_path, rules), "unknown-labels", f"{SHARE}.{suffix}")
    assert str(wrong) in text and "in 1 pixels" in text and "allowed" in text
