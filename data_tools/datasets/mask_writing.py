"""Masks from one encoding to another: written, read back and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg.data.files.storage import File, make_folder, written_whole
from seg.data.masks.base import Decoded
from seg.data.masks.counts import mask_pixels
from seg.data.masks.reading import MaskEncoding, StoredEncoding, read_mask, read_mask_and_snapped
from seg.errors import DataError
from seg.labels import LabelSet


@dataclass(frozen=True)
class Conversion:
    """What became of one mask.

    Attributes:
        pixels: (C + 1,) int64: the pixels of each class, then the void pixels.
        snapped: Pixels that took the nearest class colour or value, within the tolerance of the source's encoding.
    """

    pixels: np.ndarray
    snapped: int


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
    return write_converted(source, target, read_mask_and_snapped(source, labels, reading), labels, writing)


def write_converted(
    source: object, target: Path, decoded: Decoded, labels: LabelSet, writing: StoredEncoding
) -> Conversion:
    """As `convert_mask`, of a mask in memory, which messages call `source`."""
    mask, snapped = decoded
    try:
        content = writing.encode(mask, labels)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    make_folder(target.parent)
    with written_whole(target) as temporary:
        temporary.write_bytes(content)
        if not np.array_equal(read_mask(temporary, labels, writing), mask):
            raise DataError(f"{source}: as '{writing.name}' it does not read back to the same classes; nothing written")
    return Conversion(mask_pixels(mask, labels), snapped)
