"""A transform of a sample that is read by windows: what it shows, and nothing else, is read."""

from __future__ import annotations

import cv2
import numpy as np

from seg.data.files.windows import before_shrinking, shrink_image, shrink_mask, warp_window, whole
from seg.data.views.crop_transform import CropTransform, displacement_field, warp
from seg.data.views.sources import Pixels, SampleSource


def read_crop(source: SampleSource, transform: CropTransform, ignore_index: int) -> tuple[Pixels, np.ndarray]:
    """What a transform of the whole sample would show.

    Args:
        source: The sample.
        transform: Of an image of its size.
        ignore_index: What the mask's pixels from outside become.

    Returns:
        The output, 0 in the image outside; and (h, w, B) bool, true where a value is missing or from outside.
    """
    if transform.matrix is None:
        shown = needed = whole(transform.shape)
    else:
        bend = None if transform.bend is None else displacement_field(transform.bend, transform.size)
        shown = warp_window(transform.shrunk, transform.size, transform.matrix, bend)
        needed = before_shrinking(shown, transform.shape, transform.shrunk)
    pixels = source.read(needed.flipped(transform.shape, *transform.flips))
    flips = tuple(slice(None, None, -1 if flip else 1) for flip in transform.flips)

    def drawn(array: np.ndarray, interpolation: int, outside: int) -> np.ndarray:
        part = np.ascontiguousarray(array[flips])
        if transform.matrix is None:
            return part
        moved = transform.matrix - np.array([[0, 0, shown.left], [0, 0, shown.top]])
        if interpolation == cv2.INTER_LINEAR:
            part = shrink_image(part, shown, transform.shape, transform.shrunk)
            return warp(part, moved, transform.size, transform.bend, interpolation, outside).reshape(
                *transform.size, -1
            )
        part = shrink_mask(part, shown, transform.shape, transform.shrunk)
        planes = [part] if part.ndim == 2 else [np.ascontiguousarray(part[..., k]) for k in range(part.shape[2])]
        warped = [warp(plane, moved, transform.size, transform.bend, interpolation, outside) for plane in planes]
        return warped[0] if part.ndim == 2 else np.stack(warped, axis=-1)

    gone = np.zeros((*pixels.mask.shape[:2], 1), bool) if pixels.missing is None else pixels.missing
    gone = drawn(gone.view(np.uint8), cv2.INTER_NEAREST, 1).view(bool)
    missing = np.broadcast_to(gone, (*gone.shape[:2], pixels.image.shape[2]))
    image, mask = drawn(pixels.image, cv2.INTER_LINEAR, 0), drawn(pixels.mask, cv2.INTER_NEAREST, ignore_index)
    weights = None if pixels.weights is None else drawn(pixels.weights, cv2.INTER_NEAREST, 0)
    return Pixels(image, mask, missing, weights, pixels.stored), missing
