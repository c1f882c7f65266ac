"""Masks counted as a training that resizes them sees them, where small objects may have no pixel left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg.data.files.images import resize_mask
from seg.data.files.storage import File
from seg.data.files.stored import Reader, Stored
from seg.data.masks.base import Decoded, Encoding
from seg.labels import LabelSet


@dataclass(frozen=True)
class SizedEncoding(Encoding):
    """Wraps an encoding: files mean the same, and are counted at another size, by the nearest pixel.

    Attributes:
        stored: How the files store their classes.
        size: (height, width) at which they are counted.
    """

    stored: Encoding
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """The name of the files' encoding."""
        return self.stored.name

    @property
    def description(self) -> str:
        """As `Encoding.description`, with the size."""
        return f"{self.stored.description}, resized to {self.size[0]} x {self.size[1]}"

    @property
    def whole(self) -> bool:
        """As `Encoding.whole`."""
        return True

    def as_seen(self, mask: np.ndarray) -> np.ndarray:
        """As `Encoding.as_seen`: what `seg.data.views.sources.SampleSource.read_resized` gives."""
        return resize_mask(mask, self.size)

    def reader(self, file: File) -> Reader:
        """As `Encoding.reader`."""
        return self.stored.reader(file)

    def decode(self, stored: Stored, labels: LabelSet) -> Decoded:
        """As `Encoding.decode`, at the file's size."""
        return self.stored.decode(stored, labels)

    def unmerged(self, labels: LabelSet) -> tuple[Encoding, LabelSet]:
        """As `Encoding.unmerged`."""
        return self.stored.unmerged(labels)
