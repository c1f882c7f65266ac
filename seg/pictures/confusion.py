"""The row-normalised confusion matrix as a picture, drawn in milliseconds: one an epoch must not slow a training."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MAX_NUMBERED_CLASSES = 30  # above, numbers in the cells would be too small to read
SHOWN_SHARE = 0.005  # smaller shares round to 0.00: their cells stay without a number
DARKEST = np.array([8, 48, 107])  # a share of 1; 0 is white
EMPTY = (232, 232, 232)  # the row of a class without labelled pixels
MARGIN, TITLE = 12, 26  # pixels
LONGEST_NAME = 24  # characters; longer names are cut, or they would dwarf the matrix


def confusion_picture(matrix: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Where the pixels of each class went: cell (r, c) is matrix[r, c] / sum of row r, white 0 to dark blue 1.

    A class without labelled pixels has a gray row. Above 30 classes the cells carry no numbers.

    Args:
        matrix: (C, C) integers, rows = labels, columns = predictions.
        class_names: C names, in any letters that the DejaVu font has.

    Returns:
        (height, width, 3) uint8 RGB, between 300 and 3000 pixels a side for 2 to 150 classes.
    """
    count = len(class_names)
    numbered = count <= MAX_NUMBERED_CLASSES
    cell = int(np.clip(520 // count, 36 if numbered else 12, 100))  # pixels: room for '0.00', or for a line of text
    names = _font(int(np.clip(cell // 3, 10, 14)))
    shown = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in class_names]
    gutter = max(int(names.getlength(name)) for name in shown) + 10  # for the names, at the left and at the bottom
    left, top, side = MARGIN + 22 + gutter, MARGIN + TITLE, count * cell
    size = (max(left + side + MARGIN, 300), top + side + gutter + 22 + MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((left, MARGIN), "share of each labelled class", font=_font(14), fill="black")

    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    colours = np.where(np.isnan(shares)[..., None], EMPTY, 255 - np.nan_to_num(shares)[..., None] * (255 - DARKEST))
    cells = np.repeat(np.repeat(colours.astype(np.uint8), cell, axis=0), cell, axis=1)
    picture.paste(Image.fromarray(cells), (left, top))
    if numbered:
        for (row, column), share in np.ndenumerate(shares):
            if share >= SHOWN_SHARE:
                middle = (left + (column + 0.5) * cell, top + (row + 0.5) * cell)
                fill = "white" if share > 0.5 else "black"
                draw.text(middle, f"{share:.2f}", font=_font(min(cell // 3, 16)), fill=fill, anchor="mm")

    for index, name in enumerate(shown):
        draw.text((left - 6, top + (index + 0.5) * cell), name, font=names, fill="black", anchor="rm")
    below = Image.new("RGB", (gutter, side), "white")  # the columns' names, as lines of text that are then turned
    writer = ImageDraw.Draw(below)
    for index, name in enumerate(shown):
        writer.text((gutter - 6, (index + 0.5) * cell), name, font=names, fill="black", anchor="rm")
    picture.paste(below.transpose(Image.Transpose.ROTATE_90), (left, top + side))
    draw.text((left + side / 2, size[1] - MARGIN), "predicted", font=_font(13), fill="black", anchor="ms")
    labelled = Image.new("RGB", (side, 18), "white")
    ImageDraw.Draw(labelled).text((side / 2, 9), "labelled", font=_font(13), fill="black", anchor="mm")
    picture.paste(labelled.transpose(Image.Transpose.ROTATE_90), (MARGIN - 6, top))
    draw.rectangle((left - 1, top - 1, left + side, top + side), outline="gray")
    return np.asarray(picture)


def confusion_matrix_png(matrix: np.ndarray, class_names: Sequence[str]) -> bytes:
    """`confusion_picture` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(confusion_picture(matrix, class_names)).save(buffer, format="png")
    return buffer.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic and more."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
