"""Which reader an image or mask goes to, in one place: plain images, rasters by windows, slices of volumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from seg.data.files import images
from seg.data.files.images import read_image
from seg.data.files.rasters import is_raster, raster_header, read_mask_raster, read_raster
from seg.data.files.storage import File, VolumeSlice
from seg.data.files.volumes import read_mask_slice, read_slice, slice_shape
from seg.data.files.windows import Window, blocks
from seg.errors import DataError

LARGE_PIXELS = 2**24  # of a raster: a check or a picture of one with more reads it by blocks, or decimated
Bands = int | tuple[int, ...]  # how many there must be, or the numbers, from 1, of those to use


def is_plain(file: File) -> bool:
    """Whether `seg.data.files.images` reads the file: PNG, JPEG, or a TIFF that is no raster."""
    return not isinstance(file, VolumeSlice) and not is_raster(file)


def is_large(file: File) -> bool:
    """Whether the file is a raster of more than `LARGE_PIXELS` pixels.

    Raises:
        DataError: It is a raster that cannot be opened.
    """
    if not isinstance(file, Path) or not is_raster(file):
        return False
    height, width = raster_header(file).shape
    return height * width > LARGE_PIXELS


def image_size(file: Path | VolumeSlice) -> tuple[int, int]:
    """(height, width) from the header alone, for images and masks.

    Raises:
        DataError: The file is missing or its header is refused.
    """
    if isinstance(file, VolumeSlice):
        return slice_shape(file)
    return raster_header(file).shape if is_raster(file) else images.image_size(file)


def read_values(
    file: Path | VolumeSlice, bands: Bands, window: Window | None = None, nodata: float | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of an image as stored.

    Args:
        file: The image.
        bands: Their number, or the numbers of those wanted.
        window: The part wanted; of a raster the rest is not read. None: everything.
        nodata: The value that means no data; None: the one that a raster names.

    Returns:
        (h, w, B) uint8, uint16, int16 or float32, and (h, w, B) bool, true where a value is missing, or None.

    Raises:
        DataError: The file cannot be read, or lacks a band.
    """
    if isinstance(file, Path) and is_raster(file):
        return read_raster(file, bands, window, nodata)
    if isinstance(file, VolumeSlice):
        values, missing = read_slice(file, bands)
    else:
        values, missing = _read_plain(file, bands), None
    if nodata is not None:
        empty = values == nodata
        missing = empty if missing is None else missing | empty
        missing = missing if missing.any() else None
    if window is not None:
        values = np.ascontiguousarray(values[window.slices])
        missing = None if missing is None else missing[window.slices]
    return values, missing


def _read_plain(path: Path, bands: Bands) -> np.ndarray:
    if isinstance(bands, int) and bands in (1, 3):
        return read_image(path, bands)
    image = read_image(path, 1 if isinstance(bands, tuple) and set(bands) == {1} else 3)
    if isinstance(bands, int):
        raise DataError(
            f"{path}: has 1 or 3 bands where input.bands is {bands}; allowed: 1 or 3, or a list such as [1, 2]"
        )
    if max(bands) > image.shape[2]:
        raise DataError(f"{path}: has no band {max(bands)} (input.bands), allowed: 1 to {image.shape[2]}")
    return np.ascontiguousarray(image[..., [number - 1 for number in bands]])


def stored_mask(file: File, window: Window | None) -> tuple[np.ndarray, float | None] | None:
    """The values of a mask in a raster or a volume, (h, w) or (h, w, 3), and its nodata value; None for other files."""
    if isinstance(file, VolumeSlice):
        values = read_mask_slice(file)
        return (values if window is None else np.ascontiguousarray(values[window.slices])), None
    return read_mask_raster(file, window) if isinstance(file, Path) and is_raster(file) else None


def stored_blocks(file: File) -> Iterator[Window | None]:
    """Windows that cover an image or mask, each pixel once: a raster's along its stored blocks, else all at once."""
    if isinstance(file, Path) and is_raster(file):
        header = raster_header(file)
        yield from blocks(header.shape, header.block)
    else:
        yield None
