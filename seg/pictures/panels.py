"""What the model saw, should have said, said, and got wrong: image | labels | prediction | errors, with a legend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from seg.labels import VOID_COLOUR, Colour, LabelSet
from seg.pictures.overlay import LEGEND_ROW, check_size, colour_legend, colourise, displayable, write

GAP = 4  # white pixels between the parts of a panel
PARTS = ("image", "labels", "prediction", "errors")
MOST_LEGEND_CLASSES = 24  # of those that occur, the ones with most pixels: a picture is no table
WRONG: Colour = (230, 30, 30)
HIT: Colour = (40, 170, 60)
MISSED: Colour = (230, 30, 30)
FALSE_ALARM: Colour = (255, 190, 0)
OTHER: Colour = (150, 110, 150)


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of a sample with its prediction: `picture` (H, W, 1 or 3) uint8 or float in [0, 1], `mask` and
    `prediction` (H, W) uint8, or (H, W, K) of classes that may overlap, and what to write above it."""

    picture: np.ndarray
    mask: np.ndarray
    prediction: np.ndarray
    caption: str


def panel(tile: Tile, labels: LabelSet, focus: int | None = None) -> np.ndarray:
    """The four parts side by side, a caption above and the legend of the colours that occur below.

    The errors part is the image in dim gray under colours: wrong pixels red and void black; with a class in `focus`
    its hits green, its missed pixels red, its false alarms amber and other errors mauve.

    Returns:
        (height, 4 W + 3 GAP, 3) uint8 RGB.

    Raises:
        ValueError: The sizes differ.
    """
    picture = displayable(tile.picture)
    check_size(picture, tile.mask)
    check_size(picture, tile.prediction)
    errors, meaning = error_map(picture, tile.mask, tile.prediction, labels, focus)
    height = picture.shape[0]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    said = colourise(tile.mask, labels), colourise(tile.prediction, labels)
    row = np.hstack([picture, gap, said[0], gap, said[1], gap, errors])
    head = np.full((2 * LEGEND_ROW, row.shape[1], 3), 255, np.uint8)
    write(head, tile.caption, (4, LEGEND_ROW - 6))
    for index, part in enumerate(PARTS):
        write(head, part, (index * (picture.shape[1] + GAP) + 4, 2 * LEGEND_ROW - 6))
    classes = colour_legend(_class_entries(tile, labels), row.shape[1])
    return np.vstack([head, row, classes, colour_legend(meaning, row.shape[1])])


def error_map(
    picture: np.ndarray, mask: np.ndarray, prediction: np.ndarray, labels: LabelSet, focus: int | None = None
) -> tuple[np.ndarray, list[tuple[str, Colour]]]:
    """The errors part of a panel.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) uint8 labels, or (H, W, K) where classes may overlap.
        prediction: Of the same shape.
        labels: The classes; void is black. Of overlapping classes a pixel is wrong if any of them is, void if all are.
        focus: The class whose hits and errors are told apart; None: right and wrong only.

    Returns:
        (H, W, 3) uint8 RGB, and (meaning, colour) of its colours.
    """
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) // 2
    shown = np.repeat(gray[..., None], 3, axis=-1)
    mask = labels.known(mask)
    void = labels.void(mask)
    wrong = (mask != labels.ignore_index) & (mask != prediction)
    wrong = wrong.any(axis=tuple(range(2, mask.ndim)))  # where classes overlap, any of them
    if focus is None:
        paint = [("wrong", wrong, WRONG)]
    else:
        labelled, predicted = class_pixels(mask, prediction, labels, focus)
        name = labels.names[focus]
        paint = [
            ("wrong, among other classes", wrong, OTHER),
            (f"{name} found", labelled & predicted, HIT),
            (f"{name} missed", labelled & ~predicted, MISSED),
            (f"no {name}, but predicted", predicted & ~labelled, FALSE_ALARM),
        ]
    if void.any():
        paint.append(("void", void, VOID_COLOUR))
    for _, where, colour in paint:
        shown[where] = colour
    right: tuple[str, Colour] = ("dim: right", (70, 70, 70))
    return shown, [right, *((text, colour) for text, _, colour in paint)]


def class_pixels(
    mask: np.ndarray, prediction: np.ndarray, labels: LabelSet, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where a class is labelled, and where it is predicted and its label known; (H, W) bool each."""
    known = labels.plane(mask, index)
    return known == 1, (labels.plane(prediction, index) == 1) & (known != labels.ignore_index)


def shrunk(tile: Tile, side: int) -> Tile:
    """The tile at most `side` pixels high and wide: the picture averaged, the masks by every n-th pixel."""
    step = -(-max(tile.mask.shape[:2]) // side)
    if step == 1:
        return tile
    mask, prediction = tile.mask[::step, ::step], tile.prediction[::step, ::step]
    height, width = mask.shape[:2]
    picture = cv2.resize(tile.picture, (width, height), interpolation=cv2.INTER_AREA)
    return Tile(picture.reshape(height, width, -1), mask, prediction, tile.caption)


def worst_window(wrong: np.ndarray, side: int) -> tuple[slice, slice]:
    """Where a window of at most `side` x `side` pixels holds most of the True pixels of (H, W)."""
    height, width = (min(length, side) for length in wrong.shape)
    sums = cv2.integral(wrong.astype(np.uint8))  # (H + 1, W + 1) int32
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def stretched(image: np.ndarray) -> np.ndarray:
    """A model's input as a picture: its first three bands (or its first one), from the 1st to the 99th percentile of
    their values. What to take where nobody says how the input was normalised.

    Args:
        image: (H, W, bands), any number dtype.

    Returns:
        (H, W, 1 or 3) float32 in [0, 1]; 0 where all values are equal.
    """
    image = image[..., : 3 if image.shape[-1] >= 3 else 1].astype(np.float32)
    sample = image[:: max(1, image.shape[0] // 128), :: max(1, image.shape[1] // 128)]
    low, high = np.percentile(sample, (1, 99))
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


Picture = Callable[[np.ndarray], np.ndarray]  # from the model's input (H, W, bands) to a Tile's picture


def _class_entries(tile: Tile, labels: LabelSet) -> list[tuple[str, Colour]]:
    """The classes that occur in the tile, in their order; of too many, those with most pixels."""
    if labels.multi_label:
        pixels = (tile.mask == 1).sum((0, 1)) + (tile.prediction == 1).sum((0, 1))
    else:
        values = np.concatenate([tile.mask.ravel(), tile.prediction.ravel()])
        pixels = np.bincount(values, minlength=256)[: labels.num_classes]
    most = np.argsort(-pixels, kind="stable")[:MOST_LEGEND_CLASSES]
    return [(labels.names[index], labels.colours[index]) for index in sorted(most) if pixels[index]]
