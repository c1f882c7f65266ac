"""Rectangles of an image, and what a resized or warped part of it needs of the whole: so that only that is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

BLOCK_PIXELS = 2**22  # of one block that `blocks` gives: 4 bands of uint16 are 32 MiB


class Window(NamedTuple):
    """A rectangle of whole pixels of an image.

    Attributes:
        top: First row.
        left: First column.
        height: Rows, above 0.
        width: Columns, above 0.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array with."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def flipped(self, shape: tuple[int, int], vertical: bool, horizontal: bool) -> Window:
        """Where the window lies in the image (height, width) = `shape` after it is flipped; its own inverse."""
        top = shape[0] - self.top - self.height if vertical else self.top
        left = shape[1] - self.left - self.width if horizontal else self.left
        return Window(top, left, self.height, self.width)


def whole(shape: tuple[int, int]) -> Window:
    """All of an image (height, width)."""
    return Window(0, 0, *shape)


def blocks(shape: tuple[int, int], block: tuple[int, int], pixels: int = BLOCK_PIXELS) -> Iterator[Window]:
    """Windows that cover an image, each pixel once, along the borders of the blocks that its file stores.

    Args:
        shape: (height, width) of the image.
        block: (height, width) of what the file stores, and decodes, as one: its tiles or strips.
        pixels: About as many pixels a window, at least one stored block.
    """
    columns = min(shape[1], block[1] * max(1, pixels // (block[0] * block[1])))
    rows = min(shape[0], block[0] * max(1, pixels // (block[0] * columns)))
    for top in range(0, shape[0], rows):
        for left in range(0, shape[1], columns):
            yield Window(top, left, min(rows, shape[0] - top), min(columns, shape[1] - left))


def warp_window(
    shape: tuple[int, int], size: tuple[int, int], matrix: np.ndarray, displacement: np.ndarray | None
) -> Window:
    """What a warp samples of its input: the bounding box of all sampled points, one pixel wider for interpolation.

    Args:
        shape: (height, width) of the input.
        size: The same of the output.
        matrix: (2, 3) from output (x, y) to input (x, y).
        displacement: (height, width, 2) added to that, in (x, y), or None.

    Returns:
        A window inside the input, at least one pixel large also where the warp samples none.
    """
    corners = np.array([[x, y, 1.0] for x in (0, size[1] - 1) for y in (0, size[0] - 1)])
    points = corners @ matrix.T  # (4, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    if displacement is not None:
        low, high = low + displacement.min(axis=(0, 1)), high + displacement.max(axis=(0, 1))
    limit = np.array([shape[1], shape[0]])
    first = np.clip(np.floor(low).astype(int) - 1, 0, limit - 1)
    last = np.clip(np.ceil(high).astype(int) + 2, first + 1, limit)
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    return Window(top, left, bottom - top, right - left)


def before_shrinking(window: Window, shape: tuple[int, int], shrunk: tuple[int, int]) -> Window:
    """The pixels of an image `shape` that a window of its version shrunk to `shrunk` is made of."""
    spans = [
        _span(start, start + length, full, small)
        for start, length, full, small in zip(window[:2], window[2:], shape, shrunk, strict=True)
    ]
    (top, bottom), (left, right) = spans
    return Window(top, left, bottom - top, right - left)


def _span(start: int, stop: int, full: int, small: int) -> tuple[int, int]:
    """First and one past the last pixel under [start, stop) of an axis shrunk from `full` to `small`; exact."""
    return start * full // small, -(-stop * full // small)


def shrink_image(pixels: np.ndarray, window: Window, shape: tuple[int, int], shrunk: tuple[int, int]) -> np.ndarray:
    """A window of an image shrunk by area averaging, from the part `before_shrinking` of it.

    What `seg.data.files.images.resize_image` gives there for the whole image, up to the rounding of its sums (1 step of
    uint8, 1e-5 of the value range of float32).

    Args:
        pixels: (h, w, B) uint8 or float32: the part.
        window: Of the shrunk image.
        shape: (height, width) of the whole image.
        shrunk: The same after shrinking.

    Returns:
        (window.height, window.width, B), same dtype.
    """
    if tuple(shape) == tuple(shrunk):
        return pixels
    height, width, bands = pixels.shape
    rows = _area_weights(window.top, window.height, shape[0], shrunk[0])
    columns = _area_weights(window.left, window.width, shape[1], shrunk[1])
    values = (rows @ pixels.reshape(height, width * bands).astype(np.float32)).reshape(-1, width, bands)
    turned = np.ascontiguousarray(values.transpose(1, 0, 2)).reshape(width, -1)
    values = (columns @ turned).reshape(window.width, window.height, bands).transpose(1, 0, 2)
    return np.rint(values).astype(pixels.dtype) if pixels.dtype == np.uint8 else np.ascontiguousarray(values)


def _area_weights(start: int, length: int, full: int, small: int) -> Any:
    """(length, span) float32: the share that each pixel of the span has in each shrunk pixel; rows sum to 1."""
    from scipy import sparse  # 0.2 s, which commands on masks shall not wait for

    first, last = _span(start, start + length, full, small)
    edges = (start + np.arange(length + 1)) * (full / small)
    span = int(np.ceil(full / small)) + 1  # pixels that a shrunk one can touch
    touched = np.floor(edges[:-1]).astype(int)[:, None] + np.arange(span)  # (length, span)
    share = np.minimum(touched + 1, edges[1:, None]) - np.maximum(touched, edges[:-1, None])
    share = np.where((touched >= first) & (touched < last), np.clip(share, 0, None), 0)
    share /= share.sum(axis=1, keepdims=True)
    columns = np.clip(touched - first, 0, last - first - 1)
    starts = np.arange(length + 1) * span
    return sparse.csr_array((share.ravel().astype(np.float32), columns.ravel(), starts), shape=(length, last - first))


def shrink_mask(mask: np.ndarray, window: Window, shape: tuple[int, int], shrunk: tuple[int, int]) -> np.ndarray:
    """A window of a mask (h, w[, B]) shrunk to the pixels at the centres, from the part `before_shrinking` of it."""
    if tuple(shape) == tuple(shrunk):
        return mask
    indices = []
    for start, length, full, small in zip(window[:2], window[2:], shape, shrunk, strict=True):
        centres = (2 * (start + np.arange(length)) + 1) * full // (2 * small)  # floor((i + 1/2) full / small), exact
        indices.append(centres - _span(start, start + length, full, small)[0])
    return mask[np.ix_(*indices)]
