"""The batches of a training, made by threads of this process: no start-up, but one lock for all their Python."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from seg.data.batches.loading import Plan, TrainingLoader

ALIGNMENT = 64  # bytes


class ThreadLoader:
    """From the plans of a batch to its arrays, made by a pool of threads; safe for threads itself.

    Attributes:
        calls: How many calls at a time keep all threads busy.
    """

    calls = 2  # so that no thread waits for the last image of a batch

    def __init__(self, load: TrainingLoader, workers: int) -> None:
        self._load = load
        self._pool = ThreadPoolExecutor(workers, "loading")

    def __call__(self, plans: list[Plan]) -> tuple[np.ndarray, ...]:
        """(images (N, H, W, bands) float32, masks (N, H, W[, K]) uint8[, weights (N, H, W) float32])."""
        images = aligned((len(plans), *self._load.size, self._load.preprocessing.bands))
        futures: list[Future[tuple[np.ndarray, ...]]] = []
        try:
            futures = [self._pool.submit(self._one, *pair) for pair in zip(plans, images, strict=True)]
            maps = [future.result() for future in futures]
        except RuntimeError as error:
            if futures or "shutdown" not in str(error):
                raise
            # Python is at its end, and no one will see this batch; TensorFlow would report an error.
            maps = [self._one(*pair) for pair in zip(plans, images, strict=True)]
        finally:
            for future in futures:  # of a batch that failed
                future.cancel()
        return images, *(np.stack(each) for each in zip(*maps, strict=True))

    def _one(self, plan: Plan, out: np.ndarray) -> tuple[np.ndarray, ...]:
        image, *maps = self._load(plan)
        if image.dtype == np.uint8:
            self._load.preprocessing.prepare(image, out=out)
        else:
            out[...] = image
        return tuple(maps)


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array at an address that TensorFlow takes without copying; NumPy's own are not."""
    size = int(np.prod(shape)) * 4
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)
