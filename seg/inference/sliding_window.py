"""Logits of an image of any size: in one pass where it fits a tile, else in overlapping tiles blended into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from seg.data.files.windows import Window

SIGMA = 1 / 8  # of the tile: the border of a tile, where the model sees least context, then weighs 1/3000 of its middle


def predict_logits(model: Any, image: np.ndarray, *, tile: int, overlap: int) -> np.ndarray:
    """Predicts one image.

    An image of at most `tile` pixels on both sides is one forward pass. A larger one is cut into tiles that overlap by
    at least `overlap` pixels; where they do, logits are averaged with Gaussian weights around each tile's middle
    (Isensee et al., "nnU-Net", Nature Methods 2021, arXiv:1809.10486). The memory beside the result is one tile's,
    however many tiles there are.

    Args:
        model: A Keras model from (N, H, W, B) float32 of any H, W to logits (N, H, W, C).
        image: (H, W, B) float32, preprocessed.
        tile: Side of a tile in pixels.
        overlap: Pixels shared by neighbouring tiles, 0 to tile - 1.

    Returns:
        (H, W, C) float32.

    Raises:
        ValueError: `overlap` is not in 0 to tile - 1.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"got overlap {overlap} and tile {tile}, allowed: 0 <= overlap < tile")
    height, width = image.shape[:2]
    if height <= tile and width <= tile:
        return _forward(model, image)
    logits: np.ndarray | None = None
    for top, row_weights in axis_tiles(height, tile, overlap):
        rows = slice(top, top + len(row_weights))
        for left, column_weights in axis_tiles(width, tile, overlap):
            columns = slice(left, left + len(column_weights))
            part = _forward(model, image[rows, columns])
            part *= row_weights[:, None, None] * column_weights[None, :, None]  # (h, w, 1)
            if logits is None:
                logits = np.zeros((height, width, part.shape[-1]), np.float32)
            logits[rows, columns] += part
    assert logits is not None  # every axis has a tile
    return logits


def predict_rows(
    model: Any,
    read: Callable[[Window], tuple[np.ndarray, np.ndarray | None]],
    shape: tuple[int, int],
    *,
    tile: int,
    overlap: int,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """As `predict_logits`, to the bit, of an image that is read by windows, from top to bottom.

    The memory is that of the logits of one row of tiles, not of the image: tile x W x C float32.

    Args:
        model: As in `predict_logits`.
        read: Gives the preprocessed image in a window, (h, w, B) float32, and what is missing of it, (h, w) bool or
            None.
        shape: (height, width) of the image.
        tile: Side of a tile in pixels.
        overlap: Pixels shared by neighbouring tiles, 0 to tile - 1.

    Yields:
        First row, the logits (h, W, C) float32 of the rows from there on, which are overwritten later, and what is
        missing of them, (h, W) bool.
    """
    rows, columns = axis_tiles(shape[0], tile, overlap), axis_tiles(shape[1], tile, overlap)
    alone = len(rows) == len(columns) == 1
    logits: np.ndarray | None = None
    missing = np.zeros((len(rows[0][1]), shape[1]), bool)
    for number, (top, row_weights) in enumerate(rows):
        for left, column_weights in columns:
            image, gone = read(Window(top, left, len(row_weights), len(column_weights)))
            part = _forward(model, image)
            if not alone:
                part *= row_weights[:, None, None] * column_weights[None, :, None]  # (h, w, 1)
            if logits is None:
                logits = np.zeros((*missing.shape, part.shape[-1]), np.float32)
            logits[:, left : left + len(column_weights)] += part
            missing[:, left : left + len(column_weights)] |= False if gone is None else gone
        assert logits is not None  # every row has a tile
        done = (rows[number + 1][0] if number + 1 < len(rows) else shape[0]) - top
        yield top, logits[:done], missing[:done]
        for buffer in (logits, missing):  # what the next tiles share comes first, the rest is new
            buffer[: len(buffer) - done] = buffer[done:]
            buffer[len(buffer) - done :] = 0


def axis_tiles(size: int, tile: int, overlap: int) -> list[tuple[int, np.ndarray]]:
    """Where tiles lie along one axis, and how much each counts there.

    As few tiles as overlap enough, spread evenly. A tile's weight in the image is the product of its two axes' weights,
    so weights that sum to 1 along each axis sum to 1 at every pixel: no second accumulator is needed.

    Returns:
        (start, weights) of each tile; weights (min(tile, size),) float32, which sum to 1 over the tiles at each pixel.
    """
    length = min(tile, size)
    number = 1 + max(0, -(-(size - tile) // (tile - overlap)))
    starts = [int(start) for start in np.linspace(0, size - length, number).round()]
    distance = (np.arange(length) - (length - 1) / 2) / (SIGMA * length)
    gaussian = np.exp(-0.5 * distance**2)  # float64, at least exp(-8): no pixel is without weight
    total = np.zeros(size)
    for start in starts:
        total[start : start + length] += gaussian
    return [(start, (gaussian / total[start : start + length]).astype(np.float32)) for start in starts]


def _forward(model: Any, image: np.ndarray) -> np.ndarray:
    """(H, W, B) -> (H, W, C) float32, writable."""
    return np.array(model.predict_on_batch(image[None])[0], np.float32)
