"""TIFFs of several planes, one a class: pages, or the bands of one page, all of 8 bits and one size."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from seg.data.files.rasters import opened
from seg.data.files.storage import File, VolumeSlice
from seg.data.files.stored import Bands, Stored, WholeFile
from seg.data.files.tiff import NO_PLANE, tiff_pages
from seg.data.files.windows import Window
from seg.errors import DataError

_LOSSY = (6, 7, 34712, 34892, 50002)  # JPEG, JPEG 2000 and JPEG XL blend values


@dataclass(frozen=True)
class PlanesHeader:
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


@dataclass(frozen=True)
class Planes(WholeFile):
    """Reads all planes of a TIFF."""

    picture: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) from the header alone.

        Raises:
            DataError: The file is missing, or no TIFF of 8-bit planes of one size.
        """
        if isinstance(self.file, VolumeSlice):
            raise DataError(
                f"{self.file}: multi-label masks are TIFFs of a page a class; allowed with data.slices: another "
                "encoding"
            )
        with self.opened() as file:
            length = file.seek(0, io.SEEK_END)
            file.seek(0)
            header = _header(file, self.file, length)
        return header.height, header.width

    @property
    def image_form(self) -> tuple[str, int]:
        """As `seg.data.files.stored.Reader.image_form`."""
        return "uint8", self.read().values.shape[2]

    def read(self, window: Window | None = None, bands: Bands | None = None, longest: int | None = None) -> Stored:
        """(h, w, K) uint8.

        Raises:
            DataError: The file is no TIFF, cut short, corrupt, lossy, or not of planes of 8 bits and one size.
        """
        data = self.contents
        header = _header(io.BytesIO(data), self.file, len(data))
        planes = _decode_pages(data, header, self.file) if header.as_pages else _decode_bands(data, self.file)
        if planes.shape != (header.number, header.height, header.width) or planes.dtype != np.uint8:
            raise DataError(
                f"{self.file}: was decoded to {planes.dtype} of shape {planes.shape}, its header says "
                f"({header.number}, {header.height}, {header.width})"
            )
        kind = "pages" if header.as_pages else "bands"
        return Stored(self.file, np.moveaxis(planes, 0, -1), "TIFF", kind, 8, nodata=()).part(window, longest)


def _decode_pages(data: bytes, header: PlanesHeader, path: File) -> np.ndarray:
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
    try:
        with opened(path, contents=data) as dataset:
            return np.asarray(dataset.read())
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: its bands cannot be decoded ({reason})") from None


def _header(file: BinaryIO, path: File, length: int) -> PlanesHeader:
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
    return PlanesHeader(height, width, len(pages) if as_pages else bands.pop(), as_pages)


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
    if 0 in _numbers(page, 273, 324):
        return "lacks blocks, which were never written"
    ends = map(sum, zip(_numbers(page, 273, 324), _numbers(page, 279, 325), strict=False))
    if max(ends, default=length + 1) > length:
        return "is cut short"
    return None


def _numbers(page: ImageFileDirectory_v2, strips: int, tiles: int) -> Any:
    """A tag's numbers, of strips or else of tiles."""
    values = page.get(strips, page.get(tiles, ()))
    return values if isinstance(values, tuple) else (values,)
