"""Which reader an image or mask has, decided here and nowhere else, and what is read by any of them alike."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from seg.data.files import images, tiff, volumes
from seg.data.files.images import Picture
from seg.data.files.limited import Limited
from seg.data.files.rasters import Raster
from seg.data.files.storage import File, LimitedMask, RemoteFile, VolumeSlice
from seg.data.files.stored import Bands, Reader
from seg.data.files.tiff import TiffFacts, tiff_facts
from seg.data.files.volumes import Slice
from seg.data.files.windows import Window, blocks

IMAGE_SUFFIXES = (*images.SUFFIXES, *tiff.SUFFIXES)
SAMPLE_SUFFIXES = (*IMAGE_SUFFIXES, *volumes.SUFFIXES)
MASK_SUFFIXES = (*SAMPLE_SUFFIXES, *images.MASK_SUFFIXES)
LARGE_PIXELS = 2**24  # of a raster: a check or a picture of one with more reads it by blocks, or decimated


def reader(file: File) -> Reader:
    """What reads a file: a slice or limited mask by what it is, others by their content."""
    if isinstance(file, LimitedMask):
        return Limited(file, reader(file.mask), None if file.valid is None else reader(file.valid))
    if isinstance(file, VolumeSlice):
        return Slice(file)
    picture = Picture(file)  # also of what cannot be read at all, which says so when it is
    if isinstance(file, RemoteFile):
        facts = tiff_facts(io.BytesIO(picture.contents))
        return picture if facts is None else Raster(file, facts, picture.contents)
    try:
        state = file.stat()
    except OSError:
        return picture
    if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for ever
        return picture
    facts = _local_facts(file, state.st_size, state.st_mtime_ns)
    return picture if facts is None else Raster(file, facts)


@lru_cache(maxsize=2**16)
def _local_facts(path: Path, size: int, mtime_ns: int) -> TiffFacts | None:
    """By (path, size, time), because every crop of an image asks."""
    try:
        with path.open("rb") as file:
            return tiff_facts(file)
    except OSError:
        return None


def image_size(file: File) -> tuple[int, int]:
    """(height, width) of an image from the header alone.

    Raises:
        DataError: The file is missing or its header is refused.
    """
    return reader(file).shape


def read_values(
    file: File, bands: Bands, window: Window | None = None, nodata: float | None = None, longest: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of an image as stored.

    Args:
        file: The image.
        bands: Their number, or the numbers of those wanted.
        window: The part wanted; of a raster the rest is not read. None: everything.
        nodata: The value that means no data; None: the one that a raster names.
        longest: Without a window: single pixels, so that no side has more than this.

    Returns:
        (h, w, B) uint8, uint16, int16 or float32, and (h, w, B) bool, true where a value is missing, or None.

    Raises:
        DataError: The file cannot be read, or lacks a band, or its type does not have `nodata`.
    """
    stored = reader(file).read(window, bands, longest)
    return stored.brightness(), stored.missing(nodata)


def is_large(file: File) -> bool:
    """Whether the file is a raster of more than `LARGE_PIXELS` pixels.

    Raises:
        DataError: It is a raster that cannot be opened.
    """
    source = reader(file)
    return source.block is not None and source.shape[0] * source.shape[1] > LARGE_PIXELS


def stored_blocks(source: Reader) -> Iterator[Window | None]:
    """Windows that cover an image or mask, each pixel once: a raster's along its stored blocks, else all at once."""
    block = source.block
    if block is None:
        yield None
    else:
        yield from blocks(source.shape, block)
