"""The `data` section of a configuration: where the samples lie and how they are split.

A kind has `listed(how, root)`, which calls the one of the ways to list pairs that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import Discriminator, Field, Tag

from seg.section import Count, Positive, Problem, Section

if TYPE_CHECKING:
    from seg.data.samples.patterns import Pattern

Pairs = TypeVar("Pairs")


@dataclass(frozen=True)
class Listing(Generic[Pairs]):
    """How pairs are listed: a training wants a whole list or an error, a check all that can be listed, and findings.

    Attributes:
        folders: As `seg.data.samples.pairs.samples_from_folders`.
        table: As `seg.data.samples.tables.samples_from_table`.
        fractions: As `samples_from_fractions`.
        patterns: As `seg.data.samples.patterns.samples_from_patterns`.
    """

    folders: Callable[..., Pairs]
    table: Callable[..., Pairs]
    fractions: Callable[..., Pairs]
    patterns: Callable[..., Pairs]


class Slices(Section):
    """Volumes (NIfTI, TIFFs of several pages) read as slices; all slices of a volume are in one split."""

    axis: Literal[0, 1, 2] = Field(
        description="array axis, as stored, that slices follow one another along: of NIfTI i, j, k; of TIFF page, row, "
        "column"
    )


WithoutMask = Annotated[
    Literal["error", "skip"], Field(description="what an image without a mask does; skipped ones are counted and named")
]
ValidValues = Annotated[
    tuple[Annotated[int, Field(ge=0, le=65535)], ...] | None,
    Field(description="values of validity masks where masks count; left out: all but 0"),
]


class FolderData(Section):
    """A folder of images and one of masks for each split; pairs share their file stem."""

    name: Literal["folders"]
    root: str
    images: str = Field("images/{split}", description="under root; {split} becomes train, val, test")
    masks: str = Field("masks/{split}", description="under root; {split} becomes train, val, test")
    mask_suffix: str = Field("", description="what a mask's stem has behind its image's, for example _mask")
    without_mask: WithoutMask = "error"
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")

    def listed(self, how: Listing[Pairs], root: Path) -> Pairs:
        return how.folders(root, self.images, self.masks, self.mask_suffix, without_mask=self.without_mask)

    def problems(self) -> Iterator[Problem]:
        for key in ("images", "masks"):
            if "{split}" not in getattr(self, key):
                yield key, f"got '{getattr(self, key)}', allowed: a folder with {{split}} in it"


class TableData(Section):
    """A CSV with the columns image, mask, split and perhaps group (what belongs together), valid (a validity mask) and
    annotated (the only classes that were annotated, separated by semicolons)."""

    name: Literal["table"]
    root: str = Field(description="folder that the table's paths start from")
    table: str = Field(description="the CSV file, under root")
    valid_values: ValidValues = None
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")

    def listed(self, how: Listing[Pairs], root: Path) -> Pairs:
        return how.table(root, root / self.table, self.valid_values)


class FractionData(Section):
    """One folder of images, one of masks, and a rule that splits them."""

    name: Literal["fractions"]
    root: str
    images: str = "images"
    masks: str = "masks"
    mask_suffix: str = ""
    train: Positive = 0.7
    val: Positive = 0.15
    test: Annotated[float, Field(ge=0)] = 0.15
    seed: int = Field(0, description="which blocks go to which split; not the run's seed, so that runs share a split")
    block_size: Count = Field(1, description="consecutive names that stay together, for neighbouring tiles or slices")
    without_mask: WithoutMask = "error"
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")

    def listed(self, how: Listing[Pairs], root: Path) -> Pairs:
        shares = {"train": self.train, "val": self.val, "test": self.test}
        return how.fractions(
            root,
            self.images,
            self.masks,
            self.mask_suffix,
            fractions={split: share for split, share in shares.items() if share > 0},
            seed=self.seed,
            block_size=self.block_size,
            without_mask=self.without_mask,
        )

    def problems(self) -> Iterator[Problem]:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            yield "train", f"train + val + test is {total:g}, allowed: 1"


class PatternFiles(Section):
    """Where the files of some samples lie; {id}, or any other name in braces, is the same text in all of them."""

    image: str = Field(description="under root, as in training/images/{id}_training.tif; * is any text but a slash")
    mask: str = Field(description="the same of the masks")
    valid: str | None = Field(None, description="the same of validity masks; left out: masks count everywhere")
    annotated: tuple[str, ...] | None = Field(
        None, min_length=1, description="the only classes that were annotated in these samples; left out: all"
    )

    def pattern(self) -> Pattern:
        from seg.data.samples.patterns import Pattern

        return Pattern(self.image, self.mask, self.valid, self.annotated)

    def problems(self) -> Iterator[Problem]:
        return self.pattern().problems()


def _number(value: Any) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


PatternList = Annotated[
    Annotated[PatternFiles, Tag("one")]
    | Annotated[tuple[PatternFiles, ...], Field(min_length=1), Tag("several")],
    Discriminator(_number),
]  # fmt: skip


class PatternData(Section):
    """Patterns of the files of each split: folders and suffixes of any names, images and masks in one folder."""

    name: Literal["patterns"]
    root: str
    train: PatternList = Field(description="one mapping of image, mask and valid, or a list of them")
    val: PatternList | None = Field(None, description="the same")
    test: PatternList | None = Field(None, description="the same; left out: there is no test split")
    val_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="in place of val: the share of the training samples that is held back"
    )
    seed: int = Field(0, description="which are held back")
    block_size: Count = Field(1, description="consecutive names that are held back together")
    valid_values: ValidValues = None
    without_mask: WithoutMask = "error"
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")

    def patterns(self) -> dict[str, list[Pattern]]:
        """Those of each split that has some."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {
            split: [one.pattern() for one in (some if isinstance(some, tuple) else (some,))]
            for split, some in found.items()
            if some is not None
        }

    def listed(self, how: Listing[Pairs], root: Path) -> Pairs:
        return how.patterns(
            root,
            self.patterns(),
            valid_values=self.valid_values,
            val_share=self.val_share,
            seed=self.seed,
            block_size=self.block_size,
            without_mask=self.without_mask,
        )

    def problems(self) -> Iterator[Problem]:
        if (self.val is None) == (self.val_share is None):
            got = "missing" if self.val is None else "got val and val_share"
            yield "val", f"{got}, allowed: val, the patterns, or val_share, a share of train"
        for key in ("seed", "block_size"):
            if self.val_share is None and getattr(self, key) != PatternData.model_fields[key].default:
                yield key, "has no effect without val_share"
        patterns = [one for some in self.patterns().values() for one in some]
        if self.valid_values is not None and not any(one.valid for one in patterns):
            yield "valid_values", "has no effect without valid in a pattern"


DataKind = Annotated[FolderData | TableData | FractionData | PatternData, Field(discriminator="name")]
