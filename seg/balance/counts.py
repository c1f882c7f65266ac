"""The class counts of a set of masks, the JSON file that keeps them, and the fingerprint of their file list.

All counts are integers, so they are exact, and the counts of a union are the sum of the counts:
`count_masks(a) + count_masks(b) == count_masks(a + b)`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.files.storage import File, common_folder, file_state, relative_name, write_bytes
from seg.errors import DataError

FORMAT = "seg class counts"
VERSION = 1
FORMAT_KEYS = {"format": FORMAT, "version": VERSION}
MAX_COUNT = 2**63 - 1
FINGERPRINT_MODULUS = 2**256
RECOUNT = "count again: python -m data_tools.mask_frequencies --config FILE --out COUNTS.json"


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """What a set of masks contains. Void pixels are counted apart and belong to no class.

    Attributes:
        names: The C class names; index = class.
        ignore_index: The value that stood for void.
        encoding: How the masks were read: `MaskEncoding.description`, for plain encodings their name.
        pixel_counts: (C,) int64, n_c: pixels of each class.
        image_counts: (C,) int64: masks that contain the class.
        image_pixels: (C,) int64: labelled pixels (of any class) of the masks that contain the class.
        void_pixels: Pixels without a label.
        num_images: Masks counted.
        fingerprint: Of the file list, see `fingerprint_files`.
        moved_pixels: Pixels that took the nearest class colour, within the encoding's tolerance.
    """

    names: tuple[str, ...]
    ignore_index: int
    encoding: str
    pixel_counts: np.ndarray
    image_counts: np.ndarray
    image_pixels: np.ndarray
    void_pixels: int
    num_images: int
    fingerprint: str
    moved_pixels: int = 0

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def frequencies(self) -> np.ndarray:
        """(C,) float64, f_c = n_c / N: each class's share of the labelled pixels; sums to 1.

        Raises:
            DataError: No pixel is labelled.
        """
        total = self.pixel_counts.sum()
        if total == 0:
            raise DataError(f"no class frequencies: the {self.num_images} counted masks have no labelled pixel")
        return self.pixel_counts / total

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """The counts of both sets of masks together.

        Raises:
            DataError: The two differ in class names, ignore_index or encoding.
        """
        found = differences(self, other.names, other.ignore_index, other.encoding, None)
        if found:
            raise DataError(f"class counts cannot be added: {'; '.join(found)}")
        return ClassCounts(
            self.names,
            self.ignore_index,
            self.encoding,
            self.pixel_counts + other.pixel_counts,
            self.image_counts + other.image_counts,
            self.image_pixels + other.image_pixels,
            self.void_pixels + other.void_pixels,
            self.num_images + other.num_images,
            fingerprint_digits(int(self.fingerprint, 16) + int(other.fingerprint, 16)),
            self.moved_pixels + other.moved_pixels,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassCounts) and self.to_json() == other.to_json()

    def check_matches(self, names: Sequence[str], ignore_index: int, encoding: str, fingerprint: str) -> None:
        """Refuses counts that were made from other masks than those at hand.

        Raises:
            DataError: Names, ignore_index, encoding or files differ; says which, what was got and what was expected.
        """
        found = differences(self, names, ignore_index, encoding, fingerprint)
        if found:
            raise DataError(f"these class counts do not match the data: {'; '.join(found)}. To mend it, {RECOUNT}")

    def save(self, path: Path) -> None:
        """Writes the JSON file that `load` reads."""
        write_bytes(path, (json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> ClassCounts:
        """Reads and checks a file that `save` wrote.

        Raises:
            DataError: The file is missing, broken, of another version, or holds impossible counts.
        """
        content = read_json(path)
        problems = content_problems(content)
        if problems:
            raise DataError(f"{path}: not a valid class counts file: {'; '.join(problems)}; {RECOUNT}")
        return cls.from_json(content)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ClassCounts:
        """The counts that `to_json` described, in which `content_problems` finds none."""
        return cls(
            tuple(content["class_names"]),
            content["ignore_index"],
            content["encoding"],
            np.array(content["pixel_counts"], np.int64),
            np.array(content["image_counts"], np.int64),
            np.array(content["image_pixels"], np.int64),
            content["void_pixels"],
            content["num_images"],
            content["fingerprint"],
            content.get("moved_pixels", 0),  # files of the first versions have no such key
        )

    def to_json(self) -> dict[str, Any]:
        """What `save` writes."""
        return {
            **FORMAT_KEYS,
            "class_names": list(self.names),
            "ignore_index": self.ignore_index,
            "encoding": self.encoding,
            "num_images": self.num_images,
            "fingerprint": self.fingerprint,
            "void_pixels": self.void_pixels,
            "moved_pixels": self.moved_pixels,
            "pixel_counts": self.pixel_counts.tolist(),
            "image_counts": self.image_counts.tolist(),
            "image_pixels": self.image_pixels.tolist(),
        }


def fingerprint_files(masks: Sequence[File], root: Path | None = None) -> str:
    """64 hex digits that tell whether two lists hold the same files: paths under `root` and byte sizes.

    The sum modulo 2^256 of each file's sha256(relative posix path, NUL, size). A sum, so that the fingerprint of a
    union is the sum of the fingerprints, in any order, and a file listed twice counts twice. It opens no file: an edit
    that keeps a file's size goes unseen. It guards against mistakes, not against forgery.

    Args:
        masks: The files.
        root: What the paths are relative to, so that a moved dataset keeps its fingerprint; default: the files'
            common folder.

    Raises:
        DataError: A file is missing.
    """
    root = root or common_folder(masks)
    return fingerprint_digits(sum(file_hash(relative_name(mask, root), file_state(mask).size) for mask in masks))


def file_hash(name: str, size: int) -> int:
    """One file's part of the fingerprint; `name` is its path relative to the root, with forward slashes."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name) + b"\0%d" % size).digest(), "big")


def fingerprint_digits(fingerprint: int) -> str:
    """The 64 hexadecimal digits of a fingerprint or of a sum of them, modulo 2^256."""
    return f"{fingerprint % FINGERPRINT_MODULUS:064x}"


def read_json(path: Path) -> Any:
    """The content of a counts file.

    Raises:
        DataError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the class counts: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: not a class counts file, broken JSON: {error}; {RECOUNT}") from None


def differences(
    counts: ClassCounts, names: Sequence[str], ignore_index: int, encoding: str, fingerprint: str | None
) -> list[str]:
    """How counts differ from what is expected, a clause each; `fingerprint` None: of any files."""
    found = []
    if counts.names != tuple(names):
        found.append(f"class names: got {', '.join(counts.names)}; expected {', '.join(names)}")
    if counts.ignore_index != ignore_index:
        found.append(f"ignore_index: got {counts.ignore_index}, expected {ignore_index}")
    if counts.encoding != encoding:
        found.append(f"encoding: got {counts.encoding}, expected {encoding}")
    if fingerprint is not None and counts.fingerprint != fingerprint:
        found.append(
            f"files (paths and sizes): got fingerprint {counts.fingerprint[:12]} of {counts.num_images} masks, "
            f"expected {fingerprint[:12]}"
        )
    return found


def content_problems(content: Any) -> list[str]:
    """What is wrong with the content of a counts file: first its keys and types, and if those hold, its sense."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return [f'it has no "format": "{FORMAT}"']
    if content.get("version") != VERSION:
        return [f"version: got {content.get('version')!r}, allowed: {VERSION}"]
    names = content.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return [f"class_names: got {names!r}, allowed: a list of names"]
    problems = []
    for key in ("ignore_index", "num_images", "void_pixels", "moved_pixels"):
        if not _is_count(content.get(key, 0 if key == "moved_pixels" else None)):
            problems.append(f"{key}: got {content.get(key)!r}, allowed: an integer of 0 or more")
    for key in ("pixel_counts", "image_counts", "image_pixels"):
        values = content.get(key)
        if not isinstance(values, list) or len(values) != len(names) or not all(map(_is_count, values)):
            problems.append(f"{key}: got {values!r}, allowed: {len(names)} integers of 0 or more, one a class")
    if not isinstance(content.get("encoding"), str):
        problems.append(f"encoding: got {content.get('encoding')!r}, allowed: a name")
    fingerprint = content.get("fingerprint")
    if not isinstance(fingerprint, str) or not re.fullmatch("[0-9a-f]{64}", fingerprint):
        problems.append(f"fingerprint: got {fingerprint!r}, allowed: 64 hexadecimal digits")
    return problems or _contradictions(content)


def _contradictions(content: dict[str, Any]) -> list[str]:
    """Counts that no set of masks can have."""
    problems = []
    for name, pixels, images, image_pixels in zip(
        content["class_names"], content["pixel_counts"], content["image_counts"], content["image_pixels"], strict=True
    ):
        if images > content["num_images"]:
            problems.append(f"image_counts: '{name}' is in {images} of {content['num_images']} masks")
        if image_pixels < pixels or (images == 0) != (pixels == 0) or pixels < images:
            problems.append(
                f"'{name}': {pixels} pixels, in {images} masks with {image_pixels} labelled pixels, contradict"
            )
    return problems


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
