"""Masks with values or colours that mean nothing: which, in how many pixels, what is nearest, what may be the cause."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from data_tools.checks.reading import stored_pieces
from seg.data.files.storage import File
from seg.data.masks.encodings import UNKNOWN, MaskEncoding
from seg.errors import DataError
from seg.labels import Colour, LabelSet

LISTED = 8  # values or colours in a message
MANY = 10  # different unknown values; an annotator makes one or two, a filter or a codec dozens
CLOSE = 24  # per channel, from a class colour: what JPEG and smoothing do
_UNKNOWN = re.compile(
    r"label value|is no class|plane of class"
)  # how seg.data.masks.reading words it, for encodings that are not taken apart


def describe_unknown(path: File, labels: LabelSet, encoding: MaskEncoding, error: DataError) -> str | None:
    """What a refused mask holds that is no class.

    Args:
        path: The mask, which `read_mask` refused.
        labels: The classes.
        encoding: How it was read.
        error: What `read_mask` said.

    Returns:
        A phrase without the file's name; None where the mask was refused for another reason.
    """
    if not _UNKNOWN.search(str(error)):
        return None
    try:
        counts = encoding.index_counts(stored_pieces(path, encoding))
        if counts is not None and not counts[256:].any():  # the error names what is beyond
            return _unknown_values(counts[:256], labels, encoding.table(labels)[:256])
        colours = encoding.known_colours(labels)
        if colours is not None:
            return _unknown_colours(path, labels, encoding, colours)
    except DataError:
        pass
    return str(error).removeprefix(f"{path}: ")


def _unknown_values(counts: np.ndarray, labels: LabelSet, table: np.ndarray) -> str:
    unknown = np.flatnonzero((counts > 0) & (table == UNKNOWN)).tolist()
    unknown.sort(key=lambda value: (-counts[value], value))
    listed = ", ".join(
        f"{value} in {counts[value]} pixels ({_nearest_value(value, labels)})" for value in unknown[:LISTED]
    )
    more = f" and {len(unknown) - LISTED} more values" if len(unknown) > LISTED else ""
    void = ", ".join(map(str, np.flatnonzero(table == labels.ignore_index).tolist()))
    allowed = f"0 to {labels.num_classes - 1} and {void} (void)"
    clue = ""
    if len(unknown) >= MANY:
        clue = "; so many values come from interpolation or lossy compression: resize by nearest pixel, store as PNG"
    elif unknown == [255] and labels.num_classes == 2 and not counts[1]:
        clue = "; 0 and 255 only: a binary mask, for labels.encoding {name: binary}"
    elif unknown == [255]:
        clue = "; 255 usually means void: labels.ignore_index: 255"
    elif unknown == [labels.num_classes] and not counts[0]:
        clue = "; nothing is 0: the classes may be counted from 1"
    return f"label value {listed}{more}; allowed: {allowed}{clue}"


def _nearest_value(value: int, labels: LabelSet) -> str:
    nearest = min(range(labels.num_classes), key=lambda index: abs(index - value))
    return f"nearest: {nearest} '{labels.names[nearest]}'"


def _stored_colours(path: File, encoding: MaskEncoding) -> tuple[np.ndarray, np.ndarray]:
    """The colours of a mask, (K,) uint32 of 0xRRGGBB in ascending order, and the pixels of each."""
    total: Counter[int] = Counter()
    for stored in stored_pieces(path, encoding):
        found, counts = np.unique(
            stored.colours().astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32), return_counts=True
        )
        total.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    return np.array(sorted(total), np.uint32), np.array([total[code] for code in sorted(total)], np.int64)


def _unknown_colours(path: File, labels: LabelSet, encoding: MaskEncoding, known: tuple[Colour, ...]) -> str:
    found, counts = _stored_colours(path, encoding)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.int64)  # (K, 3)
    classes = np.array(labels.colours, np.int64)
    allowed = set(known)
    unknown = np.array([tuple(colour) not in allowed for colour in colours.tolist()])
    colours, counts = colours[unknown], counts[unknown]
    order = np.lexsort((found[unknown], -counts))
    colours, counts = colours[order], counts[order]
    nearest = ((colours[:LISTED, None] - classes) ** 2).sum(axis=2).argmin(axis=1)
    listed = ", ".join(
        f"{colour} in {count} pixels (nearest: {list(labels.colours[index])} '{labels.names[index]}')"
        for colour, count, index in zip(colours[:LISTED].tolist(), counts[:LISTED], nearest, strict=True)
    )
    more = (
        f" and {len(colours) - LISTED} more colours in {counts[LISTED:].sum()} pixels" if len(colours) > LISTED else ""
    )
    clue = ""
    if all(tuple(colour[::-1]) in allowed for colour in colours.tolist()):
        clue = "; with red and blue exchanged all are class colours: the masks were written as BGR"
    elif len(colours) >= MANY:
        distance = np.min([np.abs(colours - one).max(axis=1) for one in classes], axis=0)
        near = counts[distance <= CLOSE].sum() / counts.sum()
        clue = (
            f"; {near:.0%} of these pixels are within {CLOSE} of a class colour, as lossy compression or smoothing do"
        )
    return f"colour {listed}{more}; allowed: the {labels.num_classes} class colours and void_colours{clue}"
