"""One pair of image and mask: opened, read to its end, and looked at for everything that one pair can tell."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from data_tools.checks.alignment import better_place
from data_tools.checks.findings import Finding
from data_tools.checks.perceptual_hash import PerceptualHash
from data_tools.checks.reading import SeenImage, SeenMask, not_finite, see_image, see_mask, stored_pieces
from data_tools.checks.unknown_labels import describe_unknown
from seg.data.files.grids import check_grids
from seg.data.files.storage import File, holder, mask_file, read_bytes, relative_name
from seg.data.files.stored import Bands
from seg.data.masks.encodings import MaskEncoding
from seg.data.samples.pairs import Sample
from seg.errors import DataError
from seg.labels import LabelSet

Seen = TypeVar("Seen", SeenImage, SeenMask)
_ORIENTATION, _UPRIGHT = 274, 1  # the EXIF and TIFF tag, and what it says of an image that needs no turning
_HASHED_AT_ONCE = 1 << 20  # bytes
_BROKEN = "cut short or corrupt"  # how the readers word what they cannot decode
_UNREAD = ("cannot be read", "can be read", "cannot be decoded")  # and what they find no form in, or no file


@dataclass(frozen=True)
class Rules:
    """How the files are read, and where a check draws its lines.

    Attributes:
        labels: The classes.
        encoding: How masks store them.
        bands: Of an image as the model sees it: how many, or which.
        nodata: The value that means no data; None: the one that a raster names.
        small_pixels: Components of fewer pixels are small.
        near_bits: Images whose hashes differ in at most so many of 64 bits ...
        near_correlation: ... and whose thumbnails correlate at least so much are near duplicates.
    """

    labels: LabelSet
    encoding: MaskEncoding
    bands: Bands = 3
    nodata: float | None = None
    small_pixels: int = 5
    near_bits: int = 8
    near_correlation: float = 0.7


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image adds to what the whole dataset is asked.

    Attributes:
        digest: Of the file's bytes.
        form: How it is stored, for example "an 8-bit RGB PNG".
        brightest: Its largest value as a share of what its dtype can hold; 1 for floats.
        constant: All pixels are alike.
        perceptual_hash: See `data_tools.checks.perceptual_hash`; None where there is nothing to see.
    """

    digest: bytes
    form: str
    brightest: float
    constant: bool
    perceptual_hash: PerceptualHash | None


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What a mask adds to what the whole dataset is asked.

    Attributes:
        digest: Of the file's bytes.
        pixels: (C + 1,) int64: pixels of each class, then those of which nothing is known.
        small_components: (3, C) int64: components, those that are small, and the small_components' pixels.
        palette: As of `SeenMask`.
    """

    digest: bytes
    pixels: np.ndarray
    small_components: np.ndarray
    palette: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What was found in a pair, and what it adds to the whole; a file that cannot be used adds nothing."""

    findings: tuple[Finding, ...] = ()
    image: ImageFacts | None = None
    mask: MaskFacts | None = None


class _Notes:
    """Collects the findings on a file, and on a pair of which it is the first."""

    def __init__(self, split: str, *names: str) -> None:
        self.split, self.names = split, names
        self.findings: list[Finding] = []

    def add(self, kind: str, text: str) -> None:
        self.findings.append(Finding(kind, self.names, text, self.split))


def check_pair(sample: Sample, split: str, root: Path, rules: Rules) -> PairFacts:
    """Opens a pair and reads both files to their ends; never raises for what is in them.

    Args:
        sample: The pair.
        split: For the findings.
        root: What names are relative to.
        rules: How to read it, and what to look for.
    """
    mask_path = mask_file(sample.mask)
    names = (relative_name(sample.image, root), relative_name(mask_path, root))
    on_image, on_mask, on_both = _Notes(split, names[0]), _Notes(split, names[1]), _Notes(split, *names)
    image = _read(sample.image, "image", on_image, lambda: see_image(sample.image, rules.bands, rules.nodata))
    mask = _read(mask_path, "mask", on_mask, lambda: see_mask(sample.mask, rules.labels, rules.encoding), rules)
    digests = _digest(sample.image, image), _digest(mask_path, mask)
    image_facts = None if image is None else _image_facts(image, digests[0], on_image)
    mask_facts = None if mask is None else _mask_facts(sample.mask, mask, digests[1], rules, on_mask)
    if digests[0] and digests[0] == digests[1]:
        on_both.add("image-is-mask", "image and mask have the same bytes")
    if image is not None and mask is not None:
        _compare(sample, image, mask, rules, on_both)
    return PairFacts((*on_image.findings, *on_mask.findings, *on_both.findings), image_facts, mask_facts)


def _read(path: File, what: str, notes: _Notes, read: Callable[[], Seen], rules: Rules | None = None) -> Seen | None:
    """What `read` returns, or None and the reason why it refuses the file."""
    try:
        return read()
    except DataError as error:
        text = describe_unknown(path, rules.labels, rules.encoding, error) if rules else None
        if text is not None:
            notes.add("unknown-labels", text)
        else:
            _note_refusal(path, what, notes, str(error).removeprefix(f"{path}: "))
        return None


def _digest(file: File, seen: SeenImage | SeenMask | None) -> bytes:
    """What tells whether two files are the same: of their bytes, of a slice its values."""
    path = holder(file)
    if path is file and isinstance(path, Path):
        return file_digest(path)
    return b"" if seen is None else seen.digest


def _note_refusal(path: File, what: str, notes: _Notes, text: str) -> None:
    """A refused file is turned, of a form that is not read (a decoder reads it), or broken (none does)."""
    stored = holder(path)
    text = text.removeprefix(f"{stored}: ").replace(str(stored), stored.name)
    pixels = _decoded(path)
    if _BROKEN in text or (pixels is None and any(words in text for words in _UNREAD)):
        notes.add(f"unreadable-{what}", text)
        return
    notes.add("turned-file" if _orientation(path) != _UPRIGHT else f"unsupported-{what}", text)
    if what == "image" and pixels is not None and (problem := not_finite(pixels)):
        notes.add("not-finite", problem)


def _decoded(path: File) -> np.ndarray | None:
    """The pixels by OpenCV, which is less strict about their form than this project; None for a broken file."""
    try:
        return cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    except (DataError, cv2.error):
        return None


def _orientation(path: File) -> int:
    try:
        with Image.open(str(path)) as image:
            return int(image.getexif().get(_ORIENTATION, _UPRIGHT))
    except Exception:  # PIL's parsers raise whatever a broken byte leads them to
        return _UPRIGHT


def file_digest(path: Path) -> bytes:
    """16 bytes of BLAKE2b of a file, read piece by piece; empty for a file that cannot be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_HASHED_AT_ONCE):
                digest.update(piece)
    except OSError:
        return b""
    return digest.digest()


def _image_facts(image: SeenImage, digest: bytes, notes: _Notes) -> ImageFacts:
    form, values = image.form, image.values
    if values.problem:
        notes.add("not-finite", values.problem)
        return ImageFacts(digest, form, 1.0, False, None)
    if values.constant:
        pixels = image.shape[0] * image.shape[1]
        said = f"all {pixels} pixels are {values.first.tolist()}"
        notes.add("constant-image", said if values.present else f"all {pixels} pixels are nodata")
    brightest = 1.0
    if np.issubdtype(image.dtype, np.integer):
        brightest = values.largest / float(np.iinfo(image.dtype).max)
    return ImageFacts(digest, form, brightest, values.constant, image.perceptual_hash)


def _mask_facts(path: File, mask: SeenMask, digest: bytes, rules: Rules, notes: _Notes) -> MaskFacts:
    labels = rules.labels
    doubt = rules.encoding.doubt(stored_pieces(path, rules.encoding))
    if doubt is not None:
        notes.add(*doubt)
    pixels, areas = mask.pixels, mask.areas
    size = mask.shape[0] * mask.shape[1]
    present = np.flatnonzero(pixels[:-1]).tolist()
    if pixels[-1] == size:
        notes.add("all-void-mask", f"all {size} pixels are void")
    elif not present:
        notes.add("one-class-mask", f"no pixel is of any class, {size - pixels[-1]} are labelled")
    elif len(present) == 1 and not labels.multi_label:
        void = f", {pixels[-1]} are void" if pixels[-1] else ""
        text = f"{pixels[present[0]]} pixels are '{labels.names[present[0]]}', none is of another class{void}"
        notes.add("one-class-mask", text)
    small = [area[area < rules.small_pixels] for area in areas]
    small_components = np.array(
        [[len(area) for area in areas], [len(s) for s in small], [s.sum() for s in small]], np.int64
    )
    return MaskFacts(digest, pixels, small_components, mask.palette)


def _compare(sample: Sample, image: SeenImage, mask: SeenMask, rules: Rules, notes: _Notes) -> None:
    problem = _grid_problem(sample)
    if image.shape != mask.shape:
        notes.add("size-mismatch", problem or _sizes(image.shape, mask.shape))
        return
    if problem:
        notes.add("grid-mismatch", problem)
        return
    move = None if image.values.problem else better_place(image.middle, mask.middle, rules.labels.num_classes)
    if move is not None:
        vertical = f"{abs(move.down)} pixels {'down' if move.down > 0 else 'up'}" if move.down else ""
        horizontal = f"{abs(move.right)} pixels {'right' if move.right > 0 else 'left'}" if move.right else ""
        where = " and ".join(part for part in (vertical, horizontal) if part)
        margin = f"by {move.margin:.1f} standard deviations of the fits of all moves"
        notes.add("shifted-mask", f"the mask's outlines fit the image's edges better moved {where}, {margin}")


def _grid_problem(sample: Sample) -> str:
    """How the grids of a pair of rasters differ; empty where they agree, or are none."""
    image, mask = sample.image, sample.mask
    try:
        check_grids(image, mask)
    except DataError as error:
        return str(error).removeprefix(f"{image} and its mask {mask} are ")
    return ""


def _sizes(image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    text = f"the image is {image[0]} x {image[1]}, the mask {mask[0]} x {mask[1]} (height x width)"
    if image == mask[::-1]:
        return f"{text}: one of them is turned"
    if image[0] * mask[1] == image[1] * mask[0]:
        return f"{text}: the same shape at another scale"
    return f"{text}; allowed: equal sizes"
