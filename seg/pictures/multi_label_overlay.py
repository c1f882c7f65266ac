"""Pictures of masks whose classes may overlap: stripes in the colours of all classes of a pixel, an outline each."""

from __future__ import annotations

import cv2
import numpy as np

from seg.labels import VOID_COLOUR, LabelSet

STRIPE = 4  # pixels: wide enough to tell two colours apart, narrow enough to show in a small object
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def colourise_planes(mask: np.ndarray, labels: LabelSet) -> np.ndarray:
    """The class colours of a multi-label mask, so exactly that a legend holds wherever classes overlap.

    A pixel of one class has its colour; where m classes overlap, diagonal stripes show all m in turn. The border of
    each class is drawn in its colour besides, the class of fewest pixels last, so that small things stay whole.

    Args:
        mask: (H, W, K) uint8: 0, 1 and void.
        labels: Whose colours; pixels without a class, and void, become black.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    present = mask == 1
    number = present.sum(axis=-1)  # (H, W): m
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    turn = (x + y) // STRIPE % np.maximum(number, 1) + 1  # which of a pixel's classes is shown, from 1 to m
    shown = (np.cumsum(present, axis=-1) == turn[..., None]) & present
    index = np.where(number > 0, shown.argmax(axis=-1), labels.num_classes)
    picture = np.array([*labels.colours, VOID_COLOUR], np.uint8)[index]
    for k in np.argsort(-present.sum(axis=(0, 1)), kind="stable"):
        plane = present[..., k].astype(np.uint8)
        # Outside counts as the class: an image's edge is no border of what goes on beyond it.
        inner = cv2.erode(plane, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        picture[(plane != 0) & (inner == 0)] = labels.colours[k]
    return picture
