"""The counts of classes that may overlap: for each class a two-class problem, absent against present.

`MultiLabelCounts` holds one `ClassCounts` of (absent, present) a class, so that counts of a union are sums, the checks
of a counts file and every weighting scheme are those of ordinary classes. Frequencies do not sum to 1: a pixel may
have several classes, or none, and each class has its own labelled pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg.balance.counts import (
    FORMAT_KEYS,
    RECOUNT,
    ClassCounts,
    content_problems,
    differences,
    file_hash,
    fingerprint_digits,
    read_json,
)
from seg.data.files.storage import File, common_folder, file_state, relative_name, write_bytes
from seg.data.files.threads import in_order
from seg.data.masks.planes import MultiLabelEncoding, count_planes
from seg.errors import DataError
from seg.labels import LabelSet

FORMAT = "seg multi-label class counts"
VERSION = 1
SIDES = ("absent", "present")
_SIDE_KEYS = ("pixel_counts", "image_counts", "image_pixels")


@dataclass(frozen=True, eq=False)
class MultiLabelCounts:
    """What a set of multi-label masks contains.

    Attributes:
        names: The K class names; index = plane.
        of_class: For each class the counts of `SIDES`: its pixels, the masks that have such a pixel, the labelled
            pixels of those masks; `void_pixels` are those where the class is not labelled. All have the same
            ignore_index, encoding, num_images and fingerprint.
    """

    names: tuple[str, ...]
    of_class: tuple[ClassCounts, ...]

    @property
    def num_images(self) -> int:
        """Masks counted."""
        return self.of_class[0].num_images

    @property
    def pixel_counts(self) -> np.ndarray:
        """(K,) int64, n_k: pixels where each class is present."""
        return np.array([counts.pixel_counts[1] for counts in self.of_class], np.int64)

    @property
    def labelled_pixels(self) -> np.ndarray:
        """(K,) int64, v_k: pixels where each class is known to be present or absent."""
        return np.array([counts.pixel_counts.sum() for counts in self.of_class], np.int64)

    @property
    def image_counts(self) -> np.ndarray:
        """(K,) int64: masks in which each class is present."""
        return np.array([counts.image_counts[1] for counts in self.of_class], np.int64)

    @property
    def frequencies(self) -> np.ndarray:
        """(K,) float64, f_k = n_k / v_k: where each class is present; 0 for a class without a labelled pixel."""
        return self.pixel_counts / np.maximum(self.labelled_pixels, 1)

    def __add__(self, other: MultiLabelCounts) -> MultiLabelCounts:
        """The counts of both sets of masks together.

        Raises:
            DataError: The two differ in class names, ignore_index or encoding.
        """
        if self.names != other.names:
            names = f"class names: got {', '.join(self.names)}; expected {', '.join(other.names)}"
            raise DataError(f"class counts cannot be added: {names}")
        return MultiLabelCounts(
            self.names, tuple(mine + theirs for mine, theirs in zip(self.of_class, other.of_class, strict=True))
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultiLabelCounts) and self.to_json() == other.to_json()

    def check_matches(self, names: Sequence[str], ignore_index: int, encoding: str, fingerprint: str) -> None:
        """As `ClassCounts.check_matches`.

        Raises:
            DataError: Names, ignore_index, encoding or files differ; says which, what was got and what was expected.
        """
        found = differences(self.of_class[0], SIDES, ignore_index, encoding, fingerprint)
        if self.names != tuple(names):
            found = [f"class names: got {', '.join(self.names)}; expected {', '.join(names)}", *found]
        if found:
            raise DataError(f"these class counts do not match the data: {'; '.join(found)}. To mend it, {RECOUNT}")

    def save(self, path: Path) -> None:
        """Writes the JSON file that `load` reads."""
        write_bytes(path, (json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> MultiLabelCounts:
        """Reads and checks a file that `save` wrote.

        Raises:
            DataError: The file is missing, broken, of another kind or version, or holds impossible counts.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(f'{path}: not a valid counts file of multi-label masks: it has no "format": "{FORMAT}"')
        classes = content.get("classes")
        problems = []
        if content.get("version") != VERSION:
            problems.append(f"version: got {content.get('version')!r}, allowed: {VERSION}")
        elif not isinstance(classes, dict) or not classes or not all(isinstance(one, dict) for one in classes.values()):
            problems.append(f"classes: got {classes!r}, allowed: the counts of each class, by name")
        else:
            single = [_single(content, one) for one in classes.values()]
            for name, one in zip(classes, single, strict=True):
                problems += [f"class '{name}': {problem}" for problem in content_problems(one)]
        if problems:
            raise DataError(f"{path}: not a valid counts file of multi-label masks: {'; '.join(problems)}; {RECOUNT}")
        assert isinstance(classes, dict)
        return cls(tuple(classes), tuple(map(ClassCounts.from_json, single)))

    def to_json(self) -> dict[str, Any]:
        """What `save` writes."""
        shared = self.of_class[0].to_json()
        return {
            "format": FORMAT,
            "version": VERSION,
            **{key: shared[key] for key in ("ignore_index", "encoding", "num_images", "fingerprint")},
            "classes": {
                name: _by_side(counts.to_json()) for name, counts in zip(self.names, self.of_class, strict=True)
            },
        }


def count_multi_label_masks(
    masks: Sequence[File],
    labels: LabelSet,
    encoding: MultiLabelEncoding,
    *,
    root: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MultiLabelCounts:
    """Counts masks in one streaming pass of threads, as `seg.balance.count_masks` does those of ordinary classes.

    Args:
        masks: Mask files; one listed twice counts twice.
        labels: Class names and ignore_index.
        encoding: How the files store classes.
        root: What the fingerprint's paths are relative to; default: the masks' common folder.
        workers: Threads; default: one per CPU.
        progress: Called from the calling thread after every mask with the masks and the pixels done so far.

    Raises:
        DataError: No masks, or a mask cannot be read or holds an unknown value; names the file.
    """
    if not masks:
        raise DataError("no masks to count: the list is empty")
    folder = root or common_folder(masks)
    totals = np.zeros((3, labels.num_classes, 2), np.int64)  # rows: pixels, images, labelled pixels of those images
    void = np.zeros(labels.num_classes, np.int64)
    fingerprint = pixels = 0

    def count_one(mask: File) -> tuple[int, np.ndarray]:
        return file_hash(relative_name(mask, folder), file_state(mask).size), count_planes(mask, labels)

    for done, (hashed, counted) in enumerate(in_order(count_one, masks, workers or os.cpu_count() or 1), 1):
        sides, fingerprint = counted[:, :2], fingerprint + hashed
        shown = sides > 0
        totals += np.stack([sides, shown, shown * sides.sum(axis=1, keepdims=True)])
        void += counted[:, 2]
        pixels += int(counted[0].sum())
        if progress is not None:
            progress(done, pixels)
    digits = fingerprint_digits(fingerprint)
    of_class = tuple(
        ClassCounts(
            SIDES,
            labels.ignore_index,
            encoding.name,
            pixel_counts=totals[0, k],
            image_counts=totals[1, k],
            image_pixels=totals[2, k],
            void_pixels=int(void[k]),
            num_images=len(masks),
            fingerprint=digits,
        )
        for k in range(labels.num_classes)
    )
    return MultiLabelCounts(labels.names, of_class)


def _by_side(content: dict[str, Any]) -> dict[str, Any]:
    """The counts of one class as the file has them."""
    sides = {side: {key: content[key][index] for key in _SIDE_KEYS} for index, side in enumerate(SIDES)}
    return {**sides, "void_pixels": content["void_pixels"]}


def _single(content: dict[str, Any], of_class: dict[str, Any]) -> dict[str, Any]:
    """The other way: a counts file of (absent, present), still to be checked."""
    sides = [of_class.get(side) for side in SIDES]
    counts = {key: [side.get(key) if isinstance(side, dict) else None for side in sides] for key in _SIDE_KEYS}
    shared = {key: content.get(key) for key in ("ignore_index", "encoding", "num_images", "fingerprint")}
    return {**FORMAT_KEYS, "class_names": list(SIDES), **shared, "void_pixels": of_class.get("void_pixels"), **counts}
