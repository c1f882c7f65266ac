"""What a check can find: every kind with its grade, its meaning and what to do. docs/checking.md explains each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Grade(StrEnum):
    """How bad a finding is."""

    ERROR = "error"  # training would stop, or learn or be scored on something wrong
    WARNING = "warning"  # almost surely a mistake, but training runs
    HINT = "hint"  # worth a look; often right as it is


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        grade: How bad it is.
        meaning: What was found, a phrase.
        advice: What to do about it.
    """

    grade: Grade
    meaning: str
    advice: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        kind: A key of `KINDS`.
        files: Names relative to the dataset's folder; the file at fault first. Empty for a finding on a whole split.
        text: What was got, and what is allowed where that depends on the case.
        split: The split of the first file; "" for a finding on several.
    """

    kind: str
    files: tuple[str, ...]
    text: str
    split: str = ""

    @property
    def grade(self) -> Grade:
        return KINDS[self.kind].grade

    def to_json(self) -> dict[str, Any]:
        """As JSON's own types."""
        return {
            "grade": str(self.grade),
            "kind": self.kind,
            "split": self.split,
            "files": list(self.files),
            "text": self.text,
        }


_E, _W, _H = Grade.ERROR, Grade.WARNING, Grade.HINT

KINDS: dict[str, Kind] = {
    # The list of pairs.
    "missing-file": Kind(_E, "a listed file does not exist", "correct the table, or restore the file"),
    "orphan-image": Kind(_E, "an image without a mask", "add the mask, or remove the image"),
    "orphan-mask": Kind(_E, "a mask without an image", "add the image, or remove the mask"),
    "ambiguous-stem": Kind(_E, "several files of one folder share a stem", "keep one file a stem"),
    "empty-split": Kind(_E, "a split without a pair", "fill it; train and val must hold pairs"),
    "unknown-split": Kind(_E, "a table row with a split that is none", "write train, val or test"),
    "listed-twice": Kind(_E, "an image is listed twice in a split", "list it once"),
    "file-in-two-splits": Kind(_E, "a file is listed in two splits", "keep it in one, or scores mean nothing"),
    "group-in-two-splits": Kind(_E, "a group is spread over two splits", "give the whole group to one split"),
    "skipped-image": Kind(_H, "an image without a mask, left out", "nothing where without_mask: skip is meant"),
    "ignored-files": Kind(_H, "files that training does not look at", "convert them if they are images or masks"),
    # Files.
    "unreadable-image": Kind(_E, "an image is missing, cut short or corrupt", "restore it from its source"),
    "unreadable-mask": Kind(_E, "a mask is missing, cut short or corrupt", "restore it from its source"),
    "unsupported-image": Kind(_E, "an image of a form that is not read", "convert it as its message says"),
    "unsupported-mask": Kind(_E, "a mask of a form that is not read", "choose the fitting encoding, or convert it"),
    "turned-file": Kind(_E, "an orientation tag", "turn the pixels, remove the tag, and look at the pair"),
    "size-mismatch": Kind(_E, "image and mask differ in size", "find out which is wrong; resizing hides a wrong pair"),
    "grid-mismatch": Kind(_E, "image and mask lie on different grids", "resample the mask onto the image's grid"),
    "image-is-mask": Kind(_E, "image and mask are the same file", "put the right file in its place"),
    # Masks.
    "unknown-labels": Kind(_E, "values or colours that are no class", "correct the mask, or labels in the config"),
    "wrong-encoding": Kind(_E, "the encoding reads these masks as something else", "set labels.encoding"),
    "mixed-palettes": Kind(_W, "a palette index of several colours", "read them as 'colour', or save them anew"),
    "blended-mask": Kind(_W, "gray values between the two classes", "write masks as PNG, resize by nearest pixel"),
    "all-void-mask": Kind(_W, "a mask without a labelled pixel", "label it, or remove the pair"),
    "one-class-mask": Kind(_H, "a mask of a single class", "nothing where that is true; look at a few"),
    "small-components": Kind(_H, "components of a few pixels", "look at the worst files; clean them, or keep them"),
    "shifted-mask": Kind(_W, "outlines fit the image better elsewhere", "look at the overlay; redo the export"),
    "repeated-mask": Kind(_W, "different images with the same mask", "find the right mask"),
    "contradicting-masks": Kind(_W, "the same image with different masks", "keep one, or merge them"),
    "missing-class": Kind(_W, "a class that a split does not hold", "split by class presence, or drop the class"),
    # Images.
    "constant-image": Kind(_W, "an image of one value", "remove the pair, or mark its pixels as void"),
    "not-finite": Kind(_E, "NaN or infinite values", "replace them, and mark their pixels as void"),
    "mixed-images": Kind(_W, "a few images are stored in another form", "store all alike; 8 and 16 bits scale apart"),
    "dark-images": Kind(_H, "images that use a sliver of their range", "set input.max_value to the largest value"),
    # Splits.
    "duplicate-in-two-splits": Kind(_E, "the same image in two splits", "keep it in one, or scores mean nothing"),
    "near-duplicate": Kind(_W, "nearly the same image in two splits", "split by scene, video or place, not by file"),
    "duplicate-image": Kind(_W, "the same image twice in a split", "keep one; it counts twice"),
}  # fmt: skip
