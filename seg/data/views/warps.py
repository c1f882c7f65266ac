"""A frame of a sample that is read by windows: what it shows, and nothing else, is read."""

from __future__ import annotations

import cv2
import numpy as np

from seg.data.files.windows import before_shrinking, shrink_image, shrink_mask, warp_window, whole
from seg.data.views.framing import Frame, displacement_field, warp
from seg.data.views.sources import Pixels, SampleSource


def read_frame(source: SampleSource, frame: Frame, ignore_index: int) -> tuple[Pixels, np.ndarray]:
    """What a frame of the whole sample would show.

    Args:
        source: The sample.
        frame: Of an image of its size.
        ignore_index: What the mask's pixels from outside become.

    Returns:
        The output, 0 in the image outside; and (h, w, B) bool, true where a value is missing or from outside.
    """
    if frame.matrix is None:
        shown = needed = whole(frame.shape)
    else:
        bend = None if frame.bend is None else displacement_field(frame.bend, frame.size)
        shown = warp_window(frame.shrunk, frame.size, frame.matrix, bend)
        needed = before_shrinking(shown, frame.shape, frame.shrunk)
    pixels = source.read(needed.flipped(frame.shape, *frame.flips))
    flips = tuple(slice(None, None, -1 if flip else 1) for flip in frame.flips)

    def drawn(array: np.ndarray, interpolation: int, outside: int) -> np.ndarray:
        part = np.ascontiguousarray(array[flips])
        if frame.matrix is None:
            return part
        moved = frame.matrix - np.array([[0, 0, shown.left], [0, 0, shown.top]])
        if interpolation == cv2.INTER_LINEAR:
            part = shrink_image(part, shown, frame.shape, frame.shrunk)
            return warp(part, moved, frame.size, frame.bend, interpolation, outside).reshape(*frame.size, -1)
        part = shrink_mask(part, shown, frame.shape, frame.shrunk)
        planes = [part] if part.ndim == 2 else [np.ascontiguousarray(part[..., k]) for k in range(part.shape[2])]
        warped = [warp(plane, moved, frame.size, frame.bend, interpolation, outside) for plane in planes]
        return warped[0] if part.ndim == 2 else np.stack(warped, axis=-1)

    gone = np.zeros((*pixels.mask.shape[:2], 1), bool) if pixels.missing is None else pixels.missing
    gone = drawn(gone.view(np.uint8), cv2.INTER_NEAREST, 1).view(bool)
    missing = np.broadcast_to(gone, (*gone.shape[:2], pixels.image.shape[2]))
    image, mask = drawn(pixels.image, cv2.INTER_LINEAR, 0), drawn(pixels.mask, cv2.INTER_NEAREST, ignore_index)
    weights = None if pixels.weights is None else drawn(pixels.weights, cv2.INTER_NEAREST, 0)
    return Pixels(image, mask, missing, weights, pixels.stored), missing
