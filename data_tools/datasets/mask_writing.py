"""Class indices to mask files: the inverse of `seg.data.masks.reading`, and the change from one encoding to another."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import cv2
import numpy as np
from PIL import Image

from seg.data.files.storage import File, read_bytes, written_whole
from seg.data.masks.counts import mask_pixels
from seg.data.masks.reading import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MaskEncoding,
    PaletteEncoding,
    StoredEncoding,
    ValueEncoding,
    decode_mask_and_moved,
    read_mask,
)
from seg.errors import DataError
from seg.labels import LabelSet


@dataclass(frozen=True)
class Conversion:
    """What became of one mask.

    Attributes:
        pixels: (C + 1,) int64: the pixels of each class, then the void pixels.
        moved: Pixels that took the nearest class colour, within the tolerance of the source's encoding.
    """

    pixels: np.ndarray
    moved: int


def encode_mask(mask: np.ndarray, labels: LabelSet, encoding: StoredEncoding) -> bytes:
    """A PNG from which `decode_mask` with the same labels and encoding gives the same mask.

    `index`: 8-bit gray. `palette`: 8-bit palette of the class colours, void black. `colour`: RGB, void the first of
    `void_colours`. `binary`: 0 and 255. `values`: the first value stated for each class, 16-bit gray where one is above
    255. In the last two void is the first of `ignore_values`.

    Args:
        mask: (H, W) uint8: class indices and `labels.ignore_index`.
        labels: The classes.
        encoding: How to store them.

    Raises:
        DataError: There are void pixels, and the encoding has nothing that means void.
    """
    void = int(np.count_nonzero(mask == labels.ignore_index))
    match encoding:
        case IndexEncoding():
            return _png(mask)
        case PaletteEncoding():
            image = Image.frombytes("P", (mask.shape[1], mask.shape[0]), np.ascontiguousarray(mask).tobytes())
            image.putpalette(labels.colour_table().ravel().tolist())
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return buffer.getvalue()
        case ColourEncoding():
            table = labels.colour_table()
            if void and not encoding.void_colours:
                raise _nothing_means_void(void, "colour", "void_colours")
            if encoding.void_colours:
                table[labels.ignore_index] = encoding.void_colours[0]
            return _png(table[mask][..., ::-1])  # OpenCV stores BGR
        case BinaryEncoding() | ValueEncoding():
            if void and not encoding.ignore_values:
                raise _nothing_means_void(void, encoding.name, "ignore_values")
            return _png(_value_of_label(labels, encoding)[mask])
        case _:
            assert_never(encoding)


def convert_mask(
    source: File, target: Path, labels: LabelSet, reading: MaskEncoding, writing: StoredEncoding
) -> Conversion:
    """Writes a mask in another encoding, reads it back and compares, and only then gives it its name.

    Args:
        source: The mask.
        target: A file name ending in .png; its folder is made, a file of that name is replaced.
        labels: The classes.
        reading: How `source` stores them.
        writing: How `target` shall.

    Raises:
        DataError: `source` cannot be read, or what was written does not read back to the same classes; names `source`.
    """
    mask, moved = decode_mask_and_moved(read_bytes(source), source, labels, reading)
    try:
        content = encode_mask(mask, labels, writing)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as temporary:
        temporary.write_bytes(content)
        if not np.array_equal(read_mask(temporary, labels, writing), mask):
            raise DataError(f"{source}: as '{writing.name}' it does not read back to the same classes; nothing written")
    return Conversion(mask_pixels(mask, labels), moved)


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()


def _value_of_label(labels: LabelSet, encoding: BinaryEncoding | ValueEncoding) -> np.ndarray:
    """(256,) uint8 or uint16: what stands for each class and for void in the file."""
    if isinstance(encoding, BinaryEncoding):
        free = [value for value in range(256) if value not in encoding.ignore_values]
        pairs = [(next(value for value in free if value <= encoding.threshold), 0)]
        pairs.append((next(value for value in reversed(free) if value > encoding.threshold), 1))
    else:
        pairs = list(encoding.values)
    wide = max([value for value, _ in pairs] + list(encoding.ignore_values[:1])) > 255
    table = np.zeros(256, np.uint16 if wide else np.uint8)
    for value, label in reversed(pairs):  # the first of a class is written last, and stays
        table[label] = value
    if encoding.ignore_values:
        table[labels.ignore_index] = encoding.ignore_values[0]
    return table


def _nothing_means_void(void: int, encoding: str, key: str) -> DataError:
    return DataError(f"{void} pixels are void, for which '{encoding}' has no value; allowed: with {key}")
