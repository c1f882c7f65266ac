"""Mask files to class indices: the one place where a pixel of a mask gets its meaning.

Whatever the encoding, the result is (H, W) uint8 with values 0 to C - 1 and `ignore_index`. A pixel that means neither
a class nor void is an error that names the file, the value and the pixel count; it is never dropped or guessed.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import assert_never

import numpy as np

from seg.data.files.gif import gif_colours, gif_indices
from seg.data.files.images import PNG_SIGNATURE, Header, decode_pixels, parse_header, write_png
from seg.data.files.reading import stored_mask
from seg.data.files.storage import File, read_bytes
from seg.data.files.windows import Window
from seg.data.masks.colours import labels_of_colours
from seg.data.masks.encodings import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MaskEncoding,
    MergedEncoding,
    PaletteEncoding,
    StoredEncoding,
    ValueEncoding,
    merged_labels,
)
from seg.data.masks.planes import MultiLabelEncoding, decode_planes
from seg.data.masks.values import labels_of_values, mask_of_values
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

__all__ = [
    "BinaryEncoding",
    "ColourEncoding",
    "IndexEncoding",
    "MaskEncoding",
    "MergedEncoding",
    "PaletteEncoding",
    "StoredEncoding",
    "ValueEncoding",
    "decode_mask",
    "decode_mask_and_moved",
    "read_mask",
    "read_mask_and_moved",
    "write_mask",
]

# What to use instead, for each kind of file that an encoding does not read.
_FITTING = {
    "gray": "'index', 'values' or 'binary'",
    "gray with alpha": "'index', 'values' or 'binary'",
    "palette": "'palette'",
}


def read_mask(path: File, labels: LabelSet, encoding: MaskEncoding, window: Window | None = None) -> np.ndarray:
    """Reads a mask file.

    Args:
        path: PNG, TIFF, or a GIF of one picture; a JPEG only under `binary`, where the threshold absorbs its losses,
            and under `colour` with a tolerance. Or a raster, or a slice of a volume.
        labels: The classes; their colours decode a `colour` mask.
        encoding: What the file's values mean.
        window: The part wanted; only of a raster (seg.data.files.rasters) is the rest not read. None: everything.

    Returns:
        (H, W) uint8: class indices, and `labels.ignore_index` at void pixels. Under `multi_label` (H, W, K) uint8, see
        `seg.data.masks.planes`.

    Raises:
        DataError: The file is missing, cut short, corrupt, of a kind that the encoding does not read, or holds a
            value or colour that is neither a class nor void.
        ConfigError: `binary` with other than two classes, or a void colour or value that is also a class's.
    """
    return read_mask_and_moved(path, labels, encoding, window)[0]


def read_mask_and_moved(
    path: File, labels: LabelSet, encoding: MaskEncoding, window: Window | None = None
) -> tuple[np.ndarray, int]:
    """As `read_mask`, with the number of pixels that `ColourEncoding.tolerance` moved to another colour."""
    stored = None if isinstance(encoding, MultiLabelEncoding) else stored_mask(path, window)
    if stored is not None:
        return mask_of_values(*stored, path, labels, encoding)
    mask, moved = decode_mask_and_moved(read_bytes(path), path, labels, encoding)
    return (mask, moved) if window is None else (np.ascontiguousarray(mask[window.slices]), moved)


def decode_mask(data: bytes, path: File, labels: LabelSet, encoding: MaskEncoding) -> np.ndarray:
    """As `read_mask`, of a file's bytes; `path` serves messages."""
    return decode_mask_and_moved(data, path, labels, encoding)[0]


def decode_mask_and_moved(data: bytes, path: File, labels: LabelSet, encoding: MaskEncoding) -> tuple[np.ndarray, int]:
    """As `decode_mask`, with the number of pixels whose colour was none of the classes' and that took the nearest one
    within `ColourEncoding.tolerance`."""
    if isinstance(encoding, MultiLabelEncoding):
        return np.ascontiguousarray(np.moveaxis(decode_planes(data, path, labels), 0, -1)), 0
    if isinstance(encoding, MergedEncoding):
        stored, moved = decode_mask_and_moved(data, path, encoding.labels, encoding.stored)
        return merged_labels(stored, labels, encoding), moved
    header = parse_header(io.BytesIO(data), path)
    if header.format == "JPEG":
        _check_jpeg(encoding, path)
    if isinstance(encoding, ColourEncoding):
        return labels_of_colours(_read_colours(data, header, path), path, labels, encoding)
    match encoding:
        case IndexEncoding():
            values = _read_indices(data, header, path)
        case PaletteEncoding():
            values = _read_palette_indices(data, header, path)
        case BinaryEncoding():
            values = _read_binary(data, header, path, labels)
        case ValueEncoding():
            values = _read_values(data, header, path)
        case _:
            assert_never(encoding)
    return labels_of_values(values, labels, encoding, path), 0


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


def _check_jpeg(encoding: StoredEncoding, path: File) -> None:
    """Refuses JPEG masks but those whose encoding says how to take blended values."""
    if isinstance(encoding, BinaryEncoding) and not encoding.ignore_values:
        return
    if isinstance(encoding, ColourEncoding):
        if encoding.tolerance:
            return
        allowed = "PNG, TIFF, GIF, or a tolerance above 0 (labels.encoding.tolerance)"
    else:
        allowed = "PNG, TIFF" if encoding.name != "palette" else "PNG, GIF"
    raise DataError(f"{path}: is a JPEG, whose losses blend class values; allowed for '{encoding.name}': {allowed}")


def _read_indices(data: bytes, header: Header, path: File) -> np.ndarray:
    if not header.kind.startswith("gray"):
        fitting = "'palette' (or 'colour')" if header.kind == "palette" else "'colour'"
        raise _wrong_kind(header, path, "index", "a gray image of class indices", fitting)
    return _stored_gray(data, header, path)


def _stored_gray(data: bytes, header: Header, path: File) -> np.ndarray:
    """(H, W) as the file stores it, of a gray file."""
    values = decode_pixels(data, header, path)
    if header.bits < 8:  # libpng spreads n-bit values v to 0-255: v * 255 / (2^n - 1), whose top n bits are v
        values >>= 8 - header.bits
    return values


def _read_palette_indices(data: bytes, header: Header, path: File) -> np.ndarray:
    if header.format == "GIF":
        return gif_indices(data, path)
    if header.kind != "palette" or header.format != "PNG":
        raise _wrong_kind(header, path, "palette", "a palette PNG or a GIF", _FITTING.get(header.kind, "'colour'"))
    return _stored_gray(_declared_gray(data), replace(header, kind="gray"), path)


def _read_colours(data: bytes, header: Header, path: File) -> np.ndarray:
    if header.kind.startswith("gray"):
        raise _wrong_kind(header, path, "colour", "an RGB image", _FITTING[header.kind])
    if header.bits == 16:
        raise DataError(f"{path}: is {header}; 'colour' allows 8 bits a value")
    return gif_colours(data, path) if header.format == "GIF" else decode_pixels(data, header, path)


def _read_binary(data: bytes, header: Header, path: File, labels: LabelSet) -> np.ndarray:
    if labels.num_classes != 2:
        raise ConfigError(f"mask encoding 'binary': got {labels.num_classes} classes, allowed: 2")
    if header.format == "GIF":
        return _gray_of_rgb(gif_colours(data, path), header, path, "binary")
    if header.kind == "palette":
        raise _wrong_kind(header, path, "binary", "a gray image", _FITTING[header.kind])
    return _gray_of_rgb(decode_pixels(data, header, path), header, path, "binary")


def _read_values(data: bytes, header: Header, path: File) -> np.ndarray:
    if header.kind == "palette":
        raise _wrong_kind(header, path, "values", "a gray image", "'palette' (or 'colour')")
    if header.kind.startswith("gray"):
        return _stored_gray(data, header, path)
    return _gray_of_rgb(decode_pixels(data, header, path), header, path, "values")


def _gray_of_rgb(values: np.ndarray, header: Header, path: File, encoding: str) -> np.ndarray:
    """(H, W) of a gray image, or of one that was saved as RGB."""
    if values.ndim == 2:
        return values
    if (values != values[..., :1]).any():
        raise _wrong_kind(header, path, encoding, "a gray image", "'colour'")
    return values[..., 0]


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
