"""Volumes read slice by slice: NIfTI (.nii, .nii.gz) and TIFFs of several pages.

An axis is one of the array as it is stored: of a NIfTI its voxel axes i, j, k (0, 1, 2; usually 2 is the one through
the slices that were scanned), of a TIFF the pages, rows and columns (0, 1, 2). A slice keeps the order of the two axes
that are left; nothing is turned to a patient's orientation, nothing resampled. The fourth axis of a NIfTI is its bands.

A slice of an uncompressed NIfTI, or a page, is read without the rest. A .nii.gz, or another axis of a TIFF, has to be
decoded as a whole; the last ones stay in memory up to `CACHE_BYTES`, so a dataset of larger sum trains faster when
stored as .nii.
"""

from __future__ import annotations

import gzip
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seg.data.files.rasters import opened, read_dataset
from seg.data.files.storage import VolumeSlice, file_state, read_bytes, write_bytes
from seg.data.files.stored import Bands, Stored
from seg.data.files.tiff import SUFFIXES as TIFF_SUFFIXES
from seg.data.files.windows import Window
from seg.errors import ConfigError, DataError

SUFFIXES = (".nii", ".nii.gz")
CACHE_BYTES = 2**30  # of decoded volumes; the one in use is kept whatever its size
SAME_AFFINE = 1e-3  # mm, or the file's unit; tools round what they write


@dataclass(frozen=True, eq=False)
class VolumeHeader:
    """What a volume says about itself.

    Attributes:
        shape: Length of its three axes as stored.
        bands: Values a voxel.
        affine: (4, 4) from voxel indices to the scanner's coordinates; None for a TIFF.
    """

    shape: tuple[int, int, int]
    bands: int
    affine: np.ndarray | None


def is_nifti(path: Path) -> bool:
    """By the name: .nii or .nii.gz."""
    return path.name.lower().endswith(SUFFIXES)


def volume_header(path: Path) -> VolumeHeader:
    """The header of a volume; of a .nii.gz too without decoding the rest.

    Raises:
        DataError: It is broken, or has other than 3 axes (4 with bands).
        ConfigError: nibabel is not installed.
    """
    state = file_state(path)
    return _header(path, state.size, state.version)


@lru_cache(maxsize=4096)
def _header(path: Path, size: int, version: str) -> VolumeHeader:
    if path.name.lower().endswith(TIFF_SUFFIXES):
        pages = _pages(path, size, version)
        with opened(path, pages[0]) as first:
            return VolumeHeader((len(pages), first.height, first.width), first.count, None)
    if not is_nifti(path):
        raise DataError(f"{path}: is no volume, allowed with data.slices: {', '.join(SUFFIXES + TIFF_SUFFIXES)}")
    image = _guarded(path, lambda: _nibabel().load(path))
    shape = image.shape
    if len(shape) not in (3, 4) or 0 in shape:
        raise DataError(f"{path}: its shape is {_times(shape)}, allowed: three axes, or four, the last of them bands")
    return VolumeHeader(shape[:3], shape[3] if len(shape) == 4 else 1, np.asarray(image.affine))


@lru_cache(maxsize=4096)
def _pages(path: Path, size: int, version: str) -> list[str | None]:
    """GDAL's name of each page; [None], the file itself, where there is one only."""
    with opened(path) as dataset:
        names = sorted(dataset.subdatasets, key=lambda name: int(name.split(":")[1]))  # rasterio puts 10 before 2
    return names or [None]


@dataclass(frozen=True)
class Slice:
    """Reads a slice.

    A NIfTI's slope and intercept are applied: CT values are Hounsfield units. Of an image 8- and 16-bit integers that
    need none stay as they are, and all else becomes float32; of a mask any type stays.

    Attributes:
        file: The slice.
    """

    file: VolumeSlice
    block: ClassVar[tuple[int, int] | None] = None
    picture: ClassVar[bool] = False
    contents: ClassVar[bytes | None] = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width): the lengths of the two other axes, in their order."""
        lengths = volume_header(self.file.path).shape
        rows, columns = (length for axis, length in enumerate(lengths) if axis != self.file.axis)
        return rows, columns

    @property
    def image_form(self) -> tuple[str, int]:
        """As `seg.data.files.stored.Reader.image_form`, which only the values of a NIfTI tell: a slope makes floats."""
        bands = volume_header(self.file.path).bands
        return str(self.read(None, bands).values.dtype), bands

    def read(self, window: Window | None = None, bands: Bands | None = None, longest: int | None = None) -> Stored:
        """As `seg.data.files.stored.Reader.read`.

        Raises:
            DataError: The file is broken, has no such slice or band, holds complex or RGB voxels, or is a mask of
                several bands.
        """
        part = self.file
        if part.axis == 0 and not is_nifti(part.path):
            with opened(part.path, _page(part)) as dataset:
                page = read_dataset(part.path, dataset, window, bands, longest)
            return replace(page, file=part, format="slice")
        values = _values(part)
        if bands is not None:
            numbers = _band_numbers(part.path, values.shape[2], bands)
            values = _as_image(values[..., [number - 1 for number in numbers]])
        elif values.shape[2] != 1:
            raise DataError(f"{part.path}: is a mask of {values.shape[2]} bands, allowed: 1")
        else:
            values = values[..., 0]
        nodata = (None,) * (1 if bands is None else values.shape[2])
        stored = Stored(part, values, "slice", "bands", values.dtype.itemsize * 8, nodata=nodata)
        return stored.part(window, longest)


def _page(part: VolumeSlice) -> str | None:
    _check_index(part)
    state = file_state(part.path)
    return _pages(part.path, state.size, state.version)[part.index]


def _check_index(part: VolumeSlice) -> None:
    length = volume_header(part.path).shape[part.axis]
    if not 0 <= part.index < length:
        raise DataError(f"{part.path}: has no slice {part.index} along axis {part.axis}, allowed: 0 to {length - 1}")


def _values(part: VolumeSlice) -> np.ndarray:
    """(h, w, B) of a slice, scaled, in the file's own type."""
    _check_index(part)
    where = tuple(part.index if axis == part.axis else slice(None) for axis in range(3))
    if not is_nifti(part.path):
        return np.asarray(_kept(part.path, _read_stack)[where])
    image = _kept(part.path, _read_gzip) if part.path.suffix.lower() == ".gz" else _open_nifti(part.path)
    values = _guarded(part.path, lambda: np.asarray(image.dataobj[where]))
    if values.dtype.kind not in "iuf":
        raise DataError(f"{part.path}: holds {values.dtype} voxels, allowed: real numbers")
    return values if values.ndim == 3 else values[..., None]


def _as_image(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.int8:
        return values.astype(np.int16)
    if values.dtype in (np.uint8, np.uint16, np.int16):
        return np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return np.ascontiguousarray(values, np.float32)


def _band_numbers(path: Path, count: int, bands: Bands) -> list[int]:
    if isinstance(bands, int):
        if count not in (1, bands):
            raise DataError(f"{path}: has {count} bands where input.bands is {bands}; allowed: {count}, or a list")
        return list(range(1, bands + 1)) if count == bands else [1] * bands
    if max(bands) > count:
        raise DataError(f"{path}: has no band {max(bands)} (input.bands), allowed: 1 to {count}")
    return list(bands)


def _open_nifti(path: Path) -> Any:
    state = file_state(path)
    return _open_version(path, state.version)


@lru_cache(maxsize=256)
def _open_version(path: Path, version: str) -> Any:
    return _guarded(path, lambda: _nibabel().load(path))


def _read_gzip(path: Path) -> tuple[Any, int]:
    """The image in memory and its bytes. Read to its end, so that gzip's checksum is compared."""
    nibabel = _nibabel()
    data = _guarded(path, lambda: gzip.decompress(read_bytes(path)))
    kind = nibabel.Nifti2Image if int.from_bytes(data[:4], "little") in (540, 0x1C020000) else nibabel.Nifti1Image
    return _guarded(path, lambda: kind.from_bytes(data)), len(data)


def _read_stack(path: Path) -> tuple[np.ndarray, int]:
    """(pages, rows, columns, B) and its bytes."""
    header = volume_header(path)
    pages = [Slice(VolumeSlice(path, 0, k)).read(None, header.bands).values for k in range(header.shape[0])]
    if len({(page.shape, page.dtype) for page in pages}) > 1:
        raise DataError(f"{path}: its pages differ in size or type, allowed with data.slices: pages that are alike")
    stack = np.stack(pages)
    return stack, stack.nbytes


# --- what had to be decoded as a whole ---
_cache: OrderedDict[tuple[Path, str], Future[tuple[Any, int]]] = OrderedDict()
_cache_lock = threading.Lock()


def _kept(path: Path, read: Callable[[Path], tuple[Any, int]]) -> Any:
    """What `read` gives, from memory if it is there; one thread reads a file, others that want it wait for that one."""
    key = (path, file_state(path).version)
    with _cache_lock:
        future = _cache.get(key)
        mine = future is None
        if future is None:
            future = _cache[key] = Future()
        _cache.move_to_end(key)
    if mine:
        try:
            future.set_result(read(path))
        except BaseException as error:
            future.set_exception(error)
            with _cache_lock:
                _cache.pop(key, None)
        else:
            _make_room(key)
    return future.result()[0]


def _make_room(used: tuple[Path, str]) -> None:
    """Drops the volumes that were used longest ago, until the rest fits."""
    with _cache_lock:
        sizes = {key: future.result()[1] for key, future in _cache.items() if future.done() and not future.exception()}
        for key in list(_cache):
            if sum(sizes.values()) <= CACHE_BYTES:
                return
            if key in sizes and key != used:
                del _cache[key], sizes[key]


def check_volumes(image: Path, mask: Path) -> None:
    """Refuses an image and a mask that are not voxel on voxel.

    Raises:
        DataError: Shape or affine differ; names both files and both values.
    """
    ours, theirs = volume_header(image), volume_header(mask)
    if ours.shape != theirs.shape:
        raise DataError(
            f"{image} is {_times(ours.shape)} voxels but its mask {mask} is {_times(theirs.shape)}; "
            "allowed: the same shape"
        )
    if ours.affine is None or theirs.affine is None:
        return
    if not np.allclose(ours.affine, theirs.affine, rtol=0, atol=SAME_AFFINE):
        raise DataError(
            f"{image} has the affine {ours.affine[:3].round(4).tolist()} but its mask {mask} has "
            f"{theirs.affine[:3].round(4).tolist()}; allowed: the same; resample the mask onto the image"
        )


def write_nifti(path: Path, mask: np.ndarray, like: Path) -> None:
    """Writes a uint8 volume as .nii.gz with the affine of another, whole or not at all.

    Args:
        path: The new file.
        mask: (X, Y, Z) uint8.
        like: The NIfTI that it is of.
    """
    nibabel = _nibabel()
    image = nibabel.Nifti1Image(mask, volume_header(like).affine)
    zooms = _open_nifti(like).header.get_xyzt_units()
    image.header.set_xyzt_units(*zooms)
    write_bytes(path, gzip.compress(image.to_bytes(), mtime=0))


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise ConfigError("reading NIfTI volumes needs nibabel; to install it: pip install 'seg[medical]'") from None
    return nibabel


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    """`read()`, with whatever nibabel, gzip and NumPy raise on a broken file as a DataError."""
    try:
        return read()
    except (DataError, ConfigError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: is cut short or corrupt, or no NIfTI ({reason})") from None
