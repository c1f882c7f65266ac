"""The `labels` section of a configuration: the classes and how mask files store them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from seg.config_section import Channel, Problem, Section
from seg.labels import Colour, LabelSet, distinct_colours, label_problems


class IndexMasks(Section):
    """8-bit gray masks whose values are class indices."""

    name: Literal["index"]


class PaletteMasks(Section):
    """Palette PNG masks: the stored indices are the classes, whatever the palette's colours."""

    name: Literal["palette"]


class ColourMasks(Section):
    """RGB masks decoded by `labels.colours`."""

    name: Literal["colour"]
    void_colours: tuple[tuple[Channel, Channel, Channel], ...] = Field((), description="RGB colours that mean void")

    def problems(self) -> Iterator[Problem]:
        for colour in sorted({colour for colour in self.void_colours if self.void_colours.count(colour) > 1}):
            yield "void_colours", f"{list(colour)} stands twice, allowed: each colour once"


class BinaryMasks(Section):
    """Gray masks of two classes: value > threshold is class 1, everything else class 0."""

    name: Literal["binary"]
    threshold: Annotated[int, Field(ge=0, le=254)] = 127


class MultiLabelMasks(Section):
    """TIFFs with a page or band for each class, 1 where it is present, 0 where not: classes may overlap."""

    name: Literal["multi_label"]


class Labels(Section):
    """What the masks mean."""

    names: tuple[Annotated[str, Field(min_length=1)], ...] = Field(description="class names; position = class index")
    colours: tuple[tuple[Channel, Channel, Channel], ...] | None = Field(
        None, description="one RGB colour a class; left out: distinct colours are chosen"
    )
    ignore_index: Annotated[int, Field(ge=0, le=255)] = Field(255, description="mask value of unlabelled pixels")
    encoding: Annotated[
        IndexMasks | PaletteMasks | ColourMasks | BinaryMasks | MultiLabelMasks, Field(discriminator="name")
    ] = Field(IndexMasks(name="index"), description="how mask files store the classes")

    def colours_or_default(self) -> tuple[Colour, ...]:
        return distinct_colours(len(self.names)) if self.colours is None else self.colours

    @property
    def multi_label(self) -> bool:
        """Whether classes may overlap, so that each has a sigmoid of its own."""
        return isinstance(self.encoding, MultiLabelMasks)

    def label_set(self) -> LabelSet:
        return LabelSet(self.names, self.colours_or_default(), self.ignore_index, self.multi_label)

    def problems(self) -> Iterator[Problem]:
        yield from label_problems(self.names, self.colours_or_default(), self.ignore_index, self.multi_label)
        if self.encoding.name == "colour" and self.colours is None:
            yield "colours", "missing; the colour encoding needs the masks' RGB colour of each class"
        if self.encoding.name == "binary" and len(self.names) != 2:
            yield "names", f"got {len(self.names)} classes, allowed with the binary encoding: 2"
        if isinstance(self.encoding, ColourMasks):
            for colour in sorted(set(self.encoding.void_colours) & set(self.colours or ())):
                yield "encoding.void_colours", f"{list(colour)} is also a class's colour, allowed: one meaning a colour"
