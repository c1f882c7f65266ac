"""Mask files to class indices: the one place where a pixel of a mask gets its meaning.

Whatever the encoding, the result is (H, W) uint8 with values 0 to C - 1 and `ignore_index`. A pixel that means neither
a class nor void is an error that names the file, the value and the pixel count; it is never dropped or guessed.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, assert_never

import cv2
import numpy as np

from seg.data.images import PNG_SIGNATURE, Header, decode_pixels, parse_header, write_png
from seg.data.multi_label_masks import MultiLabelEncoding, decode_planes
from seg.data.reading import stored_mask
from seg.data.storage import File, read_bytes
from seg.data.windows import Window
from seg.errors import ConfigError, DataError
from seg.labels import Colour, LabelSet


@dataclass(frozen=True)
class IndexEncoding:
    """A gray image whose values are class indices. 1-, 2-, 4-, 8-bit PNG; 16-bit where the values allow it."""

    name: ClassVar[str] = "index"


@dataclass(frozen=True)
class PaletteEncoding:
    """A palette PNG whose palette indices are class indices; the palette's colours mean nothing."""

    name: ClassVar[str] = "palette"


@dataclass(frozen=True)
class ColourEncoding:
    """An 8-bit RGB image, exactly one colour a class: `LabelSet.colours`.

    Attributes:
        void_colours: Colours that mean void (`ignore_index`).
    """

    name: ClassVar[str] = "colour"
    void_colours: tuple[Colour, ...] = ()


@dataclass(frozen=True)
class BinaryEncoding:
    """A gray image of two classes.

    Attributes:
        threshold: A value above it is class 1, any other class 0.
    """

    name: ClassVar[str] = "binary"
    threshold: int = 127


MaskEncoding = IndexEncoding | PaletteEncoding | ColourEncoding | BinaryEncoding | MultiLabelEncoding

# What to use instead, for each kind of file that an encoding does not read.
_FITTING = {"gray": "'index' or 'binary'", "gray with alpha": "'index' or 'binary'", "palette": "'palette'"}


def read_mask(path: File, labels: LabelSet, encoding: MaskEncoding, window: Window | None = None) -> np.ndarray:
    """Reads a mask file.

    Args:
        path: PNG or TIFF; a JPEG only under `binary`, where the threshold absorbs its losses. Or a slice of a volume.
        labels: The classes; their colours decode a `colour` mask.
        encoding: What the file's values mean.
        window: The part wanted; only of a raster (seg.data.rasters) is the rest not read. None: everything.

    Returns:
        (H, W) uint8: class indices, and `labels.ignore_index` at void pixels. Under `multi_label` (H, W, K) uint8, see
        `seg.data.multi_label_masks`.

    Raises:
        DataError: The file is missing, cut short, corrupt, of a kind that the encoding does not read, or holds a
            value or colour that is neither a class nor void.
        ConfigError: `binary` with other than two classes, or a void colour that is also a class colour.
    """
    stored = None if isinstance(encoding, MultiLabelEncoding) else stored_mask(path, window)
    if stored is not None:
        return mask_of_values(*stored, path, labels, encoding)
    mask = decode_mask(read_bytes(path), path, labels, encoding)
    return mask if window is None else np.ascontiguousarray(mask[window.slices])


def mask_of_values(
    values: np.ndarray, nodata: float | None, path: File, labels: LabelSet, encoding: MaskEncoding
) -> np.ndarray:
    """As `read_mask`, of the values that a raster or a volume stores.

    Args:
        values: (h, w) of any real type, or (h, w, 3) of colours.
        nodata: The value that means void, or None. It must mean no class.
        path: For messages.
        labels: The classes.
        encoding: What the values mean.

    Raises:
        DataError: As `read_mask`; or nodata is the value of a class.
    """
    if nodata is None:
        return labels_of_array(values, path, labels, encoding)
    void = (values == nodata).reshape(*values.shape[:2], -1).all(axis=2)
    mask = np.full(void.shape, labels.ignore_index, np.uint8)
    if void.any():
        _check_nodata(values[void][:1][None], nodata, path, labels, encoding)
    if not void.all():
        mask[~void] = labels_of_array(values[~void][None], path, labels, encoding)[0]
    return mask


def _check_nodata(pixel: np.ndarray, nodata: float, path: File, labels: LabelSet, encoding: MaskEncoding) -> None:
    """Refuses a nodata value, here as an image of one pixel, that is a class's: all of the class would be void."""
    try:
        label = int(labels_of_array(pixel, path, labels, encoding)[0, 0])
    except DataError:  # neither class nor void
        return
    if label != labels.ignore_index:
        raise DataError(
            f"{path}: its nodata value {nodata:g} means class '{labels.names[label]}', allowed: a value that is no "
            "class, or none (gdal_edit.py -unsetnodata FILE) if these pixels are of that class"
        )


def labels_of_array(values: np.ndarray, path: File, labels: LabelSet, encoding: MaskEncoding) -> np.ndarray:
    """(h, w) uint8 class indices and void, of values as a file stores them: (h, w), or (h, w, 3) uint8 of colours."""
    if isinstance(encoding, PaletteEncoding | MultiLabelEncoding):
        raise DataError(f"{path}: is a raster or a volume, allowed: a palette PNG, or the encoding 'index'")
    if isinstance(encoding, ColourEncoding):
        if values.ndim != 3 or values.dtype != np.uint8:
            raise DataError(f"{path}: holds one band of {values.dtype} values, allowed with 'colour': 3 of uint8")
        return _labels_of_colours(values, path, labels, encoding)
    if values.ndim != 2:
        raise DataError(f"{path}: holds 3 bands, allowed with '{encoding.name}': 1")
    if values.dtype.kind == "f":  # as many tools store labels
        fractions = values != np.rint(values)  # NaN is no whole number either
        if fractions.any():
            raise DataError(f"{path}: label value {values[fractions][0]:g} is no whole number, allowed: class indices")
        values = values.astype(np.int64)
    if isinstance(encoding, BinaryEncoding):
        return _above_threshold(values, labels, encoding)
    return _check_values(values, labels, path)


def decode_mask(data: bytes, path: File, labels: LabelSet, encoding: MaskEncoding) -> np.ndarray:
    """As `read_mask`, of a file's bytes; `path` serves messages."""
    if isinstance(encoding, MultiLabelEncoding):
        return np.ascontiguousarray(np.moveaxis(decode_planes(data, path, labels), 0, -1))
    header = parse_header(io.BytesIO(data), path)
    if header.format == "JPEG" and encoding.name != "binary":
        raise DataError(f"{path}: is a JPEG, whose losses blend class values; allowed for '{encoding.name}': PNG, TIFF")
    match encoding:
        case IndexEncoding():
            return _check_values(_read_indices(data, header, path), labels, path)
        case PaletteEncoding():
            return _check_values(_read_palette_indices(data, header, path), labels, path)
        case ColourEncoding():
            return _read_colours(data, header, path, labels, encoding)
        case BinaryEncoding():
            return _read_binary(data, header, path, labels, encoding)
        case _:
            assert_never(encoding)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes a mask as an 8-bit `index` PNG, whole or not at all; makes the folder where it is missing.

    Args:
        path: A file name ending in .png.
        mask: (H, W) uint8.

    Raises:
        ValueError: Another shape, dtype or suffix.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"mask: got {mask.dtype} of shape {mask.shape}, allowed: uint8 of shape (H, W)")
    write_png(path, mask)


def _read_indices(data: bytes, header: Header, path: File) -> np.ndarray:
    if not header.kind.startswith("gray"):
        fitting = "'palette' (or 'colour')" if header.kind == "palette" else "'colour'"
        raise _wrong_kind(header, path, "index", "a gray image of class indices", fitting)
    values = decode_pixels(data, header, path)
    if header.bits < 8:  # libpng spreads n-bit values v to 0-255: v * 255 / (2^n - 1), whose top n bits are v
        values >>= 8 - header.bits
    return values


def _read_palette_indices(data: bytes, header: Header, path: File) -> np.ndarray:
    if header.kind != "palette" or header.format != "PNG":
        raise _wrong_kind(header, path, "palette", "a palette PNG", _FITTING.get(header.kind, "'colour'"))
    return _read_indices(_declared_gray(data), replace(header, kind="gray"), path)


def _read_colours(data: bytes, header: Header, path: File, labels: LabelSet, encoding: ColourEncoding) -> np.ndarray:
    """One gather from a table over all 2^24 colours, whatever the number of classes."""
    if header.kind.startswith("gray"):
        raise _wrong_kind(header, path, "colour", "an RGB image", _FITTING[header.kind])
    if header.bits == 16:
        raise DataError(f"{path}: is {header}; 'colour' allows 8 bits a value")
    return _labels_of_colours(decode_pixels(data, header, path), path, labels, encoding)


def _labels_of_colours(rgb: np.ndarray, path: File, labels: LabelSet, encoding: ColourEncoding) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint8."""
    codes = _colour_codes(rgb)
    # Entries are the label + 1, 0 is unmapped. np.zeros gives untouched memory: only pages of colours met are filled.
    table = np.zeros(1 << 24, np.uint16)
    table[_colour_codes(np.array([labels.colours], np.uint8))[0]] = np.arange(1, labels.num_classes + 1)
    for colour in encoding.void_colours:
        if colour in labels.colours:
            name = labels.names[labels.colours.index(colour)]
            raise ConfigError(f"void_colours: {list(colour)} is the colour of class '{name}', allowed: other colours")
        table[_colour_codes(np.array([[colour]], np.uint8))[0]] = labels.ignore_index + 1
    mapped = table.take(codes)
    if not mapped.all():
        raise _unmapped_colour(codes[mapped == 0], labels, path)
    return (mapped - 1).astype(np.uint8)


def _colour_codes(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint32 codes 0xRRGGBB: a fourth byte makes one little-endian word of each pixel."""
    bgra = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA)
    return bgra.view("<u4")[..., 0] & 0xFFFFFF


def _unmapped_colour(codes: np.ndarray, labels: LabelSet, path: File) -> DataError:
    unmapped, counts = np.unique(codes, return_counts=True)
    commonest = int(counts.argmax())
    code = int(unmapped[commonest])
    colour = (code >> 16, code >> 8 & 255, code & 255)
    nearest = int(((np.array(labels.colours) - colour) ** 2).sum(axis=1).argmin())
    others = f" ({len(unmapped) - 1} other unmapped colours in {counts.sum() - counts[commonest]} pixels)"
    if len(unmapped) == 1:
        others = ""
    return DataError(
        f"{path}: colour {list(colour)} in {counts[commonest]} pixels is no class{others}; "
        f"nearest: {list(labels.colours[nearest])} '{labels.names[nearest]}'; "
        f"allowed: the {labels.num_classes} class colours and void_colours"
    )


def _read_binary(data: bytes, header: Header, path: File, labels: LabelSet, encoding: BinaryEncoding) -> np.ndarray:
    if header.kind == "palette":
        raise _wrong_kind(header, path, "binary", "a gray image", _FITTING[header.kind])
    values = decode_pixels(data, header, path)
    if values.ndim == 3:  # gray saved as RGB
        if (values != values[..., :1]).any():
            raise _wrong_kind(header, path, "binary", "a gray image", "'colour'")
        values = values[..., 0]
    return _above_threshold(values, labels, encoding)


def _above_threshold(values: np.ndarray, labels: LabelSet, encoding: BinaryEncoding) -> np.ndarray:
    if labels.num_classes != 2:
        raise ConfigError(f"mask encoding 'binary': got {labels.num_classes} classes, allowed: 2")
    return (values > encoding.threshold).view(np.uint8)


def _check_values(values: np.ndarray, labels: LabelSet, path: File) -> np.ndarray:
    """Refuses values that are neither a class index nor `ignore_index`; uint8 afterwards."""
    unknown = ((values >= labels.num_classes) | (values < 0)) & (values != labels.ignore_index)
    if unknown.any():
        found, counts = np.unique(values[unknown], return_counts=True)
        listed = ", ".join(f"{value} in {count} pixels" for value, count in zip(found[:5], counts[:5], strict=True))
        more = f" and {len(found) - 5} more values" if len(found) > 5 else ""
        raise DataError(
            f"{path}: label value {listed}{more}; allowed: 0 to {labels.num_classes - 1} "
            f"('{labels.names[0]}' to '{labels.names[-1]}') and {labels.ignore_index} (void)"
        )
    return values.astype(np.uint8, copy=False)


def _wrong_kind(header: Header, path: File, encoding: str, allowed: str, fitting: str) -> DataError:
    return DataError(
        f"{path}: is {header}, but the mask encoding '{encoding}' reads {allowed}; "
        f"for this file use the encoding {fitting}"
    )


def _declared_gray(data: bytes) -> bytes:
    """A palette PNG without its palette and with colour type 0, gray: its values are then the palette indices.

    OpenCV would replace the indices by their colours. PIL would not, but it checks no checksums and fills rows that
    are missing with index 0, a class; this way a palette mask is read as strictly as any other.
    """
    gray_header = b"IHDR" + data[16:25] + b"\0" + data[26:29]
    chunks = [PNG_SIGNATURE, struct.pack(">I", 13), gray_header, struct.pack(">I", zlib.crc32(gray_header))]
    position = 33
    while len(head := data[position : position + 8]) == 8:
        length, name = struct.unpack(">I4s", head)
        end = position + 12 + length
        if end > len(data):  # cut short; OpenCV would first make room for all that `length` says
            break
        if name in (b"IDAT", b"IEND"):
            chunks.append(data[position:end])
        position = end
    return b"".join(chunks)
