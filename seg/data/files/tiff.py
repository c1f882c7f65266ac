"""The tags of a TIFF, looked at before GDAL opens it: what is refused and why, and what is an ordinary picture."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from seg.data.files.storage import File
from seg.errors import DataError

SUFFIXES = (".tif", ".tiff")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big endian, classic and BigTIFF
NO_PLANE = 0b101  # bits of a TIFF page's tag 254: an overview of another page, a transparency mask
PICTURE_PIXELS = 2**26  # a TIFF with more is read by windows whatever it holds
UPRIGHT = 1
_MASK = 0b100
_RASTER_TAGS = (322, 33550, 33922, 34264, 34735, 42113)  # tiles; scale, tie points, matrix, keys; nodata


class TiffFacts(NamedTuple):
    """What the tags say.

    Attributes:
        shape: (height, width).
        picture: It is an ordinary picture: 8 or 16 bits, gray or RGB, in strips, with no place on earth, nodata value
            or mask of its own.
        refusal: Why it is not read, or "".
    """

    shape: tuple[int, int]
    picture: bool
    refusal: str = ""


def tiff_facts(file: BinaryIO) -> TiffFacts | None:
    """The facts of an open file; None if this is no TIFF."""
    start = file.read(8)
    if not start.startswith(TIFF_SIGNATURES):
        return None
    big = b"+" in start[:4]
    try:
        start += file.read(8) if big else b""
        page = _page(file, start, ImageFileDirectory_v2(start).next)
        following = _page(file, start, page.next).get(254, 0) if page.next else NO_PLANE
        shape = (page[257], page[256])
        refusal = turned(page.get(274, UPRIGHT))
        if not following & NO_PLANE:
            refusal = (
                "holds several pages, allowed: one image a file; write each page to its own file, "
                "or set data.slices if the pages are the slices of a volume"
            )
        placed = big or any(tag in page for tag in _RASTER_TAGS) or shape[0] * shape[1] > PICTURE_PIXELS
        hidden = page.next and following & _MASK
        return TiffFacts(shape, _is_gray_or_rgb(page) and not placed and not hidden, refusal)
    except Exception as error:  # PIL's parser raises whatever a broken byte leads it to
        return TiffFacts((0, 0), False, f"its header is cut short or corrupt ({error})")


def _is_gray_or_rgb(page: ImageFileDirectory_v2) -> bool:
    if set(page.get(339, (1,))) != {1} or set(page.get(258, (1,))) not in ({8}, {16}):
        return False
    bands, photometric, extra = page.get(277, 1), page.get(262), page.get(338, ())
    if (bands, photometric) == (4, 2):  # an unmarked 4th band may be near infrared
        return bool(extra) and extra[0] in (1, 2)
    return (bands, photometric) in ((1, 1), (3, 2), (3, 6))


def turned(orientation: int) -> str:
    """Why an image with this EXIF or TIFF orientation is refused; "" for an upright one."""
    if orientation == UPRIGHT:
        return ""
    return (
        f"its orientation tag is {orientation}, allowed: 1 (upright); viewers turn this image and its mask "
        "may follow or not, so turn the pixels and remove the tag (e.g. `magick IN -auto-orient OUT`)"
    )


def tiff_pages(file: BinaryIO, path: File) -> list[ImageFileDirectory_v2]:
    """The tags of every page of an open TIFF, without overviews and transparency masks; `path` only serves messages.

    Raises:
        DataError: No TIFF, or one whose directories are broken.
    """
    start = file.read(8)
    if not start.startswith(TIFF_SIGNATURES):
        begins = f"begins with {start!r}" if start else "is empty"
        raise DataError(f"{path}: is no TIFF (it {begins})")
    start += file.read(8) if b"+" in start[:4] else b""  # BigTIFF
    pages, seen = [], set()
    try:
        offset = ImageFileDirectory_v2(start).next
        while offset and offset not in seen:  # a directory that names an earlier one would never end
            seen.add(offset)
            page = _page(file, start, offset)
            offset = page.next
            if not page.get(254, 0) & NO_PLANE:
                pages.append(page)
    except Exception as error:  # PIL's parser raises whatever a broken byte leads it to
        raise DataError(f"{path}: its header is cut short or corrupt ({error})") from error
    if not pages:
        raise DataError(f"{path}: its header is cut short or corrupt (no page)")
    return pages


def _page(file: BinaryIO, start: bytes, offset: int) -> ImageFileDirectory_v2:
    """The tags of the page at `offset`; `next` is where the following page is, or 0."""
    page = ImageFileDirectory_v2(start)
    file.seek(offset)
    page.next = offset
    page.load(file)
    if page.next == offset:  # PIL only warns where the file ends too early, and leaves `next` as it was
        raise ValueError("no complete page")
    return page
