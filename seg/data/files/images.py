"""Image files: PNG, JPEG or TIFF, gray or RGB, 8 or 16 bits, to arrays in RGB order; unit range and resizing.

A file is read whole or refused. OpenCV decodes (it releases the GIL, checks PNG checksums and returns nothing at
all for a truncated file), but only after this module has read the header itself: by default OpenCV would turn 16-bit
values into 8-bit ones, read a 2-band uint16 TIFF as one uint8 band and turn a TIFF by its orientation tag.

Orientation: an EXIF or TIFF orientation other than 1 is an error, never applied and never ignored. Viewers show such
an image turned and its mask may have been drawn on either view, so there is nothing safe to guess.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from seg.data.files.gif import GIF_SIGNATURES, gif_size
from seg.data.files.storage import File, read_bytes, unreadable, write_bytes
from seg.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
VOLUME_SUFFIXES = (".nii", ".nii.gz")  # read by seg.data.files.volumes
SAMPLE_SUFFIXES = (*IMAGE_SUFFIXES, *VOLUME_SUFFIXES)
MASK_SUFFIXES = (*SAMPLE_SUFFIXES, ".gif")

# Images are read by several threads at once already; OpenCV's own threads would only fight them for the cores.
cv2.setNumThreads(0)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big endian, classic and BigTIFF
_PNG_KINDS = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGB with alpha"}
_JPEG_KINDS = {"L": "gray", "RGB": "RGB"}
_UPRIGHT = 1
_RESIZED_BANDS = 4  # OpenCV averages areas of no more bands at once
NO_PLANE = 0b101  # bits of a TIFF page's tag 254: an overview of another page, a transparency mask
# RGB order from the decoder: swapping the bands of its BGR afterwards costs a tenth of the decoding.
_RGB_AS_IT_IS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True)
class Header:
    """What a file says about its pixels before any of them is decoded.

    Attributes:
        format: "PNG", "JPEG", "TIFF" or "GIF" (masks only).
        kind: "gray", "gray with alpha", "RGB", "RGB with alpha" or "palette".
        bits: Bits of one value (of one palette index): 1, 2, 4, 8 or 16.
        height: Rows.
        width: Columns.
    """

    format: str
    kind: str
    bits: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{'an' if self.bits == 8 else 'a'} {self.bits}-bit {self.kind} {self.format}"


def read_image(path: Path, bands: int) -> np.ndarray:
    """Reads an image file.

    A gray file is repeated three times where 3 bands are asked for. A fully opaque alpha band is dropped.

    Args:
        path: PNG, JPEG or TIFF, decided by content and not by suffix.
        bands: 1 or 3.

    Returns:
        (H, W, bands), uint8 or uint16 as stored, bands in RGB order.

    Raises:
        DataError: The file is missing, broken, of another format, turned (orientation), partly transparent, holds
            other than unsigned 8- or 16-bit values, or is RGB where one band is asked for.
        ValueError: `bands` is neither 1 nor 3.
    """
    if bands not in (1, 3):
        raise ValueError(f"bands: got {bands}, allowed: 1 or 3")
    data = read_bytes(path)
    header = parse_header(io.BytesIO(data), path)
    if header.format == "GIF":
        raise DataError(f"{path}: is a GIF, which only a mask may be; allowed: PNG, JPEG, TIFF")
    pixels = decode_pixels(data, header, path)
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if bands == 3 else pixels[..., None]
    if bands == 1:
        raise DataError(f"{path}: is {header} where bands is 1; allowed: a gray image, or bands 3")
    return pixels


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header alone, for images and masks.

    Raises:
        DataError: The file is missing or its header is one that `read_image` refuses.
    """
    try:
        with Path(path).open("rb") as file:
            header = parse_header(file, path)
    except OSError as error:
        raise unreadable(path, error) from error
    return header.height, header.width


def parse_header(file: BinaryIO, path: File) -> Header:
    """Reads the header of an open file; `path` only serves messages.

    Raises:
        DataError: No PNG, JPEG, TIFF or GIF, a broken header, or pixels that this package does not read.
    """
    start = file.read(len(PNG_SIGNATURE))
    file.seek(0)
    parse = None
    if start == PNG_SIGNATURE:
        parse = _png_header
    elif start.startswith(b"\xff\xd8\xff"):
        parse = _jpeg_header
    elif start.startswith(_TIFF_SIGNATURES):
        parse = _tiff_header
    elif start.startswith(GIF_SIGNATURES):
        parse = _gif_header
    if parse is None:
        begins = f"begins with {start!r}" if start else "is empty"
        raise DataError(f"{path}: is no image that can be read (it {begins}), allowed: PNG, JPEG, TIFF")
    try:
        return parse(file, path)
    except DataError:
        raise
    except Exception as error:  # PIL's parsers raise whatever a broken byte leads them to
        raise DataError(f"{path}: its header is cut short or corrupt ({error})") from error


def _png_header(file: BinaryIO, path: File) -> Header:
    chunk = file.read(33)[8:]  # length, b"IHDR", 13 bytes, checksum
    name, width, height, bits, kind, checksum = struct.unpack(">4x4sIIBB3xI", chunk)
    if name != b"IHDR" or kind not in _PNG_KINDS or checksum != zlib.crc32(chunk[4:-4]):
        raise ValueError("no valid IHDR chunk")
    return Header("PNG", _PNG_KINDS[kind], bits, height, width)


def _jpeg_header(file: BinaryIO, path: File) -> Header:
    image = JpegImageFile(file)  # parses markers up to the first scan, decodes nothing
    _check_orientation(image.getexif().get(274, _UPRIGHT), path)
    if image.mode not in _JPEG_KINDS:
        raise DataError(f"{path}: is a {image.mode} JPEG, allowed: gray or RGB")
    return Header("JPEG", _JPEG_KINDS[image.mode], 8, image.height, image.width)


def _gif_header(file: BinaryIO, path: File) -> Header:
    return Header("GIF", "palette", 8, *gif_size(file.read(10)))


def tiff_pages(file: BinaryIO, path: File) -> list[ImageFileDirectory_v2]:
    """The tags of every page of an open TIFF, without overviews and transparency masks; `path` only serves messages.

    Raises:
        DataError: No TIFF, or one whose directories are broken.
    """
    start = file.read(8)
    if not start.startswith(_TIFF_SIGNATURES):
        begins = f"begins with {start!r}" if start else "is empty"
        raise DataError(f"{path}: is no TIFF (it {begins})")
    start += file.read(8) if b"+" in start[:4] else b""  # BigTIFF
    pages, seen = [], set()
    try:
        offset = ImageFileDirectory_v2(start).next
        while offset and offset not in seen:  # a directory that names an earlier one would never end
            seen.add(offset)
            page = _tiff_page(file, start, offset)
            offset = page.next
            if not page.get(254, 0) & NO_PLANE:
                pages.append(page)
    except Exception as error:  # PIL's parser raises whatever a broken byte leads it to
        raise DataError(f"{path}: its header is cut short or corrupt ({error})") from error
    if not pages:
        raise DataError(f"{path}: its header is cut short or corrupt (no page)")
    return pages


def first_tiff_page(file: BinaryIO) -> tuple[ImageFileDirectory_v2 | None, bool]:
    """The tags of a TIFF's first page and whether another image follows it; (None, False) if this is no TIFF.

    Raises whatever PIL's parser does where a header is broken.
    """
    start = file.read(8)
    if not start.startswith(_TIFF_SIGNATURES):
        return None, False
    start += file.read(8) if b"+" in start[:4] else b""  # BigTIFF
    page = _tiff_page(file, start, ImageFileDirectory_v2(start).next)
    # An overview or a mask may follow.
    return page, bool(page.next) and not _tiff_page(file, start, page.next).get(254, 0) & NO_PLANE


def _tiff_header(file: BinaryIO, path: File) -> Header:
    page, has_more_pages = first_tiff_page(file)
    assert page is not None  # `parse_header` has seen the signature
    if has_more_pages:
        raise DataError(
            f"{path}: holds several pages, allowed: one image a file; write each page to its own file, "
            "or set data.slices if the pages are the slices of a volume"
        )
    _check_orientation(page.get(274, _UPRIGHT), path)
    bits, formats = page.get(258, (1,)), page.get(339, (1,))
    if set(formats) != {1} or set(bits) not in ({8}, {16}):
        number = {1: "unsigned integer", 2: "signed integer", 3: "float"}.get(formats[0], "unknown")
        raise DataError(
            f"{path}: holds {bits[0]}-bit {number} values, allowed: 8- or 16-bit unsigned integers; "
            "rescale it (one scale for all images, so that values stay comparable)"
        )
    bands, photometric, extra = page.get(277, 1), page.get(262), page.get(338, ())
    if (bands, photometric) == (1, 1):
        kind = "gray"
    elif (bands, photometric) in ((3, 2), (3, 6)):
        kind = "RGB"
    elif (bands, photometric) == (4, 2) and extra and extra[0] in (1, 2):  # an unmarked 4th band may be near infrared
        kind = "RGB with alpha"
    else:
        raise DataError(
            f"{path}: is a TIFF of {bands} band(s) with photometric interpretation {photometric}, "
            "allowed: 1 band (black is zero), RGB, or RGB with alpha"
        )
    return Header("TIFF", kind, bits[0], page[257], page[256])


def _tiff_page(file: BinaryIO, start: bytes, offset: int) -> ImageFileDirectory_v2:
    """The tags of the page at `offset`; `next` is where the following page is, or 0."""
    page = ImageFileDirectory_v2(start)
    file.seek(offset)
    page.next = offset
    page.load(file)
    if page.next == offset:  # PIL only warns where the file ends too early, and leaves `next` as it was
        raise ValueError("no complete page")
    return page


def _check_orientation(orientation: int, path: File) -> None:
    if orientation != _UPRIGHT:
        raise DataError(
            f"{path}: its orientation tag is {orientation}, allowed: 1 (upright); viewers turn this image and its mask "
            "may follow or not, so turn the pixels and remove the tag (e.g. `magick IN -auto-orient OUT`)"
        )


def decode_pixels(data: bytes, header: Header, path: File) -> np.ndarray:
    """Decodes a whole file, given its bytes and their header.

    Returns:
        (H, W) for gray or (H, W, 3) in RGB order, uint8 or uint16; 1-, 2- and 4-bit gray is spread to 0-255, a
        palette is replaced by its colours, opaque alpha is dropped.

    Raises:
        DataError: The data are cut short or corrupt, or a pixel is transparent.
    """
    in_order = header.kind == "RGB" and header.format != "TIFF"  # of 16-bit TIFFs OpenCV's decoder swaps the bands
    flags = _RGB_AS_IT_IS if in_order else cv2.IMREAD_UNCHANGED  # which keeps bits, alpha and gray
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # e.g. over 2^30 pixels
        raise DataError(f"{path}: cannot be decoded ({error})") from error
    if pixels is None:
        raise DataError(f"{path}: its {header.format} data are cut short or corrupt ({len(data)} bytes)")
    expected = (header.height, header.width, np.uint16 if header.bits == 16 else np.uint8)
    if (*pixels.shape[:2], pixels.dtype) != expected:
        raise DataError(
            f"{path}: was decoded to {pixels.shape[0]} x {pixels.shape[1]} {pixels.dtype}, "
            f"its header says {header.height} x {header.width}, {header}"
        )
    if pixels.ndim == 2 or in_order:
        return pixels
    if pixels.shape[2] == 4:
        _check_opaque(pixels[..., 3], path)
    if header.kind.startswith("gray"):
        return np.ascontiguousarray(pixels[..., 0])
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _check_opaque(alpha: np.ndarray, path: File) -> None:
    transparent = np.count_nonzero(alpha != np.iinfo(alpha.dtype).max)
    if transparent:
        raise DataError(
            f"{path}: {transparent} pixel(s) are transparent, allowed: opaque pixels; "
            "flatten the image, and mark pixels without data as void in the mask"
        )


def unit_range(image: np.ndarray, max_value: float | None = None) -> np.ndarray:
    """Scales integer values to [0, 1]: `min(image / max_value, 1)`.

    Args:
        image: uint8 or uint16, any shape.
        max_value: What becomes 1, e.g. 4095 for 12-bit data in 16-bit files; default: the dtype's maximum. Larger
            values become 1.

    Returns:
        float32, same shape.

    Raises:
        ValueError: Another dtype, or a `max_value` that is not positive.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"image: got {image.dtype}, allowed: uint8 or uint16")
    if max_value is None:
        max_value = np.iinfo(image.dtype).max
    elif not max_value > 0:
        raise ValueError(f"max_value: got {max_value}, allowed: above 0")
    scaled = np.divide(image, np.float32(max_value), dtype=np.float32)
    return np.minimum(scaled, np.float32(1), out=scaled)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image: each axis that shrinks by area averaging, each axis that grows by linear interpolation.

    Area averaging uses every pixel, so nothing aliases and thin structures fade instead of vanishing. When enlarging
    it degenerates to repeating pixels, and cubic interpolation would overshoot the value range at edges: hence linear.

    Args:
        image: (H, W, bands).
        size: (height, width).

    Returns:
        (height, width, bands), same dtype.
    """
    height, width = size
    smaller = (min(image.shape[0], height), min(image.shape[1], width))
    return _resize(_resize(image, smaller, cv2.INTER_AREA), (height, width), cv2.INTER_LINEAR)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a mask to (height, width) by the nearest pixel: class indices must never be mixed.

    cv2.INTER_NEAREST takes the pixel at floor(x * scale), up to half an output pixel up and to the left of where
    area averaging puts the image; INTER_NEAREST_EXACT samples at pixel centres, so mask and image stay aligned.
    """
    return _resize(mask, size, cv2.INTER_NEAREST_EXACT)


def _resize(array: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """cv2.resize for (height, width), keeping a last axis of length 1, which OpenCV drops."""
    if array.shape[:2] == tuple(size):
        return array
    height, width = size
    if array.ndim == 3 and array.shape[2] > _RESIZED_BANDS:
        parts = [array[..., first : first + _RESIZED_BANDS] for first in range(0, array.shape[2], _RESIZED_BANDS)]
        return np.concatenate([_resize(np.ascontiguousarray(part), size, interpolation) for part in parts], axis=2)
    resized = cv2.resize(array, (width, height), interpolation=interpolation)
    return resized.reshape(height, width, *array.shape[2:])


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes an 8-bit PNG, whole or not at all; makes the folder where it is missing.

    Args:
        path: A file name ending in .png.
        pixels: (H, W) gray or (H, W, 3) RGB, uint8.

    Raises:
        ValueError: Another shape, dtype or suffix.
    """
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(f"pixels: got {pixels.dtype} of shape {pixels.shape}, allowed: uint8 (H, W) or (H, W, 3)")
    if path.suffix.lower() != ".png":
        raise ValueError(f"path: got {path}, allowed: a name ending in .png")
    stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    write_bytes(path, cv2.imencode(".png", stored)[1].tobytes())
