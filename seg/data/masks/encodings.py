"""What the pixels of a mask file mean: one frozen dataclass an encoding, and the tables that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import cv2
import numpy as np

from seg.data.masks.planes import MultiLabelEncoding
from seg.errors import ConfigError
from seg.labels import Colour, LabelSet

FILE_VALUES = 65536  # a gray file holds at most 16 bits a pixel
UNKNOWN = -1


@dataclass(frozen=True)
class IndexEncoding:
    """A gray image whose values are class indices. 1-, 2-, 4-, 8-bit PNG; 16-bit where the values allow it.

    Attributes:
        ignore_values: Values that mean void beside `ignore_index`.
    """

    name: ClassVar[str] = "index"
    ignore_values: tuple[int, ...] = ()

    @property
    def description(self) -> str:
        """The encoding in one line: equal where files are read alike."""
        return _described(self.name, ignore_values=self.ignore_values)


@dataclass(frozen=True)
class PaletteEncoding:
    """A palette PNG or GIF whose palette indices are class indices; the palette's colours mean nothing.

    Attributes:
        ignore_values: Indices that mean void beside `ignore_index`.
    """

    name: ClassVar[str] = "palette"
    ignore_values: tuple[int, ...] = ()

    @property
    def description(self) -> str:
        """As `IndexEncoding.description`."""
        return _described(self.name, ignore_values=self.ignore_values)


@dataclass(frozen=True)
class ColourEncoding:
    """An 8-bit RGB image, one colour a class: `LabelSet.colours`.

    Attributes:
        void_colours: Colours that mean void (`ignore_index`).
        tolerance: The largest Euclidean distance in RGB, sqrt(dr^2 + dg^2 + db^2), 0 to 442, at which a pixel still
            takes the nearest of these colours. 0: exactly these colours. Only with a tolerance are JPEG masks read.
    """

    name: ClassVar[str] = "colour"
    void_colours: tuple[Colour, ...] = ()
    tolerance: float = 0.0

    @property
    def description(self) -> str:
        """As `IndexEncoding.description`; for tolerance 0 the name alone, since any other colour is an error then."""
        if not self.tolerance:
            return self.name
        voids = [list(colour) for colour in self.void_colours]
        return _described(self.name, tolerance=f"{self.tolerance:g}", void_colours=voids)


@dataclass(frozen=True)
class BinaryEncoding:
    """A gray image of two classes.

    Attributes:
        threshold: A value above it is class 1, any other class 0.
        ignore_values: Values that mean void, whatever the threshold.
    """

    name: ClassVar[str] = "binary"
    threshold: int = 127
    ignore_values: tuple[int, ...] = ()

    @property
    def description(self) -> str:
        """As `IndexEncoding.description`, without the threshold."""
        return _described(self.name, ignore_values=self.ignore_values)


@dataclass(frozen=True)
class ValueEncoding:
    """A gray image, 8 or 16 bits, in which stated values stand for the classes: 0, 128 and 255, say.

    Attributes:
        values: (value in the file, class index) pairs; a class may have several values.
        ignore_values: Values that mean void. `LabelSet.ignore_index` is no value of these files.
    """

    name: ClassVar[str] = "values"
    values: tuple[tuple[int, int], ...]
    ignore_values: tuple[int, ...] = ()

    @property
    def description(self) -> str:
        """As `IndexEncoding.description`."""
        pairs = ", ".join(f"{value}: {label}" for value, label in sorted(self.values))
        return _described(f"{self.name} {{{pairs}}}", ignore_values=self.ignore_values)


StoredEncoding = IndexEncoding | PaletteEncoding | ColourEncoding | BinaryEncoding | ValueEncoding


@dataclass(frozen=True)
class MergedEncoding:
    """Files that tell more classes apart than are wanted: each of theirs becomes one of fewer.

    Attributes:
        stored: How the files store their classes.
        labels: The classes of the files.
        classes: For each of them, in their order, the index of the class that it becomes.
    """

    stored: StoredEncoding
    labels: LabelSet
    classes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the files' encoding."""
        return self.stored.name

    @property
    def description(self) -> str:
        """As `IndexEncoding.description`, with the class that each of the files' becomes."""
        pairs = ", ".join(f"{name}: {label}" for name, label in zip(self.labels.names, self.classes, strict=True))
        return f"{self.stored.description}, merged {{{pairs}}}"


MaskEncoding = StoredEncoding | MergedEncoding | MultiLabelEncoding
# Encodings of gray values (or palette indices), whose meaning `value_table` gives.
GrayEncoding = IndexEncoding | PaletteEncoding | BinaryEncoding | ValueEncoding


@lru_cache(maxsize=32)
def value_table(labels: LabelSet, encoding: GrayEncoding | MergedEncoding) -> np.ndarray:
    """What each value of a file means.

    Args:
        labels: The classes.
        encoding: Any but `colour`, which has no values.

    Returns:
        (65536,) int16: a class index, `labels.ignore_index`, or `UNKNOWN` (-1).

    Raises:
        ConfigError: A value of `ignore_values` is a class's.
    """
    if isinstance(encoding, MergedEncoding):
        assert not isinstance(encoding.stored, ColourEncoding)
        stored = value_table(encoding.labels, encoding.stored)
        table = merge_table(labels, encoding).astype(np.int16)[stored & 255]  # UNKNOWN & 255 is void's, undone here
        table[stored == UNKNOWN] = UNKNOWN
        table.setflags(write=False)
        return table
    table = np.full(FILE_VALUES, UNKNOWN, np.int16)
    if isinstance(encoding, BinaryEncoding):
        table[:] = np.arange(FILE_VALUES) > encoding.threshold
    elif isinstance(encoding, ValueEncoding):
        for value, label in encoding.values:
            table[value] = label
    else:
        table[: labels.num_classes] = np.arange(labels.num_classes)
        table[labels.ignore_index] = labels.ignore_index
    for value in encoding.ignore_values:
        if not isinstance(encoding, BinaryEncoding) and table[value] not in (UNKNOWN, labels.ignore_index):
            name = labels.names[table[value]]
            raise ConfigError(f"ignore_values: {value} is the value of class '{name}', allowed: other values")
        table[value] = labels.ignore_index
    table.setflags(write=False)
    return table


@lru_cache(maxsize=32)
def merge_table(labels: LabelSet, encoding: MergedEncoding) -> np.ndarray:
    """(256,) uint8: what each class index of the files, and their `ignore_index`, becomes; the rest becomes void."""
    table = np.full(256, labels.ignore_index, np.uint8)
    table[: len(encoding.classes)] = encoding.classes
    table.setflags(write=False)
    return table


def merged_labels(stored: np.ndarray, labels: LabelSet, encoding: MergedEncoding) -> np.ndarray:
    """(H, W) uint8 classes of the files, and void, as the classes that they become."""
    return cv2.LUT(stored, merge_table(labels, encoding)).reshape(stored.shape)


def _described(name: str, **settings: object) -> str:
    """name, key value, ... of the settings that are set."""
    return ", ".join([name, *(f"{key} {_plain(value)}" for key, value in settings.items() if value)])


def _plain(value: object) -> str:
    return str(sorted(value)) if isinstance(value, tuple | list) else str(value)
