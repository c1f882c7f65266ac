"""GeoTIFFs with blocks that were never written: void with a nodata value, hidden by a mask, else an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window as Area

from seg.balance.counting import count_masks
from seg.data.files.blocks import absent_blocks
from seg.data.files.reading import read_values, reader
from seg.data.files.storage import VolumeSlice
from seg.data.files.windows import Window
from seg.data.masks.gray import IndexEncoding
from seg.data.masks.planes import MultiLabelEncoding
from seg.data.masks.reading import read_mask
from seg.errors import DataError
from seg.labels import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
TILES = {"tiled": True, "blockxsize": 32, "blockysize": 32}
LAYOUTS = {
    "tiled": TILES,
    "striped": {"blockysize": 32},
    "deflate": TILES | {"compress": "deflate"},
    "BigTIFF": TILES | {"bigtiff": "yes"},
    "by band": TILES | {"interleave": "band"},
    "big endian": TILES | {"endianness": "big"},
}
LABELS = LabelSet.from_names(["ground", "house"])


@pytest.fixture
def half_written() -> Callable[..., Path]:
    """(path, GDAL's options) -> a raster of ones, 96 x 64, whose last 32 rows were never written."""

    def write(path: Path, count: int = 1, rows: int = 64, **options: object) -> Path:
        shape = {"height": 96, "width": 64, "count": count, "dtype": "uint8"}
        with rasterio.open(path, "w", driver="GTiff", sparse_ok=True, **shape, **options) as file:
            file.write(np.ones((count, rows, 64), np.uint8), window=Area(0, 0, 64, rows))
        return path

    return write


def told(path: Path, number: int = 2, row: int = 64) -> str:
    return (
        f"{path}: {number} of its blocks were never written (first: pixels from row {row}, column 0 on); allowed: a "
        "whole file, or a nodata value, which such blocks then mean (gdal_edit.py -a_nodata VALUE FILE)"
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_and_a_mask_are_refused(tmp_path: Path, half_written: Callable, layout: str) -> None:
    path = half_written(tmp_path / "half.tif", **LAYOUTS[layout])
    expected = told(path, number=1 if layout == "striped" else 2)
    for read in (lambda: read_values(path, 1), lambda: read_mask(path, LABELS, IndexEncoding())):
        with pytest.raises(DataError) as raised:
            read()
        assert str(raised.value) == expected


@pytest.mark.parametrize("layout", ["tiled", "by band"])
def test_bands_are_refused(tmp_path: Path, half_written: Callable, layout: str) -> None:
    path = half_written(tmp_path / "half.tif", count=4, **LAYOUTS[layout])
    with pytest.raises(DataError, match="2 of its blocks were never written"):
        read_values(path, (4, 2))


def test_what_was_written_can_be_read(tmp_path: Path, half_written: Callable) -> None:
    path = half_written(tmp_path / "half.tif", **TILES)
    assert (read_values(path, 1, Window(0, 0, 64, 64))[0] == 1).all()
    with pytest.raises(DataError, match="1 of its blocks were never written .first: pixels from row 64, column 32 on"):
        read_values(path, 1, Window(63, 40, 2, 24))  # reaches one pixel row into one absent block


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_declared_nodata_value_is_what_absent_blocks_mean(
    tmp_path: Path, half_written: Callable, layout: str
) -> None:
    path = half_written(tmp_path / "half.tif", nodata=9, **LAYOUTS[layout])
    values, missing = read_values(path, 1)
    assert (values[:64] == 1).all() and missing is not None
    assert missing[64:].all() and not missing[:64].any()
    mask = read_mask(path, LABELS, IndexEncoding())
    assert (mask[:64] == 1).all() and (mask[64:] == LABELS.ignore_index).all()


def test_pixels_that_a_mask_hides_need_not_be_written(tmp_path: Path, half_written: Callable) -> None:
    hidden, shown = tmp_path / "hidden.tif", tmp_path / "shown.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        for path, rows in ((hidden, 64), (shown, 65)):
            with rasterio.open(half_written(path, **TILES), "r+") as file:
                mask = np.zeros((96, 64), np.uint8)
                mask[:rows] = 255
                file.write_mask(mask)
    assert (read_mask(hidden, LABELS, IndexEncoding())[64:] == LABELS.ignore_index).all()
    with pytest.raises(DataError, match="shown.tif: 2 of its blocks were never written"):
        read_mask(shown, LABELS, IndexEncoding())


def test_counting_refuses_them_and_skips_them_on_demand(tmp_path: Path, half_written: Callable) -> None:
    path = half_written(tmp_path / "half.tif", **TILES)
    with pytest.raises(DataError, match="never written"):
        count_masks([path], LABELS, IndexEncoding())
    whole = half_written(tmp_path / "whole.tif", rows=96, **TILES)
    assert count_masks([whole], LABELS, IndexEncoding()).pixel_counts.tolist() == [0, 96 * 64]


def test_a_file_that_ends_too_early_is_refused_in_every_layout(tmp_path: Path, half_written: Callable) -> None:
    for name, layout in LAYOUTS.items():
        path = half_written(tmp_path / f"{name}.tif", rows=96, **layout)
        with rasterio.open(path) as file:
            column, row = ("0", "2") if name == "striped" else ("1", "2")
            end = int(file.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
        path.write_bytes(path.read_bytes()[: end + 1])
        with pytest.raises(DataError, match="cannot be read|cut short"):
            read_mask(path, LABELS, IndexEncoding())


def test_planes_and_slices_are_refused(tmp_path: Path, half_written: Callable) -> None:
    planes = half_written(tmp_path / "planes.tif", count=2, **TILES)
    with pytest.raises(DataError, match="planes.tif: lacks blocks, which were never written"):
        read_mask(planes, LabelSet.from_names(["a", "b"], multi_label=True), MultiLabelEncoding())
    volume = tmp_path / "volume.tif"
    for page in range(2):
        shape = {"height": 64, "width": 64, "count": 1, "dtype": "uint8"}
        options = TILES | {"sparse_ok": True, "APPEND_SUBDATASET": "YES" if page else "NO"}
        with rasterio.open(volume, "w", driver="GTiff", **shape, **options) as file:
            file.write(np.ones((1, 32, 64), np.uint8), window=Area(0, 0, 64, 32))
    with pytest.raises(DataError, match="2 of its blocks were never written"):
        reader(VolumeSlice(volume, 0, 1)).read(None, 1)


def test_absent_blocks_of_an_area(tmp_path: Path, half_written: Callable) -> None:
    with rasterio.open(half_written(tmp_path / "half.tif", **TILES)) as file:
        assert absent_blocks(file, Area(0, 0, 64, 96), [1]) == [(2, 0), (2, 1)]
        assert absent_blocks(file, Area(32, 70, 1, 1), [1]) == [(2, 1)]
        assert absent_blocks(file, Area(0, 0, 64, 64), [1]) == []
