"""The class counts of a set of masks, the JSON file that keeps them, and the fingerprint of their file list.

Classes that may overlap are two-class problems, absent against present: `ClassCounts` counts both sides of each. Their
frequencies do not sum to 1: a pixel may have several classes, or none, and each class has its own labelled pixels.

All counts are integers, so they are exact, and the counts of a union are the sum of the counts:
`count_masks(a) + count_masks(b) == count_masks(a + b)`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.files.storage import File, common_folder, file_state, relative_name, write_bytes
from seg.errors import DataError

FORMAT = "seg class counts"
MULTI_LABEL_FORMAT = "seg multi-label class counts"
VERSION = 1
SIDES = ("absent", "present")  # of a class that may overlap others
SIDE_KEYS = ("pixel_counts", "image_counts", "image_pixels")
SHARED_KEYS = ("ignore_index", "encoding", "num_images", "fingerprint")  # what both kinds of file have at their top
MAX_COUNT = 2**63 - 1
FINGERPRINT_MODULUS = 2**256
RECOUNT = "count again: python -m data_tools.mask_frequencies --config FILE --out COUNTS.json"


@dataclass(frozen=True, eq=False)
class AbsentCounts:
    """The other side of K classes that may overlap, (K,) int64 each.

    Attributes:
        pixel_counts: Pixels where the class is known to be absent.
        image_counts: Masks that have such a pixel.
        image_pixels: The pixels of those masks where the class is labelled.
        void_pixels: Pixels where the class is not labelled.
    """

    pixel_counts: np.ndarray
    image_counts: np.ndarray
    image_pixels: np.ndarray
    void_pixels: np.ndarray

    def __add__(self, other: AbsentCounts) -> AbsentCounts:
        return AbsentCounts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """What a set of masks contains. Void pixels are counted apart and belong to no class.

    Attributes:
        names: The C class names; index = class.
        ignore_index: The value that stood for void.
        encoding: How the masks were read: `MaskEncoding.description`, for plain encodings their name.
        pixel_counts: (C,) int64, n_c: pixels of each class.
        image_counts: (C,) int64: masks that contain the class.
        image_pixels: (C,) int64: labelled pixels (of any class) of the masks that contain the class; of classes that
            may overlap the pixels where this class is labelled.
        void_pixels: Pixels without a label; of classes that may overlap the sum of each one's.
        num_images: Masks counted.
        fingerprint: Of the file list, see `fingerprint_files`.
        snapped_pixels: Pixels that took the nearest class colour, within the encoding's tolerance.
        absent: Of classes that may overlap: the pixels where each is absent. None: one class a pixel.
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
    snapped_pixels: int = 0
    absent: AbsentCounts | None = None

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def labelled_pixels(self) -> np.ndarray:
        """(C,) int64: pixels where each class is known to be present or absent: N, of classes that may overlap v_k."""
        if self.absent is None:
            return np.full(self.num_classes, self.pixel_counts.sum())
        return self.pixel_counts + self.absent.pixel_counts

    @property
    def frequencies(self) -> np.ndarray:
        """(C,) float64, f_c = n_c / N: each class's share of the labelled pixels; sums to 1.

        Of classes that may overlap f_k = n_k / v_k, 0 for a class without a labelled pixel.

        Raises:
            DataError: No pixel is labelled, and a pixel has one class.
        """
        if self.absent is not None:
            return self.pixel_counts / np.maximum(self.labelled_pixels, 1)
        total = self.pixel_counts.sum()
        if total == 0:
            raise DataError(f"no class frequencies: the {self.num_images} counted masks have no labelled pixel")
        return self.pixel_counts / total

    def two_classes(self) -> list[ClassCounts]:
        """Of classes that may overlap the counts of `SIDES`, a two-class problem each; [] where a pixel has one."""
        if self.absent is None:
            return []
        sides = {key: np.stack([getattr(part, key) for part in (self.absent, self)], axis=1) for key in SIDE_KEYS}
        return [
            ClassCounts(
                SIDES,
                self.ignore_index,
                self.encoding,
                **{key: values[index] for key, values in sides.items()},
                void_pixels=int(void),
                num_images=self.num_images,
                fingerprint=self.fingerprint,
            )
            for index, void in enumerate(self.absent.void_pixels)
        ]

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
            self.snapped_pixels + other.snapped_pixels,
            self.absent + other.absent if self.absent and other.absent else None,  # one encoding: both or none
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassCounts) and self.to_json() == other.to_json()

    def check_matches(
        self, names: Sequence[str], ignore_index: int, encoding: str, fingerprint: str, mend: str = RECOUNT
    ) -> None:
        """Refuses counts that were made from other masks than those at hand; `mend` says what to do about it.

        Raises:
            DataError: Names, ignore_index, encoding or files differ; says which, what was got and what was expected.
        """
        found = differences(self, names, ignore_index, encoding, fingerprint)
        if found:
            raise DataError(f"these class counts do not match the data: {'; '.join(found)}. To mend it, {mend}")

    def save(self, path: Path) -> None:
        """Writes the JSON file that `load` reads."""
        write_bytes(path, (json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path, mend: str = RECOUNT) -> ClassCounts:
        """Reads and checks a file that `save` wrote; `mend` says what to do about one that is broken.

        Raises:
            DataError: The file is missing, broken, of another version, or holds impossible counts.
        """
        content = read_json(path, mend)
        problems = content_problems(content)
        if problems:
            raise DataError(f"{path}: not a valid class counts file: {'; '.join(problems)}; {mend}")
        return cls.from_json(content)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ClassCounts:
        """The counts that `to_json` described, in which `content_problems` finds none."""
        if content["format"] == MULTI_LABEL_FORMAT:
            classes = list(content["classes"].values())
            void = np.array([of_class["void_pixels"] for of_class in classes], np.int64)
            absent, present = (
                {key: np.array([of_class[side][key] for of_class in classes], np.int64) for key in SIDE_KEYS}
                for side in SIDES
            )
            common: dict[str, Any] = {key: content[key] for key in SHARED_KEYS}
            return cls(
                names=tuple(content["classes"]),
                void_pixels=int(void.sum()),
                absent=AbsentCounts(**absent, void_pixels=void),
                **(common | present),
            )
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
            content.get("snapped_pixels", content.get("moved_pixels", 0)),  # as earlier files say it, if they do
        )

    def to_json(self) -> dict[str, Any]:
        """What `save` writes."""
        if self.absent is not None:
            shared = {key: getattr(self, key) for key in SHARED_KEYS}
            classes: dict[str, dict[str, Any]] = {}
            for index, name in enumerate(self.names):
                sides = zip(SIDES, (self.absent, self), strict=True)
                classes[name] = {
                    side: {key: int(getattr(counts, key)[index]) for key in SIDE_KEYS} for side, counts in sides
                }
                classes[name]["void_pixels"] = int(self.absent.void_pixels[index])
            return {"format": MULTI_LABEL_FORMAT, "version": VERSION, **shared, "classes": classes}
        return {
            "format": FORMAT,
            "version": VERSION,
            "class_names": list(self.names),
            "ignore_index": self.ignore_index,
            "encoding": self.encoding,
            "num_images": self.num_images,
            "fingerprint": self.fingerprint,
            "void_pixels": self.void_pixels,
            "snapped_pixels": self.snapped_pixels,
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


def read_json(path: Path, mend: str = RECOUNT) -> Any:
    """The content of a counts file; `mend` as in `ClassCounts.load`.

    Raises:
        DataError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the class counts: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: not a class counts file, broken JSON: {error}; {mend}") from None


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
    kind = content.get("format") if isinstance(content, dict) else None
    if kind not in (FORMAT, MULTI_LABEL_FORMAT):
        return [f'it has no "format": "{FORMAT}"']
    if content.get("version") != VERSION:
        return [f"version: got {content.get('version')!r}, allowed: {VERSION}"]
    if kind == MULTI_LABEL_FORMAT:
        return _multi_label_problems(content)
    names = content.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return [f"class_names: got {names!r}, allowed: a list of names"]
    problems = []
    for key in ("ignore_index", "num_images", "void_pixels", "snapped_pixels"):
        if not _is_count(content.get(key, 0 if key == "snapped_pixels" else None)):
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


def _multi_label_problems(content: dict[str, Any]) -> list[str]:
    """The same of classes that may overlap, each looked at as a file of its two sides."""
    classes = content.get("classes")
    if not isinstance(classes, dict) or not classes or not all(isinstance(one, dict) for one in classes.values()):
        return [f"classes: got {classes!r}, allowed: the counts of each class, by name"]
    shared = {key: content.get(key) for key in SHARED_KEYS}
    problems = []
    for name, one in classes.items():
        sides = [one.get(side) for side in SIDES]
        counts = {key: [side.get(key) if isinstance(side, dict) else None for side in sides] for key in SIDE_KEYS}
        void = one.get("void_pixels")
        single = {"format": FORMAT, "version": VERSION, "class_names": list(SIDES), **shared, **counts}
        problems += [f"class '{name}': {problem}" for problem in content_problems({**single, "void_pixels": void})]
    return problems


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
