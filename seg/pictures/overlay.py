"""Pictures of masks: colours, overlays and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from seg.labels import VOID_COLOUR, Colour, LabelSet

LEGEND_ROW = 20  # pixels; fits the font below
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
STRIPE = 4  # pixels: wide enough to tell two colours apart, narrow enough to show in a small object
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def colourise(mask: np.ndarray, labels: LabelSet) -> np.ndarray:
    """The class colours of a mask; where m classes overlap, diagonal stripes show all m in turn.

    Args:
        mask: (H, W) uint8 class indices or void; or (H, W, K) of 0, 1 and void, of classes that may overlap.
        labels: Whose colours; void and every value that is no class become black.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    return _colourise_planes(mask, labels) if mask.ndim == 3 else labels.colour_table()[mask]


def _colourise_planes(mask: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Colours so exact that a legend holds wherever classes overlap. The border of each class is drawn in its colour
    besides the stripes, the class of fewest pixels last, so that small things stay whole."""
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


def overlay(image: np.ndarray, mask: np.ndarray, labels: LabelSet, opacity: float = 0.5) -> np.ndarray:
    """The image under translucent class colours: (1 - opacity) image + opacity colour; void keeps the image.

    Args:
        image: (H, W, 1 or 3), uint8 or float in [0, 1].
        mask: (H, W) uint8 class indices or void, or (H, W, K).
        labels: Whose colours.
        opacity: 0 shows the image only, 1 the classes only.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: The sizes differ, or opacity is outside [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}, allowed: 0 to 1")
    check_size(image, mask)
    picture = displayable(image)
    blended = cv2.addWeighted(picture, 1 - opacity, colourise(mask, labels), opacity, 0)
    shown = (mask == 1).any(axis=-1) if mask.ndim == 3 else mask < labels.num_classes
    return np.where(shown[..., None], blended, picture)


def legend(labels: LabelSet, width: int) -> np.ndarray:
    """`colour_legend` of all classes."""
    return colour_legend(list(zip(labels.names, labels.colours, strict=True)), width)


def colour_legend(entries: Sequence[tuple[str, Colour]], width: int) -> np.ndarray:
    """Colour squares with names, black on white, in as many rows as `width` pixels need.

    OpenCV's font has ASCII letters only: others are drawn as '?'. A name wider than the strip is cut off.

    Returns:
        (rows * LEGEND_ROW, width, 3) uint8 RGB.
    """
    swatch = LEGEND_ROW - 8
    places, x, row = [], 4, 0
    for name, _ in entries:
        text_width = cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0]
        entry = swatch + 4 + text_width + 12
        if x > 4 and x + entry > width:
            x, row = 4, row + 1
        places.append((x, row * LEGEND_ROW + 4))
        x += entry
    strip = np.full(((row + 1) * LEGEND_ROW, width, 3), 255, np.uint8)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        cv2.rectangle(strip, (left, top), (left + swatch - 1, top + swatch - 1), colour, cv2.FILLED)
        write(strip, name, (left + swatch + 4, top + swatch - 2))
    return strip


def write(picture: np.ndarray, text: str, place: tuple[int, int]) -> None:
    """Writes black text into a picture, its baseline beginning at (x, y)."""
    cv2.putText(picture, text, place, FONT, FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)


def displayable(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB from (H, W, 1 or 3), uint8 or float in [0, 1]; floats outside are clipped.

    Raises:
        ValueError: Another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"image has shape {image.shape}, allowed: (H, W, 1) or (H, W, 3)")
    if np.issubdtype(image.dtype, np.floating):
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"image is {image.dtype}, allowed: uint8 or float in [0, 1]")
    return np.broadcast_to(image, (*image.shape[:2], 3)).copy()


def check_size(image: np.ndarray, mask: np.ndarray) -> None:
    """Raises ValueError unless the two have the same height and width."""
    if image.shape[:2] != mask.shape[:2]:
        raise ValueError(f"image has shape {image.shape} and mask {mask.shape}; height and width must agree")
