"""Large rasters, and masks on the same grid, cut into tiles: window by window, each written whole or not at all.

A GeoTIFF (or any image with a transform) becomes GeoTIFF tiles with the transform of their window, the CRS, nodata,
band descriptions, colour table and colour interpretation of their source. A PNG or JPEG becomes PNG tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from seg.data.files.blocks import check_blocks
from seg.data.files.grids import same_place
from seg.data.files.places import place_of, same_crs
from seg.data.files.reading import image_size
from seg.data.files.storage import write_bytes
from seg.errors import ConfigError, DataError

Edge = Literal["shift", "pad"]
CACHE_BYTES = 64 * 2**20  # GDAL's block cache; its own default is 5 % of the machine's memory
_TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class TilePlan:
    """How rasters are cut.

    Attributes:
        size: (height, width) of a tile in pixels.
        overlap: Pixels that neighbouring tiles share.
        edge: What happens where the last tile would reach beyond the raster. `shift`: it is moved inwards, and shares
            more with its neighbour. `pad`: it is filled up at the bottom and right, the image with nodata (0 where
            there is none), the mask with void.
        min_labelled: The smallest share of labelled pixels of a tile's full area that is kept; tiles without any
            labelled pixel, or without masks any valid one, are always dropped.
        void: Mask values that mean void: single values, or one a band. The first fills what is padded.
        compress: GDAL's name of the compression of GeoTIFF tiles: deflate, lzw or zstd.
    """

    size: tuple[int, int]
    overlap: int = 0
    edge: Edge = "shift"
    min_labelled: float = 0.0
    void: tuple[tuple[int, ...], ...] = ()
    compress: str = "deflate"

    def __post_init__(self) -> None:
        if min(self.size) < 1 or not 0 <= self.overlap < min(self.size):
            raise ConfigError(
                f"--size {self.size[0]} x {self.size[1]} with --overlap {self.overlap}: "
                "allowed: an overlap of 0 to less than the size"
            )
        if not 0 <= self.min_labelled <= 1:
            raise ConfigError(f"--min-labelled: got {self.min_labelled:g}, allowed: 0 to 1")


@dataclass(frozen=True)
class Tile:
    """A tile that was written.

    Attributes:
        name: Its file name, the same for image and mask but for the suffix.
        image: The image file.
        mask: The mask file, or None.
        place: (row, column) in tiles.
        offset: First row and column in pixels of the source.
        labelled: Share of its area that is labelled (without masks: valid).
    """

    name: str
    image: Path
    mask: Path | None
    place: tuple[int, int]
    offset: tuple[int, int]
    labelled: float


def tile_offsets(length: int, size: int, overlap: int, edge: Edge) -> list[int]:
    """Where tiles begin along one axis, so that they cover all of it.

    Args:
        length: Pixels of the raster.
        size: Pixels of a tile; with `shift` at most `length`.
        overlap: Pixels that neighbours share at least.
        edge: See `TilePlan.edge`.
    """
    step = size - overlap
    number = max(1, -(-(length - overlap) // step))
    offsets = [index * step for index in range(number)]
    if edge == "shift":
        offsets[-1] = length - size
    return offsets


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A raster open for reading.

    Raises:
        DataError: GDAL cannot open or read it; a PNG or JPEG that `seg.data.files.images` would refuse.
    """
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        image_size(path)
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(path) as source:
            yield source
    except (RasterioError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a raster ({' '.join(str(error).split())})") from None


def check_source(image: Path, mask: Path | None, plan: TilePlan) -> tuple[int, int]:
    """(rows, columns) of the tiles of a raster; refuses what could not be cut, before anything is written.

    Raises:
        DataError: A file cannot be read, image and mask lie on different grids, or the raster is smaller than a tile.
        ConfigError: Padding or a share of labelled pixels is asked for and nothing says what void is.
    """
    with opened(image) as source:
        _check_stored(source, image)
        shape, place = source.shape, _place(source)
    if mask is not None:
        with opened(mask) as source:
            _check_stored(source, mask)
            if source.shape != shape:
                raise DataError(
                    f"{image} is {shape[0]} x {shape[1]} (height x width), {mask} is "
                    f"{source.shape[0]} x {source.shape[1]}; allowed: one grid"
                )
            other = _place(source)
            if place and other and not _same_grid(place, other, shape):
                raise DataError(
                    f"{image} has the CRS {place[0]} and the transform {place[1]}, {mask} has {other[0]} "
                    f"and {other[1]}; allowed: one grid (e.g. gdalwarp the mask onto the image)"
                )
            for value in plan.void:
                if len(value) not in (1, source.count):
                    raise ConfigError(f"--void: got {list(value)}, allowed for {mask}: 1 or {source.count} numbers")
            if plan.edge == "pad" and not plan.void and source.nodata is None:
                raise ConfigError(f"--edge pad: {mask} has no nodata value; allowed: with --void, which fills the mask")
    if plan.edge == "shift" and (shape[0] < plan.size[0] or shape[1] < plan.size[1]):
        raise DataError(
            f"{image}: is {shape[0]} x {shape[1]}, smaller than a tile of {plan.size[0]} x {plan.size[1]}; "
            "allowed: a smaller --size, or --edge pad"
        )
    rows, columns = (tile_offsets(*axis, plan.overlap, plan.edge) for axis in zip(shape, plan.size, strict=True))
    return len(rows), len(columns)


def cut_rows(
    image: Path, mask: Path | None, out: Path, name: str, tile_rows: Sequence[int], plan: TilePlan
) -> list[Tile]:
    """Cuts some rows of tiles and writes those that are labelled enough.

    Memory: a few tiles and GDAL's block cache, whatever the raster's size.

    Args:
        image: The raster.
        mask: Its mask, on the same grid; or None.
        out: Tiles go to images and masks under it.
        name: What tiles are called, before _r{row}_c{column}.
        tile_rows: Which rows of tiles, ascending: a PNG or JPEG can be read from its top only.
        plan: How to cut.

    Raises:
        DataError: A file cannot be read.
    """
    tiles = []
    with opened(image) as pixels, _maybe(mask) as labels:
        rows, columns = (
            tile_offsets(*axis, plan.overlap, plan.edge) for axis in zip(pixels.shape, plan.size, strict=True)
        )
        for row, (column, left) in product(tile_rows, enumerate(columns)):
            inside = _inside(pixels.shape, rows[row], left, plan.size)
            labelled = _labelled(labels, inside, plan, _valid(pixels, inside))
            if labelled == 0 or labelled < plan.min_labelled:
                continue
            tile = f"{name}_r{row}_c{column}"
            window = Window(left, rows[row], plan.size[1], plan.size[0])
            files = [_write(pixels, inside, window, out / "images" / tile, plan, None)]
            if labels is not None:
                files.append(_write(labels, inside, window, out / "masks" / tile, plan, plan.void))
            tiles.append(Tile(tile, files[0], files[-1] if mask else None, (row, column), (rows[row], left), labelled))
    return tiles


@contextmanager
def _maybe(path: Path | None) -> Iterator[Any]:
    if path is None:
        yield None
    else:
        with opened(path) as source:
            yield source


def _place(source: Any) -> tuple[Any, tuple[float, ...]] | None:
    """CRS and transform (a, b, c, d, e, f), or None where the file has no place on earth."""
    return None if source.crs is None and source.transform.is_identity else (source.crs, tuple(source.transform)[:6])


def _same_grid(one: tuple[Any, tuple[float, ...]], two: tuple[Any, tuple[float, ...]], shape: tuple[int, int]) -> bool:
    same = one[0] is None or two[0] is None or same_crs(one[0], two[0])
    return same and same_place(one[1], two[1], shape)


def _check_stored(source: Any, path: Path) -> None:
    if source.driver == "GTiff":
        everything = Window(0, 0, source.width, source.height)
        check_blocks(path, source, everything, source.indexes, lambda block: _valid(source, block))
    bits = source.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if bits is not None:
        raise DataError(
            f"{path}: has {bits} bits a value, allowed: 8, 16 or 32; of a mask, data_tools.convert_masks makes 8"
        )


def _inside(shape: tuple[int, int], top: int, left: int, size: tuple[int, int]) -> Window:
    return Window(left, top, min(size[1], shape[1] - left), min(size[0], shape[0] - top))


def _valid(source: Any, inside: Window) -> np.ndarray:
    """(h, w) bool, false where nodata (NaN, too), an internal mask or an alpha band hides the pixel."""
    if any(MaskFlags.all_valid not in flags for flags in source.mask_flag_enums):
        return source.dataset_mask(window=inside) > 0
    return np.ones((int(inside.height), int(inside.width)), bool)


def _labelled(labels: Any, inside: Window, plan: TilePlan, valid: np.ndarray) -> float:
    """The number of labelled and valid pixels, as a share of a whole tile."""
    good = valid
    if labels is not None:
        good = good & _valid(labels, inside)
        values = labels.read(window=inside)
        # Once more by its value: an internal mask switches nodata off in GDAL.
        voids = [*plan.void, *([(labels.nodata,)] if labels.nodata is not None else [])]
        for value in voids:
            good = good & (values != np.array(value).reshape(-1, 1, 1)).any(axis=0)
    return float(good.sum() / (plan.size[0] * plan.size[1]))


def _write(
    source: Any, inside: Window, window: Window, path: Path, plan: TilePlan, void: Sequence[tuple[int, ...]] | None
) -> Path:
    """One tile of one raster; `void` is given for masks."""
    values = source.read(window=inside)
    height, width = int(window.height), int(window.width)
    if values.shape[1:] != (height, width):
        fill: Any = 0 if source.nodata is None else source.nodata
        if void:
            fill = np.array(void[0], values.dtype).reshape(-1, 1, 1)
        padded = np.empty((source.count, height, width), values.dtype)
        padded[:] = fill
        padded[:, : values.shape[1], : values.shape[2]] = values
        values = padded
    place = place_of(source)
    png = source.driver in ("PNG", "JPEG") and place is None
    profile: dict[str, Any] = {
        "driver": "PNG" if png else "GTiff", "count": source.count, "dtype": source.dtypes[0],
        "height": height, "width": width, "nodata": source.nodata,
    }  # fmt: skip
    if not png:
        predictor = 3 if values.dtype.kind == "f" else 2
        profile |= {"compress": plan.compress, "predictor": predictor, "interleave": "pixel", "BIGTIFF": "IF_SAFER"}
        if height % 16 == 0 and width % 16 == 0:
            profile |= {"tiled": True, "blockxsize": min(width, 256), "blockysize": min(height, 256)}
        if place is not None:
            profile |= place.part(int(window.row_off), int(window.col_off)).profile()
        if source.photometric is not None:
            # of JPEG-compressed TIFF, whose values are read as RGB
            profile["photometric"] = "RGB" if source.photometric.name == "ycbcr" else source.photometric.value
    path = path.with_name(f"{path.name}.png" if png else f"{path.name}.tif")
    write_bytes(path, _encoded(source, values, inside, profile))
    return path


def _encoded(source: Any, values: np.ndarray, inside: Window, profile: dict[str, Any]) -> bytes:
    with rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_TIFF_INTERNAL_MASK="YES"), MemoryFile() as memory:
        with memory.open(**profile) as tile:
            tile.write(values)
            for band in range(1, source.count + 1):
                if source.colorinterp[band - 1].name == "palette":
                    tile.write_colormap(band, source.colormap(band))
            if profile["driver"] == "GTiff":
                _copy_description(source, tile, values, inside)
        return bytes(memory.getbuffer())


def _copy_description(source: Any, tile: Any, values: np.ndarray, inside: Window) -> None:
    tile.colorinterp = source.colorinterp
    tile.descriptions = source.descriptions
    tile.units = source.units
    tile.scales, tile.offsets = source.scales, source.offsets
    if MaskFlags.per_dataset in source.mask_flag_enums[0] and MaskFlags.alpha not in source.mask_flag_enums[0]:
        mask = np.zeros(values.shape[1:], np.uint8)
        mask[: int(inside.height), : int(inside.width)] = source.dataset_mask(window=inside)
        tile.write_mask(mask)
