"""GeoTIFF and other TIFFs of any band count, by windows: 8- and 16-bit integers and 32-bit floats, with nodata.

A TIFF is read here where it is georeferenced, tiled, has a nodata value, is a BigTIFF or large, or holds what
`seg.data.files.images` does not read: other band counts, signed integers, floats. rasterio (GDAL) decodes only the
stored blocks under a window, so the size of the file does not matter to whoever reads windows.

Values are those stored: a scale or offset that the file only mentions is not applied.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.files.images import first_tiff_page, parse_header
from seg.data.files.storage import File, unreadable, written_whole
from seg.data.files.windows import Window
from seg.errors import DataError

DTYPES = ("uint8", "uint16", "int16", "float32")
MASK_DTYPES = (*DTYPES, "int8", "uint32", "int32", "float64")
PLAIN_PIXELS = 2**26  # a TIFF with more is read by windows whatever it holds
WHOLE_VALUES = 2**28  # of an image or mask that has to be read as one: 1 GiB as float32
SAME_PLACE = 1e-2  # of a pixel: grids this close are the same; writers round their coordinates, to mm say
_RASTER_TAGS = (322, 33550, 33922, 34264, 34735, 42113)  # tiles; scale, tie points, matrix, keys; nodata
_UPRIGHT = 1


@dataclass(frozen=True)
class RasterHeader:
    """What a raster says about its pixels.

    Attributes:
        height: Rows.
        width: Columns.
        count: Bands, an alpha band included.
        colours: Bands without the alpha band.
        dtype: Name of the values' NumPy dtype.
        block: (height, width) of what is stored and decoded as one.
        nodata: The nodata value of each band, or None.
        crs: The coordinate reference system as text; "" without.
        transform: (a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f; None without.
    """

    height: int
    width: int
    count: int
    colours: int
    dtype: str
    block: tuple[int, int]
    nodata: tuple[float | None, ...]
    crs: str
    transform: tuple[float, ...] | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width


def is_raster(file: File) -> bool:
    """Whether a file is a TIFF that is read here, decided by its content; False for what cannot be read at all."""
    if not isinstance(file, Path):
        return False
    try:
        state = file.stat()
    except OSError:
        return False
    return _is_raster(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2**16)
def _is_raster(path: Path, size: int, mtime_ns: int) -> bool:
    """By (path, size, time), because every crop of an image asks."""
    try:
        with path.open("rb") as file:
            page, has_more_pages = first_tiff_page(file)
            if page is None or has_more_pages or page.get(274, _UPRIGHT) != _UPRIGHT:
                return False  # no TIFF, or one that the plain reader refuses with its reason
            if any(tag in page for tag in _RASTER_TAGS) or page[256] * page[257] > PLAIN_PIXELS:
                return True
            file.seek(0)
            if file.read(3)[2:] == b"+" or file.read(1) == b"+":  # BigTIFF, of either byte order
                return True
            file.seek(0)
            parse_header(file, path)
    except DataError:
        return True
    except Exception:  # a broken header, which the plain reader words
        return False
    return False


@lru_cache(maxsize=1)
def _rasterio() -> Any:
    """rasterio, whose import takes a quarter of a second, which data of other kinds shall not wait for."""
    # In MB, read when GDAL first decodes. Its own default is 5 % of the machine's memory, which can be more than a
    # training needs.
    os.environ.setdefault("GDAL_CACHEMAX", "128")
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # A stack or a mask without coordinates is no mistake; where coordinates must agree, `check_grids` compares.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    return rasterio


@contextmanager
def opened(path: Path, source: str | None = None) -> Iterator[Any]:
    """An open raster, whose errors become a DataError that names `path`; `source` is GDAL's name of a part of it."""
    rasterio = _rasterio()
    try:
        with rasterio.open(source or path, driver="GTiff") as dataset:  # one driver: no format that names other files
            yield dataset
    except rasterio.errors.RasterioError as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read as a raster, is it cut short or corrupt? ({reason})") from None


def raster_header(path: Path) -> RasterHeader:
    """The header of a raster.

    Raises:
        DataError: It cannot be opened.
    """
    with opened(path) as dataset:
        return _header(dataset)


def _header(dataset: Any) -> RasterHeader:
    alpha = _rasterio().enums.ColorInterp.alpha in dataset.colorinterp
    placed = not dataset.transform.is_identity
    return RasterHeader(
        dataset.height,
        dataset.width,
        dataset.count,
        dataset.count - alpha,
        dataset.dtypes[0],
        tuple(dataset.block_shapes[0]),
        tuple(dataset.nodatavals),
        dataset.crs.to_string() if dataset.crs else "",
        tuple(dataset.transform)[:6] if placed else None,
    )


def read_raster(
    path: Path,
    bands: Sequence[int] | int,
    window: Window | None = None,
    nodata: float | None = None,
    source: str | None = None,
    longest: int | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads bands of a raster, all of it, a window, or all of it shrunk.

    Missing are, band by band, the values equal to nodata, NaN and infinities, and every band of a pixel that an alpha
    band or an internal mask makes transparent.

    Args:
        path: The raster.
        bands: The numbers of the bands, from 1, in the order wanted; or their number, where the raster must have just
            as many (beside an alpha band), or one, which is repeated.
        window: What to read; None: everything.
        nodata: The value that means no data; None: the one that the file names for each band.
        source: GDAL's name of a page of the file; None: its first.
        longest: Without a window: single pixels, from an overview where the file has one, so that no side has more than
            this. Memory is bounded by it. None: every pixel.

    Returns:
        (h, w, B) values as stored, and (h, w, B) bool, true where a value is missing, or None where none is.

    Raises:
        DataError: The file is broken, lacks a band, holds values of another type, or cannot hold `nodata`.
    """
    with opened(path, source) as dataset:
        header = _header(dataset)
        _check_dtypes(path, dataset, DTYPES)
        numbers = _band_numbers(path, header, bands)
        area, size = _area(path, header, window, len(numbers), longest)
        read = dataset.read(numbers, window=area, out_shape=(len(numbers), *size))
        values = np.ascontiguousarray(read.transpose(1, 2, 0))  # (h, w, B)
        hidden = _hidden(dataset, area, size, numbers)
    empty = [header.nodata[number - 1] for number in numbers] if nodata is None else [nodata] * len(numbers)
    if nodata is not None and not _fits(nodata, values.dtype):
        raise DataError(
            f"{path}: holds {values.dtype} values, which input.nodata {nodata:g} is none of; "
            "allowed: a value of that type, or leave it out"
        )
    return values, missing_values(values, empty, hidden)


def missing_values(values: np.ndarray, nodata: Sequence[float | None], hidden: np.ndarray | None) -> np.ndarray | None:
    """(h, w, B) bool, true at nodata, NaN, infinity and in hidden pixels; None where nothing is missing.

    Args:
        values: (h, w, B).
        nodata: A value, NaN or None for each band.
        hidden: (h, w) bool or None.
    """
    is_float = np.issubdtype(values.dtype, np.floating)
    missing = ~np.isfinite(values) if is_float else None
    for band, empty in enumerate(nodata):
        if empty is not None and _fits(empty, values.dtype) and np.isfinite(empty):
            if missing is None:
                missing = np.zeros(values.shape, bool)
            missing[..., band] |= values[..., band] == values.dtype.type(empty)
    if hidden is not None:
        missing = np.repeat(hidden[..., None], values.shape[2], axis=2) if missing is None else missing
        missing |= hidden[..., None]
    return missing if missing is not None and missing.any() else None


def _fits(value: float, dtype: np.dtype) -> bool:
    """Whether a dtype has the value."""
    if np.issubdtype(dtype, np.floating):
        return True
    return float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _hidden(dataset: Any, area: Any, size: tuple[int, int], numbers: Sequence[int]) -> np.ndarray | None:
    """(h, w) bool, true where an alpha band or a mask of the whole dataset says that there is nothing.

    An alpha band among those wanted is no alpha band: GDAL calls the fourth band of 8-bit files so unless told.
    """
    enums = _rasterio().enums
    alphas = [number for number, colour in enumerate(dataset.colorinterp, 1) if colour == enums.ColorInterp.alpha]
    if enums.MaskFlags.per_dataset not in dataset.mask_flag_enums[0] or set(alphas) & set(numbers):
        return None
    return dataset.dataset_mask(window=area, out_shape=size) == 0


def _check_dtypes(path: Path, dataset: Any, allowed: Sequence[str]) -> None:
    wrong = sorted(set(dataset.dtypes) - set(allowed))
    if wrong or len(set(dataset.dtypes)) > 1:
        raise DataError(
            f"{path}: holds {', '.join(sorted(set(dataset.dtypes)))} values, allowed: one of {', '.join(allowed)}; "
            "convert it with one scale for all images, so that values stay comparable"
        )


def _band_numbers(path: Path, header: RasterHeader, bands: Sequence[int] | int) -> list[int]:
    if isinstance(bands, int):
        if header.colours == 1:
            return [1] * bands
        if bands not in (header.colours, header.count):
            raise DataError(
                f"{path}: has {header.colours} bands where input.bands is {bands}; "
                f"allowed: {header.colours}, or a list of the bands to use such as [1, 2, 3]"
            )
        return list(range(1, bands + 1))
    beyond = [number for number in bands if number > header.count]
    if beyond:
        raise DataError(f"{path}: has no band {beyond[0]} (input.bands), allowed: 1 to {header.count}")
    return list(bands)


def _area(
    path: Path, header: RasterHeader, window: Window | None, bands: int, longest: int | None
) -> tuple[Any, tuple[int, int]]:
    """rasterio's window, and the (height, width) to read it at."""
    window = Window(0, 0, header.height, header.width) if window is None else window
    scale = 1.0 if longest is None else min(1.0, longest / max(window.height, window.width))
    height, width = (max(1, round(side * scale)) for side in (window.height, window.width))
    if height * width * bands > WHOLE_VALUES:
        raise DataError(
            f"{path}: {window.height} x {window.width} pixels of {bands} band(s) are too many to be read as one "
            f"(allowed: {WHOLE_VALUES:,} values); set input.crop and leave out input.resize, "
            "so that it is read by windows, or cut it into tiles"
        )
    return _rasterio().windows.Window(window.left, window.top, window.width, window.height), (height, width)


def read_mask_raster(
    path: Path, window: Window | None = None, source: str | None = None, longest: int | None = None
) -> tuple[np.ndarray, float | None]:
    """The values of a mask raster, and the value that it names as nodata; arguments as for `read_raster`.

    Returns:
        (h, w) of one band, or (h, w, 3) of colours; any dtype of `MASK_DTYPES`. And the nodata value, or None.

    Raises:
        DataError: The file is broken, or has other than 1 or 3 bands.
    """
    with opened(path, source) as dataset:
        header = _header(dataset)
        _check_dtypes(path, dataset, MASK_DTYPES)
        if header.colours not in (1, 3):
            raise DataError(f"{path}: is a mask of {header.colours} bands, allowed: 1, or 3 of colours")
        area, size = _area(path, header, window, header.colours, longest)
        values = dataset.read(list(range(1, header.colours + 1)), window=area, out_shape=(header.colours, *size))
    pixels = np.ascontiguousarray(values.transpose(1, 2, 0))
    return (pixels[..., 0] if header.colours == 1 else pixels), header.nodata[0]


def check_grids(image: Path, mask: Path) -> None:
    """Refuses a mask that lies on another grid than its image; where either has no coordinates, only sizes can differ.

    Raises:
        DataError: Size, coordinate reference system or transform differ; names both files and both values.
    """
    ours, theirs = raster_header(image), raster_header(mask)
    reasons = []
    if ours.shape != theirs.shape:
        reasons.append(("size (height x width)", f"{ours.height} x {ours.width}", f"{theirs.height} x {theirs.width}"))
    if ours.crs and theirs.crs and ours.crs != theirs.crs:
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


@contextmanager
def written_raster(path: Path, like: Path, nodata: int) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes a uint8 GeoTIFF on the grid of another, from top to bottom, whole or not at all.

    Args:
        path: The new file.
        like: The raster whose size, coordinate reference system and transform it gets.
        nodata: The value that means no data.

    Yields:
        A function of a first row and the rows (h, W) uint8 from there on.
    """
    with opened(like) as dataset:
        profile = {"crs": dataset.crs, "height": dataset.height, "width": dataset.width}
        if not dataset.transform.is_identity:
            profile["transform"] = dataset.transform
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "bigtiff": "if_safer"}
    try:
        with (
            written_whole(path) as temporary,
            _rasterio().open(
                temporary, "w", driver="GTiff", count=1, dtype="uint8", nodata=nodata, **profile, **settings
            ) as raster,
        ):

            def write(top: int, rows: np.ndarray) -> None:
                raster.write(rows, 1, window=_rasterio().windows.Window(0, top, rows.shape[1], rows.shape[0]))

            yield write
    except OSError as error:
        raise unreadable(path, error) from None


def read_overview(path: Path, bands: Sequence[int] | int, longest: int) -> np.ndarray:
    """A raster shrunk, by single pixels, to at most `longest` pixels a side: (h, w, B) values as stored, to look at."""
    return read_raster(path, bands, longest=longest)[0]
