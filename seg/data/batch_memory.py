"""Memory of batches, used again once nobody holds them: fresh memory costs the system a page fault every 4 KiB."""

from __future__ import annotations

import sys
import threading

import numpy as np

ALIGNMENT = 64  # bytes; TensorFlow takes arrays at such addresses without copying them, and NumPy's are at others
KEPT = 16  # arrays; a pipeline has half as many batches under way. What is held beyond them is freed as usual


class BatchMemory:
    """Gives out float32 arrays of one shape, uninitialised; one that nobody refers to any more is given out again.

    A view of an array (a slice, say) or a tensor made of it counts as a reference. Safe for threads.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._lock = threading.Lock()
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []  # (memory, the array in it)

    def take(self) -> np.ndarray:
        """An array that is nobody else's."""
        with self._lock:
            for memory, array in self._kept:
                # The references that are left when nobody has one: the list's tuple, this loop, the call; and `array`
                # refers to `memory`, as views of it do.
                if sys.getrefcount(array) == 3 and sys.getrefcount(memory) == 4:
                    return array
            size = int(np.prod(self._shape)) * 4
            memory = np.empty(size + ALIGNMENT, np.uint8)
            start = -memory.ctypes.data % ALIGNMENT
            array = np.ndarray(self._shape, np.float32, memory, start)
            if len(self._kept) < KEPT:
                self._kept.append((memory, array))
            return array
