"""Masks whose classes may overlap: a TIFF with a plane for each class.

Plane k is class k. Its values are 0 (absent), 1 (present) and `ignore_index` (not labelled: this pixel tells nothing
of this class, and may tell of another). 255 is what image editors and NumPy's `mask * 255` write for present, and what
is void by default; it cannot be both. So 255 is void where `ignore_index` is 255, and present where `ignore_index` is
another value: for planes of 0 and 255 set `labels.ignore_index` to a value that they do not have, such as 2. Any other
value is an error that names the file, the class, the value and the pixel count.

The planes are pages, or the bands of one page, all of 8 bits and one size. In memory a mask is (H, W, K) uint8 with the
values 0, 1 and `ignore_index`.
"""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from seg.data.files.images import NO_PLANE, tiff_pages
from seg.data.files.storage import File, VolumeSlice, read_bytes, unreadable, write_bytes
from seg.errors import DataError
from seg.labels import LabelSet

PRESENT_ALSO = 255  # see above
DEFLATE = 8  # libtiff's number; planes of few values shrink to a few per cent
_LOSSY = (6, 7, 34712, 34892, 50002)  # JPEG, JPEG 2000 and JPEG XL blend values
_opening = threading.Lock()


@dataclass(frozen=True)
class MultiLabelEncoding:
    """A TIFF of K pages, or of one page with K bands: see this module."""

    name: ClassVar[str] = "multi_label"
    description: ClassVar[str] = name  # of how files are read, as the other encodings have it


@dataclass(frozen=True)
class Planes:
    """What a file says about its planes before any of them is decoded.

    Attributes:
        height: Rows.
        width: Columns.
        number: Pages, or bands of the only page.
        as_pages: Whether they are pages.
    """

    height: int
    width: int
    number: int
    as_pages: bool


def decode_planes(data: bytes, path: File, labels: LabelSet) -> np.ndarray:
    """The planes of a mask file.

    Args:
        data: The file.
        path: Serves messages.
        labels: The classes.

    Returns:
        (K, H, W) uint8: 0, 1 and `labels.ignore_index`.

    Raises:
        DataError: The file is no TIFF, cut short, corrupt, lossy, not of K planes of 8 bits, or holds another value.
    """
    header = _header(io.BytesIO(data), path, len(data))
    if header.number != labels.num_classes:
        kind = "page" if header.as_pages else "band"
        raise DataError(
            f"{path}: got {header.number} {kind}(s), allowed: {labels.num_classes}, one a class "
            f"({labels.names[0]} to {labels.names[-1]})"
        )
    planes = _decode_pages(data, header, path) if header.as_pages else _decode_bands(data, path)
    if planes.shape != (header.number, header.height, header.width) or planes.dtype != np.uint8:
        raise DataError(
            f"{path}: was decoded to {planes.dtype} of shape {planes.shape}, its header says "
            f"({header.number}, {header.height}, {header.width})"
        )
    return np.stack([_checked(plane, name, labels, path) for plane, name in zip(planes, labels.names, strict=True)])


def planes_size(file: Path | VolumeSlice) -> tuple[int, int]:
    """(height, width) of a mask file, from its header alone.

    Raises:
        DataError: The file is missing, or no TIFF of 8-bit planes of one size.
    """
    if isinstance(file, VolumeSlice):
        raise DataError(
            f"{file}: multi-label masks are TIFFs of a page a class; allowed with data.slices: another encoding"
        )
    try:
        with file.open("rb") as opened:
            header = _header(opened, file, file.stat().st_size)
    except OSError as error:
        raise unreadable(file, error) from error
    return header.height, header.width


def count_planes(file: File, labels: LabelSet) -> np.ndarray:
    """(K, 3) int64: of each class the pixels where it is absent, present and not labelled.

    Raises:
        DataError: As `decode_planes`.
    """
    planes = decode_planes(read_bytes(file), file, labels)
    present = np.array([cv2.countNonZero(cv2.inRange(plane, 1, 1)) for plane in planes], np.int64)
    labelled = np.array([cv2.countNonZero(cv2.inRange(plane, 0, 1)) for plane in planes], np.int64)
    return np.stack([labelled - present, present, planes[0].size - labelled], axis=1)


def write_planes(path: Path, mask: np.ndarray) -> None:
    """Writes a mask as a TIFF of K pages, whole or not at all; makes the folder where it is missing.

    Args:
        path: A file name ending in .tif or .tiff.
        mask: (H, W, K) uint8.

    Raises:
        ValueError: Another shape, dtype or suffix.
    """
    if mask.dtype != np.uint8 or mask.ndim != 3:
        raise ValueError(f"mask: got {mask.dtype} of shape {mask.shape}, allowed: uint8 of shape (H, W, K)")
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"path: got {path}, allowed: a name ending in .tif or .tiff")
    pages = [np.ascontiguousarray(mask[..., index]) for index in range(mask.shape[2])]
    _, encoded = cv2.imencodemulti(".tiff", pages, [cv2.IMWRITE_TIFF_COMPRESSION, DEFLATE])
    write_bytes(path, encoded.tobytes())


def _checked(plane: np.ndarray, name: str, labels: LabelSet, path: File) -> np.ndarray:
    """The plane with its other value for present replaced, after a look at every value that it has."""
    histogram = cv2.calcHist([plane.reshape(-1, 1)], [0], None, [256], [0, 256]).ravel()
    values = set(np.flatnonzero(histogram).tolist())
    unknown = sorted(values - {0, 1, PRESENT_ALSO, labels.ignore_index})
    if unknown:
        listed = ", ".join(f"{value} in {np.count_nonzero(plane == value)} pixels" for value in unknown[:5])
        more = f" and {len(unknown) - 5} more values" if len(unknown) > 5 else ""
        also = "" if labels.ignore_index == PRESENT_ALSO else f" or {PRESENT_ALSO}"
        raise DataError(
            f"{path}: plane of class '{name}': value {listed}{more}; allowed: 0 (absent), 1{also} (present) and "
            f"{labels.ignore_index} (not labelled)"
        )
    if PRESENT_ALSO in values and labels.ignore_index != PRESENT_ALSO:
        return np.where(plane == PRESENT_ALSO, np.uint8(1), plane)
    return plane


def _decode_pages(data: bytes, header: Planes, path: File) -> np.ndarray:
    """By PIL: OpenCV 5 hands out a strip that does not inflate as zeros, which mean absent."""
    pages: list[np.ndarray] = []
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                if not image.tag_v2.get(254, 0) & NO_PLANE:  # type: ignore[attr-defined]
                    pages.append(np.asarray(image))
        return np.stack(pages)
    except Exception as error:  # PIL raises whatever a broken byte leads it to
        raise DataError(f"{path}: page {len(pages)} of {header.number} is corrupt ({error})") from error


def _decode_bands(data: bytes, path: File) -> np.ndarray:
    """By GDAL: OpenCV reads no more than four bands."""
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile

    try:
        with MemoryFile(data) as memory:
            with _opening, warnings.catch_warnings():  # which is not safe among threads by itself
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = memory.open()
            with dataset:
                return dataset.read()
    except RasterioError as error:
        raise DataError(f"{path}: its bands cannot be decoded ({error})") from error


def _header(file: BinaryIO, path: File, length: int) -> Planes:
    pages = tiff_pages(file, path)
    for page in pages:
        problem = _page_problem(page, length)
        if problem:
            raise DataError(f"{path}: {problem}; allowed: a TIFF of 8-bit planes of one size, one a class")
    sizes = {(page[257], page[256]) for page in pages}
    bands = {page.get(277, 1) for page in pages}
    if len(sizes) > 1:
        raise DataError(f"{path}: its pages have {len(sizes)} sizes; allowed: one, (height, width) of the image")
    if len(pages) > 1 and bands != {1}:
        raise DataError(f"{path}: has pages of {max(bands)} bands; allowed: pages of one band, or one page of bands")
    (height, width), as_pages = sizes.pop(), bands == {1}
    return Planes(height, width, len(pages) if as_pages else bands.pop(), as_pages)


def _page_problem(page: ImageFileDirectory_v2, length: int) -> str | None:
    """What keeps a page from being planes, or cut off by the end of a file of `length` bytes."""
    bits, formats = set(page.get(258, (1,))), set(page.get(339, (1,)))
    if bits != {8} or not formats <= {1}:
        return f"holds {min(bits)}-bit values of sample format {min(formats)}"
    if page.get(259, 1) in _LOSSY:
        return "is compressed with losses, which blend values"
    if page.get(262) not in (1, 2):  # 0 is inverted, 3 a palette, 6 YCbCr
        return f"has photometric interpretation {page.get(262)} and not 1 (black is zero)"
    if page.get(274, 1) != 1:
        return f"its orientation tag is {page.get(274)} and not 1 (upright)"
    ends = map(sum, zip(_numbers(page, 273, 324), _numbers(page, 279, 325), strict=False))
    if max(ends, default=length + 1) > length:
        return "is cut short"
    return None


def _numbers(page: ImageFileDirectory_v2, strips: int, tiles: int) -> Any:
    """A tag's numbers, of strips or else of tiles."""
    values = page.get(strips, page.get(tiles, ()))
    return values if isinstance(values, tuple) else (values,)
