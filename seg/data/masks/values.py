"""Values of a mask, as a file stores them, to class indices and void."""

from __future__ import annotations

import numpy as np

from seg.data.files.storage import File
from seg.data.masks.colours import labels_of_colours
from seg.data.masks.encodings import (
    FILE_VALUES,
    UNKNOWN,
    BinaryEncoding,
    ColourEncoding,
    GrayEncoding,
    IndexEncoding,
    MaskEncoding,
    MergedEncoding,
    PaletteEncoding,
    ValueEncoding,
    merged_labels,
    value_table,
)
from seg.data.masks.planes import MultiLabelEncoding
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

_LISTED = 5  # unknown values, or allowed ones, in a message


def mask_of_values(
    values: np.ndarray, nodata: float | None, path: File, labels: LabelSet, encoding: MaskEncoding
) -> tuple[np.ndarray, int]:
    """As `seg.data.masks.reading.read_mask_and_moved`, of the values that a raster or a volume stores.

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
    mask, moved = np.full(void.shape, labels.ignore_index, np.uint8), 0
    if void.any():
        _check_nodata(values[void][:1][None], nodata, path, labels, encoding)
    if not void.all():
        found, moved = labels_of_array(values[~void][None], path, labels, encoding)
        mask[~void] = found[0]
    return mask, moved


def _check_nodata(pixel: np.ndarray, nodata: float, path: File, labels: LabelSet, encoding: MaskEncoding) -> None:
    """Refuses a nodata value, here as an image of one pixel, that is a class's: all of the class would be void."""
    try:
        label = int(labels_of_array(pixel, path, labels, encoding)[0][0, 0])
    except DataError:  # neither class nor void
        return
    if label != labels.ignore_index:
        raise DataError(
            f"{path}: its nodata value {nodata:g} means class '{labels.names[label]}', allowed: a value that is no "
            "class, or none (gdal_edit.py -unsetnodata FILE) if these pixels are of that class"
        )


def labels_of_array(values: np.ndarray, path: File, labels: LabelSet, encoding: MaskEncoding) -> tuple[np.ndarray, int]:
    """(h, w) uint8 class indices and void, of values as a file stores them: (h, w), or (h, w, 3) uint8 of colours; and
    the number of pixels that `ColourEncoding.tolerance` moved."""
    if isinstance(encoding, MergedEncoding):
        stored, moved = labels_of_array(values, path, encoding.labels, encoding.stored)
        return merged_labels(stored, labels, encoding), moved
    if isinstance(encoding, PaletteEncoding | MultiLabelEncoding):
        raise DataError(f"{path}: is a raster or a volume, allowed: a palette PNG, or the encoding 'index'")
    if isinstance(encoding, ColourEncoding):
        if values.ndim != 3 or values.dtype != np.uint8:
            raise DataError(f"{path}: holds one band of {values.dtype} values, allowed with 'colour': 3 of uint8")
        return labels_of_colours(values, path, labels, encoding)
    if values.ndim != 2:
        raise DataError(f"{path}: holds 3 bands, allowed with '{encoding.name}': 1")
    if values.dtype.kind == "f":  # as many tools store labels
        fractions = values != np.rint(values)  # NaN is no whole number either
        if fractions.any():
            raise DataError(f"{path}: label value {values[fractions][0]:g} is no whole number, allowed: class indices")
        values = values.astype(np.int64)
    return labels_of_values(values, labels, encoding, path), 0


def labels_of_values(values: np.ndarray, labels: LabelSet, encoding: GrayEncoding, path: File) -> np.ndarray:
    """(H, W) uint8 classes and void, of integers (H, W) of any type; refuses values that mean neither."""
    if isinstance(encoding, BinaryEncoding):
        if labels.num_classes != 2:
            raise ConfigError(f"mask encoding 'binary': got {labels.num_classes} classes, allowed: 2")
        if not encoding.ignore_values:
            return (values > encoding.threshold).view(np.uint8)
    if isinstance(encoding, IndexEncoding | PaletteEncoding) and not encoding.ignore_values:
        unknown = ((values >= labels.num_classes) | (values < 0)) & (values != labels.ignore_index)
        mapped = values
    else:
        table = value_table(labels, encoding)
        if values.dtype in (np.uint8, np.uint16):
            mapped = (table if values.dtype == np.uint16 else table[:256]).take(values)
            unknown = mapped == UNKNOWN
        else:
            unknown = (values < 0) | (values >= FILE_VALUES)
            mapped = table.take(np.where(unknown, 0, values))
            unknown |= mapped == UNKNOWN
    if unknown.any():
        raise _unknown_values(values[unknown], labels, encoding, path)
    return mapped.astype(np.uint8, copy=False)


def _unknown_values(unknown: np.ndarray, labels: LabelSet, encoding: GrayEncoding, path: File) -> DataError:
    found, counts = np.unique(unknown, return_counts=True)
    some = zip(found[:_LISTED], counts[:_LISTED], strict=True)
    listed = ", ".join(f"{value} in {count} pixels" for value, count in some)
    more = f" and {len(found) - _LISTED} more values" if len(found) > _LISTED else ""
    voids = [*encoding.ignore_values]
    if isinstance(encoding, ValueEncoding):
        table = value_table(labels, encoding)
        known = np.arange(FILE_VALUES)[table != UNKNOWN]
        nearest = int(known[np.abs(known - int(found[counts.argmax()])).argmin()])
        meaning = "(void)" if nearest in voids else f"'{labels.names[table[nearest]]}'"
        more += f"; nearest to {found[counts.argmax()]}: {nearest} {meaning}"
        pairs = [f"{value} '{labels.names[label]}'" for value, label in sorted(encoding.values)]
        rest = f" and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
        allowed = ", ".join(pairs[:_LISTED]) + rest
    else:
        allowed = f"0 to {labels.num_classes - 1} ('{labels.names[0]}' to '{labels.names[-1]}')"
        voids.insert(0, labels.ignore_index)
    void = f" and {', '.join(map(str, voids))} (void)" if voids else ""
    return DataError(f"{path}: label value {listed}{more}; allowed: {allowed}{void}")
