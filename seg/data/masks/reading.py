"""Mask files to class indices: the one way from a path to what its pixels mean.

Whatever the encoding, the result is (H, W) uint8 with values 0 to C - 1 and `ignore_index`. A pixel that means neither
a class nor void is an error that names the file, the value and the pixel count; it is never dropped or guessed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from seg.data.files.images import write_png
from seg.data.files.storage import File
from seg.data.files.stored import Stored
from seg.data.files.windows import Window
from seg.data.masks.base import Decoded
from seg.data.masks.encodings import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MaskEncoding,
    MergedEncoding,
    PaletteEncoding,
    StoredEncoding,
    ValueEncoding,
)
from seg.errors import DataError
from seg.labels import LabelSet

__all__ = [
    "READING",
    "BinaryEncoding",
    "ColourEncoding",
    "IndexEncoding",
    "MaskEncoding",
    "MergedEncoding",
    "PaletteEncoding",
    "StoredEncoding",
    "ValueEncoding",
    "decode_stored",
    "read_mask",
    "read_mask_and_snapped",
    "write_mask",
]

# In the keys of what is kept of files that were read: raised where a file comes to be read otherwise.
# 2: hidden pixels of label rasters are void; OpenCV no longer reads TIFFs.
READING = 2


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
    return read_mask_and_snapped(path, labels, encoding, window).mask


def read_mask_and_snapped(
    file: File, labels: LabelSet, encoding: MaskEncoding, window: Window | None = None
) -> Decoded:
    """As `read_mask`, with the number of pixels that `ColourEncoding.tolerance` snapped to another colour."""
    return decode_stored(encoding.reader(file).read(window), labels, encoding)


def decode_stored(stored: Stored, labels: LabelSet, encoding: MaskEncoding) -> Decoded:
    """As `read_mask_and_snapped`, of what a reader gave. Void is also what the file itself calls empty, by its nodata
    value, an internal mask or an alpha band: of these pixels the encoding is not asked.

    Raises:
        DataError: As `read_mask`; or the nodata value is a class's.
    """
    if stored.annotated is not None:
        mask, snapped = decode_stored(replace(stored, annotated=None), labels, encoding)
        try:
            return Decoded(labels.annotated(mask, stored.annotated), snapped)
        except KeyError as error:
            raise DataError(
                f"{stored.file}: got the annotated classes {', '.join(stored.annotated)} ({error.args[0]}), allowed: "
                f"classes ({', '.join(labels.names)}), of which labels.partial has the list"
            ) from None
    empty = stored.empty()
    if empty is not None and empty.any():
        _check_nodata(stored, empty, labels, encoding)
    void = stored.void()
    if void is None:
        return encoding.decode(stored, labels)
    mask, snapped = np.full((*void.shape, *labels.mask_axes), labels.ignore_index, np.uint8), 0
    if not void.all():
        found, snapped = encoding.decode(replace(stored, values=stored.values[~void][None], valid=None), labels)
        mask[~void] = found[0]
    return Decoded(mask, snapped)


def _check_nodata(stored: Stored, empty: np.ndarray, labels: LabelSet, encoding: MaskEncoding) -> None:
    """Refuses a nodata value that is a class's: all of the class would be void."""
    pixel = replace(stored, values=stored.values[empty][:1][None], valid=None)
    try:
        label = int(encoding.decode(pixel, labels).mask[0, 0])
    except DataError:  # neither class nor void
        return
    if label != labels.ignore_index:
        raise DataError(
            f"{stored.file}: its nodata value {stored.nodata[0]:g} means class '{labels.names[label]}', allowed: a "
            "value that is no class, or none (gdal_edit.py -unsetnodata FILE) if these pixels are of that class"
        )


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
