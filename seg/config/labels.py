"""The `labels` section of a configuration: the classes and how mask files store them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from seg.config.section import Channel, Problem, Section
from seg.labels import Colour, LabelSet, distinct_colours, label_problems

FileValue = Annotated[int, Field(ge=0, le=65535)]
MAX_TOLERANCE = 442  # a little above the distance from black to white, 255 sqrt(3)


class IndexMasks(Section):
    """8- or 16-bit gray masks whose values are class indices."""

    name: Literal["index"]


class PaletteMasks(Section):
    """Palette PNG or GIF masks: the stored indices are the classes, whatever the palette's colours."""

    name: Literal["palette"]


class ColourMasks(Section):
    """RGB masks decoded by `labels.colours`."""

    name: Literal["colour"]
    void_colours: tuple[tuple[Channel, Channel, Channel], ...] = Field((), description="RGB colours that mean void")
    tolerance: Annotated[float, Field(ge=0, le=MAX_TOLERANCE)] = Field(
        0.0,
        description="largest distance in RGB, sqrt(dr^2 + dg^2 + db^2), at which a pixel takes the nearest of these "
        "colours; 0: exactly these; above 0 JPEG masks are read too, and the pixels that moved are reported",
    )

    def problems(self) -> Iterator[Problem]:
        for colour in sorted({colour for colour in self.void_colours if self.void_colours.count(colour) > 1}):
            yield "void_colours", f"{list(colour)} stands twice, allowed: each colour once"


class BinaryMasks(Section):
    """Gray masks of two classes: value > threshold is class 1, everything else class 0."""

    name: Literal["binary"]
    threshold: Annotated[int, Field(ge=0, le=254)] = 127


class ValueMasks(Section):
    """8- or 16-bit gray masks in which stated values stand for the classes."""

    name: Literal["values"]
    values: Annotated[dict[FileValue, str], Field(min_length=1)] = Field(
        description="{file value: class name}, every class at least once; void is labels.ignore_values"
    )


class MultiLabelMasks(Section):
    """TIFFs with a page or band for each class, 1 where it is present, 0 where not: classes may overlap."""

    name: Literal["multi_label"]


class Labels(Section):
    """What the masks mean."""

    names: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        description="class names; position = class index in the files"
    )
    colours: tuple[tuple[Channel, Channel, Channel], ...] | None = Field(
        None, description="one RGB colour a class; left out: distinct colours are chosen"
    )
    ignore_index: Annotated[int, Field(ge=0, le=255)] = Field(255, description="mask value of unlabelled pixels")
    ignore_values: tuple[FileValue, ...] = Field((), description="more values of mask files that mean unlabelled")
    encoding: Annotated[
        IndexMasks | PaletteMasks | ColourMasks | BinaryMasks | ValueMasks | MultiLabelMasks,
        Field(discriminator="name"),
    ] = Field(IndexMasks(name="index"), description="how mask files store the classes")
    merge: dict[Annotated[str, Field(min_length=1)], Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        {}, description="{new class: [names that become it]}; what is trained and reported are the classes after this"
    )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are trained: `names` after `merge`, a merged one at the place of its first member."""
        into = self._merged_into()
        return tuple(dict.fromkeys(into.get(name, (name,))[0] for name in self.names))

    def colours_or_default(self) -> tuple[Colour, ...]:
        return distinct_colours(len(self.names)) if self.colours is None else self.colours

    def stored_label_set(self) -> LabelSet:
        """The classes as mask files have them."""
        return LabelSet(self.names, self.colours_or_default(), self.ignore_index, self.multi_label)

    @property
    def multi_label(self) -> bool:
        """Whether classes may overlap, so that each has a sigmoid of its own."""
        return isinstance(self.encoding, MultiLabelMasks)

    def label_set(self) -> LabelSet:
        """The classes that are trained; a merged one has the colour of its first member."""
        return LabelSet(self.class_names, self._merged_colours(), self.ignore_index, self.multi_label)

    def merged_indices(self) -> tuple[int, ...]:
        """For each of `names` the index in `class_names` of the class that it becomes."""
        into, after = self._merged_into(), self.class_names
        return tuple(after.index(into.get(name, (name,))[0]) for name in self.names)

    def _merged_into(self) -> dict[str, tuple[str, ...]]:
        """For each name that is merged, the classes that claim it: one, if the section is valid."""
        claims: dict[str, tuple[str, ...]] = {}
        for merged, members in self.merge.items():
            for member in members:
                claims[member] = (*claims.get(member, ()), merged)
        return claims

    def _merged_colours(self) -> tuple[Colour, ...]:
        if not self.merge:
            return self.colours_or_default()
        first: dict[int, Colour] = {}
        for index, colour in zip(self.merged_indices(), self.colours_or_default(), strict=True):
            first.setdefault(index, colour)
        return tuple(first[index] for index in range(len(first)))

    def problems(self) -> Iterator[Problem]:
        wrong = label_problems(self.names, self.colours_or_default(), self.ignore_index, self.multi_label)
        yield from wrong
        if self.encoding.name == "colour" and self.colours is None:
            yield "colours", "missing; the colour encoding needs the masks' RGB colour of each class"
        if self.encoding.name == "binary" and len(self.names) != 2:
            yield "names", f"got {len(self.names)} classes, allowed with the binary encoding: 2"
        if isinstance(self.encoding, ColourMasks):
            for colour in sorted(set(self.encoding.void_colours) & set(self.colours or ())):
                yield "encoding.void_colours", f"{list(colour)} is also a class's colour, allowed: one meaning a colour"
        if isinstance(self.encoding, ValueMasks):
            yield from self._value_problems(self.encoding.values)
        yield from self._ignore_value_problems()
        if self.merge and self.multi_label:
            yield "merge", "is for masks of one class a pixel, allowed with multi_label masks: none"
        elif self.merge and not wrong:
            yield from self._merge_problems()

    def _value_problems(self, values: dict[int, str]) -> Iterator[Problem]:
        for value, name in values.items():
            if name not in self.names:
                yield f"encoding.values.{value}", f"got '{name}', allowed: {', '.join(self.names)}"
        for name in self.names:
            if name not in values.values():
                yield "encoding.values", f"class '{name}' has no value, allowed: at least one a class"

    def _ignore_value_problems(self) -> Iterator[Problem]:
        if self.ignore_values and self.encoding.name == "colour":
            yield "ignore_values", "has no effect on colours, allowed: encoding.void_colours"
            return
        if self.ignore_values and self.multi_label:
            yield "ignore_values", "has no effect on multi_label masks, allowed: ignore_index"
            return
        for value in sorted(set(self.ignore_values)):
            if self.ignore_values.count(value) > 1:
                yield "ignore_values", f"{value} stands twice, allowed: each value once"
            if isinstance(self.encoding, ValueMasks):
                if value in self.encoding.values:
                    name = self.encoding.values[value]
                    yield "ignore_values", f"{value} is the value of class '{name}', allowed: one meaning a value"
            elif not isinstance(self.encoding, BinaryMasks):
                if value < len(self.names):
                    yield "ignore_values", f"{value} is the value of class '{self.names[value]}', allowed: other values"
                elif value == self.ignore_index:
                    yield "ignore_values", f"{value} has no effect: it is ignore_index, which is void already"
                elif value > 255 and isinstance(self.encoding, PaletteMasks):
                    yield "ignore_values", f"{value} has no effect: palette indices are 0 to 255"

    def _merge_problems(self) -> Iterator[Problem]:
        for member, claims in self._merged_into().items():
            if member not in self.names:
                yield f"merge.{claims[0]}", f"got '{member}', allowed: {', '.join(self.names)}"
            if len(claims) > 1:
                yield f"merge.{claims[-1]}", f"'{member}' stands twice in labels.merge, allowed: once"
        for merged, members in self.merge.items():
            if members == (merged,):
                yield f"merge.{merged}", f"has no effect: '{merged}' is its only member"
            elif merged in self.names and merged not in members:
                yield f"merge.{merged}", "is the name of another class, allowed: a new name, or one of its members"
        if len(self.class_names) < 2:
            yield "merge", f"leaves {len(self.class_names)} class, allowed: at least 2"
