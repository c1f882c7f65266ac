"""One mask file -> how many pixels each class has in it, without an image where the file allows."""

from __future__ import annotations

import importlib
import threading
from concurrent.futures import Future

import cv2
import numpy as np

from seg.data.masks import BinaryEncoding, IndexEncoding, MaskEncoding, PaletteEncoding, decode_mask, read_mask
from seg.data.reading import is_plain, stored_blocks
from seg.data.storage import File, read_bytes
from seg.labels import LabelSet

EXACT_PIXELS = 2**24  # cv2.calcHist returns float32, which counts exactly up to here
_COLOUR_TYPE = 25  # the byte of a PNG that says what its samples are
_histogram: Future[object] = Future()
_loading = threading.Lock()


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
        _histogram.set_result(importlib.import_module("seg.data.png_histogram").png_value_counts)
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
        DataError, ConfigError: As `seg.data.masks.read_mask`.
    """
    if not is_plain(file):
        parts = (read_mask(file, labels, encoding, window) for window in stored_blocks(file))
        return np.sum([mask_pixels(part, labels) for part in parts], axis=0)
    data = read_bytes(file)
    counts = _count_values(data, labels, encoding) if _histogram.done() else None
    return counts if counts is not None else mask_pixels(decode_mask(data, file, labels, encoding), labels)


def mask_pixels(mask: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(C + 1,) int64 as `count_pixels`, of a mask in memory: (H, W) uint8 class indices and `ignore_index`."""
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
    """`count_pixels` from the file's histogram; None where the ordinary reader must look."""
    palette = data[_COLOUR_TYPE : _COLOUR_TYPE + 1] == b"\3"
    fits = isinstance(encoding, PaletteEncoding) if palette else isinstance(encoding, IndexEncoding | BinaryEncoding)
    values = _histogram.result()(data) if fits else None  # type: ignore[operator]
    if values is None:
        return None
    if isinstance(encoding, BinaryEncoding):
        ones = values[encoding.threshold + 1 :].sum()
        return np.array([values.sum() - ones, ones, 0]) if labels.num_classes == 2 else None
    counts = _of_values(values, labels)
    return counts if counts.sum() == values.sum() else None  # a value that is neither class nor void


def _of_values(values: np.ndarray, labels: LabelSet) -> np.ndarray:
    counts = np.empty(labels.num_classes + 1, np.int64)
    counts[:-1] = values[: labels.num_classes]
    counts[-1] = values[labels.ignore_index]
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
