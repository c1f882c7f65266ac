"""The `data` section of a configuration: where the samples lie and how they are split.

A kind has `listed(how, root)`, which calls the one of the three ways to list pairs that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from seg.section import Positive, Problem, Section

Pairs = TypeVar("Pairs")


@dataclass(frozen=True)
class Listing(Generic[Pairs]):
    """How pairs are listed: a training wants a whole list or an error, a check all that can be listed, and findings.

    Attributes:
        folders: As `seg.data.samples.pairs.samples_from_folders`.
        table: As `samples_from_table`.
        fractions: As `samples_from_fractions`.
    """

    folders: Callable[..., Pairs]
    table: Callable[..., Pairs]
    fractions: Callable[..., Pairs]


class Slices(Section):
    """Volumes (NIfTI, TIFFs of several pages) read as slices; all slices of a volume are in one split."""

    axis: Literal[0, 1, 2] = Field(
        description="array axis, as stored, that slices follow one another along: of NIfTI i, j, k; of TIFF page, row, "
        "column"
    )


class FolderData(Section):
    """A folder of images and one of masks for each split; pairs share their file stem."""

    name: Literal["folders"]
    root: str
    images: str = Field("images/{split}", description="under root; {split} becomes train, val, test")
    masks: str = Field("masks/{split}", description="under root; {split} becomes train, val, test")
    mask_suffix: str = Field("", description="what a mask's stem has behind its image's, for example _mask")
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")

    def listed(self, how: Listing[Pairs], root: Path) -> Pairs:
        return how.folders(root, self.images, self.masks, self.mask_suffix)

    def problems(self) -> Iterator[Problem]:
        for key in ("images", "masks"):
            if "{split}" not in getattr(self, key):
                yield key, f"got '{getattr(self, key)}', allowed: a folder with {{split}} in it"


class TableData(Section):
    """A CSV with the columns image, mask, split and, if samples belong together, group."""

    name: Literal["table"]
    root: str = Field(description="folder that the table's paths start from")
    table: str = Field(description="the CSV file, under root")
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")

    def listed(self, how: Listing[Pairs], root: Path) -> Pairs:
        return how.table(root, root / self.table)


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
    block_size: Annotated[int, Field(ge=1)] = Field(
        1, description="consecutive names that stay together, for neighbouring tiles or slices"
    )
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
        )

    def problems(self) -> Iterator[Problem]:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            yield "train", f"train + val + test is {total:g}, allowed: 1"


DataKind = Annotated[FolderData | TableData | FractionData, Field(discriminator="name")]
