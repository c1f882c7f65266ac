"""How mask files store the classes: the kinds of `labels.encoding`, each of which builds its reader's encoding.

A kind has `build(labels)`, and says what of the `labels` section does not go with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, get_args

from pydantic import AfterValidator, Field

from seg.labels import Colour
from seg.section import Channel, Problem, Section

if TYPE_CHECKING:
    from seg.data.masks.encodings import StoredEncoding
    from seg.data.masks.planes import MultiLabelEncoding

MAX_VALUE = 65535
FileValue = Annotated[int, Field(ge=0, le=MAX_VALUE)]


def _checked_span(text: str) -> str:
    if re.fullmatch(r"\d{1,5}-\d{1,5}", text):
        return text
    raise ValueError("first-last, as in 120-136")


FileValues = Annotated[str, AfterValidator(_checked_span)]
MAX_TOLERANCE = 442  # a little above the distance from black to white, 255 sqrt(3)


class Classes(Protocol):
    """What a kind asks of the section `labels`, which holds it."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def colours(self) -> tuple[Colour, ...] | None: ...
    @property
    def ignore_index(self) -> int: ...
    @property
    def ignore_values(self) -> tuple[int, ...]: ...
    @property
    def merge(self) -> dict[str, tuple[str, ...]]: ...


class Masks(Section):
    """What all kinds have.

    Attributes:
        multi_label: Whether classes may overlap, so that each has a sigmoid of its own.
        ignores_values: Whether `labels.ignore_values` means anything.
    """

    multi_label: ClassVar[bool] = False
    ignores_values: ClassVar[bool] = True

    def void_values(self, labels: Classes) -> tuple[tuple[int, ...], ...]:
        """The values, one or one a band, that mean void in the files."""
        return tuple((value,) for value in labels.ignore_values)

    def label_problems(self, labels: Classes) -> Iterator[Problem]:
        """What of the section `labels` does not go with this kind of file."""
        for value in sorted(set(labels.ignore_values)):
            if labels.ignore_values.count(value) > 1:
                yield "ignore_values", f"{value} stands twice, allowed: each value once"
            yield from (("ignore_values", text) for text in self.ignored_problems(value, labels))

    def ignored_problems(self, value: int, labels: Classes) -> Iterator[str]:
        """Why a value cannot be one of `labels.ignore_values`."""
        yield from ()


class IndexMasks(Masks):
    """8- or 16-bit gray masks whose values are class indices."""

    name: Literal["index"]

    def build(self, labels: Classes) -> StoredEncoding:
        from seg.data.masks.encodings import IndexEncoding

        return IndexEncoding(labels.ignore_values)

    def void_values(self, labels: Classes) -> tuple[tuple[int, ...], ...]:
        return ((labels.ignore_index,), *super().void_values(labels))

    def ignored_problems(self, value: int, labels: Classes) -> Iterator[str]:
        return _index_problems(value, labels)


class PaletteMasks(Masks):
    """Palette PNG or GIF masks: the stored indices are the classes, whatever the palette's colours."""

    name: Literal["palette"]

    def build(self, labels: Classes) -> StoredEncoding:
        from seg.data.masks.encodings import PaletteEncoding

        return PaletteEncoding(labels.ignore_values)

    def void_values(self, labels: Classes) -> tuple[tuple[int, ...], ...]:
        return ((labels.ignore_index,), *super().void_values(labels))

    def ignored_problems(self, value: int, labels: Classes) -> Iterator[str]:
        yield from _index_problems(value, labels)
        if value > 255:
            yield f"{value} has no effect: palette indices are 0 to 255"


class ColourMasks(Masks):
    """RGB masks decoded by `labels.colours`."""

    ignores_values: ClassVar[bool] = False

    name: Literal["colour"]
    void_colours: tuple[tuple[Channel, Channel, Channel], ...] = Field((), description="RGB colours that mean void")
    tolerance: Annotated[float, Field(ge=0, le=MAX_TOLERANCE)] = Field(
        0.0,
        description="largest distance in RGB, sqrt(dr^2 + dg^2 + db^2), at which a pixel takes the nearest of these "
        "colours; 0: exactly these; above 0 JPEG masks are read too, and snapped pixels are reported",
    )

    def build(self, labels: Classes) -> StoredEncoding:
        from seg.data.masks.encodings import ColourEncoding

        return ColourEncoding(self.void_colours, self.tolerance)

    def void_values(self, labels: Classes) -> tuple[tuple[int, ...], ...]:
        return self.void_colours

    def problems(self) -> Iterator[Problem]:
        for colour in sorted({colour for colour in self.void_colours if self.void_colours.count(colour) > 1}):
            yield "void_colours", f"{list(colour)} stands twice, allowed: each colour once"

    def label_problems(self, labels: Classes) -> Iterator[Problem]:
        if labels.colours is None:
            yield "colours", "missing; the colour encoding needs the masks' RGB colour of each class"
        for colour in sorted(set(self.void_colours) & set(labels.colours or ())):
            yield "encoding.void_colours", f"{list(colour)} is also a class's colour, allowed: one meaning a colour"
        if labels.ignore_values:
            yield "ignore_values", "has no effect on colours, allowed: encoding.void_colours"


class BinaryMasks(Masks):
    """Gray masks of two classes: value > threshold is class 1, everything else class 0."""

    name: Literal["binary"]
    threshold: Annotated[int, Field(ge=0, le=254)] = 127

    def build(self, labels: Classes) -> StoredEncoding:
        from seg.data.masks.encodings import BinaryEncoding

        return BinaryEncoding(self.threshold, labels.ignore_values)

    def label_problems(self, labels: Classes) -> Iterator[Problem]:
        if len(labels.names) != 2:
            yield "names", f"got {len(labels.names)} classes, allowed with the binary encoding: 2"
        yield from super().label_problems(labels)


class ValueMasks(Masks):
    """8- or 16-bit gray masks in which stated values stand for the classes."""

    name: Literal["values"]
    values: Annotated[dict[FileValue | FileValues, str], Field(min_length=1)] = Field(
        description="{file value: class name}, or {first-last: class name}; every class at least once; void is "
        "labels.ignore_values"
    )
    tolerance: FileValue = Field(
        0,
        description="largest difference at which a value takes the meaning of the nearest of these; 0: exactly these; "
        "65535: always; above 0 JPEG masks are read too, and snapped pixels are reported",
    )

    def build(self, labels: Classes) -> StoredEncoding:
        from seg.data.masks.encodings import ValueEncoding

        spans = [(*_ends(key), labels.names.index(name)) for key, name in self.values.items()]
        values = tuple((low, label) for low, high, label in spans if low == high)
        ranges = tuple(span for span in spans if span[0] < span[1])
        return ValueEncoding(values, labels.ignore_values, ranges, self.tolerance)

    def label_problems(self, labels: Classes) -> Iterator[Problem]:
        for key, name in self.values.items():
            if name not in labels.names:
                yield f"encoding.values.{key}", f"got '{name}', allowed: {', '.join(labels.names)}"
        for name in labels.names:
            if name not in self.values.values():
                yield "encoding.values", f"class '{name}' has no value, allowed: at least one a class"
        yield from super().label_problems(labels)

    def problems(self) -> Iterator[Problem]:
        before: tuple[int, FileValue | FileValues] | None = None
        for (low, high), key in sorted((_ends(key), key) for key in self.values):
            if low > high or high > MAX_VALUE:
                yield (
                    f"values.{key}",
                    f"got {key}, allowed: first-last of 0 to {MAX_VALUE}, the first not above the last",
                )
            elif before is not None and low <= before[0]:
                yield f"values.{key}", f"shares values with {before[1]}, allowed: one meaning a value"
            before = (high, key)

    def ignored_problems(self, value: int, labels: Classes) -> Iterator[str]:
        for key, name in self.values.items():
            low, high = _ends(key)
            if low <= value <= high:
                yield f"{value} is the value of class '{name}', allowed: one meaning a value"


def _ends(key: FileValue | FileValues) -> tuple[int, int]:
    """The first and the last value that a key of `values` names."""
    low, _, high = str(key).partition("-")
    return int(low), int(high or low)


class MultiLabelMasks(Masks):
    """TIFFs with a page or band for each class, 1 where it is present, 0 where not: classes may overlap."""

    multi_label: ClassVar[bool] = True
    ignores_values: ClassVar[bool] = False

    name: Literal["multi_label"]

    def build(self, labels: Classes) -> MultiLabelEncoding:
        from seg.data.masks.planes import MultiLabelEncoding

        return MultiLabelEncoding()

    def label_problems(self, labels: Classes) -> Iterator[Problem]:
        if labels.ignore_values:
            yield "ignore_values", "has no effect on multi_label masks, allowed: ignore_index"
        if labels.merge:
            yield "merge", "is for masks of one class a pixel, allowed with multi_label masks: none"


def _index_problems(value: int, labels: Classes) -> Iterator[str]:
    """Why a class index cannot mean void as well."""
    if value < len(labels.names):
        yield f"{value} is the value of class '{labels.names[value]}', allowed: other values"
    elif value == labels.ignore_index:
        yield f"{value} has no effect: it is ignore_index, which is void already"


MaskKind = Annotated[
    IndexMasks | PaletteMasks | ColourMasks | BinaryMasks | ValueMasks | MultiLabelMasks, Field(discriminator="name")
]
KINDS: dict[str, type[Masks]] = {
    get_args(kind.model_fields["name"].annotation)[0]: kind for kind in get_args(get_args(MaskKind)[0])
}
