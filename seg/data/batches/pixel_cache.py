"""Decoded images and masks kept, in memory or in files that are mapped, so that an epoch need not decode them again.

A kept array is found by its file's path, size, mtime, ctime and inode and by how it was decoded, so a file that is
written to is read again. Once the limit is reached nothing more is kept and nothing is dropped: an epoch visits every
file once, in another order each time, and whatever was dropped for the newest would be asked for next.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from seg.data.files.storage import File, FileState, file_state, write_bytes
from seg.data.masks.reading import READING
from seg.errors import DataError

Pair = tuple[np.ndarray, np.ndarray]
# A file written to within a clock tick of being read could change again unseen; git calls such an entry racily clean.
SETTLED_NS = 2_000_000_000
MAPPED = 10_000  # pairs that stay mapped; the system allows 65,530 mappings in a process


class PixelCache:
    """Keeps pairs of arrays by the state of the two files they came from. Safe for threads, and on disk for processes.

    Attributes:
        folder: Where the files of arrays lie; None: in memory.
        limit: Bytes of arrays to keep at most. On disk of all that lies in the folder, whichever run put it there.
        reading: Says how the files were decoded: part of the key.
        hits: Pairs that were found.
    """

    def __init__(self, limit: int, reading: str, folder: Path | None = None) -> None:
        self.folder, self.limit, self.reading = folder, limit, reading
        self.hits = 0
        self._kept: dict[str, tuple[tuple[FileState, FileState], Pair]] = {}
        self._used = 0 if folder is None else sum(path.stat().st_size for path in _arrays(folder))
        self._lock = threading.Lock()

    def __call__(self, image: File, mask: File, load: Callable[[], Pair]) -> Pair:
        """The pair of arrays that `load` gives, not to be written to, from the cache where it has them.

        Raises:
            DataError: A file is missing, or what `load` raises.
        """
        states = file_state(image), file_state(mask)
        name = hashlib.sha256(repr((READING, str(image), str(mask), self.reading)).encode()).hexdigest()[:32]
        found = self._memory(name, states) if self.folder is None else self._mapped(name, states)
        if found is not None:
            self.hits += 1
            return found
        pair = load()
        settled = max(state.changed_ns for state in states) + SETTLED_NS < time.time_ns()
        if settled and (file_state(image), file_state(mask)) == states:  # else one was written to meanwhile
            self._keep(name, states, pair)
        for array in pair:
            array.flags.writeable = False  # whether kept or not, so that no caller depends on it
        return pair

    def _memory(self, name: str, states: tuple[FileState, FileState]) -> Pair | None:
        known = self._kept.get(name)
        return known[1] if known is not None and known[0] == states else None

    def _mapped(self, name: str, states: tuple[FileState, FileState]) -> Pair | None:
        assert self.folder is not None
        paths = [self.folder / file for file in _file_names(name, states)]
        with self._lock:
            known = self._kept.get(name)
        if known is not None and known[0] == states:
            return known[1]
        try:
            image, mask = (np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) for path in paths)
        except (OSError, ValueError, EOFError):  # not there, or not whole after a crash of the machine
            return None
        with self._lock:
            if len(self._kept) < MAPPED:
                self._kept[name] = (states, (image, mask))  # a mapping costs no memory that cannot be taken back
        return image, mask

    def _keep(self, name: str, states: tuple[FileState, FileState], pair: Pair) -> None:
        size = sum(array.nbytes for array in pair)
        with self._lock:
            old = self._kept.pop(name, None)
            if self.folder is None and old is not None:
                self._used -= sum(array.nbytes for array in old[1])
            if self._used + size > self.limit:
                return
            self._used += size
            if self.folder is None:
                self._kept[name] = (states, pair)
                return
        try:
            for path in self.folder.glob(f"{name}-*.npy"):  # of the files as they were before
                path.unlink(missing_ok=True)  # who has it mapped keeps it
            for file, array in zip(_file_names(name, states), pair, strict=True):
                content = io.BytesIO()
                np.save(content, array, allow_pickle=False)
                write_bytes(self.folder / file, content.getvalue())
        except OSError as error:
            raise DataError(f"{self.folder}: decoded images cannot be kept there: {error.strerror}") from None


def _file_names(name: str, states: tuple[FileState, FileState]) -> tuple[str, str]:
    state = hashlib.sha256(repr(states).encode()).hexdigest()[:16]
    return f"{name}-{state}-image.npy", f"{name}-{state}-mask.npy"


def _arrays(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.npy") if path.is_file()]
