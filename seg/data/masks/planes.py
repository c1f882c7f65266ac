"""Masks whose classes may overlap: a TIFF with a plane for each class.

Plane k is class k. Its values are 0 (absent), 1 (present) and `ignore_index` (not labelled: this pixel tells nothing
of this class, and may tell of another). 255 is what image editors and NumPy's `mask * 255` write for present, and what
is void by default; it cannot be both. So 255 is void where `ignore_index` is 255, and present where `ignore_index` is
another value: for planes of 0 and 255 set `labels.ignore_index` to a value that they do not have, such as 2. Any other
value is an error that names the file, the class, the value and the pixel count.

The planes are pages, or the bands of one page, all of 8 bits and one size. In memory a mask is (H, W, K) uint8 with the
values 0, 1 and `ignore_index`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from seg.data.files.limited import Limited
from seg.data.files.planes import Planes
from seg.data.files.reading import reader
from seg.data.files.storage import File, LimitedMask, write_bytes
from seg.data.files.stored import Reader, Stored
from seg.data.masks.base import Decoded, Encoding
from seg.errors import DataError
from seg.labels import LabelSet

PRESENT_ALSO = 255  # see above
DEFLATE = 8  # libtiff's number; planes of few values shrink to a few per cent


@dataclass(frozen=True)
class MultiLabelEncoding(Encoding):
    """A TIFF of K pages, or of one page with K bands: see this module."""

    name: ClassVar[str] = "multi_label"

    def reader(self, file: File) -> Reader:
        """As `Encoding.reader`."""
        if isinstance(file, LimitedMask):
            return Limited(file, Planes(file.mask), None if file.valid is None else reader(file.valid))
        return Planes(file)

    def decode(self, stored: Stored, labels: LabelSet) -> Decoded:
        """(h, w, K) uint8: 0, 1 and `labels.ignore_index`.

        Raises:
            DataError: There are other than K planes, or one holds another value.
        """
        return Decoded(np.ascontiguousarray(np.moveaxis(np.stack(_checked_planes(stored, labels)), 0, -1)))

    def encode(self, mask: np.ndarray, labels: LabelSet) -> bytes:
        """A TIFF of K pages, of (h, w, K) uint8."""
        return planes_file(mask)


def count_planes(file: File, labels: LabelSet, encoding: Encoding | None = None) -> np.ndarray:
    """(K, 3) int64: of each class the pixels where it is absent, present and not labelled; counted as `encoding`, a
    `MultiLabelEncoding` or one that wraps it, says.

    Raises:
        DataError: The file is not read, or holds an unknown value.
    """
    encoding = encoding or MultiLabelEncoding()
    stored = encoding.reader(file).read()
    planes, void = _checked_planes(stored, labels), stored.void()
    if void is not None:
        planes = [np.where(void, np.uint8(labels.ignore_index), plane) for plane in planes]
    if stored.annotated is not None:
        whole = np.full_like(planes[0], labels.ignore_index)
        planes = [p if n in stored.annotated else whole for p, n in zip(planes, labels.names, strict=True)]
    planes = [encoding.as_seen(plane) for plane in planes]
    present = np.array([cv2.countNonZero(cv2.inRange(plane, 1, 1)) for plane in planes], np.int64)
    labelled = np.array([cv2.countNonZero(cv2.inRange(plane, 0, 1)) for plane in planes], np.int64)
    return np.stack([labelled - present, present, planes[0].size - labelled], axis=1)


def write_planes(path: Path, mask: np.ndarray) -> None:
    """Writes a mask as a TIFF of K pages, whole or not at all; makes the folder where it is missing.

    Args:
        path: A file name ending in .tif or .tiff.
        mask: (H, W, K) uint8.

    Raises:
        ValueError: Another shape, dtype or suffix.
    """
    if mask.dtype != np.uint8 or mask.ndim != 3:
        raise ValueError(f"mask: got {mask.dtype} of shape {mask.shape}, allowed: uint8 of shape (H, W, K)")
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"path: got {path}, allowed: a name ending in .tif or .tiff")
    write_bytes(path, planes_file(mask))


def planes_file(mask: np.ndarray) -> bytes:
    """A TIFF of K pages of a mask (H, W, K) uint8."""
    pages = [np.ascontiguousarray(mask[..., index]) for index in range(mask.shape[2])]
    _, encoded = cv2.imencodemulti(".tiff", pages, [cv2.IMWRITE_TIFF_COMPRESSION, DEFLATE])
    return encoded.tobytes()


def _checked_planes(stored: Stored, labels: LabelSet) -> list[np.ndarray]:
    """The K planes (h, w) of a file, after a look at every value that they have."""
    if stored.values.shape[2] != labels.num_classes:
        raise DataError(
            f"{stored.file}: got {stored.values.shape[2]} {stored.kind[:-1]}(s), allowed: {labels.num_classes}, one a "
            f"class ({labels.names[0]} to {labels.names[-1]})"
        )
    planes = [np.ascontiguousarray(stored.values[..., index]) for index in range(labels.num_classes)]
    return [_checked(plane, name, labels, stored.file) for plane, name in zip(planes, labels.names, strict=True)]


def _checked(plane: np.ndarray, name: str, labels: LabelSet, path: File) -> np.ndarray:
    """The plane with its other value for present replaced, after a look at every value that it has."""
    histogram = cv2.calcHist([plane.reshape(-1, 1)], [0], None, [256], [0, 256]).ravel()
    values = set(np.flatnonzero(histogram).tolist())
    unknown = sorted(values - {0, 1, PRESENT_ALSO, labels.ignore_index})
    if unknown:
        listed = ", ".join(f"{value} in {np.count_nonzero(plane == value)} pixels" for value in unknown[:5])
        more = f" and {len(unknown) - 5} more values" if len(unknown) > 5 else ""
        also = "" if labels.ignore_index == PRESENT_ALSO else f" or {PRESENT_ALSO}"
        raise DataError(
            f"{path}: plane of class '{name}': value {listed}{more}; allowed: 0 (absent), 1{also} (present) and "
            f"{labels.ignore_index} (not labelled)"
        )
    if PRESENT_ALSO in values and labels.ignore_index != PRESENT_ALSO:
        return np.where(plane == PRESENT_ALSO, np.uint8(1), plane)
    return plane
