"""The cache of counts: what it answers, what it refuses to trust, several users at once, broken files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.balance import cache as cache_module
from seg.balance import collect_statistics
from seg.balance.cache import CountCache, user_cache_folder
from seg.balance.statistics import FileCounts
from seg.data.files.storage import FileState, file_state
from seg.data.masks.reading import BinaryEncoding, ColourEncoding, IndexEncoding
from seg.labels import LabelSet

LABELS = LabelSet.from_names(["field", "road"], ignore_index=255)
OLD = FileState(10, "1.2.3", 5)
COUNTS = FileCounts(10, np.array([5, 2**40, 1]), None)
MEASURED = FileCounts(10, np.array([5, 6, 1]), (Counter({5: 1}), Counter({2: 3})))


def opened(folder: Path) -> CountCache:
    return CountCache("root", LABELS, IndexEncoding(), folder)


def stored(folder: Path, counts: FileCounts = COUNTS, state: FileState = OLD) -> CountCache:
    cache = opened(folder)
    cache.put("a/b.png", state, counts)
    cache.flush()
    return opened(folder)


def write(path: Path, value: int) -> None:
    assert cv2.imwrite(str(path), np.full((4, 4), value, np.uint8))


def settle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the file count as written long ago: ctime cannot be set, so the clock moves."""
    later = time.time_ns() + 10**10
    monkeypatch.setattr(cache_module.time, "time_ns", lambda: later)


def test_what_was_put_is_got(tmp_path: Path) -> None:
    cache = stored(tmp_path)
    known = cache.get("a/b.png", OLD, with_components=False)
    assert known is not None
    assert known.size == 10
    assert known.pixels.tolist() == [5, 2**40, 1]
    assert known.pixels.dtype == np.int64
    assert cache.hits == 1
    assert cache.get("a/b.png", OLD, with_components=True) is None  # they were not measured
    assert cache.hits == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("pixels", np.array([5, -1, 1], "<i8").tobytes()),
        ("pixels", np.array([5, 1], "<i8").tobytes()),
        ("pixels", b"123"),
        ("areas", '[{"5": 1}, {"2": -3}]'),
        ("areas", '[{"-5": 1}, {}]'),
        ("areas", "5"),
        ("moved", -1),
    ],
)
def test_a_row_that_cannot_be_true_is_not_believed(tmp_path: Path, column: str, value: object) -> None:
    cache = stored(tmp_path, MEASURED)
    with sqlite3.connect(cache.path) as database:
        database.execute(f"UPDATE counts SET {column} = ?", (value,))
    assert opened(tmp_path).get("a/b.png", OLD, with_components=True) is None


def test_components_are_kept(tmp_path: Path) -> None:
    known = stored(tmp_path, MEASURED).get("a/b.png", OLD, with_components=True)
    assert known is not None
    assert known.areas == MEASURED.areas


@pytest.mark.parametrize("state", [FileState(11, "1.2.3", 5), FileState(10, "1.2.4", 5), FileState(10, "", 5)])
def test_another_state_is_another_file(tmp_path: Path, state: FileState) -> None:
    assert stored(tmp_path).get("a/b.png", state, with_components=False) is None


def test_another_way_of_reading_is_another_cache(tmp_path: Path) -> None:
    paths = {
        CountCache(root, labels, encoding, tmp_path).path
        for root, labels, encoding in [
            ("root", LABELS, IndexEncoding()),
            ("elsewhere", LABELS, IndexEncoding()),
            ("root", LabelSet.from_names(["field", "road"], ignore_index=9), IndexEncoding()),
            ("root", LabelSet.from_names(["field", "road", "boat"], ignore_index=255), IndexEncoding()),
            ("root", LABELS, BinaryEncoding(127)),
            ("root", LABELS, BinaryEncoding(128)),
            ("root", LABELS, ColourEncoding()),
            ("root", LabelSet(LABELS.names, ((1, 2, 3), (4, 5, 6)), 255), ColourEncoding()),
        ]
    }
    assert len(paths) == 8


def test_a_file_written_just_now_is_not_trusted(tmp_path: Path) -> None:
    now = FileState(10, "1.2.3", time.time_ns())
    assert stored(tmp_path, state=now).get("a/b.png", now, with_components=False) is None


def test_a_file_changed_in_place_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = tmp_path / "a.png"
    write(mask, 0)
    settle(mask, monkeypatch)
    before = file_state(mask)

    def collect() -> list[int]:
        cache = opened(tmp_path / "cache")
        return collect_statistics([mask], LABELS, IndexEncoding(), cache=cache).counts.pixel_counts.tolist()

    assert collect() == [16, 0]
    write(mask, 1)  # of the same size
    os.utime(mask, ns=(0, int(before.version.split(".")[0])))  # and with the old time
    assert file_state(mask).size == before.size
    assert collect() == [0, 16]


def test_only_new_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = [tmp_path / f"{index}.png" for index in range(5)]
    for mask in masks:
        write(mask, 1)
    settle(masks[0], monkeypatch)
    first = collect_statistics(masks[:3], LABELS, IndexEncoding(), root=tmp_path, cache=opened(tmp_path / "cache"))
    read: list[str] = []
    original = cache_module.CountCache.put
    monkeypatch.setattr(
        CountCache, "put", lambda self, name, *rest: (read.append(name), original(self, name, *rest))[1]
    )
    cache = opened(tmp_path / "cache")
    second = collect_statistics(masks, LABELS, IndexEncoding(), root=tmp_path, cache=cache)
    assert sorted(read) == ["3.png", "4.png"]
    assert cache.hits == 3
    assert second == first + collect_statistics(masks[3:], LABELS, IndexEncoding(), root=tmp_path)


def test_several_processes_may_write_at_once(tmp_path: Path) -> None:
    code = (
        f"import sys; from pathlib import Path; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_cache import *\n"
        f"cache = opened(Path({str(tmp_path)!r}))\n"
        "for index in range(300):\n"
        "    cache.put(f'{sys.argv[1]}-{index}', OLD, COUNTS)\n"
        "    if index % 10 == 0: cache.flush()\n"
        "cache.flush(); sys.exit(cache.problem)\n"
    )
    root = Path(__file__).resolve().parents[2]
    writers = [subprocess.Popen([sys.executable, "-c", code, str(number)], cwd=root) for number in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    cache = opened(tmp_path)
    for number in range(3):
        for index in range(300):
            assert cache.get(f"{number}-{index}", OLD, with_components=False) is not None


def test_a_broken_cache_file_is_a_problem_and_no_failure(tmp_path: Path) -> None:
    path = opened(tmp_path).path
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    cache = opened(tmp_path)
    assert cache.problem is not None
    assert str(path) in cache.problem
    cache.put("a", OLD, COUNTS)
    cache.flush()
    assert cache.get("a", OLD, with_components=False) is None


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    cache = CountCache("root", LABELS, IndexEncoding())
    assert cache.problem is not None and "Could not determine home directory" in cache.problem
    cache.put("a", OLD, COUNTS)
    cache.flush()
    assert cache.get("a", OLD, with_components=False) is None


def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_folder() == tmp_path / "seg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache_folder() == Path.home() / ".cache" / "seg"
