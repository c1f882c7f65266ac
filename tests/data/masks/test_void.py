"""What a mask file itself says is empty is void: nodata, an internal mask, an alpha band."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from seg.data.files.storage import RemoteFile
from seg.data.files.windows import Window
from seg.data.masks.counts import count_pixels
from seg.data.masks.encodings import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MaskEncoding,
    MergedEncoding,
    ValueEncoding,
)
from seg.data.masks.reading import read_mask
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet(("ground", "house"), ((0, 0, 0), (200, 0, 0)))
VALUES = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], np.uint8)
SEEN = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
EXPECTED = [[1, 1, 0, 255], [1, 0, 255, 255]]
STRIPS = {"tiled": False, "blockxsize": 4, "blockysize": 2}
BARE = {**STRIPS, "crs": None, "transform": None}


def masked(write_raster: Callable, path: Path, pixels: np.ndarray, **profile: object) -> Path:
    """With an internal mask."""
    write_raster(path, pixels, **{**STRIPS, **profile})
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(SEEN)
    return path


def with_alpha(write_raster: Callable, path: Path, pixels: np.ndarray, **profile: object) -> Path:
    alpha = SEEN[..., None] * np.uint8(255)
    bands = pixels if pixels.ndim == 3 else pixels[..., None]
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    return write_raster(
        path, np.concatenate([bands, alpha], axis=2), photometric=kind, alpha="yes", **{**STRIPS, **profile}
    )


@pytest.mark.parametrize("hide", [masked, with_alpha])
@pytest.mark.parametrize("profile", [{}, BARE], ids=["georeferenced", "bare"])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        (IndexEncoding(), VALUES),
        (IndexEncoding((9,)), VALUES),
        (ValueEncoding(((0, 0), (1, 1))), VALUES),
        (BinaryEncoding(threshold=0), VALUES),
        (BinaryEncoding(), VALUES * np.uint8(255)),
        (ColourEncoding(), np.array(LABELS.colours, np.uint8)[VALUES]),
        (MergedEncoding(IndexEncoding(), LABELS, (0, 1)), VALUES),
    ],
)
def test_hidden_pixels_are_void(
    tmp_path: Path, write_raster: Callable, hide: Callable, profile: dict, encoding: MaskEncoding, pixels: np.ndarray
) -> None:
    path = hide(write_raster, tmp_path / "m.tif", pixels, **profile)
    assert read_mask(path, LABELS, encoding).tolist() == EXPECTED
    assert read_mask(path, LABELS, encoding, Window(0, 2, 2, 2)).tolist() == [[0, 255], [255, 255]]
    assert count_pixels(path, LABELS, encoding).tolist() == [2, 3, 3]


def test_hidden_is_void_beside_nodata(tmp_path: Path, write_raster: Callable) -> None:
    """An internal mask switches the nodata value off for GDAL; here both count."""
    pixels = VALUES.copy()
    pixels[0, 0] = 77
    path = masked(write_raster, tmp_path / "m.tif", pixels, nodata=77)
    assert read_mask(path, LABELS, IndexEncoding()).tolist() == [[255, 1, 0, 255], [1, 0, 255, 255]]


def test_what_is_hidden_may_hold_anything(tmp_path: Path, write_raster: Callable) -> None:
    path = masked(write_raster, tmp_path / "m.tif", np.where(SEEN, VALUES, 99).astype(np.uint8))
    assert read_mask(path, LABELS, IndexEncoding()).tolist() == EXPECTED


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_as_nodata_is_void(tmp_path: Path, write_raster: Callable, dtype: str) -> None:
    pixels = np.where(SEEN, VALUES, np.nan).astype(dtype)
    path = write_raster(tmp_path / "m.tif", pixels, nodata=np.nan, **STRIPS)
    assert read_mask(path, LABELS, IndexEncoding()).tolist() == EXPECTED
    assert count_pixels(path, LABELS, IndexEncoding()).tolist() == [2, 3, 3]
    empty = write_raster(tmp_path / "e.tif", np.full((2, 4), np.nan, dtype), nodata=np.nan, **STRIPS)
    assert count_pixels(empty, LABELS, IndexEncoding()).tolist() == [0, 0, 8]
    undeclared = write_raster(tmp_path / "u.tif", pixels, **STRIPS)
    with pytest.raises(DataError, match=r"u\.tif: label value nan in 3 pixels is no whole number"):
        read_mask(undeclared, LABELS, IndexEncoding())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_1_bit_mask_under_every_encoding(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    Image.fromarray(VALUES.astype(bool)).save(path)
    for encoding in (BinaryEncoding(), BinaryEncoding(threshold=0), IndexEncoding(), ValueEncoding(((0, 0), (1, 1)))):
        assert read_mask(path, LABELS, encoding).tolist() == VALUES.tolist()
        assert count_pixels(path, LABELS, encoding).tolist() == [5, 3, 0]


@pytest.mark.parametrize("nbits", [1, 8])
def test_white_is_zero_under_binary_is_what_a_viewer_shows(tmp_path: Path, write_raster: Callable, nbits: int) -> None:
    stored = (1 - VALUES) * np.uint8(1 if nbits == 1 else 255)  # 0 is white
    path = write_raster(tmp_path / "m.tif", stored, photometric="MINISWHITE", nbits=nbits, **BARE)
    assert read_mask(path, LABELS, BinaryEncoding()).tolist() == VALUES.tolist()
    with Image.open(path) as viewer:
        np.testing.assert_array_equal(np.asarray(viewer.convert("L")) > 127, VALUES)


def test_a_tiff_compressed_as_jpeg_is_no_index_mask(tmp_path: Path, write_raster: Callable) -> None:
    path = write_raster(tmp_path / "m.tif", np.tile(VALUES, (8, 4)), compress="jpeg", tiled=False, blockxsize=16)
    with pytest.raises(DataError, match=r"m\.tif: is compressed as JPEG, whose losses blend class values; allowed for"):
        read_mask(path, LABELS, IndexEncoding())
    assert read_mask(path, LABELS, BinaryEncoding()).shape == (16, 16)


def test_a_remote_tiff_is_read_as_a_local_one(tmp_path: Path, write_raster: Callable) -> None:
    import fsspec

    path = masked(write_raster, tmp_path / "m.tif", VALUES)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/masks/m.tif", path.read_bytes())
    remote = RemoteFile(memory, "/masks/m.tif", "memory://masks", "m.tif", path.stat().st_size, "1")
    assert read_mask(remote, LABELS, IndexEncoding()).tolist() == EXPECTED
    assert count_pixels(remote, LABELS, IndexEncoding()).tolist() == [2, 3, 3]


def test_a_whole_zstd_tiff_in_strips(tmp_path: Path, write_raster: Callable) -> None:
    path = write_raster(tmp_path / "m.tif", VALUES, compress="zstd", **BARE)
    assert read_mask(path, LABELS, IndexEncoding()).tolist() == VALUES.tolist()


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64"])
def test_whole_numbers_of_any_type(tmp_path: Path, write_raster: Callable, dtype: str) -> None:
    path = write_raster(tmp_path / "m.tif", np.where(SEEN, VALUES, 255).astype(dtype), nodata=255, **BARE)
    assert read_mask(path, LABELS, IndexEncoding()).tolist() == EXPECTED
    assert count_pixels(path, LABELS, IndexEncoding()).tolist() == [2, 3, 3]
    assert IndexEncoding().index_counts([IndexEncoding().reader(path).read()])[:2].tolist() == [2, 3]
    other = write_raster(tmp_path / "o.tif", np.full((2, 4), 300).astype(dtype), **BARE)
    with pytest.raises(DataError, match=r"o\.tif: label value 300 in 8 pixels; allowed: 0 to 1"):
        read_mask(other, LABELS, IndexEncoding())
