"""The same arrays as without, a changed file noticed, the limit kept, runs side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from seg.data.batches.pixel_cache import PixelCache
from seg.errors import DataError

PAIR_BYTES = 6 * 8 * 3 + 6 * 8


class Source:
    """Two files and what they would decode to; counts how often that is asked for."""

    def __init__(self, folder: Path, name: str = "a", value: int = 7) -> None:
        self.image, self.mask = folder / f"{name}.img", folder / f"{name}.msk"
        self.loads = 0
        self.write(value)

    def write(self, value: int, age: float = 100.0) -> None:
        self.value = value
        for file in (self.image, self.mask):
            file.write_bytes(bytes([value]) * 10)
            past = file.stat().st_mtime - age
            os.utime(file, (past, past))

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        self.loads += 1
        value = self.image.read_bytes()[0]
        return np.full((6, 8, 3), value, np.uint8), np.full((6, 8), value, np.uint8)


@pytest.fixture(params=["memory", "disk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    # A file's ctime is now whatever its mtime says, and files younger than two seconds are not kept.
    monkeypatch.setattr("seg.data.batches.pixel_cache.SETTLED_NS", 0)
    return None if request.param == "memory" else tmp_path / "cache"


def get(cache: PixelCache, source: Source) -> tuple[np.ndarray, np.ndarray]:
    return cache(source.image, source.mask, source)


def test_a_pair_is_loaded_once(folder: Path | None, tmp_path: Path) -> None:
    source, cache = Source(tmp_path), PixelCache(10**6, "rgb", folder)
    for _ in range(3):
        image, mask = get(cache, source)
        assert image.shape == (6, 8, 3) and mask.shape == (6, 8) and (image == 7).all() and (mask == 7).all()
        assert image.dtype == mask.dtype == np.uint8
        assert type(image) is type(mask) is np.ndarray
        with pytest.raises(ValueError, match="read-only"):
            image[0] = 1
    assert (source.loads, cache.hits) == (1, 2)


@pytest.mark.parametrize("keep", ["nothing", "size", "size and mtime"])
def test_a_changed_file_is_read_again(folder: Path | None, tmp_path: Path, keep: str) -> None:
    source, cache = Source(tmp_path), PixelCache(10**6, "rgb", folder)
    get(cache, source)
    before = source.image.stat()
    source.write(9)
    if keep == "nothing":
        source.image.write_bytes(bytes([9]) * 11)
    if keep == "size and mtime":
        os.utime(source.image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (get(cache, source)[0] == 9).all() and source.loads == 2
    assert (get(cache, source)[0] == 9).all() and source.loads == 2
    if folder is not None:
        assert len(list(folder.iterdir())) == 2  # those of the old files are gone


def test_another_way_of_reading_is_another_entry(folder: Path | None, tmp_path: Path) -> None:
    source = Source(tmp_path)
    for reading in ("rgb", "gray"):
        get(PixelCache(10**6, reading, folder), source)
    assert source.loads == 2


def test_nothing_is_kept_over_the_limit(folder: Path | None, tmp_path: Path) -> None:
    sources = [Source(tmp_path, name, value) for value, name in enumerate("abcd")]
    cache = PixelCache(2 * PAIR_BYTES + PAIR_BYTES // 2, "rgb", folder)
    for _ in range(3):
        for source in sources:
            assert (get(cache, source)[0] == source.value).all()
    assert [source.loads for source in sources] == [1, 1, 3, 3]  # the first ones stay: nothing is dropped for another
    if folder is not None:
        assert len(list(folder.iterdir())) == 4
        assert PixelCache(10**6, "rgb", folder)._used > 0  # a later run counts what is there


def test_a_file_that_was_just_written_is_not_kept(tmp_path: Path) -> None:
    """It could be written to again within the same tick of the clock."""
    source, cache = Source(tmp_path), PixelCache(10**6, "rgb")
    get(cache, source)
    get(cache, source)
    assert source.loads == 2


def test_a_file_written_to_while_it_is_read_is_not_kept(folder: Path | None, tmp_path: Path) -> None:
    source, cache = Source(tmp_path), PixelCache(10**6, "rgb", folder)

    def load() -> tuple[np.ndarray, np.ndarray]:
        pair = source()
        source.write(source.value + 1)
        return pair

    cache(source.image, source.mask, load)
    cache(source.image, source.mask, source)
    assert source.loads == 2


def test_a_later_run_finds_what_an_earlier_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seg.data.batches.pixel_cache.SETTLED_NS", 0)
    source = Source(tmp_path)
    get(PixelCache(10**6, "rgb", tmp_path / "cache"), source)
    assert (get(PixelCache(10**6, "rgb", tmp_path / "cache"), source)[1] == 7).all()
    assert source.loads == 1
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]  # no temporary file


def test_a_broken_entry_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seg.data.batches.pixel_cache.SETTLED_NS", 0)
    source = Source(tmp_path)
    get(PixelCache(10**6, "rgb", tmp_path / "cache"), source)
    for entry in (tmp_path / "cache").iterdir():
        entry.write_bytes(entry.read_bytes()[:50])
    assert (get(PixelCache(10**6, "rgb", tmp_path / "cache"), source)[0] == 7).all() and source.loads == 2


def test_threads_and_runs_side_by_side(folder: Path | None, tmp_path: Path) -> None:
    sources = [Source(tmp_path, f"{number}", number) for number in range(6)]
    caches = [PixelCache(10**6, "rgb", folder) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: get(caches[k % 2], sources[k % 6]), range(240)))
    for number, (image, mask) in enumerate(found):
        assert (image == number % 6).all() and (mask == number % 6).all()


def test_a_missing_file_is_named(folder: Path | None, tmp_path: Path) -> None:
    source, cache = Source(tmp_path), PixelCache(10**6, "rgb", folder)
    get(cache, source)
    source.mask.unlink()
    with pytest.raises(DataError, match=r"a\.msk: cannot be read \(No such file"):
        get(cache, source)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seg.data.batches.pixel_cache.SETTLED_NS", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/cache: cannot be written .Not a directory"):
        get(PixelCache(10**6, "rgb", tmp_path / "file" / "cache"), Source(tmp_path))
