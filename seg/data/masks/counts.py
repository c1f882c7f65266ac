"""One mask file -> how many pixels each class has in it, without an image where the file allows."""

from __future__ import annotations

import importlib
import threading
from concurrent.futures import Future

import cv2
import numpy as np

from seg.data.files.reading import stored_blocks
from seg.data.files.storage import File
from seg.data.masks.encodings import UNKNOWN, MaskEncoding
from seg.data.masks.reading import decode_stored
from seg.labels import LabelSet

EXACT_PIXELS = 2**24  # cv2.calcHist returns float32, which counts exactly up to here
_COLOUR_TYPE = 25  # the byte of a PNG that says what its samples are
_PNG_KINDS = {b"\0": "gray", b"\3": "palette"}
_histogram: Future[object] = Future()
_loading = threading.Lock()
_latest: dict[str, tuple[MaskEncoding, LabelSet, np.ndarray]] = {}


def load_fast_counter(wait: bool = False) -> None:
    """Loads the compiled counter in the background: half a second, and the first time ever some seconds to compile.

    Until it is there masks are counted by the ordinary reader, so that a small folder never waits. Both give the same.

    Args:
        wait: Return once it is loaded; for benchmarks.
    """
    if _loading.acquire(blocking=False):  # never released: once a process
        threading.Thread(target=_load, name="fast mask counter", daemon=True).start()
    if wait:
        _histogram.result()


def _load() -> None:
    try:
        _histogram.set_result(importlib.import_module("seg.data.files.png_histogram").png_value_counts)
    except BaseException as error:  # shown by the first count that asks for it
        _histogram.set_exception(error)


def count_pixels(file: File, labels: LabelSet, encoding: MaskEncoding) -> np.ndarray:
    """Counts the pixels of a mask file.

    Args:
        file: The mask.
        labels: The classes.
        encoding: What the file's values mean.

    Returns:
        (C + 1,) int64: the pixels of each class, then the void pixels.

    Raises:
        DataError, ConfigError: As `seg.data.masks.reading.read_mask`.
    """
    return count_pixels_and_snapped(file, labels, encoding)[0]


def count_pixels_and_snapped(file: File, labels: LabelSet, encoding: MaskEncoding) -> tuple[np.ndarray, int]:
    """As `count_pixels`, with the number of pixels that `ColourEncoding.tolerance` snapped to another colour."""
    source = encoding.reader(file)
    data = source.contents
    counts = _count_values(data, labels, encoding) if data is not None and _histogram.done() else None
    if counts is not None:
        return counts, 0
    counts, snapped = np.zeros(labels.num_classes + 1, np.int64), 0
    for window in (None,) if encoding.whole else stored_blocks(source):
        found = decode_stored(source.read(window), labels, encoding)
        counts += mask_pixels(encoding.as_seen(found.mask), labels)
        snapped += found.snapped
    return counts, snapped


def mask_pixels(mask: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(C + 1,) int64 as `count_pixels`, of a mask in memory: (H, W) uint8 class indices and `ignore_index`. What is one
    of several classes counts as void."""
    return _of_values(value_counts(mask), labels)


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


def _count_values(data: bytes, labels: LabelSet, encoding: MaskEncoding) -> np.ndarray | None:
    """`count_pixels` from the histogram of a PNG; None where the ordinary reader must look."""
    if encoding.histogram != _PNG_KINDS.get(data[_COLOUR_TYPE : _COLOUR_TYPE + 1], ""):
        return None
    values = _histogram.result()(data)  # type: ignore[operator]
    if values is None:
        return None
    # float64 sums of integers are exact below 2^53 pixels
    sums = np.bincount(_slots(encoding, labels), values, labels.num_classes + 2).astype(np.int64)
    return sums[:-1] if sums[-1] == 0 else None  # a value that is neither class nor void


def _slots(encoding: MaskEncoding, labels: LabelSet) -> np.ndarray:
    """(256,) int64: where the count of each value of an 8-bit file goes, its class, C for void or C + 1 for unknown.

    The latest are kept by identity: hashing 255 classes for a cache takes a sixth of the time of a small mask.
    """
    kept = _latest.get("slots")
    if kept is None or kept[0] is not encoding or kept[1] is not labels:
        kept = _latest["slots"] = (encoding, labels, _new_slots(encoding, labels))
    return kept[2]


def _new_slots(encoding: MaskEncoding, labels: LabelSet) -> np.ndarray:
    meanings = encoding.table(labels)[:256].astype(np.int64)
    slots = np.where(meanings == labels.ignore_index, labels.num_classes, meanings)
    return np.where(meanings == UNKNOWN, labels.num_classes + 1, slots)


def _of_values(values: np.ndarray, labels: LabelSet) -> np.ndarray:
    counts = np.empty(labels.num_classes + 1, np.int64)
    counts[:-1] = values[: labels.num_classes]
    counts[-1] = values[labels.ignore_index] + values[list(labels.codes)].sum()
    return counts


def components(mask: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """The areas, in pixels, of each class's connected components (8 neighbours), unordered.

    Args:
        mask: (H, W) uint8 class indices; other values belong to no component.
        num_classes: C.

    Returns:
        C int64 arrays, one area each; empty for a class without pixels.
    """
    present = np.flatnonzero(value_counts(mask)[:num_classes])
    areas: list[np.ndarray] = [np.zeros(0, np.int64)] * num_classes
    for index in present.tolist():
        own = cv2.inRange(mask, index, index)
        left, top, width, height = cv2.boundingRect(own)  # most classes fill a part of the image only
        _, _, statistics, _ = cv2.connectedComponentsWithStats(own[top : top + height, left : left + width])
        areas[index] = statistics[1:, cv2.CC_STAT_AREA].astype(np.int64)  # 0 is the background
    return areas
