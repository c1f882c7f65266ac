"""Pictures: PNG and JPEG, gray or RGB, 8 or 16 bits, and GIF for masks; unit range and resizing.

A file is read whole or refused. OpenCV decodes (it releases the GIL, checks PNG checksums and returns nothing at
all for a truncated file), but only after this module has read the header itself: by default OpenCV would turn 16-bit
values into 8-bit ones. TIFFs are read by `seg.data.files.rasters`: OpenCV 5.0.0 returns memory that is not the image
for 16-bit RGB TIFFs with separate planes.

Orientation: an EXIF or TIFF orientation other than 1 is an error, never applied and never ignored. Viewers show such
an image turned and its mask may have been drawn on either view, so there is nothing safe to guess.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import cv2
import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from seg.data.files.gif import GIF_SIGNATURES, gif_indices, gif_size
from seg.data.files.storage import File, write_bytes
from seg.data.files.stored import Bands, Stored, WholeFile, form, transparent_pixels
from seg.data.files.tiff import UPRIGHT, turned
from seg.data.files.windows import Window
from seg.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")
MASK_SUFFIXES = (".gif",)  # beside them

# Images are read by several threads at once already; OpenCV's own threads would only fight them for the cores.
cv2.setNumThreads(0)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KINDS = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGB with alpha"}
_JPEG_KINDS = {"L": "gray", "RGB": "RGB"}
_RESIZED_BANDS = 4  # OpenCV averages areas of no more bands at once
# RGB order from the decoder: swapping the bands of its BGR afterwards costs a tenth of the decoding.
_RGB_AS_IT_IS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True)
class Header:
    """What a file says about its pixels before any of them is decoded.

    Attributes:
        format: "PNG", "JPEG" or "GIF" (masks only).
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
        return form(self.bits, self.kind, self.format)


@dataclass(frozen=True)
class Picture(WholeFile):
    """Reads a PNG or JPEG, and a GIF of a mask; decided by content and not by suffix."""

    picture: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) from the file's header alone.

        Raises:
            DataError: The file is missing or its header is one that `read` refuses.
        """
        with self.opened() as file:
            header = parse_header(file, self.file)
        return header.height, header.width

    @property
    def image_form(self) -> tuple[str, int]:
        """As `seg.data.files.stored.Reader.image_form`."""
        with self.opened() as file:
            header = parse_header(file, self.file)
        return "uint16" if header.bits == 16 else "uint8", 1 if header.kind.startswith("gray") else 3

    def read(self, window: Window | None = None, bands: Bands | None = None, longest: int | None = None) -> Stored:
        """As `seg.data.files.stored.Reader.read`. A gray file is repeated three times where 3 bands are asked for; a
        fully opaque alpha band is dropped.

        Raises:
            DataError: The file is missing, broken, of another format, turned (orientation), partly transparent, or is
                RGB where one band is asked for.
        """
        header = parse_header(io.BytesIO(self.contents), self.file)
        palette, transparent = None, 0
        if bands is not None:
            values = self._image(header, bands)
        elif header.format == "GIF":
            values, palette = gif_indices(self.contents, self.file)
        elif header.kind == "palette":
            values, palette = _png_indices(self.contents, header, self.file)
        else:
            values, transparent = decode_pixels(self.contents, header, self.file)
        if header.bits < 8 and header.kind == "gray":
            values >>= 8 - header.bits  # libpng spreads n-bit v to 0-255: v * 255 / (2^n - 1), whose top n bits are v
        nodata = (None,) * (1 if bands is None else values.shape[2])
        lossy = header.format == "JPEG"
        said = (header.format, header.kind, header.bits)
        stored = Stored(self.file, values, *said, lossy, nodata, palette=palette, transparent=transparent)
        return stored.part(window, longest)

    def _image(self, header: Header, bands: Bands) -> np.ndarray:
        if header.format == "GIF":
            raise DataError(f"{self.file}: is a GIF, which only a mask may be; allowed: PNG, JPEG, TIFF")
        pixels, transparent = decode_pixels(self.contents, header, self.file)
        if transparent:
            raise transparent_pixels(transparent, self.file)
        wanted = bands if isinstance(bands, int) else 1 if set(bands) == {1} else 3
        if pixels.ndim == 2:
            pixels = pixels[..., None] if wanted == 1 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
        elif wanted == 1:
            raise DataError(f"{self.file}: is {header} where bands is 1; allowed: a gray image, or bands 3")
        if isinstance(bands, int):
            if bands not in (1, 3):
                raise DataError(
                    f"{self.file}: has 1 or 3 bands where input.bands is {bands}; allowed: 1 or 3, or a list such as "
                    "[1, 2]"
                )
            return pixels
        if max(bands) > pixels.shape[2]:
            raise DataError(f"{self.file}: has no band {max(bands)} (input.bands), allowed: 1 to {pixels.shape[2]}")
        return np.ascontiguousarray(pixels[..., [number - 1 for number in bands]])


def parse_header(file: BinaryIO, path: File) -> Header:
    """Reads the header of an open file; `path` only serves messages.

    Raises:
        DataError: No PNG, JPEG or GIF, a broken header, or pixels that this package does not read.
    """
    start = file.read(len(PNG_SIGNATURE))
    file.seek(0)
    parse = None
    if start == PNG_SIGNATURE:
        parse = _png_header
    elif start.startswith(b"\xff\xd8\xff"):
        parse = _jpeg_header
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
    problem = turned(image.getexif().get(274, UPRIGHT))
    if problem:
        raise DataError(f"{path}: {problem}")
    if image.mode not in _JPEG_KINDS:
        raise DataError(f"{path}: is a {image.mode} JPEG, allowed: gray or RGB")
    return Header("JPEG", _JPEG_KINDS[image.mode], 8, image.height, image.width)


def _gif_header(file: BinaryIO, path: File) -> Header:
    return Header("GIF", "palette", 8, *gif_size(file.read(10)))


def decode_pixels(data: bytes, header: Header, path: File) -> tuple[np.ndarray, int]:
    """Decodes a whole file, given its bytes and their header.

    Returns:
        (H, W) for gray or (H, W, 3) in RGB order, uint8 or uint16; 1-, 2- and 4-bit gray is spread to 0-255, a
        palette is replaced by its colours, alpha is dropped. And the number of pixels that are not opaque.

    Raises:
        DataError: The data are cut short or corrupt.
    """
    in_order = header.kind == "RGB"
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
        return pixels, 0
    transparent = 0
    if pixels.shape[2] == 4:
        transparent = int(np.count_nonzero(pixels[..., 3] != np.iinfo(pixels.dtype).max))
    if header.kind.startswith("gray"):
        return np.ascontiguousarray(pixels[..., 0]), transparent
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB), transparent


def _png_indices(data: bytes, header: Header, path: File) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) palette indices of a palette PNG, and its palette (n, 4) uint8 RGBA.

    OpenCV would replace the indices by their colours. PIL would not, but it checks no checksums and fills rows that
    are missing with index 0, a class. So OpenCV is given the file with colour type 0, gray, whose values are then the
    palette indices: a palette mask is read as strictly as any other.
    """
    gray_header = b"IHDR" + data[16:25] + b"\0" + data[26:29]
    chunks = [PNG_SIGNATURE, struct.pack(">I", 13), gray_header, struct.pack(">I", zlib.crc32(gray_header))]
    position, colours = 33, {b"PLTE": b"", b"tRNS": b""}
    while len(head := data[position : position + 8]) == 8:
        length, name = struct.unpack(">I4s", head)
        end = position + 12 + length
        if end > len(data):  # cut short; OpenCV would first make room for all that `length` says
            break
        if name in (b"IDAT", b"IEND"):
            chunks.append(data[position:end])
        elif (
            name in colours and zlib.crc32(data[position + 4 : end - 4]) == struct.unpack(">I", data[end - 4 : end])[0]
        ):
            colours[name] = data[position + 8 : end - 4]
        position = end
    gray = Header("PNG", "gray", header.bits, header.height, header.width)
    indices, _ = decode_pixels(b"".join(chunks), gray, path)
    indices >>= 8 - header.bits
    palette = np.full((len(colours[b"PLTE"]) // 3, 4), 255, np.uint8)
    palette[:, :3] = np.frombuffer(colours[b"PLTE"], np.uint8)[: 3 * len(palette)].reshape(-1, 3)
    alpha = np.frombuffer(colours[b"tRNS"], np.uint8)[: len(palette)]
    palette[: len(alpha), 3] = alpha
    return indices, palette


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
