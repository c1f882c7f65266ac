"""TIFFs: GeoTIFF and others of any band count, by windows: 8- and 16-bit integers and 32-bit floats, with nodata.

rasterio (GDAL) decodes only the stored blocks under a window, so the size of the file does not matter to whoever reads
windows. A TIFF is read by windows where it is georeferenced, tiled, has a nodata value, is a BigTIFF or large, or holds
what no ordinary picture does: other band counts, signed integers, floats, hidden pixels. An ordinary picture
(`seg.data.files.tiff`) is read as one, as a PNG is.

Values are those stored: a scale or offset that the file only mentions is not applied.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from seg.data.files.blocks import check_blocks
from seg.data.files.storage import File
from seg.data.files.stored import Bands, Stored, transparent_pixels
from seg.data.files.tiff import TiffFacts
from seg.data.files.windows import Window
from seg.errors import DataError

DTYPES = ("uint8", "uint16", "int16", "float32")
READ_AS = {"float64": "float32"}  # what images of other types become; a mask keeps its own
MASK_DTYPES = (*DTYPES, "int8", "uint32", "int32", "uint64", "int64", "float64")
WHOLE_VALUES = 2**28  # of an image or mask that has to be read as one: 1 GiB as float32
_PICTURES = {1: "gray", 3: "RGB", 4: "RGB with alpha"}


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


@dataclass(frozen=True)
class Raster:
    """Reads a TIFF.

    Attributes:
        file: Where it is.
        facts: What its tags say.
        contents: Its bytes, of a remote file; a local one is left to GDAL.
    """

    file: File
    facts: TiffFacts
    contents: bytes | None = None

    @property
    def picture(self) -> bool:
        """As `seg.data.files.stored.Reader.picture`."""
        return self.facts.picture

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width); a DataError where the header is refused."""
        self._check()
        return self.facts.shape

    @property
    def header(self) -> RasterHeader:
        """GDAL's; a DataError where the file is refused."""
        self._check()
        with opened(self.file, contents=self.contents) as dataset:
            return _header(dataset)

    @property
    def block(self) -> tuple[int, int] | None:
        """What is stored as one, where windows are read without the rest; None of an ordinary picture."""
        return None if self.facts.picture or self.facts.refusal else self.header.block

    @property
    def image_form(self) -> tuple[str, int]:
        """As `seg.data.files.stored.Reader.image_form`; a palette is three bands of colours."""
        self._check()
        with opened(self.file, contents=self.contents) as dataset:
            header = _header(dataset)
            colours = 3 if _has_palette(dataset) else header.colours
        return READ_AS.get(header.dtype, header.dtype), colours

    def read(self, window: Window | None = None, bands: Bands | None = None, longest: int | None = None) -> Stored:
        """As `seg.data.files.stored.Reader.read`; `longest` takes an overview where the file has one, of an image.

        Raises:
            DataError: The file is broken, turned, of several pages, lacks a band, or holds values of another type.
        """
        self._check()
        # Overviews of labels may be interpolated, and then hold classes that the file does not.
        with opened(self.file, contents=self.contents, overviews=bands is not None) as dataset:
            return read_dataset(self.file, dataset, window, bands, longest, picture=self.picture)

    def _check(self) -> None:
        if self.facts.refusal:
            raise DataError(f"{self.file}: {self.facts.refusal}")


@lru_cache(maxsize=1)
def rasterio_module() -> Any:
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
def opened(
    file: File, source: str | None = None, contents: bytes | None = None, overviews: bool = True
) -> Iterator[Any]:
    """An open raster, whose errors become a DataError that names `file`.

    Args:
        file: The raster.
        source: GDAL's name of a part of it.
        contents: Its bytes, to be opened in its place.
        overviews: Whether a decimated read may take them.
    """
    options = {} if overviews else {"OVERVIEW_LEVEL": "NONE"}
    rasterio = rasterio_module()
    try:
        # One driver: no format that names other files.
        if contents is not None:
            with rasterio.MemoryFile(contents) as memory, memory.open(driver="GTiff", **options) as dataset:
                yield dataset
        else:
            with rasterio.open(source or file, driver="GTiff", **options) as dataset:
                yield dataset
    except rasterio.errors.RasterioError as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise DataError(f"{file}: cannot be read as a raster, is it cut short or corrupt? ({reason})") from None


def _header(dataset: Any) -> RasterHeader:
    alpha = rasterio_module().enums.ColorInterp.alpha in dataset.colorinterp
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


def read_dataset(
    file: File, dataset: Any, window: Window | None, bands: Bands | None, longest: int | None, picture: bool = False
) -> Stored:
    """Reads an open raster, or a page of one that is a slice, as `seg.data.files.stored.Reader.read`.

    `picture` says that it is an ordinary picture, of which no pixel may be transparent where it is an image.
    """
    header = _header(dataset)
    _check_dtypes(file, dataset, bands is None)
    numbers = _mask_bands(file, header) if bands is None else _band_numbers(file, header, bands, picture)
    area, size = _area(file, header, window, len(numbers), longest)
    check_blocks(file, dataset, area, numbers, lambda part: _opacity(dataset, part, (part.height, part.width), numbers))
    values = dataset.read(numbers, window=area, out_shape=(len(numbers), *size))
    if bands is not None:
        values = _image_values(file, dataset, values, bands)
    values = np.ascontiguousarray(values.transpose(1, 2, 0))
    opacity = _opacity(dataset, area, size, numbers)
    if picture and bands is not None and opacity is not None:
        transparent = int(np.count_nonzero(opacity != 255))
        if transparent:
            raise transparent_pixels(transparent, file)
    structure, own = dataset.tags(ns="IMAGE_STRUCTURE"), dataset.tags(1, ns="IMAGE_STRUCTURE")
    bits = int(own.get("NBITS", values.dtype.itemsize * 8))
    if 1 < bits < 8 and rasterio_module().enums.ColorInterp.palette in dataset.colorinterp:  # indices, no shades
        bits = 8
    return Stored(
        file,
        values[..., 0] if bands is None and len(numbers) == 1 else values,
        format="TIFF" if picture else "raster",
        kind=_PICTURES[header.count] if picture else "bands",
        bits=bits,
        lossy="JPEG" in structure.get("COMPRESSION", ""),
        nodata=tuple(header.nodata[number - 1] for number in numbers),
        valid=None if opacity is None or opacity.all() else opacity != 0,
        white_is_zero=values.dtype.kind == "u" and "MINISWHITE" in structure,
    )


def _opacity(dataset: Any, area: Any, size: tuple[int, int], numbers: Sequence[int]) -> np.ndarray | None:
    """(h, w) uint8, 0 where an alpha band or a mask of the whole dataset says that there is nothing, 255 where all is.

    An alpha band among those wanted is no alpha band: GDAL calls the fourth band of 8-bit files so unless told.
    """
    enums = rasterio_module().enums
    alphas = [number for number, colour in enumerate(dataset.colorinterp, 1) if colour == enums.ColorInterp.alpha]
    if enums.MaskFlags.per_dataset not in dataset.mask_flag_enums[0] or set(alphas) & set(numbers):
        return None
    return np.asarray(dataset.dataset_mask(window=area, out_shape=size))


def _image_values(file: File, dataset: Any, values: np.ndarray, bands: Bands) -> np.ndarray:
    """(B, h, w) of an image: in a type of `DTYPES`, and the colours of palette indices, as of a palette PNG."""
    if dataset.dtypes[0] in READ_AS:
        with np.errstate(over="ignore"):  # beyond float32: infinite, and so missing, as most nodata values of float64
            return values.astype(READ_AS[dataset.dtypes[0]])
    if not _has_palette(dataset):
        return values
    if bands != 3 or values.dtype != np.uint8:
        raise DataError(
            f"{file}: is a palette TIFF of {values.dtype} values where input.bands is {bands}; allowed: uint8 and "
            "bands 3, or a gray image"
        )
    table = np.zeros((256, 4), np.uint8)
    for index, colour in dataset.colormap(1).items():
        table[index] = colour
    return np.stack([table[:, band][values[0]] for band in range(3)])


def _has_palette(dataset: Any) -> bool:
    """Whether the values are indices of colours; GDAL gives files where white is 0 a palette, too."""
    palette = rasterio_module().enums.ColorInterp.palette
    white_is_zero = "MINISWHITE" in dataset.tags(ns="IMAGE_STRUCTURE")
    return dataset.count == 1 and dataset.colorinterp[0] == palette and not white_is_zero


def _check_dtypes(file: File, dataset: Any, is_mask: bool) -> None:
    allowed = MASK_DTYPES if is_mask else (*DTYPES, *READ_AS)
    found = sorted(set(dataset.dtypes))
    if len(found) > 1 or found[0] not in allowed:
        advice = "" if is_mask else "; convert it with one scale for all images, so that values stay comparable"
        raise DataError(f"{file}: holds {', '.join(found)} values, allowed: one of {', '.join(allowed)}{advice}")


def _mask_bands(file: File, header: RasterHeader) -> list[int]:
    if header.colours not in (1, 3):
        raise DataError(f"{file}: is a mask of {header.colours} bands, allowed: 1, or 3 of colours")
    return list(range(1, header.colours + 1))


def _band_numbers(file: File, header: RasterHeader, bands: Bands, picture: bool) -> list[int]:
    if isinstance(bands, int):
        if header.colours == 1:
            return [1] * bands
        if bands not in (header.colours, header.count):
            raise DataError(
                f"{file}: has {header.colours} bands where input.bands is {bands}; "
                f"allowed: {header.colours}, or a list of the bands to use such as [1, 2, 3]"
            )
        return list(range(1, bands + 1))
    if picture and header.count == 1 and max(bands) <= 3:  # a gray picture is one of three equal bands
        return [1] * len(bands)
    beyond = [number for number in bands if number > header.count]
    if beyond:
        raise DataError(f"{file}: has no band {beyond[0]} (input.bands), allowed: 1 to {header.count}")
    return list(bands)


def _area(
    file: File, header: RasterHeader, window: Window | None, bands: int, longest: int | None
) -> tuple[Any, tuple[int, int]]:
    """rasterio's window, and the (height, width) to read it at."""
    window = Window(0, 0, header.height, header.width) if window is None else window
    scale = 1.0 if longest is None else min(1.0, longest / max(window.height, window.width))
    height, width = (max(1, round(side * scale)) for side in (window.height, window.width))
    if height * width * bands > WHOLE_VALUES:
        raise DataError(
            f"{file}: {window.height} x {window.width} pixels of {bands} band(s) are too many to be read as one "
            f"(allowed: {WHOLE_VALUES:,} values); set input.crop and leave out input.resize, "
            "so that it is read by windows, or cut it into tiles"
        )
    area = rasterio_module().windows.Window(window.left, window.top, window.width, window.height)
    return area, (height, width)
