"""Files that tell more classes apart than are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from seg.data.files.storage import File
from seg.data.files.stored import Reader, Stored
from seg.data.masks.base import Decoded, Encoding
from seg.data.masks.gray import UNKNOWN
from seg.labels import LabelSet


@dataclass(frozen=True)
class MergedEncoding(Encoding):
    """Wraps an encoding: each of the files' classes becomes one of fewer.

    Attributes:
        stored: How the files store their classes.
        labels: The classes of the files.
        classes: For each of them, in their order, the index of the class that it becomes.
    """

    stored: Encoding
    labels: LabelSet
    classes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the files' encoding."""
        return self.stored.name

    @property
    def histogram(self) -> str | None:
        """As the files' encoding has it."""
        return self.stored.histogram

    @property
    def description(self) -> str:
        """As `Encoding.description`, with the class that each of the files' becomes."""
        pairs = ", ".join(f"{name}: {label}" for name, label in zip(self.labels.names, self.classes, strict=True))
        return f"{self.stored.description}, merged {{{pairs}}}"

    def unmerged(self, labels: LabelSet) -> tuple[Encoding, LabelSet]:
        """As `Encoding.unmerged`."""
        return self.stored, self.labels

    def reader(self, file: File) -> Reader:
        """What reads a mask file."""
        return self.stored.reader(file)

    def decode(self, stored: Stored, labels: LabelSet) -> Decoded:
        """As `Encoding.decode`."""
        mask, snapped = self.stored.decode(stored, self.labels)
        return Decoded(cv2.LUT(mask, _merge_table(self, labels)).reshape(mask.shape), snapped)

    def table(self, labels: LabelSet) -> np.ndarray:
        """As `Encoding.table`."""
        stored = self.stored.table(self.labels)
        table = _merge_table(self, labels).astype(np.int16)[stored & 255]  # UNKNOWN & 255 is void's, undone here
        table[stored == UNKNOWN] = UNKNOWN
        return table


@lru_cache(maxsize=32)
def _merge_table(encoding: MergedEncoding, labels: LabelSet) -> np.ndarray:
    """(256,) uint8: what each class index of the files, and their `ignore_index`, becomes; the rest becomes void."""
    table = np.full(256, labels.ignore_index, np.uint8)
    table[: len(encoding.classes)] = encoding.classes
    table.setflags(write=False)
    return table
