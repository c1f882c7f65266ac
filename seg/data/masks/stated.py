"""The encoding `values`: gray values that stand for the classes as a configuration states it, or near to those."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from seg.data.files.stored import Stored
from seg.data.masks.base import described
from seg.data.masks.gray import FILE_VALUES, LISTED, UNKNOWN, ByShade, look_up
from seg.labels import LabelSet


@dataclass(frozen=True)
class ValueEncoding(ByShade):
    """A gray image, 8 or 16 bits, in which stated values stand for the classes: 0, 128 and 255, say.

    Attributes:
        values: (value in the file, class index) pairs; a class may have several values.
        ignore_values: Values that mean void. `LabelSet.ignore_index` is no value of these files.
        ranges: (first value, last value, class index): all values from the first to the last.
        tolerance: The largest difference, 0 to 65535, at which a value takes the meaning of the nearest stated one; of
            equal differences that of the class that comes first, void last. Only with a tolerance are JPEG masks read.
    """

    name: ClassVar[str] = "values"
    lossless: ClassVar[str] = "PNG, TIFF, or a tolerance above 0 (labels.encoding.tolerance)"
    values: tuple[tuple[int, int], ...]
    ignore_values: tuple[int, ...] = ()
    ranges: tuple[tuple[int, int, int], ...] = ()
    tolerance: int = 0

    @property
    def histogram(self) -> str | None:
        """Not with a tolerance: a histogram's look-up does not tell how many pixels it snapped."""
        return None if self.tolerance else "gray"

    @property
    def description(self) -> str:
        """As `Encoding.description`."""
        spans = sorted([*((value, value, label) for value, label in self.values), *self.ranges])
        pairs = ", ".join(f"{_span(low, high)}: {label}" for low, high, label in spans)
        described_as = f"{self.name} {{{pairs}}}"
        return described(described_as, ignore_values=self.ignore_values, tolerance=self.tolerance or None)

    def refuse_losses(self, stored: Stored) -> None:
        """Only without a tolerance."""
        if not self.tolerance:
            super().refuse_losses(stored)

    def snapped(self, values: np.ndarray, labels: LabelSet) -> np.ndarray | None:
        """As `_ByValue.snapped`."""
        if not self.tolerance:
            return None
        stated = look_up(replace(self, tolerance=0), labels)
        return np.asarray(stated.take(values, mode="clip") == UNKNOWN)

    def ignored(self, table: np.ndarray, labels: LabelSet) -> None:
        """As `_ByValue.ignored`, and then the values within the tolerance of a stated one."""
        super().ignored(table, labels)
        if self.tolerance:
            _spread(table, self.tolerance, labels)

    def picture_values(self, stored: Stored) -> np.ndarray:
        """As `_ByValue.picture_values`."""
        if stored.kind == "palette":
            raise self.wrong_kind(stored, "a gray image", "'palette' (or 'colour')")
        return self.one_band(stored, stored.opaque())

    def meanings(self, table: np.ndarray, labels: LabelSet) -> None:
        """As `_ByValue.meanings`."""
        for low, high, label in self.ranges:
            table[low : high + 1] = label
        for value, label in self.values:
            table[value] = label

    def encode(self, mask: np.ndarray, labels: LabelSet) -> bytes:
        """The first value stated for each class, of one with ranges alone the first of them."""
        return self.write(mask, labels, [*self.values, *((low, label) for low, _, label in self.ranges)])

    def allowed(self, unknown: int, labels: LabelSet) -> str:
        """As `_ByValue.allowed`."""
        table = look_up(replace(self, tolerance=0), labels)
        known = np.arange(FILE_VALUES)[table != UNKNOWN]
        nearest = int(known[np.abs(known - unknown).argmin()])
        meaning = "(void)" if nearest in self.ignore_values else f"'{labels.names[table[nearest]]}'"
        spans = sorted([*((value, value, label) for value, label in self.values), *self.ranges])
        pairs = [f"{_span(low, high)} '{labels.names[label]}'" for low, high, label in spans]
        rest = f" and {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
        void = f" and {', '.join(map(str, self.ignore_values))} (void)" if self.ignore_values else ""
        to = f", to a difference of {self.tolerance} (labels.encoding.tolerance)" if self.tolerance else ""
        return f"; nearest to {unknown}: {nearest} {meaning}; allowed: {', '.join(pairs[:LISTED])}{rest}{void}{to}"


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _spread(table: np.ndarray, tolerance: int, labels: LabelSet) -> None:
    """Gives each value that means nothing the meaning of the nearest one that does, within the tolerance."""
    known = np.flatnonzero(table != UNKNOWN)
    strange = np.flatnonzero(table == UNKNOWN)
    right = np.searchsorted(known, strange)
    below, above = known[np.maximum(right - 1, 0)], known[np.minimum(right, len(known) - 1)]
    far = [np.abs(strange - below), np.abs(above - strange)]
    order = [np.where(table[one] == labels.ignore_index, 256, table[one]) for one in (below, above)]
    first = (far[0] < far[1]) | ((far[0] == far[1]) & (order[0] <= order[1]))
    nearest = np.where(first, below, above)
    within = np.minimum(*far) <= tolerance
    table[strange[within]] = table[nearest[within]]
