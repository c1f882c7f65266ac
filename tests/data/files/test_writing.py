"""Writing by seg.data.files.storage and grids: whole or not at all, and what the system refuses told in one line."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from seg.data.files.grids import written_raster
from seg.data.files.storage import make_folder, temporary_name, write_bytes, written_whole
from seg.errors import DataError, OutputError


@pytest.fixture
def full_disk(monkeypatch):
    """No file takes more than the first bytes of it."""

    def write(path, content):
        with path.open("wb") as file:
            file.write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write)


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path, full_disk):
    with (tmp_path / "a.json").open("w") as old:
        old.write("old")
    with pytest.raises(OutputError) as raised:
        write_bytes(tmp_path / "a.json", b"new content")
    assert str(raised.value) == f"{tmp_path}/a.json: cannot be written (No space left on device)"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: is no folder; allowed: a folder, or a new name"):
        write_bytes(tmp_path / "file/a.json", b"")
    with pytest.raises(DataError, match=r"file/x: cannot be written \(Not a directory\)"):
        make_folder(tmp_path / "file/x")


def test_a_folder_that_vanishes_meanwhile_is_named(tmp_path):
    (tmp_path / "out").mkdir()
    told = r"out/a: cannot be written \(No such file or directory\)"
    with pytest.raises(DataError, match=told), written_whole(tmp_path / "out/a") as temporary:
        temporary.write_text("x")
        temporary.unlink()
        (tmp_path / "out").rmdir()


def test_a_folder_under_the_files_name_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"a: cannot be written \(Is a directory\)"):
        write_bytes(tmp_path / "a", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_temporary_name_is_hidden_unlike_any_other_and_never_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr("seg.data.files.storage.socket.gethostname", lambda: "node7")
    one, two = (temporary_name(tmp_path / "a.tif") for _ in range(2))
    assert one != two and one.parent == tmp_path
    assert one.name.startswith(".a.tif.node7.") and one.suffix == ".tmp"
    for name in ("x" * 255, "水" * 85):  # 255 bytes each, as many as a name may have
        write_bytes(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("lost", ["the directory", "a block"])
def test_a_raster_of_which_a_part_did_not_arrive_gets_no_name(tmp_path, monkeypatch, lost):
    """GDAL says nothing where a file cannot be closed for want of space."""
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("the torn file got its name"))
    from seg.data.files import grids

    def opened(path, *arguments):
        with path.open("r+b") as file:
            file.truncate(100 if lost == "the directory" else path.stat().st_size - 1)
        return real_opened(path, *arguments)

    real_opened = grids.opened
    monkeypatch.setattr(grids, "opened", opened)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    with pytest.raises(OutputError) as raised, written_raster(tmp_path / "out/a.tif", (64, 64), None, 255) as write:
        write(0, pixels)
    assert str(raised.value) == (
        f"{tmp_path}/out/a.tif: cannot be written, only a part of it arrived (is the disk full?)"
    )
    assert not list((tmp_path / "out").iterdir())
    monkeypatch.setattr(os, "replace", real)
