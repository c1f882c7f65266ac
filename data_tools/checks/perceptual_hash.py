"""How an image hashes, in 264 bytes: a 64-bit difference hash to find what is alike, a thumbnail to be sure of it.

The hash (dHash; N. Krawetz, "Kind of Like That", hackerfactor.com, 2013) says of 8 x 9 averaged pixels whether each is
brighter than its left neighbour: brightness, contrast and compression hardly change it. Two unrelated images may agree
in it, above all street scenes and slices, whose layout is alike; so pairs that it finds are compared by their
16 x 16 thumbnails without the coarse layout (a Gaussian blur of 1.5 pixels is subtracted), by correlation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

HASH_BITS = 64
THUMBNAIL = 16
_COMMON = (128, 144)  # (height, width): 8 x 9 and 16 x 16 areas both divide it, so one reduction serves both
_COARSE = 1.5  # pixels of the thumbnail
_LEAST_CONTRAST = 0.01  # of the value range: what is left of flatter images is noise, which hashes to anything


@dataclass(frozen=True, slots=True)
class PerceptualHash:
    """What `perceptual_hash` finds.

    Attributes:
        hash: 64 bits.
        thumbnail: (256,) int8, zero mean, scaled so that the largest magnitude is 127.
    """

    hash: int
    thumbnail: np.ndarray


def perceptual_hash(image: np.ndarray) -> PerceptualHash | None:
    """The perceptual hash of an image.

    Args:
        image: (H, W, bands), finite values of any dtype.

    Returns:
        None for an image without contrast (a standard deviation under 1 % of its brightest value), of which nothing can
        be told.
    """
    if image.shape[2] > 4:
        image = image.mean(axis=2, dtype=np.float32)[..., None]
    reduced = cv2.resize(image, _COMMON[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    gray = reduced if reduced.ndim == 2 else reduced.mean(axis=2)
    brightest = float(np.abs(gray).max())
    if float(gray.std()) <= _LEAST_CONTRAST * brightest:
        return None
    cells = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1])
    small = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), _COARSE)
    fine -= fine.mean()
    largest = float(np.abs(fine).max())
    if largest <= 1e-6 * brightest:
        return None
    return PerceptualHash(
        int.from_bytes(bits.tobytes(), "big"), np.rint(fine.ravel() * (127 / largest)).astype(np.int8)
    )


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(...,) float32 in [-1, 1]: the correlation of thumbnails (..., 256)."""
    a, b = one.astype(np.float32), other.astype(np.float32)
    scale = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return (a * b).sum(axis=-1) / scale
