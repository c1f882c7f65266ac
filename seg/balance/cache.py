"""Counts of files seen before, so that a second run reads only what is new.

One SQLite file for each dataset folder and way of reading it, in the user's cache folder. SQLite, because several runs
may use it at once and any of them may be killed. A file is known by its name, size and version (mtime, ctime and inode;
see `seg.data.files.storage.file_state`), so one that is changed in place is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from seg.balance.statistics import FileCounts
from seg.data.files.storage import FileState
from seg.data.masks.reading import READING, MaskEncoding
from seg.labels import LabelSet

LAYOUT = 2  # part of the file's name: a later layout starts anew
# A file written to within a clock tick of being read could change again unseen; git calls such an entry racily clean.
SETTLED_NS = 2_000_000_000
WAITING = 1000  # counts kept in memory before they are written together
BUSY_SECONDS = 30.0


class CountCache:
    """Keeps `FileCounts` by (name, state). Never the reason for a failure: where the file cannot be used, `problem`
    says why and every file is read.

    Attributes:
        path: The SQLite file.
        hits: Files that were answered from it.
        problem: Why it is not used, or None.
    """

    def __init__(self, root: str, labels: LabelSet, encoding: MaskEncoding, folder: Path | None = None) -> None:
        """Opens, or makes, the cache of one dataset.

        Args:
            root: What the names are relative to: a folder or a URL.
            labels: The classes; counts made for others are not found.
            encoding: How the files store classes; same.
            folder: Where caches lie; default: `user_cache_folder()`.
        """
        reading = (LAYOUT, root, labels.num_classes, labels.ignore_index, repr(encoding))
        colours = labels.colours if encoding.histogram is None else ()  # which decode what no histogram tells
        key = hashlib.sha256(repr((READING, reading, colours)).encode()).hexdigest()[:32]
        self.path = Path(f"mask-counts-{key}.sqlite")
        self._numbers = 3 * labels.num_classes if labels.multi_label else labels.num_classes + 1
        self.hits = 0
        self.problem: str | None = None
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, int, str, bytes, str | None, int]] = []
        try:
            self.path = (folder or user_cache_folder()) / self.path
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
            with self._database:
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS counts"
                    " (name TEXT PRIMARY KEY, size INTEGER, version TEXT, pixels BLOB, areas TEXT, moved INTEGER)"
                    " WITHOUT ROWID"
                )
        except (OSError, RuntimeError, sqlite3.Error) as error:  # RuntimeError: a user without a home
            self._give_up(error)

    def get(self, name: str, state: FileState, with_components: bool) -> FileCounts | None:
        """The counts of this very file, with components if they are asked for; None where they are not known."""
        if self.problem or not state.version:
            return None
        query = "SELECT pixels, areas, moved FROM counts WHERE name = ? AND size = ? AND version = ?"
        with self._lock:
            try:
                row = self._database.execute(query, (name, state.size, state.version)).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                return None
            if row is None or (with_components and row[1] is None):
                return None
            pixels, areas, snapped = row
            counts = self._counts(state.size, pixels, areas if with_components else None, snapped)
            self.hits += counts is not None
        return counts

    def _counts(self, size: int, pixels: bytes, areas: str | None, snapped: int) -> FileCounts | None:
        """What a row says; None where it cannot be true, as in a file that was damaged: then the mask is read."""
        try:
            numbers = np.frombuffer(pixels, "<i8").astype(np.int64)
            parts = None if areas is None else json.loads(areas)
            sizes = None if parts is None else tuple(Counter({int(a): int(n) for a, n in one.items()}) for one in parts)
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        negative = any(min(*one, *one.values()) < 0 for one in sizes or () if one)
        if len(numbers) != self._numbers or not isinstance(snapped, int) or min(numbers.min(), snapped) < 0 or negative:
            return None
        return FileCounts(size, numbers, sizes, snapped)

    def put(self, name: str, state: FileState, counts: FileCounts) -> None:
        """Keeps the counts of a file whose state was the same before and after it was read."""
        if self.problem or not state.version or time.time_ns() - state.changed_ns < SETTLED_NS:
            return
        areas = None if counts.areas is None else json.dumps(counts.areas)
        with self._lock:
            pixels = counts.pixels.astype("<i8").tobytes()
            self._waiting.append((name, state.size, state.version, pixels, areas, counts.snapped))
            if len(self._waiting) >= WAITING:
                self._write()

    def flush(self) -> None:
        """Writes what `put` still holds back."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self.problem or not self._waiting:
            return
        try:
            with self._database:  # one transaction
                self._database.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?, ?, ?)", self._waiting)
        except sqlite3.Error as error:
            self._give_up(error)
        self._waiting.clear()

    def _give_up(self, error: Exception) -> None:
        self.problem = f"{self.path}: cannot be used as a cache ({error}); every mask was read"


def user_cache_folder() -> Path:
    """$XDG_CACHE_HOME/seg, or ~/.cache/seg."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seg"
