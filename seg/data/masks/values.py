"""All values of a whole set of masks, where some mean nothing: one table, and a `labels` section to start from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import yaml

from seg.data.files.reading import stored_blocks
from seg.data.files.storage import File
from seg.data.files.stored import Stored
from seg.data.files.threads import in_order
from seg.data.masks.base import Encoding, StoredValue
from seg.errors import DataError, UnknownLabelError
from seg.labels import LabelSet
from seg.tables import Table

LOOKED_AT = 10_000  # masks; of more every second, third, ... is read
WRITABLE = range(65536)  # what `labels.encoding.values` takes; others are never a class
SHOWN = 40  # values; more come from interpolation or lossy compression


@dataclass(frozen=True)
class ValueRow:
    """A value of mask files.

    Attributes:
        value: A number, or a colour.
        pixels: That have it, in files that could be read.
        files: Masks that hold it.
        meaning: The class's name, "void" or "no class".
    """

    value: StoredValue
    pixels: int
    files: int
    meaning: str


@dataclass(frozen=True)
class SetValues:
    """The values of a set of masks.

    Attributes:
        rows: In ascending order.
        masks: Read.
        listed: Masks of the set.
        unread: That could not be read.
        encoding: How files store their classes.
        labels: The classes of the files.
    """

    rows: tuple[ValueRow, ...]
    masks: int
    listed: int
    unread: int
    encoding: Encoding
    labels: LabelSet

    @property
    def strange(self) -> list[ValueRow]:
        """Those that mean nothing."""
        return [row for row in self.rows if row.meaning == "no class"]

    def summary(self) -> str:
        """A sentence."""
        of = f" of {self.listed:,}" if self.masks < self.listed else ""
        unread = f" ({self.unread:,} could not be read)" if self.unread else ""
        return (
            f"{self.masks:,}{of} masks{unread} hold {len(self.rows):,} value(s), of which {len(self.strange):,} are no "
            "class"
        )

    def table(self) -> Table:
        """The values that are shown: those that mean something, and the commonest of the others."""
        kept = sorted(self.strange, key=lambda row: -row.pixels)[:SHOWN]
        total = sum(row.pixels for row in self.rows)
        rows = [
            (_shown(row.value), f"{row.pixels:,}", f"{row.pixels / total:.3%}", f"{row.files:,}", row.meaning)
            for row in self.rows
            if row.meaning != "no class" or row in kept
        ]
        return Table(("value", "pixels", "share", "files", "meaning"), rows, left=(4,))

    def section(self) -> str:
        """The `labels` section of a configuration that reads all of them, or why there is none."""
        if len(self.strange) > SHOWN:
            return f"# {len(self.strange)} values come from interpolation or lossy compression: resize by nearest pixel"
        meanings = {
            row.value: row.meaning for row in self.rows if isinstance(row.value, tuple) or row.value in WRITABLE
        }
        section = self.encoding.section_of(meanings, self.labels)
        kept = {key: value for key, value in section.items() if value != []}
        return yaml.safe_dump({"labels": kept}, default_flow_style=None, sort_keys=False, width=100).rstrip()

    def causes(self) -> list[str]:
        """What likely made values that are no class, a sentence each."""
        strange = [row.value for row in self.strange]
        numbers = [value for value in strange if isinstance(value, int)]
        found = {row.value for row in self.rows if isinstance(row.value, int)}
        causes = []
        if any(value < -1 for value in numbers):
            causes.append("negative ids: labels above 32767 (127) saved as int16 (int8); save them unsigned")
        if -1 in numbers:
            causes.append("-1 marks 'nothing' in some tools: give it a value of its own, then list it in ignore_values")
        if numbers and {*numbers} <= {63, 64, 127, 128, 191, 192, 254, 255} and len(found) > 2:
            causes.append(
                f"{', '.join(map(str, numbers))}: quarters of 255, as of masks that were scaled to 8 bits (by ANTs, or "
                "for viewers)"
            )
        if found == {0, 255} and numbers == [255]:
            causes.append("0 and 255 alone: a binary mask, for labels.encoding {name: binary}")
        if numbers and 0 not in found and len(found - {255}) <= len(self.labels.names):
            causes.append(
                "nothing is 0: classes counted from 1, or class 0 was lost where files were joined (unions, mosaics)"
            )
        if len(strange) > SHOWN:
            causes.append("so many values come from interpolation or lossy compression: resize by nearest pixel")
        elif self.strange and max(row.pixels for row in self.strange) * 1000 < sum(row.pixels for row in self.rows):
            causes.append("so few pixels are often of a resize that was not by nearest pixel, along borders")
        return causes

    def text(self) -> str:
        """All of it."""
        lines = [self.summary(), *_aligned(self.table())]
        if len(self.strange) > SHOWN:
            lines.append(f"and {len(self.strange) - SHOWN:,} more values that are no class")
        lines += [f"likely: {cause}" for cause in self.causes()]
        lines += ["to paste, with names of your own (values that mean nothing go to ignore_values or void_colours):"]
        return "\n".join(lines) + "\n" + self.section()


def set_values(masks: Sequence[File], labels: LabelSet, encoding: Encoding) -> SetValues:
    """The values of a set of masks; what cannot be read is counted."""
    encoding, labels = encoding.unmerged(labels)
    some = masks[:: -(-len(masks) // LOOKED_AT)]

    def values_of(mask: File) -> Counter[StoredValue] | None:
        try:
            source = encoding.reader(mask)
            return encoding.stored_values(source.read(window) for window in stored_blocks(source))
        except DataError:
            return None

    pixels, files, unread = Counter[StoredValue](), Counter[StoredValue](), 0
    for found in in_order(values_of, some, os.cpu_count() or 1):
        if found is None:
            unread += 1
        else:
            pixels.update(found)
            files.update(found.keys())
    rows = [ValueRow(value, pixels[value], files[value], _meaning(value, labels, encoding)) for value in sorted(pixels)]
    return SetValues(tuple(rows), len(some), len(masks), unread, encoding, labels)


@contextmanager
def telling_all_values(masks: Sequence[File], labels: LabelSet, encoding: Encoding) -> Iterator[None]:
    """Where a mask holds a value that is no class, the error begins with the values of the whole set."""
    try:
        yield
    except UnknownLabelError as error:
        found = set_values(masks, labels, encoding)
        if not found.strange:
            raise
        raise DataError(f"{found.text()}\nthe first: {error}") from None


def _meaning(value: StoredValue, labels: LabelSet, encoding: Encoding) -> str:
    """What a file of this one value would mean."""
    kind = "RGB" if isinstance(value, tuple) else encoding.histogram or "gray"
    pixel = np.array([[value]], np.uint8 if isinstance(value, tuple) else np.int64)
    try:
        label = int(encoding.decode(Stored("", pixel, "PNG", kind, 8), labels).mask[0, 0])  # type: ignore[arg-type]
    except DataError:
        return "no class"
    return "void" if label == labels.ignore_index else labels.names[label]


def _shown(value: StoredValue) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _aligned(table: Table) -> list[str]:
    """Lines of text, numbers at the right."""
    cells = [table.headings, *table.rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.headings))]
    return [
        "  " + "  ".join(cell.ljust(width) if column in table.left else cell.rjust(width)
                         for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]  # fmt: skip
