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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seg.data.files.storage import File, FileState, file_state, told_unwritable, write_bytes
from seg.data.masks.reading import READING

Pair = tuple[np.ndarray, np.ndarray]
# A file written to within a clock tick of being read could change again unseen; git calls such an entry racily clean.
SETTLED_NS = 2_000_000_000
ALIGNMENT = 64  # bytes, of an array in shared memory
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

    def divided(self, parts: int) -> PixelCache:
        """One for each of as many processes, which together keep no more than the limit: on disk, files for all."""
        if self.folder is None:
            return SharedPixelCache(self.limit // parts, self.reading)
        return PixelCache(self._used + max(0, self.limit - self._used) // parts, self.reading, self.folder)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without what it keeps."""
        return type(self), (self.limit, self.reading, self.folder)

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
        with told_unwritable(self.folder):
            for path in self.folder.glob(f"{name}-*.npy"):  # of the files as they were before
                path.unlink(missing_ok=True)  # who has it mapped keeps it
            for file, array in zip(_file_names(name, states), pair, strict=True):
                content = io.BytesIO()
                np.save(content, array, allow_pickle=False)
                write_bytes(self.folder / file, content.getvalue())


@dataclass(frozen=True)
class Place:
    """Where an array lies in shared memory."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    def array(self, memory: memoryview) -> np.ndarray:
        """A view of it, not to be written to."""
        return np.ndarray(self.shape, self.dtype, memory.toreadonly(), self.offset)


class Kept(NamedTuple):
    """What one process has kept, for the others."""

    name: str
    states: tuple[FileState, FileState]
    image: Place
    mask: Place


class SharedPixelCache(PixelCache):
    """One process's part of a memory that several fill, each its own stretch of it, and all read.

    Attributes:
        new: What this process has kept; who asks it for batches takes that and tells the others (`learn`).
    """

    def __init__(self, limit: int, reading: str, folder: None = None) -> None:
        super().__init__(limit, reading, None)
        self.new: list[Kept] = []
        self._places: dict[str, Kept] = {}

    def attach(self, memory: memoryview, number: int) -> None:
        """Has it fill the stretch of the process of that `number`."""
        self._shared, self._start = memory, number * self.limit

    def learn(self, kept: Sequence[Kept]) -> None:
        """Takes in what others have kept."""
        self._places.update((entry.name, entry) for entry in kept)

    def _memory(self, name: str, states: tuple[FileState, FileState]) -> Pair | None:
        known = self._places.get(name)
        if known is None or known.states != states:
            return None
        return known.image.array(self._shared), known.mask.array(self._shared)

    def _keep(self, name: str, states: tuple[FileState, FileState], pair: Pair) -> None:
        if self._used + sum(array.nbytes for array in pair) > self.limit:
            return  # nor is the room of a file's earlier content given back
        places = []
        for array in pair:
            places.append(Place(self._start + self._used, array.shape, array.dtype.str))
            np.ndarray(array.shape, array.dtype, self._shared, places[-1].offset)[...] = array
            self._used += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        self._places[name] = Kept(name, states, *places)
        self.new.append(self._places[name])


def _file_names(name: str, states: tuple[FileState, FileState]) -> tuple[str, str]:
    state = hashlib.sha256(repr(states).encode()).hexdigest()[:16]
    return f"{name}-{state}-image.npy", f"{name}-{state}-mask.npy"


def _arrays(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.npy") if path.is_file()]
