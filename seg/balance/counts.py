"""Mask files -> class counts, and the JSON file that keeps them.

One streaming pass: a thread pool decodes and counts (both release the GIL) and hands back a few hundred numbers a
file, so memory does not grow with the number of masks. All counts are integers, so they are exact, and the counts of a
union are the sum of the counts: `count_masks(a) + count_masks(b) == count_masks(a + b)`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg.data.masks import MaskEncoding, read_mask
from seg.errors import DataError
from seg.labels import LabelSet

FORMAT = "seg class counts"
VERSION = 1
QUEUED_PER_WORKER = 4  # enough to keep every thread busy; a bound on what waits in memory and on how long Ctrl-C takes
EXACT_PIXELS = 2**24  # cv2.calcHist returns float32, which counts exactly up to here
MAX_COUNT = 2**63 - 1
FINGERPRINT_MODULUS = 2**256
RECOUNT = "count again: python -m data_tools.mask_frequencies --config FILE --out COUNTS.json"


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """What a set of masks contains. Void pixels are counted apart and belong to no class.

    Attributes:
        names: The C class names; index = class.
        ignore_index: The value that stood for void.
        encoding: The name of the encoding that the masks were read with.
        pixel_counts: (C,) int64, n_c: pixels of each class.
        image_counts: (C,) int64: masks that contain the class.
        image_pixels: (C,) int64: labelled pixels (of any class) of the masks that contain the class.
        void_pixels: Pixels without a label.
        num_images: Masks counted.
        fingerprint: Of the file list, see `fingerprint_files`.
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
        differences = _differences(self, other.names, other.ignore_index, other.encoding, None)
        if differences:
            raise DataError(f"class counts cannot be added: {'; '.join(differences)}")
        return ClassCounts(
            self.names,
            self.ignore_index,
            self.encoding,
            self.pixel_counts + other.pixel_counts,
            self.image_counts + other.image_counts,
            self.image_pixels + other.image_pixels,
            self.void_pixels + other.void_pixels,
            self.num_images + other.num_images,
            _hex((int(self.fingerprint, 16) + int(other.fingerprint, 16)) % FINGERPRINT_MODULUS),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassCounts) and self._to_json() == other._to_json()

    def check_matches(self, names: Sequence[str], ignore_index: int, encoding: str, fingerprint: str) -> None:
        """Refuses counts that were made from other masks than those at hand.

        Raises:
            DataError: Names, ignore_index, encoding or files differ; says which, what was got and what was expected.
        """
        differences = _differences(self, names, ignore_index, encoding, fingerprint)
        if differences:
            raise DataError(
                f"these class counts do not match the data: {'; '.join(differences)}. To mend it, {RECOUNT}"
            )

    def save(self, path: Path) -> None:
        """Writes the JSON file that `load` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self._to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> ClassCounts:
        """Reads and checks a file that `save` wrote.

        Raises:
            DataError: The file is missing, broken, of another version, or holds impossible counts.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot read the class counts: {error.strerror}") from None
        except ValueError as error:
            raise DataError(f"{path}: not a class counts file, broken JSON: {error}; {RECOUNT}") from None
        problems = _content_problems(content)
        if problems:
            raise DataError(f"{path}: not a valid class counts file: {'; '.join(problems)}; {RECOUNT}")
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
        )

    def _to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "class_names": list(self.names),
            "ignore_index": self.ignore_index,
            "encoding": self.encoding,
            "num_images": self.num_images,
            "fingerprint": self.fingerprint,
            "void_pixels": self.void_pixels,
            "pixel_counts": self.pixel_counts.tolist(),
            "image_counts": self.image_counts.tolist(),
            "image_pixels": self.image_pixels.tolist(),
        }


def count_masks(
    masks: Sequence[Path],
    labels: LabelSet,
    encoding: MaskEncoding,
    *,
    root: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ClassCounts:
    """Counts masks in one streaming pass.

    Args:
        masks: Mask files; one listed twice counts twice.
        labels: Class names and ignore_index.
        encoding: How the files store classes.
        root: What the fingerprint's paths are relative to; default: the masks' common folder.
        workers: Threads; default: one per CPU.
        progress: Called from the calling thread after each mask, in order, with the number of masks done.

    Raises:
        DataError: No masks, or a mask cannot be read or holds a value that is no class; names the file.
    """
    if not masks:
        raise DataError("no masks to count: the list is empty")
    workers = workers or os.cpu_count() or 1
    root = root or _common_folder(masks)
    totals = np.zeros((3, labels.num_classes), np.int64)  # rows: pixels, images, labelled pixels of those images
    void_pixels = fingerprint = 0

    def count_one(mask: Path) -> tuple[np.ndarray, int]:
        return value_counts(read_mask(mask, labels, encoding)), _file_hash(mask, root)

    for done, (values, file_hash) in enumerate(_in_order(count_one, masks, workers), start=1):
        pixels = values[: labels.num_classes]
        totals += np.stack([pixels, pixels > 0, (pixels > 0) * pixels.sum()])
        void_pixels += int(values[labels.ignore_index])
        fingerprint = (fingerprint + file_hash) % FINGERPRINT_MODULUS
        if progress is not None:
            progress(done)
    pixel_counts, image_counts, image_pixels = totals
    return ClassCounts(
        labels.names,
        labels.ignore_index,
        encoding.name,
        pixel_counts,
        image_counts,
        image_pixels,
        void_pixels,
        len(masks),
        _hex(fingerprint),
    )


def value_counts(mask: np.ndarray) -> np.ndarray:
    """(256,) int64: how often each value occurs in a uint8 mask of any shape.

    `cv2.calcHist` is about twice as fast as `np.bincount`, makes no int64 copy of the mask and releases the GIL.
    """
    flat = mask.reshape(-1, 1)
    counts = np.zeros(256, np.int64)
    for start in range(0, len(flat), EXACT_PIXELS):
        part = cv2.calcHist([flat[start : start + EXACT_PIXELS]], [0], None, [256], [0, 256])
        counts += part.ravel().astype(np.int64)  # OpenCV 4 returns (256, 1), OpenCV 5 (256,)
    return counts


def fingerprint_files(masks: Sequence[Path], root: Path | None = None) -> str:
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
    root = root or _common_folder(masks)
    return _hex(sum(_file_hash(mask, root) for mask in masks) % FINGERPRINT_MODULUS)


def _in_order(function: Callable[[Path], Any], items: Sequence[Path], workers: int) -> Iterator[Any]:
    """function(item) for every item, in order, from a thread pool with a bounded queue.

    `ThreadPoolExecutor.map` would create a future for every item at once and finish them all after an error.
    """
    pending: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > workers * QUEUED_PER_WORKER:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # after an error or Ctrl-C only the files being decoded are finished
            pool.shutdown(wait=False, cancel_futures=True)


def _common_folder(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([file.absolute().parent for file in files])) if files else Path()


def _file_hash(file: Path, root: Path) -> int:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file}: cannot read the mask: {error.strerror}") from None
    relative = Path(os.path.relpath(file, root)).as_posix()
    return int.from_bytes(hashlib.sha256(os.fsencode(relative) + b"\0%d" % size).digest(), "big")


def _hex(fingerprint: int) -> str:
    return f"{fingerprint:064x}"


def _differences(
    counts: ClassCounts, names: Sequence[str], ignore_index: int, encoding: str, fingerprint: str | None
) -> list[str]:
    differences = []
    if counts.names != tuple(names):
        differences.append(f"class names: got {', '.join(counts.names)}; expected {', '.join(names)}")
    if counts.ignore_index != ignore_index:
        differences.append(f"ignore_index: got {counts.ignore_index}, expected {ignore_index}")
    if counts.encoding != encoding:
        differences.append(f"encoding: got {counts.encoding}, expected {encoding}")
    if fingerprint is not None and counts.fingerprint != fingerprint:
        differences.append(
            f"files (paths and sizes): got fingerprint {counts.fingerprint[:12]} of {counts.num_images} masks, "
            f"expected {fingerprint[:12]}"
        )
    return differences


def _content_problems(content: Any) -> list[str]:
    """What is wrong with the content of a counts file: first its keys and types, and if those hold, its sense."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return [f'it has no "format": "{FORMAT}"']
    if content.get("version") != VERSION:
        return [f"version: got {content.get('version')!r}, allowed: {VERSION}"]
    names = content.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return [f"class_names: got {names!r}, allowed: a list of names"]
    problems = []
    for key in ("ignore_index", "num_images", "void_pixels"):
        if not _is_count(content.get(key)):
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
