"""Samples as one HTML page to look at: image, mask in class colours and overlay side by side, legend, class shares.

The page loads nothing from anywhere. Every picture is in it once: the overlay is the mask laid over the image by the
browser, so that its opacity is a slider, and void is where nothing lies on the image.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from PIL import Image

from seg.data.files.images import resize_image, resize_mask
from seg.labels import LabelSet
from seg.pictures.pages import render

JPEG_QUALITY = 85
SHARES_SHOWN = 6  # classes written under a sample, the largest first; the bar has all
STRETCHED = (1, 99)  # percentiles that become black and white where an image is not 8-bit


@dataclass(frozen=True)
class Card:
    """One sample of a sheet.

    Attributes:
        name: Of the image, relative to the dataset's folder.
        split: Its split.
        size: (height, width) in pixels as stored, of the mask where it can be read; None where neither can.
        image: JPEG; None where it cannot be read.
        mask: PNG, transparent where nothing is labelled; None where it cannot be read.
        pixels: (C + 1,) pixels of each class, then void; None where the mask cannot be read.
        note: Why it is here, or why it cannot be shown.
    """

    name: str
    split: str
    size: tuple[int, int] | None = None
    image: bytes | None = None
    mask: bytes | None = None
    pixels: np.ndarray | None = None
    note: str = ""

    @property
    def shares(self) -> np.ndarray | None:
        """(C + 1,) float64: of each class, then of void; None where the mask cannot be read."""
        if self.pixels is None or self.size is None:
            return None
        return self.pixels / (self.size[0] * self.size[1])


def image_jpeg(image: np.ndarray, side: int) -> bytes:
    """A JPEG of an image, its longer side at most `side` pixels.

    Args:
        image: (H, W, bands). Of other than 1 or 3 bands the first, or first three, are shown; values of other than
            8 bits are stretched so that the 1st percentile is black and the 99th white.
        side: Pixels.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    shown = _reduced(shown, side)
    if shown.dtype != np.uint8:
        finite = np.nan_to_num(shown.astype(np.float32), posinf=0, neginf=0)
        low, high = np.percentile(finite, STRETCHED)
        shown = np.clip((finite - low) * (255 / max(float(high - low), 1e-12)), 0, 255).astype(np.uint8)
    bgr = shown if shown.shape[2] == 1 else cv2.cvtColor(shown, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def mask_png(mask: np.ndarray, labels: LabelSet, side: int) -> bytes:
    """A palette PNG of a mask in class colours, void transparent; its longer side at most `side` pixels.

    Of a larger mask every n-th pixel is kept, so an object of fewer pixels than the reduction may be missing.
    """
    height, width = _fitted(mask.shape[:2], side)
    picture = Image.fromarray(resize_mask(mask, (height, width)))
    picture.putpalette(labels.colour_table().tobytes())
    opaque = bytes(255 if value < labels.num_classes else 0 for value in range(256))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=opaque, optimize=False)
    return buffer.getvalue()


def coloured_png(colours: np.ndarray, shown: np.ndarray, side: int) -> bytes:
    """As `mask_png`, of a mask that is drawn already, where classes may overlap.

    Args:
        colours: (H, W, 3) uint8 RGB.
        shown: (H, W) bool; elsewhere the picture is transparent.
        side: Pixels.
    """
    rgba = np.dstack([colours, np.where(shown, np.uint8(255), np.uint8(0))])
    buffer = io.BytesIO()
    Image.fromarray(resize_mask(rgba, _fitted(shown.shape, side))).save(buffer, "PNG")
    return buffer.getvalue()


def page(title: str, subtitle: str, labels: LabelSet, cards: Sequence[Card], highlight: int | None = None) -> str:
    """The whole page.

    Args:
        title: Heading.
        subtitle: How the samples were chosen.
        labels: Names and colours.
        cards: What to show, in order.
        highlight: A class whose share is written first on every card.
    """
    sizes = [(card.pixels, card.size) for card in cards if card.pixels is not None and card.size is not None]
    pixels = sum((found for found, _ in sizes), start=np.zeros(labels.num_classes + 1, np.int64))
    return render(
        "data_tools.checks",
        "contact_sheet.html",
        title=title,
        subtitle=subtitle,
        labels=labels,
        cards=cards,
        order=partial(_order, highlight=highlight),
        total=pixels / max(1, sum(height * width for _, (height, width) in sizes)),
        shown=SHARES_SHOWN,
    )


def _order(shares: np.ndarray, highlight: int | None) -> list[int]:
    """The classes that occur, the largest share first, but the highlighted one before all, even if it is absent."""
    order = [index for index in np.argsort(-shares[:-1], kind="stable").tolist() if shares[index]]
    return order if highlight is None else [highlight, *(index for index in order if index != highlight)]


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    return resize_image(image, _fitted(image.shape[:2], side))


def _fitted(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """(height, width), the longer at most `side`, neither below 1."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
