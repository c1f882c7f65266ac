"""One warp of an image and its mask: a window of a zoomed, turned, bent image, of whole arrays or of parts of files."""

from __future__ import annotations

import math

import cv2
import numpy as np

from seg.data.sources import Pixels, SampleSource
from seg.data.windows import before_shrinking, shrink_image, shrink_mask, warp_window


def warp_source(
    source: SampleSource,
    corners: np.ndarray,
    shrunk: tuple[int, int],
    matrix: np.ndarray,
    size: tuple[int, int],
    bend: np.ndarray | None,
    ignore_index: int,
) -> Pixels:
    """What flips, shrinking and a warp of a whole sample would show, of which only that is read.

    Args:
        source: The sample.
        corners: (2, 2): 0 1 / 2 3, flipped as the image is to be.
        shrunk: (height, width) that the whole image would be shrunk to.
        matrix: (2, 3) from output to shrunk pixels.
        size: (height, width) of the output.
        bend: As in `warp`.
        ignore_index: What the mask's pixels from outside become.

    Returns:
        The output, `missing` always given: true also for pixels from outside the image, which are 0 there.
    """
    shape, vertical, horizontal = source.shape, bool(corners[0, 0] & 2), bool(corners[0, 0] & 1)
    shown = warp_window(shrunk, size, matrix, None if bend is None else displacements(bend, size))
    needed = before_shrinking(shown, shape, shrunk)
    pixels = source.read(needed.flipped(shape, vertical, horizontal))
    flips = (slice(None, None, -1 if vertical else 1), slice(None, None, -1 if horizontal else 1))
    moved = matrix - np.array([[0, 0, shown.left], [0, 0, shown.top]])

    def drawn(array: np.ndarray, interpolation: int, outside: int) -> np.ndarray:
        shrink = shrink_image if interpolation == cv2.INTER_LINEAR else shrink_mask
        part = shrink(np.ascontiguousarray(array[flips]), shown, shape, shrunk)
        return warp(part, moved, size, bend, interpolation, outside)

    gone = np.zeros((*pixels.mask.shape, 1), bool) if pixels.missing is None else pixels.missing
    gone = drawn(gone.view(np.uint8), cv2.INTER_NEAREST, 1).reshape(*size, -1).view(bool)
    missing = np.broadcast_to(gone, (*size, pixels.image.shape[2]))
    image, mask = drawn(pixels.image, cv2.INTER_LINEAR, 0), drawn(pixels.mask, cv2.INTER_NEAREST, ignore_index)
    weights = None if pixels.weights is None else drawn(pixels.weights, cv2.INTER_NEAREST, 0)
    return Pixels(image.reshape(*size, -1), mask, missing, weights, pixels.stored)


def window_matrix(
    shape: tuple[int, int],
    resized: tuple[int, int],
    turned: tuple[int, int],
    scale: float,
    angle: float,
    top: float,
    left: float,
) -> np.ndarray:
    """(2, 3) matrix from output (x, y) to input (x, y) of a zoom and turn about the centre, seen through a window.

    Args:
        shape: (height, width) of the input.
        resized: The same after the resizing that is part of the warp.
        turned: The same after the quarter turns, whose zoomed version the window is cut from.
        scale: Zoom; 2 shows everything twice as large.
        angle: Turn in radians, counter-clockwise as seen.
        top: First row of the window in the zoomed, turned image; negative pads.
        left: Its first column.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    per_pixel = np.array([[shape[1] / resized[1]], [shape[0] / resized[0]]]) / scale  # input pixels an output pixel
    linear = per_pixel * np.array([[cos, -sin], [sin, cos]])
    centre = np.array([shape[1], shape[0]]) / 2  # in a pixel's corner coordinates: index + 0.5
    window_centre = scale * np.array([turned[1], turned[0]]) / 2 - np.array([left, top])
    shift = centre - 0.5 - linear @ (window_centre - 0.5)
    return np.column_stack([linear, shift])


def warp(
    pixels: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    bend: np.ndarray | None,
    interpolation: int,
    outside: int,
) -> np.ndarray:
    """Samples `pixels` at matrix @ (x, y, 1) + displacement for every output pixel.

    Args:
        pixels: (H, W) or (H, W, B) uint8 or float32.
        matrix: (2, 3), output to input, in (x, y).
        size: (height, width) of the output.
        bend: None, or displacements (rows, columns, 2) in input pixels on a coarse grid, bicubic between.
        interpolation: OpenCV's constant.
        outside: What pixels from outside become.
    """
    height, width = size
    if bend is None:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(pixels, matrix, (width, height), flags=flags, borderValue=(outside,) * 4)
    displacement = displacements(bend, size)
    y, x = np.ogrid[:height, :width]
    map_x = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + displacement[..., 0]).astype(np.float32)
    map_y = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + displacement[..., 1]).astype(np.float32)
    return cv2.remap(pixels, map_x, map_y, interpolation, borderValue=(outside,) * 4)


def displacements(bend: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 2): the coarse grid's displacements for every output pixel, bicubic between."""
    return cv2.resize(bend, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
