"""Encodings by value: gray values, or palette indices, that stand for the classes."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from seg.data.files.stored import Stored
from seg.data.masks.base import FITTING, Decoded, Encoding, StoredValue, described, new_names, png
from seg.errors import ConfigError, DataError, UnknownLabelError
from seg.labels import LabelSet

FILE_VALUES = 65536  # a gray file holds at most 16 bits a pixel
UNKNOWN = -1
ROUNDED = 1e-3  # how far from a whole number a float may be: int16 slopes of medical headers leave 2e-5
LISTED = 5  # unknown values, or allowed ones, in a message


class _ByValue(Encoding):
    """An encoding whose `table` says what each value means.

    Attributes:
        ignore_values: Values that mean void.
    """

    ignore_values: tuple[int, ...]

    @property
    def description(self) -> str:
        """As `Encoding.description`."""
        return described(self.name, ignore_values=self.ignore_values)

    def table(self, labels: LabelSet) -> np.ndarray:
        """As `Encoding.table`."""
        return look_up(self, labels)

    def decode(self, stored: Stored, labels: LabelSet) -> Decoded:
        """As `Encoding.decode`."""
        self.refuse_losses(stored)
        values = self.values_of(stored)
        whole = _whole_numbers(values, stored)
        snapped = self.snapped(whole, labels)
        if values.dtype.kind == "f":
            snapped = (whole != values) if snapped is None else snapped | (whole != values)
        return Decoded(self.classes(whole, stored, labels), 0 if snapped is None else int(np.count_nonzero(snapped)))

    def snapped(self, values: np.ndarray, labels: LabelSet) -> np.ndarray | None:
        """(h, w) bool: which values take the meaning of another; None: of this encoding none does."""
        return None

    def stored_counts(self, pieces: Iterable[Stored]) -> np.ndarray | None:
        """(65536,) int64: how often each value is stored in pixels that are not void; None of other integers."""
        counts = np.zeros(FILE_VALUES, np.int64)
        for stored in pieces:
            values, void = _whole_numbers(self.values_of(stored), stored), stored.void()
            values = values.ravel() if void is None else values[~void]
            if values.size and (values.min() < 0 or values.max() >= FILE_VALUES):
                return None
            counts += np.bincount(values.astype(np.int64, copy=False), minlength=FILE_VALUES)
        return counts

    def stored_values(self, pieces: Iterable[Stored]) -> Counter[StoredValue] | None:
        """As `Encoding.stored_values`."""
        total: Counter[StoredValue] = Counter()
        for stored in pieces:
            values, void = _whole_numbers(self.values_of(stored), stored), stored.void()
            found, counts = np.unique(values if void is None else values[~void], return_counts=True)
            total.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        return total

    def section_of(self, meanings: Mapping[StoredValue, str], labels: LabelSet) -> dict[str, Any]:
        """As `Encoding.section_of`, by the encoding `values`."""
        names = new_names(meanings, labels.names, "value")
        void = [value for value in sorted(meanings) if value not in names]
        classes = [*(name for name in labels.names if name in names.values()), *names.values()]
        return {
            "names": [*dict.fromkeys(classes)],
            "ignore_values": void,
            "encoding": {"name": "values", "values": names},
        }

    def values_of(self, stored: Stored) -> np.ndarray:
        """The (h, w) values that `table` gives a meaning to; an error where the file is of another kind."""
        if stored.kind != "bands":
            return self.picture_values(stored)
        if stored.values.ndim != 2:
            raise DataError(f"{stored.file}: holds 3 bands, allowed with '{self.name}': 1")
        return stored.values

    def picture_values(self, stored: Stored) -> np.ndarray:
        """As `values_of`, of a picture."""
        raise NotImplementedError

    def meanings(self, table: np.ndarray, labels: LabelSet) -> None:
        """Writes what values mean, but for `ignore_values`, into the table."""
        table[: labels.num_classes] = np.arange(labels.num_classes)
        table[labels.ignore_index] = labels.ignore_index

    def ignored(self, table: np.ndarray, labels: LabelSet) -> None:
        """Writes `ignore_values` into the table."""
        for value in self.ignore_values:
            if table[value] not in (UNKNOWN, labels.ignore_index):
                name = labels.names[table[value]]
                raise ConfigError(f"ignore_values: {value} is the value of class '{name}', allowed: other values")
            table[value] = labels.ignore_index

    def classes(self, values: np.ndarray, stored: Stored, labels: LabelSet) -> np.ndarray:
        """(h, w) uint8 classes and void, of integers of any type; refuses values that mean neither."""
        table = self.table(labels)
        if values.dtype in (np.uint8, np.uint16):
            mapped = (table if values.dtype == np.uint16 else table[:256]).take(values)
            unknown = mapped == UNKNOWN
        else:
            unknown = (values < 0) | (values >= FILE_VALUES)
            mapped = table.take(np.where(unknown, 0, values))
            unknown |= mapped == UNKNOWN
        return self.checked(mapped, unknown, values, stored, labels)

    def checked(
        self, mapped: np.ndarray, unknown: np.ndarray, values: np.ndarray, stored: Stored, labels: LabelSet
    ) -> np.ndarray:
        """`mapped` as uint8, where no value is unknown."""
        if unknown.any():
            found, counts = np.unique(values[unknown], return_counts=True)
            some = zip(found[:LISTED], counts[:LISTED], strict=True)
            listed = ", ".join(f"{value} in {count} pixels" for value, count in some)
            more = f" and {len(found) - LISTED} more values" if len(found) > LISTED else ""
            allowed = self.allowed(int(found[counts.argmax()]), labels)
            raise UnknownLabelError(f"{stored.file}: label value {listed}{more}{allowed}")
        return mapped.astype(np.uint8, copy=False)

    def allowed(self, unknown: int, labels: LabelSet) -> str:
        """The end of the message about unknown values, of which `unknown` is the commonest."""
        void = ", ".join(map(str, (labels.ignore_index, *self.ignore_values)))
        return (
            f"; allowed: 0 to {labels.num_classes - 1} ('{labels.names[0]}' to '{labels.names[-1]}') and {void} (void)"
        )


class _ByIndex(_ByValue):
    """Values are class indices."""

    stores_indices: ClassVar[bool] = True

    def index_counts(self, pieces: Iterable[Stored]) -> np.ndarray | None:
        """As `Encoding.index_counts`."""
        return self.stored_counts(pieces)

    def classes(self, values: np.ndarray, stored: Stored, labels: LabelSet) -> np.ndarray:
        """As `_ByValue.classes`, without a table where none is needed."""
        if self.ignore_values:
            return super().classes(values, stored, labels)
        unknown = ((values >= labels.num_classes) | (values < 0)) & (values != labels.ignore_index)
        return self.checked(values, unknown, values, stored, labels)


@dataclass(frozen=True)
class IndexEncoding(_ByIndex):
    """A gray image whose values are class indices. 1-, 2-, 4-, 8-bit PNG; 16-bit where the values allow it.

    Attributes:
        ignore_values: Values that mean void beside `ignore_index`.
    """

    name: ClassVar[str] = "index"
    histogram: ClassVar[str | None] = "gray"
    ignore_values: tuple[int, ...] = ()

    def picture_values(self, stored: Stored) -> np.ndarray:
        """As `_ByValue.picture_values`."""
        if not stored.kind.startswith("gray"):
            fitting = "'palette' (or 'colour')" if stored.kind == "palette" else "'colour'"
            raise self.wrong_kind(stored, "a gray image of class indices", fitting)
        return stored.opaque()

    def encode(self, mask: np.ndarray, labels: LabelSet) -> bytes:
        """8-bit gray."""
        return png(mask)


@dataclass(frozen=True)
class PaletteEncoding(_ByIndex):
    """A palette PNG or GIF whose palette indices are class indices; the palette's colours mean nothing.

    Attributes:
        ignore_values: Indices that mean void beside `ignore_index`.
    """

    name: ClassVar[str] = "palette"
    histogram: ClassVar[str | None] = "palette"
    lossless: ClassVar[str] = "PNG, GIF"
    ignore_values: tuple[int, ...] = ()

    def values_of(self, stored: Stored) -> np.ndarray:
        """As `_ByValue.values_of`."""
        if stored.kind == "bands":
            raise DataError(f"{stored.file}: is a raster or a volume, allowed: a palette PNG, or the encoding 'index'")
        if stored.kind != "palette":
            raise self.wrong_kind(stored, "a palette PNG or a GIF", FITTING.get(stored.kind, "'colour'"))
        return stored.values

    def section_of(self, meanings: Mapping[StoredValue, str], labels: LabelSet) -> dict[str, Any]:
        """As `Encoding.section_of`: indices are places in the list of names."""
        void = [value for value, meaning in sorted(meanings.items()) if meaning == "void"]
        most = max(value for value in (*meanings, 0) if isinstance(value, int) and value not in void)
        places = range(max(most + 1, labels.num_classes))
        names = [labels.names[place] if place < labels.num_classes else f"index_{place}" for place in places]
        return {"names": names, "ignore_values": void, "encoding": {"name": "palette"}}

    def encode(self, mask: np.ndarray, labels: LabelSet) -> bytes:
        """8-bit palette of the class colours, void black."""
        image = Image.frombytes("P", (mask.shape[1], mask.shape[0]), np.ascontiguousarray(mask).tobytes())
        image.putpalette(labels.colour_table().ravel().tolist())
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


class ByShade(_ByValue):
    """Gray values, of an image that may have been saved as RGB."""

    def one_band(self, stored: Stored, values: np.ndarray) -> np.ndarray:
        """(h, w) of a gray image, or of one that was saved as RGB."""
        if values.ndim == 2:
            return values
        if (values != values[..., :1]).any():
            raise self.wrong_kind(stored, "a gray image", "'colour'")
        return values[..., 0]

    def write(self, mask: np.ndarray, labels: LabelSet, pairs: list[tuple[int, int]]) -> bytes:
        """8-bit gray of the first value stated for each class, 16-bit where one is above 255; void the first of
        `ignore_values`."""
        void = int(np.count_nonzero(mask == labels.ignore_index))
        if void and not self.ignore_values:
            raise self.nothing_means_void(void, "ignore_values")
        wide = max([value for value, _ in pairs] + list(self.ignore_values[:1])) > 255
        table = np.zeros(256, np.uint16 if wide else np.uint8)
        for value, label in reversed(pairs):  # the first of a class is written last, and stays
            table[label] = value
        if self.ignore_values:
            table[labels.ignore_index] = self.ignore_values[0]
        return png(table[mask])


@dataclass(frozen=True)
class BinaryEncoding(ByShade):
    """A gray image of two classes; of fewer than 8 bits its values are spread to 0-255, as every viewer does.

    Attributes:
        threshold: A value above it is class 1, any other class 0.
        ignore_values: Values that mean void, whatever the threshold.
    """

    name: ClassVar[str] = "binary"
    histogram: ClassVar[str | None] = "gray"
    threshold: int = 127
    ignore_values: tuple[int, ...] = ()

    def refuse_losses(self, stored: Stored) -> None:
        """Only where a value means void: the threshold absorbs losses."""
        if self.ignore_values:
            super().refuse_losses(stored)

    def values_of(self, stored: Stored) -> np.ndarray:
        """As `_ByValue.values_of`."""
        return super().values_of(replace(stored, values=stored.brightness()))

    def picture_values(self, stored: Stored) -> np.ndarray:
        """As `_ByValue.picture_values`."""
        if stored.kind == "palette" and stored.format != "GIF":  # which has no gray
            raise self.wrong_kind(stored, "a gray image", FITTING[stored.kind])
        return self.one_band(stored, stored.colours())

    def meanings(self, table: np.ndarray, labels: LabelSet) -> None:
        """As `_ByValue.meanings`."""
        _two_classes(labels)
        table[:] = np.arange(FILE_VALUES) > self.threshold

    def ignored(self, table: np.ndarray, labels: LabelSet) -> None:
        """As `_ByValue.ignored`; every value is a class's here."""
        table[list(self.ignore_values)] = labels.ignore_index

    def classes(self, values: np.ndarray, stored: Stored, labels: LabelSet) -> np.ndarray:
        """As `_ByValue.classes`, without a table where none is needed."""
        _two_classes(labels)
        if self.ignore_values:
            return super().classes(values, stored, labels)
        return (values > self.threshold).view(np.uint8)

    def encode(self, mask: np.ndarray, labels: LabelSet) -> bytes:
        """0 and 255, or the next values that are not void's."""
        free = [value for value in range(256) if value not in self.ignore_values]
        pairs = [(next(value for value in free if value <= self.threshold), 0)]
        pairs.append((next(value for value in reversed(free) if value > self.threshold), 1))
        return self.write(mask, labels, pairs)

    def doubt(self, pieces: Iterable[Stored]) -> tuple[str, str] | None:
        """What the threshold hides: values in between, or no value above it."""
        counts = self.stored_counts(pieces)
        if counts is None:
            return None
        counts[list(self.ignore_values)] = 0
        found = np.flatnonzero(counts)
        if not len(found):
            return None
        low, high = int(found[0]), int(found[-1])
        if 0 < high <= self.threshold:
            text = f"the largest value is {high}, so that threshold {self.threshold} makes all of it class 0"
            return "wrong-encoding", f"{text}; allowed: a lower threshold, or the encoding index"
        if len(found) > 2:
            between = counts[low + 1 : high].sum()
            text = f"{between} of {counts.sum()} values lie between {low} and {high}, {len(found) - 2} different ones"
            return "blended-mask", f"{text}; allowed: two values"
        return None


@lru_cache(maxsize=32)
def look_up(encoding: _ByValue, labels: LabelSet) -> np.ndarray:
    """`Encoding.table` of an encoding by value, kept."""
    table = np.full(FILE_VALUES, UNKNOWN, np.int16)
    encoding.meanings(table, labels)
    encoding.ignored(table, labels)
    table.setflags(write=False)
    return table


def _two_classes(labels: LabelSet) -> None:
    if labels.num_classes != 2:
        raise ConfigError(f"mask encoding 'binary': got {labels.num_classes} classes, allowed: 2")


def _whole_numbers(values: np.ndarray, stored: Stored) -> np.ndarray:
    """The values as integers: floats, as many tools store labels, must be whole numbers to within `ROUNDED`, for a
    header's scale makes 1.0000153 of 1. NaN is none."""
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    off = ~(np.abs(values - whole) <= ROUNDED)  # NaN too
    if off.any():
        raise DataError(
            f"{stored.file}: label value {values[off][0]:.10g} in {np.count_nonzero(off)} pixels is no whole number; "
            f"allowed: whole numbers, to {ROUNDED:g}"
        )
    return whole.astype(np.int64)
