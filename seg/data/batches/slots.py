"""Memory that this process and its workers share: slots, each for the arrays of one batch.

It is a file without a name, whose descriptor the workers inherit. So nothing is left behind whoever dies in whatever
way, and /dev/shm, which containers often limit to 64 MB, is not asked.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass

import numpy as np

PAGE = 4096  # bytes


@dataclass(frozen=True)
class Layout:
    """Where the arrays of a batch lie in a slot: images, masks and, if there are any, weights, each of N parts.

    Attributes:
        size: (height, width).
        bands: Of an image.
        mask_axes: Of a mask, behind height and width.
        weighted: Whether there are pixel weights.
        count: N.
    """

    size: tuple[int, int]
    bands: int
    mask_axes: tuple[int, ...]
    weighted: bool
    count: int

    @property
    def bytes(self) -> int:
        """Of a slot, in whole pages. Pages that nothing is written to take no memory: those of uint8 images' rest."""
        return -(-self._starts()[-1] // PAGE) * PAGE

    def _starts(self) -> list[int]:
        pixels = self.count * self.size[0] * self.size[1]
        sizes = [pixels * self.bands * 4, pixels * 4 * self.weighted, pixels * int(np.prod(self.mask_axes, dtype=int))]
        return np.cumsum([0, *sizes]).tolist()

    def image(self, slot: memoryview, index: int, dtype: np.dtype) -> np.ndarray:
        """(H, W, bands) of uint8 or float32; there is room for the latter."""
        shape = (*self.size, self.bands)
        return np.ndarray(shape, dtype, slot, index * int(np.prod(shape)) * 4)

    def maps(self, slot: memoryview) -> tuple[np.ndarray, ...]:
        """Masks (N, H, W[, K]) uint8[, weights (N, H, W) float32]."""
        _, weights, masks, _ = self._starts()
        shape = (self.count, *self.size)
        arrays = (np.ndarray((*shape, *self.mask_axes), np.uint8, slot, masks),)
        return (*arrays, np.ndarray(shape, np.float32, slot, weights)) if self.weighted else arrays


def unnamed_file(size: int) -> int:
    """The descriptor of a file of `size` bytes that has no name and takes memory only where it is written to."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("seg")
    else:  # macOS
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def mapped(descriptor: int) -> memoryview:
    """The whole file as memory."""
    return memoryview(mmap.mmap(descriptor, os.fstat(descriptor).st_size))
