"""Tiles: offsets by hand, exact pixels and transforms, nodata, padding, palettes, grids that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from data_tools.datasets.tiling import Tile, TilePlan, check_source, cut_rows, tile_offsets
from seg.data.files.reading import read_values
from seg.data.masks.reading import PaletteEncoding, read_mask
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

# rasterio 1.4 multiplies transforms in a way that affine 3 means to drop; plain masks have no place on earth.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]
PLACE = {"crs": "EPSG:32633", "transform": Affine(0.3, 0, 500_000, 0, -0.3, 5_000_000)}


def write(path: Path, values: np.ndarray, **profile: Any) -> Path:
    """A GeoTIFF of (bands, H, W) values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    options = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", **options, **profile) as target:
        target.write(values)
    return path


def cut(image: Path, mask: Path | None, out: Path, plan: TilePlan) -> list[Tile]:
    rows, _ = check_source(image, mask, plan)
    return cut_rows(image, mask, out, image.stem, range(rows), plan)


def noise(*shape: int, dtype: str = "uint16", high: int = 4000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, high, shape).astype(dtype)


def read(path: Path) -> tuple[np.ndarray, Any]:
    with rasterio.open(path) as source:
        return source.read(), source.transform


def test_offsets_by_hand() -> None:
    assert tile_offsets(100, 40, 0, "shift") == [0, 40, 60]
    assert tile_offsets(100, 40, 0, "pad") == [0, 40, 80]
    assert tile_offsets(100, 40, 10, "shift") == [0, 30, 60]  # fits as it is
    assert tile_offsets(101, 40, 10, "pad") == [0, 30, 60, 90]
    assert tile_offsets(40, 40, 10, "shift") == [0]
    assert tile_offsets(30, 40, 0, "pad") == [0]


@settings(max_examples=60)
@given(
    length=st.integers(1, 300),
    size=st.integers(1, 90),
    overlap=st.integers(0, 89),
    edge=st.sampled_from(["shift", "pad"]),
)
def test_tiles_cover_all_and_none_is_for_nothing(length: int, size: int, overlap: int, edge: Any) -> None:
    if overlap >= size or (edge == "shift" and length < size):
        return
    offsets = tile_offsets(length, size, overlap, edge)
    covered = np.zeros(length + size, bool)
    for offset in offsets:
        assert not covered[offset : offset + size].all()  # of each tile something is new
        covered[offset : offset + size] = True
    assert covered[:length].all()
    assert all(later - earlier <= size - overlap for earlier, later in zip(offsets, offsets[1:], strict=False))
    if edge == "shift":
        assert offsets[-1] + size == length


def test_hidden_pixels_of_a_mask_are_not_labelled(tmp_path: Path) -> None:
    image = write(tmp_path / "a.tif", noise(1, 40, 40), **PLACE)
    mask = write(tmp_path / "masks" / "a.tif", np.zeros((1, 40, 40), np.uint8), **PLACE)
    shown = np.full((40, 40), 255, np.uint8)
    shown[:10] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(mask, "r+") as target:
        target.write_mask(shown)
    assert [tile.labelled for tile in cut(image, mask, tmp_path / "out", TilePlan((40, 40)))] == [0.75]
    values = np.zeros((1, 40, 40), np.float32)
    values[:, :20] = np.nan
    mask = write(tmp_path / "masks" / "nan.tif", values, nodata=np.nan, **PLACE)
    assert [tile.labelled for tile in cut(image, mask, tmp_path / "nan", TilePlan((40, 40)))] == [0.5]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_tiles_have_the_pixels_and_the_place_of_their_window(tmp_path: Path, dtype: str) -> None:
    values = noise(4, 70, 101, dtype=dtype, high=250)
    image = write(tmp_path / "a.tif", values, nodata=0, photometric="MINISBLACK", **PLACE)
    with rasterio.open(image, "r+") as target:
        target.descriptions = ("red", "green", "blue", "infrared")
        target.scales, target.offsets = (0.5,) * 4, (1.0,) * 4
    mask = write(tmp_path / "masks" / "a.tif", noise(1, 70, 101, dtype="uint8", high=3), **PLACE)
    tiles = cut(image, mask, tmp_path / "out", TilePlan((32, 48), overlap=8))
    assert [(tile.place, tile.offset) for tile in tiles] == [
        ((row, column), (top, left)) for row, top in enumerate((0, 24, 38)) for column, left in enumerate((0, 40, 53))
    ]
    for tile in tiles:
        for path, source in ((tile.image, image), (tile.mask, mask)):
            assert path is not None
            with rasterio.open(path) as found, rasterio.open(source) as original:
                window = Window(tile.offset[1], tile.offset[0], 48, 32)
                np.testing.assert_array_equal(found.read(), original.read(window=window))
                assert found.transform == original.window_transform(window)
                # a tile's corner by hand: 0.3 m a pixel, north up
                assert found.transform.c == pytest.approx(500_000 + 0.3 * tile.offset[1], abs=1e-9)
                assert found.transform.f == pytest.approx(5_000_000 - 0.3 * tile.offset[0], abs=1e-9)
                for key in ("crs", "nodata", "dtypes", "descriptions", "scales", "offsets", "colorinterp"):
                    assert getattr(found, key) == getattr(original, key), key
                assert found.profile["compress"] == "deflate"


def test_nodata_is_not_labelled_and_empty_tiles_are_left_out(tmp_path: Path) -> None:
    values = noise(3, 40, 80)
    values[:, :, :40] = 0  # the left tile has no data
    image = write(tmp_path / "a.tif", values, nodata=0, **PLACE)
    labels = np.zeros((1, 40, 80), np.uint8)
    labels[:, :10, 40:] = 255  # a quarter of the right tile is void
    mask = write(tmp_path / "masks" / "a.tif", labels, **PLACE)
    plan = TilePlan((40, 40), void=((255,),))
    assert [(tile.place, tile.labelled) for tile in cut(image, mask, tmp_path / "out", plan)] == [((0, 1), 0.75)]
    assert cut(image, mask, tmp_path / "out", TilePlan((40, 40), min_labelled=0.76, void=((255,),))) == []
    assert [tile.place for tile in cut(image, None, tmp_path / "alone", TilePlan((40, 40)))] == [(0, 1)]
    # a mask's own nodata is void, too
    mask = write(tmp_path / "masks" / "b.tif", labels, nodata=255, **PLACE)
    assert [tile.labelled for tile in cut(image, mask, tmp_path / "two", TilePlan((40, 40)))] == [0.75]


def test_colours_that_mean_void(tmp_path: Path) -> None:
    rgb = np.zeros((10, 10, 3), np.uint8)
    rgb[:4] = (0, 0, 9)
    for name in ("image", "mask"):
        Image.fromarray(rgb).save(tmp_path / f"{name}.png")
    plan = TilePlan((10, 10), void=((0, 0, 0), (1, 1, 1)))
    assert [tile.labelled for tile in cut(tmp_path / "image.png", tmp_path / "mask.png", tmp_path / "out", plan)] == [
        0.4
    ]
    with pytest.raises(ConfigError, match=r"--void: got \[1, 2\], allowed for .*mask.png: 1 or 3 numbers"):
        check_source(tmp_path / "image.png", tmp_path / "mask.png", TilePlan((10, 10), void=((1, 2),)))


def test_padding_is_nodata_and_void(tmp_path: Path) -> None:
    image = write(tmp_path / "a.tif", noise(2, 20, 30), nodata=7, **PLACE)
    mask = write(tmp_path / "masks" / "a.tif", np.ones((1, 20, 30), np.uint8), **PLACE)
    plan = TilePlan((32, 32), edge="pad", void=((255,), (254,)))
    (tile,) = cut(image, mask, tmp_path / "out", plan)
    assert tile.mask is not None
    pixels, transform = read(tile.image)
    labels, _ = read(tile.mask)
    assert (pixels[:, 20:] == 7).all()
    assert (pixels[:, :, 30:] == 7).all()
    np.testing.assert_array_equal(pixels[:, :20, :30], read(image)[0])
    assert (labels[0] == 255).sum() == 32 * 32 - 20 * 30
    assert transform == PLACE["transform"]
    assert tile.labelled == pytest.approx(20 * 30 / 32**2)


def test_png_and_jpeg_become_png(tmp_path: Path) -> None:
    rgb = noise(30, 50, 3, dtype="uint8", high=255)
    Image.fromarray(rgb).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    indices = noise(30, 50, dtype="uint8", high=3)
    palette = Image.frombytes("P", (50, 30), indices.tobytes())
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 77] + [0] * 759)
    palette.save(tmp_path / "m.png", bits=8)
    tiles = cut(tmp_path / "a.jpg", tmp_path / "m.png", tmp_path / "out", TilePlan((16, 16), overlap=4))
    labels = LabelSet.from_names(("a", "b", "c"))
    for tile in tiles:
        top, left = tile.offset
        assert tile.image.suffix == ".png"
        window = (slice(top, top + 16), slice(left, left + 16))
        expected = np.asarray(Image.open(tmp_path / "a.jpg"))[window]
        assert (
            np.abs(read_values(tile.image, 3)[0].astype(int) - expected).max() <= 2
        )  # GDAL's JPEG decoder and Pillow's
        assert tile.mask is not None
        np.testing.assert_array_equal(read_mask(tile.mask, labels, PaletteEncoding()), indices[window])
    assert {path.suffix for path in (tmp_path / "out").rglob("*.*")} == {".png"}  # no side files


def test_alpha_and_inner_masks_say_what_is_valid(tmp_path: Path) -> None:
    values = noise(4, 16, 32, dtype="uint8", high=200)
    values[3] = 255
    values[3, :, :16] = 0
    image = write(tmp_path / "a.tif", values, photometric="RGB", alpha="NON-PREMULTIPLIED", **PLACE)
    with rasterio.open(image) as source:
        assert source.colorinterp[3] is ColorInterp.alpha
    (tile,) = cut(image, None, tmp_path / "out", TilePlan((16, 16)))
    with rasterio.open(tile.image) as found:
        assert (tile.place, found.colorinterp[3]) == ((0, 1), ColorInterp.alpha)
    assert read_values(tile.image, 3)[0].shape == (16, 16, 3)  # training reads it, alpha being opaque
    image = write(tmp_path / "b.tif", values[:3], **PLACE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(image, "r+") as target:
        target.write_mask(values[3] * (np.arange(16) < 12)[:, None].astype(np.uint8))
    (tile,) = cut(image, None, tmp_path / "two", TilePlan((16, 16)))
    assert tile.labelled == 0.75
    with rasterio.open(tile.image) as found:
        assert (found.dataset_mask() > 0).sum() == 12 * 16


def test_jpeg_compressed_tiff_becomes_rgb(tmp_path: Path) -> None:
    image = write(tmp_path / "a.tif", noise(3, 32, 32, dtype="uint8", high=250), compress="jpeg", photometric="ycbcr")
    (tile,) = cut(image, None, tmp_path / "out", TilePlan((32, 32)))
    np.testing.assert_array_equal(read(tile.image)[0], read(image)[0])
    assert read_values(tile.image, 3)[0].shape == (32, 32, 3)


def test_grids_that_differ(tmp_path: Path) -> None:
    image = write(tmp_path / "a.tif", noise(1, 32, 32), **PLACE)
    plan = TilePlan((16, 16))
    other = write(tmp_path / "size.tif", noise(1, 32, 31), **PLACE)
    with pytest.raises(
        DataError, match=r"a.tif is 32 x 32 \(height x width\), .*size.tif is 32 x 31; allowed: one grid"
    ):
        check_source(image, other, plan)
    other = write(tmp_path / "crs.tif", noise(1, 32, 32), crs="EPSG:32634", transform=PLACE["transform"])
    with pytest.raises(DataError, match=r"a.tif has the CRS EPSG:32633 and .*crs.tif has EPSG:32634 and .*one grid"):
        check_source(image, other, plan)
    shifted = Affine(0.3, 0, 500_000.3, 0, -0.3, 5_000_000)
    other = write(tmp_path / "moved.tif", noise(1, 32, 32), crs="EPSG:32633", transform=shifted)
    with pytest.raises(DataError, match="the transform .*moved.tif has EPSG:32633"):
        check_source(image, other, plan)
    close = Affine(0.3, 0, 500_000.001, 0, -0.3, 5_000_000)  # a 300th of a pixel
    assert check_source(image, write(tmp_path / "near.tif", noise(1, 32, 32), crs="EPSG:32633", transform=close), plan)
    assert check_source(image, write(tmp_path / "plain.tif", noise(1, 32, 32)), plan)  # a mask without a place


def test_messages(tmp_path: Path) -> None:
    image = write(tmp_path / "a.tif", noise(1, 32, 32), **PLACE)
    with pytest.raises(DataError, match="a.tif: is 32 x 32, smaller than a tile of 64 x 16; allowed: a smaller --size"):
        check_source(image, None, TilePlan((64, 16)))
    with pytest.raises(ConfigError, match="--edge pad: .*a.tif has no nodata value; allowed: with --void, which fills"):
        check_source(image, image, TilePlan((64, 64), edge="pad"))
    with pytest.raises(
        ConfigError, match="--size 8 x 8 with --overlap 8: allowed: an overlap of 0 to less than the size"
    ):
        TilePlan((8, 8), overlap=8)
    with pytest.raises(ConfigError, match="--min-labelled: got 1.5, allowed: 0 to 1"):
        TilePlan((8, 8), min_labelled=1.5)
    Image.fromarray(np.zeros((32, 32), bool)).save(tmp_path / "bits.png")
    with pytest.raises(
        DataError, match="bits.png: has 1 bits a value, allowed: 8, 16 or 32; of a mask, data_tools.con"
    ):
        check_source(image, tmp_path / "bits.png", TilePlan((8, 8)))
    (tmp_path / "broken.tif").write_bytes(image.read_bytes()[:300])
    with pytest.raises(DataError, match="broken.tif: cannot be read as a raster"):
        cut(tmp_path / "broken.tif", None, tmp_path / "out", TilePlan((8, 8)))
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match="text.png: is no image that can be read"):
        check_source(tmp_path / "text.png", None, TilePlan((8, 8)))


def test_tiles_keep_ground_control_points(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, column, 5e5 + column, 5e6 - row, 0) for row, column in ((0, 0), (0, 50), (40, 0))]
    image = write(tmp_path / "a.tif", noise(1, 40, 50), gcps=points, crs="EPSG:32633")
    tile = cut(image, None, tmp_path / "out", TilePlan((16, 16)))[-1]
    with rasterio.open(tile.image) as source:
        found, crs = source.gcps
    top, left = tile.offset
    assert [(one.row + top, one.col + left, one.x, one.y) for one in found] == [
        (0, 0, 5e5, 5e6), (0, 50, 500_050, 5e6), (40, 0, 5e5, 4_999_960)
    ]  # fmt: skip
    assert crs.to_epsg() == 32633


def test_tiles_of_a_picture_with_a_world_file_have_its_place(tmp_path: Path) -> None:
    Image.fromarray(noise(40, 50, 3, dtype="uint8", high=255)).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n4999999.75\n")
    tile = cut(tmp_path / "a.png", None, tmp_path / "out", TilePlan((16, 16)))[-1]
    assert tile.image.suffix == ".tif" and tile.offset == (24, 34)
    assert tuple(read(tile.image)[1])[:6] == (0.5, 0, 500_017, 0, -0.5, 4_999_988)
