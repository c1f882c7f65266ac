"""Where the classes lie in a set of masks: pixels of each class per mask, and places to centre crops on.

One pass of threads reads every mask once. What is kept is bounded, whatever the masks hold: up to `POSITIONS` pixels
(4 bytes each) of each asked-for class in each mask.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from seg.data.files.storage import File, read_bytes, write_bytes
from seg.data.files.threads import in_order
from seg.data.masks.counts import mask_pixels
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.errors import DataError
from seg.labels import LabelSet

POSITIONS = 256
_ARRAYS = ("shapes", "pixels", "located", "starts", "positions")


@dataclass(frozen=True, eq=False)
class MaskIndex:
    """What a set of N masks of C classes holds, and where.

    Attributes:
        shapes: (N, 2) int64: (height, width) of each mask.
        pixels: (N, C + 1) int64: pixels of each class, then void pixels, at the size at which the masks are counted.
        located: (L,) int64: the classes whose pixels are located.
        starts: (L * N + 1,) int64: where in `positions` those of class located[k] in mask n begin, at k * N + n.
        positions: uint32: row * width + column of pixels. All pixels of the class in the mask if there are at most
            `POSITIONS`, else that many of them, one of every n / POSITIONS in reading order: each pixel of the class is
            as likely to be kept as any other.
    """

    shapes: np.ndarray
    pixels: np.ndarray
    located: np.ndarray
    starts: np.ndarray
    positions: np.ndarray

    @property
    def presence(self) -> np.ndarray:
        """(N, C) bool: which classes a mask holds."""
        return self.pixels[:, :-1] > 0

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def places(self, mask: int, label: int) -> np.ndarray:
        """The kept pixels (rows, columns), (n, 2) int64, of a located class in a mask."""
        start = int(np.flatnonzero(self.located == label)[0]) * len(self.shapes) + mask
        flat = self.positions[self.starts[start] : self.starts[start + 1]].astype(np.int64)
        return np.stack(np.divmod(flat, self.shapes[mask, 1]), axis=1)

    def save(self, path: Path, fingerprint: str) -> None:
        """Writes a .npz file that `load` reads for masks of the same fingerprint."""
        content = io.BytesIO()
        np.savez(content, fingerprint=np.array(fingerprint), **{name: getattr(self, name) for name in _ARRAYS})
        write_bytes(path, content.getvalue())

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> MaskIndex | None:
        """Reads what `save` wrote; None where the file is absent, broken, or of other masks: then index them again."""
        try:
            with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as stored:
                if str(stored["fingerprint"]) != fingerprint:
                    return None
                return cls(*(stored[name] for name in _ARRAYS))
        except (DataError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def index_masks(
    masks: Sequence[File],
    labels: LabelSet,
    encoding: MaskEncoding,
    *,
    locate: Sequence[int] = (),
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MaskIndex:
    """Reads every mask once and keeps where its classes lie. The result does not depend on the number of threads.

    Args:
        masks: The files.
        labels: Their classes.
        encoding: How they store them.
        locate: Classes whose pixels are kept.
        workers: Threads; None: one a core.
        progress: Called after each mask with the masks done and their number.

    Raises:
        DataError: A mask cannot be read, or has 2^32 pixels or more.
    """
    located = sorted(set(locate))

    def one(mask: File) -> tuple[tuple[int, ...], np.ndarray, list[np.ndarray]]:
        decoded = read_mask(mask, labels, encoding)
        if decoded.size >= 2**32:
            raise DataError(f"{mask}: has {decoded.size} pixels, allowed for a sampler: fewer than 2^32")
        places = [_positions(decoded, label) for label in located]
        return decoded.shape, mask_pixels(encoding.as_seen(decoded), labels), places

    found = []
    for result in in_order(one, masks, workers or os.cpu_count() or 1):
        found.append(result)
        if progress is not None:
            progress(len(found), len(masks))
    parts = [places[k] for k in range(len(located)) for _, _, places in found]
    return MaskIndex(
        shapes=np.array([shape for shape, _, _ in found], np.int64),
        pixels=np.stack([pixels for _, pixels, _ in found]),
        located=np.array(located, np.int64),
        starts=np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64),
        positions=np.concatenate([np.zeros(0, np.uint32), *parts]),
    )


def _positions(mask: np.ndarray, label: int) -> np.ndarray:
    """Up to `POSITIONS` pixels of a class, uint32, in reading order."""
    found = cv2.findNonZero(cv2.inRange(mask, label, label))  # (n, 1, 2) int32 (x, y) in reading order
    if found is None or len(found) == 0:
        return np.zeros(0, np.uint32)
    number = len(found)
    if number > POSITIONS:
        # A random start by (number, class): fixed by the mask alone, so that runs of any seed share an index.
        start = np.random.default_rng((number, label)).random()
        found = found[((np.arange(POSITIONS) + start) * number / POSITIONS).astype(np.int64)]
    found = found.reshape(-1, 2).astype(np.int64)
    return (found[:, 1] * mask.shape[1] + found[:, 0]).astype(np.uint32)
