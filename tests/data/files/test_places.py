"""seg.data.files.places: every way in which a file says where it lies, kept; equal grids in other words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from seg.data.files.grids import check_grids, written_raster
from seg.data.files.places import Place, file_place, same_crs
from seg.errors import DataError

UTM = CRS.from_epsg(32633)
POINTS = [
    GroundControlPoint(0, 0, 500_000, 5_000_000, 0),
    GroundControlPoint(0, 50, 500_500, 5_000_010, 0),
    GroundControlPoint(40, 0, 500_020, 4_999_600, 0),
]
ZEROS = [0.0] * 18
COEFFICIENTS = RPC(
    height_off=1.0, height_scale=1.0, lat_off=10.0, lat_scale=1.0, long_off=11.0, long_scale=1.0,
    line_off=20.0, line_scale=20.0, samp_off=25.0, samp_scale=25.0, err_bias=0.5, err_rand=0.5,
    line_num_coeff=[0.0, 0.0, 1.0, *ZEROS[1:]], line_den_coeff=[1.0, 0.0, *ZEROS],
    samp_num_coeff=[0.0, 1.0, *ZEROS], samp_den_coeff=[1.0, 0.0, *ZEROS],
)  # fmt: skip
WORLD = "0.5\n0\n0\n-0.5\n500000.25\n4999999.75\n"  # of pixel centres


def written(path: Path, bands: int = 1, **profile: object) -> Path:
    size = {"height": 40, "width": 50, "count": bands, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
        file.write(np.ones((bands, 40, 50), np.uint8))
    return path


def points(place: Place | None) -> list[tuple[float, ...]]:
    assert place is not None
    return [(one.row, one.col, one.x, one.y) for one in place.gcps]


def again(path: Path, place: Place | None, bands: int = 1) -> Place | None:
    """The place of a raster that is written at it."""
    shape = (40, 50) if bands == 1 else (40, 50, bands)
    with written_raster(path, (40, 50), place, 255, bands) as write:
        write(0, np.full(shape, 7, np.uint8))
    return file_place(path)


def test_ground_control_points_are_kept_and_move_with_a_window(tmp_path: Path) -> None:
    place = file_place(written(tmp_path / "g.tif", gcps=POINTS, crs=UTM))
    new = again(tmp_path / "p.tif", place)
    assert points(new) == [(0, 0, 500_000, 5_000_000), (0, 50, 500_500, 5_000_010), (40, 0, 500_020, 4_999_600)]
    assert new is not None and new.gcps_crs == UTM and new.transform is None
    assert points(place and place.part(10, 5))[2] == (30, -5, 500_020, 4_999_600)


def test_rpcs_are_kept_and_move_with_a_window(tmp_path: Path) -> None:
    picture = written(tmp_path / "r.tif", 3, photometric="RGB", rpcs=COEFFICIENTS)  # an ordinary picture otherwise
    place = file_place(picture)
    new = again(tmp_path / "p.tif", place, bands=3)
    assert place is not None and new == place and place.rpcs.line_off == 20
    part = place.part(10, 5)
    assert (part.rpcs.line_off, part.rpcs.samp_off, part.rpcs.lat_off) == (10, 20, 10)


@pytest.mark.parametrize(
    ("name", "world"), [("a.png", "a.pgw"), ("b.jpg", "b.jgw"), ("c.tif", "c.tfw"), ("d.PNG", "d.wld")]
)
def test_a_world_file_and_its_prj(tmp_path: Path, name: str, world: str) -> None:
    cv2.imwrite(str(tmp_path / name), np.zeros((40, 50, 3), np.uint8))
    assert file_place(tmp_path / name) is None
    (tmp_path / world).write_text(WORLD)
    (tmp_path / name).with_suffix(".prj").write_text(UTM.to_wkt(version="WKT1_ESRI"))
    place = file_place(tmp_path / name)
    assert place is not None and tuple(place.transform)[:6] == (0.5, 0, 500_000, 0, -0.5, 5_000_000)
    assert same_crs(place.crs, UTM)
    new = again(tmp_path / "p.tif", place)
    assert new is not None and new.transform == place.transform and new.crs == place.crs


def test_a_world_file_that_cannot_be_read(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    (tmp_path / "a.pgw").write_text("half a metre")
    with pytest.raises(DataError, match=r"a\.pgw: is no world file that can be read, .* allowed: six numbers, a line"):
        file_place(tmp_path / "a.png")


@pytest.mark.parametrize("code", [32633, 31467, 3035, 3006, 2193, 2056, 4326])  # some have the northing first
def test_esris_dialect_says_the_same(code: int) -> None:
    crs = CRS.from_epsg(code)
    assert same_crs(crs, CRS.from_wkt(crs.to_wkt(version="WKT1_ESRI")))


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("EPSG:32633", "EPSG:32633+5773", True),  # with heights
        ("EPSG:4326", "OGC:CRS84", True),  # with the axes the other way round, which GDAL undoes
        ("EPSG:4326", "EPSG:4979", True),
        ("EPSG:3857", "ESRI:102100", True),
        ("EPSG:32633", "EPSG:32632", False),
        ("EPSG:26910", "EPSG:32610", False),  # another datum
        ("EPSG:2249", "EPSG:26986", False),  # feet
        ("EPSG:4258", "EPSG:4283", False),
    ],
)
def test_coordinate_reference_systems_by_meaning(one: str, two: str, same: bool) -> None:
    assert same_crs(one, two) is same and same_crs(two, one) is same


def test_a_mask_with_heights_is_on_its_images_grid(tmp_path: Path, write_raster: Callable) -> None:
    image = write_raster(tmp_path / "i.tif", np.zeros((64, 64, 4), np.uint16))
    check_grids(image, write_raster(tmp_path / "m.tif", np.zeros((64, 64), np.uint8), crs="EPSG:32633+5773"))
