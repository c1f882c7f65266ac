"""Grids of rasters: whether an image's and its mask's agree, and writing a prediction on an image's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from seg.data.files.blocks import absent_blocks
from seg.data.files.places import Place, same_crs
from seg.data.files.rasters import Raster, opened, rasterio_module
from seg.data.files.reading import reader
from seg.data.files.storage import File, make_folder, mask_file, told_unwritable, written_whole
from seg.errors import DataError, OutputError

SAME_PLACE = 1e-2  # of a pixel: grids this close are the same; writers round their coordinates, to mm say


def check_grids(image: File, mask: File) -> None:
    """Refuses a mask raster that lies on another grid than its image's; where either has no coordinates, only sizes can
    differ. Files of other kinds have no grid.

    Raises:
        DataError: Size, coordinate reference system or transform differ; names both files and both values.
    """
    mask = mask_file(mask)
    readers = reader(image), reader(mask)
    if not all(isinstance(one, Raster) and one.block for one in readers):
        return
    ours, theirs = (one.header for one in readers if isinstance(one, Raster))
    reasons = []
    if ours.shape != theirs.shape:
        reasons.append(("size (height x width)", f"{ours.height} x {ours.width}", f"{theirs.height} x {theirs.width}"))
    if ours.crs and theirs.crs and ours.crs != theirs.crs and not same_crs(ours.crs, theirs.crs):
        reasons.append(("coordinate reference system", ours.crs, theirs.crs))
    if ours.transform and theirs.transform and not same_place(ours.transform, theirs.transform, ours.shape):
        reasons.append(("transform", _shown(ours.transform), _shown(theirs.transform)))
    if reasons:
        listed = "; ".join(f"{what} {mine} against {other}" for what, mine, other in reasons)
        raise DataError(f"{image} and its mask {mask} are not on one grid: {listed}; allowed: the image's grid")


def same_place(one: tuple[float, ...], two: tuple[float, ...], shape: tuple[int, int]) -> bool:
    """Whether all four corners of a grid (height, width) lie within `SAME_PLACE` pixels of each other by two transforms
    (a, b, c, d, e, f)."""
    a, b = (np.array(each, np.float64).reshape(2, 3) for each in (one, two))
    corners = np.array([[x, y, 1.0] for x in (0, shape[1]) for y in (0, shape[0])]).T  # (3, 4)
    pixel = np.abs(a[:, :2]).max()
    return bool(np.abs((a - b) @ corners).max() <= SAME_PLACE * pixel)


def _shown(transform: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.10g}" for value in transform) + ")"


SIDECARS = (".ovr", ".msk", ".aux.xml")  # of a file of that name before: GDAL would show its overviews and its mask


@contextmanager
def written_raster(
    path: Path, shape: tuple[int, int], place: Place | None, nodata: int, bands: int = 1
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes a uint8 GeoTIFF from top to bottom, whole or not at all.

    Args:
        path: The new file.
        shape: Its (height, width).
        place: Where it lies, or None.
        nodata: The value that means no data.
        bands: How many it has.

    Yields:
        A function of a first row and the rows from there on, (h, W) or (h, W, bands) uint8.
    """
    make_folder(path.parent)
    settings = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "bigtiff": "if_safer"}
    profile = {"height": shape[0], "width": shape[1], "count": bands, "dtype": "uint8", "nodata": nodata}
    if bands > 1:
        settings["photometric"] = "minisblack"  # else GDAL takes three bands for red, green and blue
    with written_whole(path) as temporary:
        with rasterio_module().open(
            temporary, "w", driver="GTiff", **profile, **settings, **(place.profile() if place else {})
        ) as raster:

            def write(top: int, rows: np.ndarray) -> None:
                window = rasterio_module().windows.Window(0, top, rows.shape[1], rows.shape[0])
                raster.write(rows.reshape(*rows.shape[:2], bands).transpose(2, 0, 1), window=window)

            yield write
        _check_written(temporary, path)
    with told_unwritable(path):
        for suffix in SIDECARS:
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _check_written(temporary: Path, path: Path) -> None:
    """Reads what is to become `path`: GDAL closes a file on a full disk without an error."""
    try:
        with opened(temporary) as dataset:
            everything = rasterio_module().windows.Window(0, 0, dataset.width, dataset.height)
            whole = not absent_blocks(dataset, everything, dataset.indexes)
            for _, window in dataset.block_windows(1):
                dataset.read(window=window)
    except DataError:
        whole = False
    if not whole:
        raise OutputError(f"{path}: cannot be written, only a part of it arrived (is the disk full?)")
