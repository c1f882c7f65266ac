"""The `labels` section of a configuration: the classes, how mask files store them, and what is asked of either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from seg.config.masks import FileValue, IndexMasks, MaskKind
from seg.labels import MAX_CLASSES, Colour, LabelSet, distinct_colours, label_problems
from seg.section import Channel, Problem, Section

if TYPE_CHECKING:
    from seg.data.masks.encodings import MaskEncoding
    from seg.metrics.confusion import ConfusionMatrix


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
    encoding: MaskKind = Field(IndexMasks(name="index"), description="how mask files store the classes")
    merge: dict[Annotated[str, Field(min_length=1)], Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        {}, description="{new class: [names that become it]}; what is trained and reported are the classes after this"
    )

    partial: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = Field(
        (), description="lists of classes: in some samples only these were annotated, and others are not known there"
    )

    # --- the classes --------------------------------------------------------------------------------------------------
    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are trained: `names` after `merge`, a merged one at the place of its first member."""
        into = self._merged_into()
        return tuple(dict.fromkeys(into.get(name, (name,))[0] for name in self.names))

    @property
    def multi_label(self) -> bool:
        """Whether classes may overlap, so that each has a sigmoid of its own."""
        return self.encoding.multi_label

    def colours_or_default(self) -> tuple[Colour, ...]:
        return distinct_colours(len(self.names)) if self.colours is None else self.colours

    def stored_label_set(self) -> LabelSet:
        """The classes as mask files have them."""
        return LabelSet(self.names, self.colours_or_default(), self.ignore_index, self.multi_label)

    def label_set(self) -> LabelSet:
        """The classes that are trained; a merged one has the colour of its first member."""
        names = self.class_names
        partial = tuple(tuple(index for index, name in enumerate(names) if name in some) for some in self.partial)
        return LabelSet(names, self._merged_colours(), self.ignore_index, self.multi_label, partial)

    # --- what is built from them --------------------------------------------------------------------------------------
    def mask_encoding(self) -> MaskEncoding:
        """How mask files store the classes that are trained."""
        from seg.data.masks.encodings import MergedEncoding

        stored = self.encoding.build(self)
        if not self.merge:
            return stored
        return MergedEncoding(stored, self.stored_label_set(), self.merged_indices())

    def confusion(self, labelled_only: bool = False) -> ConfusionMatrix:
        """The metric: what `seg.metrics.iou.scores` takes, summed over batches."""
        from seg.metrics.confusion import ConfusionMatrix

        return ConfusionMatrix(
            self.class_names,
            self.ignore_index,
            multi_label=self.multi_label,
            sets=self.label_set().sets,
            labelled_only=labelled_only,
        )

    # --- merging ------------------------------------------------------------------------------------------------------
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

    # --- what is wrong ------------------------------------------------------------------------------------------------
    def problems(self) -> Iterator[Problem]:
        wrong = label_problems(self.names, self.colours_or_default(), self.ignore_index, self.multi_label)
        yield from wrong
        yield from self.encoding.label_problems(self)
        if self.merge and not self.multi_label and not wrong:
            yield from self._merge_problems()
        if not wrong:
            yield from self._partial_problems()

    def _partial_problems(self) -> Iterator[Problem]:
        names = self.class_names
        if self.partial and self.multi_label:
            yield "partial", "has no effect: an unlisted class is void in its plane, whatever the lists; allowed: []"
        for place, some in enumerate(self.partial):
            for name in [name for name in some if name not in names]:
                yield f"partial.{place}", f"got '{name}', allowed: {', '.join(names)}"
            if len(set(some)) < len(some) or len({*some} & {*names}) > len(names) - 2:
                yield f"partial.{place}", "must name each class once and leave out two or more"
            if {*some} in [{*other} for other in self.partial[:place]]:
                yield f"partial.{place}", "has the classes of a list before, allowed: each list once"
        if len(names) + len(self.partial) > MAX_CLASSES:
            yield "partial", f"got {len(self.partial)} lists, allowed: at most {MAX_CLASSES - len(names)}"

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
