"""seg.data.files.rasters: every band count and type by windows, nodata, grids; broken files named."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

import seg.data.files.rasters as rasters
import seg.data.files.reading as reading
import seg.data.files.tiff as tiff
from seg.data.files.grids import check_grids, written_raster
from seg.data.files.places import file_place
from seg.data.files.rasters import Raster, RasterHeader, opened
from seg.data.files.reading import read_values, reader
from seg.data.files.stored import Stored
from seg.data.files.windows import Window
from seg.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
CRS = "EPSG:32633"
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
LAYOUTS = {
    "tiled": {},
    "deflate": {"compress": "deflate", "predictor": 2},
    "striped": {"tiled": False, "blockxsize": None, "blockysize": 5},  # as wide as the image
    "lzw by band": {"compress": "lzw", "interleave": "band"},
    "BigTIFF": {"bigtiff": "yes"},
}


def is_raster(path: Path) -> bool:
    return reader(path).block is not None


def raster_header(path: Path) -> RasterHeader:
    raster = reader(path)
    assert isinstance(raster, Raster)
    return raster.header


def read_mask_raster(path: Path, window: Window | None = None, longest: int | None = None) -> tuple:
    stored = reader(path).read(window, None, longest)
    return stored.values, stored.nodata[0]


def profile_of(name: str) -> dict:
    return {key: value for key, value in LAYOUTS[name].items() if value is not None}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "bands"), list(itertools.product(rasters.DTYPES, (1, 2, 3, 4, 7))))
def test_a_window_is_the_whole_read_and_cut(
    tmp_path: Path, layout: str, dtype: str, bands: int, write_raster: Callable, noise: Callable
) -> None:
    pixels = noise((150, 170, bands), dtype)
    profile = {} if layout != "deflate" or dtype == "float32" else profile_of(layout)
    path = write_raster(
        tmp_path / "a.tif", pixels, **(profile or profile_of("tiled" if layout == "deflate" else layout))
    )
    assert is_raster(path)
    values, missing = read_values(path, bands)
    np.testing.assert_array_equal(values, pixels)
    assert values.dtype == dtype and missing is None
    for window in (Window(0, 0, 1, 1), Window(60, 61, 70, 90), Window(149, 0, 1, 170)):
        np.testing.assert_array_equal(read_values(path, bands, window)[0], pixels[window.slices])
    chosen = tuple(range(bands, 0, -1))
    np.testing.assert_array_equal(read_values(path, chosen)[0], pixels[..., ::-1])


def test_what_is_a_raster(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    """Georeferenced, tiled, with nodata, BigTIFF, or of values that the plain reader does not take."""
    gray = noise((40, 50), "uint8")
    strips = {"tiled": False, "blockxsize": 50, "blockysize": 8, "crs": None, "transform": None}

    def strip(pixels: np.ndarray, name: str, **more: object) -> Path:
        return write_raster(tmp_path / name, pixels, **{**strips, **more})

    assert not is_raster(strip(gray, "plain.tif"))
    assert not is_raster(strip(noise((40, 50), "uint16"), "plain16.tif"))
    assert is_raster(strip(gray, "placed.tif", crs=CRS, transform=PLACE))
    assert is_raster(strip(gray, "nodata.tif", nodata=7))
    assert is_raster(strip(gray, "big.tif", bigtiff="yes"))
    assert is_raster(strip(noise((40, 50), "int16"), "signed.tif"))
    assert is_raster(strip(noise((40, 50, 5), "uint8"), "five.tif"))
    assert is_raster(write_raster(tmp_path / "tiled.tif", gray, crs=None, transform=None))
    assert not is_raster(tmp_path / "absent.tif")
    (tmp_path / "broken.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    assert not is_raster(tmp_path / "broken.tif")


def test_a_large_tiff_is_a_raster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: Callable) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.tif"), noise((40, 50), "uint8"))
    assert not is_raster(tmp_path / "a.tif")
    monkeypatch.setattr(tiff, "PICTURE_PIXELS", 1999)
    reading._local_facts.cache_clear()
    assert is_raster(tmp_path / "a.tif")
    reading._local_facts.cache_clear()


def test_header(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    header = raster_header(write_raster(tmp_path / "a.tif", noise((90, 70, 4), "int16"), nodata=-9999))
    assert header.shape == (90, 70) and header.count == header.colours == 4 and header.dtype == "int16"
    assert header.block == (64, 64) and header.nodata == (-9999.0,) * 4
    assert header.crs == CRS and header.transform == tuple(PLACE)[:6]


# --- missing values ---
@pytest.mark.parametrize("dtype", rasters.DTYPES)
def test_nodata_of_the_file_and_of_the_caller(
    tmp_path: Path, dtype: str, write_raster: Callable, noise: Callable
) -> None:
    pixels = noise((70, 80, 3), dtype)
    pixels[5:9, 3:7, 0], pixels[20:30, 10:20] = 11, 12
    path = write_raster(tmp_path / "a.tif", pixels, nodata=12)
    missing = read_values(path, 3)[1]
    assert missing is not None
    np.testing.assert_array_equal(missing, pixels == 12)
    missing = read_values(path, 3, nodata=11)[1]
    assert missing is not None
    np.testing.assert_array_equal(missing, pixels == 11)
    window = Window(4, 2, 10, 10)
    np.testing.assert_array_equal(read_values(path, (3, 1), window, 11)[1], (pixels == 11)[window.slices][..., [2, 0]])


def test_nan_and_infinity_are_missing_whatever_nodata_is(
    tmp_path: Path, write_raster: Callable, noise: Callable
) -> None:
    pixels = noise((64, 64, 2), "float32")
    pixels[0, 0, 0], pixels[1, 1, 1], pixels[2, 2] = np.nan, np.inf, -1e30
    for nodata in (None, np.nan, -1e30):
        path = write_raster(tmp_path / f"{nodata}.tif", pixels, nodata=nodata)
        expected = ~np.isfinite(pixels) | (pixels == np.float32(-1e30) if nodata == -1e30 else False)
        np.testing.assert_array_equal(read_values(path, 2)[1], expected)


def test_nodata_that_the_type_does_not_have(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    path = write_raster(tmp_path / "a.tif", noise((64, 64), "uint8"))
    with pytest.raises(DataError, match=r"a\.tif: holds uint8 values, which input\.nodata -9999 is none of; allowed: "):
        read_values(path, 1, nodata=-9999)
    stored = Stored(path, np.zeros((2, 2, 1), np.uint8), "raster", "bands", 8, nodata=(0.5,))  # a file may name one
    assert stored.missing() is None


def test_alpha_hides_pixels_unless_it_is_a_band_that_is_wanted(
    tmp_path: Path, write_raster: Callable, noise: Callable
) -> None:
    pixels = noise((64, 64, 4), "uint8")
    pixels[..., 3] = 255
    pixels[:10, :, 3] = 0
    path = write_raster(tmp_path / "a.tif", pixels, photometric="rgb", alpha="yes")
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    assert raster_header(path).colours == 3
    values, missing = read_values(path, 3)
    np.testing.assert_array_equal(values, pixels[..., :3])
    assert missing is not None and missing[:10].all() and not missing[10:].any()
    values, missing = read_values(path, 4)  # near infrared, which GDAL calls alpha unless told
    np.testing.assert_array_equal(values, pixels)
    assert missing is None
    assert read_values(path, (4, 1))[1] is None


def test_an_internal_mask_hides_pixels(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    path = write_raster(tmp_path / "a.tif", noise((64, 64, 2), "uint16"))
    hidden = np.zeros((64, 64), bool)
    hidden[3:5, 7:9] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(~hidden)
    missing = read_values(path, 2)[1]
    assert missing is not None
    np.testing.assert_array_equal(missing, np.stack([hidden, hidden], axis=2))


# --- refusals ---
def test_bands_that_a_file_does_not_have(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    path = write_raster(tmp_path / "a.tif", noise((64, 64, 5), "uint16"))
    with pytest.raises(DataError, match=r"a\.tif: has 5 bands where input\.bands is 3; allowed: 5, or a list of the"):
        read_values(path, 3)
    with pytest.raises(DataError, match=r"a\.tif: has no band 6 \(input\.bands\), allowed: 1 to 5"):
        read_values(path, (1, 6))
    one = write_raster(tmp_path / "one.tif", noise((64, 64), "uint16"))
    values = read_values(one, 3)[0]  # as a gray picture where three bands are asked for
    assert values.shape == (64, 64, 3) and (values == values[..., :1]).all()


@pytest.mark.parametrize("dtype", ["int8", "uint32", "int64", "complex64"])
def test_other_types_are_refused(tmp_path: Path, dtype: str, write_raster: Callable) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((64, 64), dtype))
    with pytest.raises(
        DataError, match=rf"a\.tif: holds {dtype} values, allowed: one of uint8, uint16, int16, float32"
    ):
        read_values(path, 1)


def test_float64_images_become_float32(tmp_path: Path, write_raster: Callable) -> None:
    pixels = np.full((64, 64), 0.1)
    pixels[0, 0], pixels[0, 1], pixels[0, 2] = -1.7976931348623157e308, np.nan, -9999.0
    lowest = write_raster(tmp_path / "a.tif", pixels, nodata=-1.7976931348623157e308)  # QGIS's nodata of float64
    values, missing = read_values(lowest, 1)
    assert values.dtype == np.float32 and values[5, 5, 0] == np.float32(0.1) and values[0, 2, 0] == -9999
    assert np.argwhere(missing[..., 0]).tolist() == [[0, 0], [0, 1]]
    _, missing = read_values(write_raster(tmp_path / "b.tif", pixels, nodata=-9999.0), 1)
    assert np.argwhere(missing[..., 0]).tolist() == [[0, 0], [0, 1], [0, 2]]


def test_a_palette_tiff_as_an_image_is_its_colours(tmp_path: Path) -> None:
    palette = [0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759
    picture = Image.frombytes("P", (4, 1), bytes([0, 1, 2, 2]))
    picture.putpalette(palette)
    for suffix in ("tif", "png"):
        picture.save(tmp_path / f"p.{suffix}")
        values, missing = read_values(tmp_path / f"p.{suffix}", 3)
        assert values[0].tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 255, 0]] and missing is None
    with pytest.raises(
        DataError, match=r"p\.tif: is a palette TIFF of uint8 values where input\.bands is 1; allowed: "
    ):
        read_values(tmp_path / "p.tif", 1)


def test_what_is_too_large_to_be_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_raster: Callable, noise: Callable
) -> None:
    path = write_raster(tmp_path / "a.tif", noise((100, 90, 2), "uint8"))
    monkeypatch.setattr(rasters, "WHOLE_VALUES", 10_000)
    message = r"a\.tif: 100 x 90 pixels of 2 band\(s\) are too many to be read as one \(allowed: 10,000 values\); set "
    with pytest.raises(DataError, match=message):
        read_values(path, 2)
    with pytest.raises(DataError, match=message):
        read_values(path, 2, Window(0, 0, 100, 90))
    assert read_values(path, 2, Window(0, 0, 50, 90))[0].shape == (50, 90, 2)


@pytest.mark.parametrize("layout", ["tiled", "striped", "deflate"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_raster_is_named(
    tmp_path: Path, layout: str, kept: float, write_raster: Callable, noise: Callable
) -> None:
    path = write_raster(tmp_path / "whole.tif", noise((200, 200, 4), "uint16"), **profile_of(layout))
    data = path.read_bytes()
    broken = tmp_path / "broken.tif"
    broken.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match=r"broken\.tif: cannot be read as a raster, is it cut short or corrupt\? \("):
        read_values(broken, 4)


def test_a_raster_with_overwritten_tiles_is_named(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    path = write_raster(tmp_path / "a.tif", noise((200, 200, 2), "uint16"), compress="deflate")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tif: cannot be read as a raster"):
        read_values(path, 2)


def test_a_file_that_only_names_others_is_not_followed(tmp_path: Path) -> None:
    """GDAL has formats that are text with paths and URLs in it; a TIFF by its first bytes is opened as a TIFF only."""
    (tmp_path / "a.tif").write_text("<VRTDataset rasterXSize='4' rasterYSize='4'></VRTDataset>")
    with pytest.raises(DataError, match=r"a\.tif: cannot be read as a raster"), opened(tmp_path / "a.tif"):
        pass


# --- masks and grids ---
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_a_mask_raster_of_any_type(tmp_path: Path, dtype: str, write_raster: Callable) -> None:
    pixels = np.random.default_rng(0).integers(0, 5, (80, 90)).astype(dtype)
    path = write_raster(tmp_path / "m.tif", pixels, nodata=4)
    values, nodata = read_mask_raster(path)
    np.testing.assert_array_equal(values, pixels)
    assert nodata == 4
    window = Window(7, 8, 60, 9)
    np.testing.assert_array_equal(read_mask_raster(path, window)[0], pixels[window.slices])


def test_a_mask_of_colours_and_one_of_too_many_bands(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    pixels = noise((70, 70, 3), "uint8")
    np.testing.assert_array_equal(read_mask_raster(write_raster(tmp_path / "m.tif", pixels))[0], pixels)
    with pytest.raises(DataError, match=r"two\.tif: is a mask of 2 bands, allowed: 1, or 3 of colours"):
        read_mask_raster(write_raster(tmp_path / "two.tif", pixels[..., :2]))


def test_grids_that_agree(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    image = write_raster(tmp_path / "i.tif", noise((70, 90, 4), "uint16"))
    nudged = Affine(10, 0, 500_000 + 1e-6, 0, -10, 5_000_000)
    for name, settings in {
        "same": {},
        "rounded": {"transform": nudged},
        "bare": {"crs": None, "transform": None},
    }.items():
        check_grids(image, write_raster(tmp_path / f"{name}.tif", noise((70, 90), "uint8"), **settings))


@pytest.mark.parametrize(
    ("size", "settings", "reason"),
    [
        ((70, 91), {}, r"size \(height x width\) 70 x 90 against 70 x 91"),
        ((70, 90), {"crs": "EPSG:32634"}, "coordinate reference system EPSG:32633 against EPSG:32634"),
        (
            (70, 90),
            {"transform": Affine(10, 0, 500_005, 0, -10, 5_000_000)},
            r"transform \(10, 0, 500000, 0, -10, 5000000\) against \(10, 0, 500005, 0, -10, 5000000\)",
        ),
        (
            (70, 90),
            {"transform": Affine(10.01, 0, 500_000, 0, -10, 5_000_000)},
            r"transform \(10, .* against \(10.01, 0, 500000, 0, -10, 5000000\)",
        ),
    ],
)
def test_a_mask_on_another_grid_is_refused(
    tmp_path: Path, size: tuple, settings: dict, reason: str, write_raster: Callable, noise: Callable
) -> None:
    image = write_raster(tmp_path / "i.tif", noise((70, 90, 4), "uint16"))
    mask = write_raster(tmp_path / "m.tif", noise(size, "uint8"), **settings)
    with pytest.raises(DataError, match=rf"i\.tif and its mask .*m\.tif are not on one grid: {reason}; allowed: the"):
        check_grids(image, mask)


# --- writing ---
def test_a_prediction_has_the_images_grid(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    image = write_raster(tmp_path / "i.tif", noise((300, 270, 4), "uint16"))
    mask = np.random.default_rng(0).integers(0, 256, (300, 270)).astype(np.uint8)
    target = tmp_path / "out" / "p.tif"
    with written_raster(target, (300, 270), file_place(image), nodata=255) as write:
        for top in range(0, 300, 70):
            write(top, mask[top : top + 70])
        assert not target.exists()
    values, nodata = read_mask_raster(target)
    np.testing.assert_array_equal(values, mask)
    assert nodata == 255
    check_grids(image, target)
    assert [path.name for path in target.parent.iterdir()] == ["p.tif"]


def test_a_new_raster_leaves_no_sidecars_of_an_old_one(tmp_path: Path, write_raster) -> None:
    image = write_raster(tmp_path / "image.tif", np.zeros((64, 64), np.uint8))
    target = write_raster(tmp_path / "p.tif", np.full((64, 64), 1, np.uint8))
    write_raster(tmp_path / "p.tif.ovr", np.full((16, 16), 1, np.uint8), crs=None, transform=None)
    (tmp_path / "p.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    with written_raster(target, (64, 64), file_place(image), nodata=255) as write:
        write(0, np.full((64, 64), 2, np.uint8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "p.tif"]
    with rasterio.open(target) as new:
        assert set(np.unique(new.read(1, out_shape=(16, 16))).tolist()) == {2}


def test_nothing_is_left_of_a_prediction_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped"), written_raster(tmp_path / "p.tif", (64, 64), None, nodata=255):
        raise RuntimeError("stopped")
    assert not list(tmp_path.iterdir())


def test_an_overview(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    pixels = np.repeat(np.repeat(noise((10, 20, 2), "uint8"), 10, axis=0), 10, axis=1)
    path = write_raster(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(read_values(path, 2, longest=20)[0], pixels[::10, ::10])
    np.testing.assert_array_equal(read_values(path, (2,), longest=10_000)[0], pixels[..., 1:])


def test_the_cache_is_bounded_and_can_be_chosen(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    raster_header(write_raster(tmp_path / "a.tif", noise((64, 64), "uint8")))
    import os

    assert int(os.environ["GDAL_CACHEMAX"]) <= 128


def test_a_header_without_pixels(tmp_path: Path) -> None:
    """A TIFF whose first page lies beyond the end of the file."""
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 10_000))
    assert not is_raster(tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_decimated_read_knows_what_is_missing(
    tmp_path: Path, write_raster: Callable, noise: Callable, monkeypatch
) -> None:
    """Every tenth pixel of 200 x 160, where the read of all of them would be refused."""
    pixels = noise((200, 160, 2), "uint16") // 2
    pixels[100:, :80, 1] = 65535
    image = write_raster(tmp_path / "a.tif", pixels, nodata=65535)
    mask = write_raster(tmp_path / "m.tif", pixels[..., 1], nodata=65535)
    monkeypatch.setattr(rasters, "WHOLE_VALUES", 20 * 16 * 2)
    with pytest.raises(DataError, match="are too many to be read as one"):
        read_values(image, 2)
    values, missing = read_values(image, 2, longest=20)
    assert values.shape == (20, 16, 2) and missing is not None
    np.testing.assert_array_equal(missing, values == 65535)
    assert missing[:, :, 1].sum() == 10 * 8 and not missing[..., 0].any()
    stored, nodata = read_mask_raster(mask, longest=20)
    np.testing.assert_array_equal(stored, values[..., 1])
    assert nodata == 65535
