"""Files of local folders, archives, memory and an S3 server: listed, read, named and counted alike."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.mask_frequencies import main
from seg.balance import cache, collect_statistics
from seg.data.files.reading import reader
from seg.data.files.storage import (
    RemoteFile,
    common_folder,
    file_state,
    is_url,
    list_files,
    read_bytes,
    relative_name,
    remove_temporaries,
    temporary_name,
)
from seg.data.masks.reading import IndexEncoding, read_mask
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

fsspec = pytest.importorskip("fsspec", reason="needs fsspec (pip install 'seg[remote]')")

LABELS = LabelSet.from_names(["field", "road"], ignore_index=255)
MASKS = {"a.png": [[0, 1], [1, 255]], "town/b.png": [[0, 0, 0]]}


def encoded(mask: list[list[int]]) -> bytes:
    return cv2.imencode(".png", np.array(mask, np.uint8))[1].tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, mask in MASKS.items():
        path = tmp_path / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(mask))
    (tmp_path / "masks" / "notes.txt").write_text("no mask")
    return tmp_path / "masks"


@pytest.fixture
def memory() -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    for name, mask in MASKS.items():
        filesystem.pipe_file(f"/bucket/masks/{name}", encoded(mask))
    yield "memory://bucket/masks"
    filesystem.rm("/bucket", recursive=True)


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> str:
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as file:
        for path in folder.rglob("*.*"):
            file.write(path, f"inside/{path.relative_to(folder).as_posix()}")
    return f"zip://inside::file://{tmp_path / 'masks.zip'}"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="needs s3fs")
    server = pytest.importorskip("moto.server", reason="needs moto and flask").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    filesystem.mkdir("bucket")
    for name, mask in MASKS.items():
        filesystem.pipe_file(f"bucket/masks/{name}", encoded(mask))
    return "s3://bucket/masks"


def check(url: str, folder: Path) -> None:
    """Everything that holds for a URL whose files are those of `folder`."""
    files = list_files(url, (".png",))
    assert [relative_name(file, Path()) for file in files] == ["a.png", "town/b.png"]
    for file, mask in zip(files, MASKS.values(), strict=True):
        assert isinstance(file, RemoteFile)
        assert read_mask(file, LABELS, IndexEncoding()).tolist() == mask
        assert file_state(file).size == len(encoded(mask))
        assert file_state(file).version
    statistics = collect_statistics(files, LABELS, IndexEncoding(), workers=2)
    local = collect_statistics(list_files(str(folder), (".png",)), LABELS, IndexEncoding(), root=folder)
    assert statistics == local  # the fingerprint too


def test_memory(memory: str, folder: Path) -> None:
    check(memory, folder)


def test_zip(archive: str, folder: Path) -> None:
    check(archive, folder)


def test_file(folder: Path) -> None:
    check(f"file://{folder}", folder)


def test_s3(s3: str, folder: Path) -> None:
    check(s3, folder)


def test_the_command_counts_an_archive(
    archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "user_cache_folder", lambda: tmp_path / "cache")
    for _ in range(2):
        assert main([archive, "--num-classes", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("2 masks in ") == 2
    assert "2 of them were counted before and are unchanged" in out  # an archive's members have checksums


def test_a_broken_member_is_named(memory: str) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/masks/c.png", encoded([[0]])[:-9])
    with pytest.raises(DataError, match="memory://bucket/masks: c.png: its PNG data are cut short or corrupt"):
        collect_statistics(list_files(memory, (".png",)), LABELS, IndexEncoding())


def test_a_file_that_went_away_is_named(memory: str, folder: Path) -> None:
    (first, _), local = list_files(memory, (".png",)), folder / "a.png"
    fsspec.filesystem("memory").rm("/bucket/masks/a.png")
    local.unlink()
    with pytest.raises(DataError, match="memory://bucket/masks: a.png: cannot be read"):
        read_bytes(first)
    with pytest.raises(DataError, match=r"a.png: cannot be read \(No such file or directory\)"):
        read_bytes(local)
    with pytest.raises(DataError, match=r"a.png: cannot be read \(No such file or directory\)"):
        file_state(local)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nothing", "memory://nothing: no files there"),
        ("zip://x::file:///nowhere.zip", r"nowhere.zip: cannot be listed \(FileNotFoundError"),
        ("nope://x", r"nope://x: cannot be listed \(ValueError: Protocol not known: nope"),
    ],
)
def test_what_cannot_be_listed(url: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_files(url, (".png",))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match="gs://bucket: .*gcsfs"):
        list_files("gs://bucket", (".png",))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"memory://x: needs fsspec; to install it: pip install 'seg\[remote\]'"):
        list_files("memory://x", (".png",))


def test_local_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert relative_name(tmp_path / "a" / "b.png", tmp_path) == "a/b.png"
    assert relative_name(tmp_path / "a" / ".." / "b.png", tmp_path) == "b.png"
    assert relative_name(tmp_path / "b.png", tmp_path / "a") == "../b.png"
    monkeypatch.chdir(tmp_path)
    assert relative_name(Path("a/b.png"), Path("a")) == "b.png"
    assert relative_name(Path("a/b.png"), Path()) == "a/b.png"
    assert common_folder([tmp_path / "a" / "x.png", tmp_path / "b" / "y.png"]) == tmp_path
    assert common_folder([]) == Path()


def test_a_state_changes_with_every_write(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    before = file_state(path)
    os.utime(path, ns=(1, 1))
    assert file_state(path).version != before.version
    assert file_state(path).size == 1


def test_urls_are_told_from_paths() -> None:
    assert is_url("s3://bucket/masks")
    assert not is_url("masks/train")
    assert not is_url("C:/masks")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: cannot be read \(is a pipe or a device, allowed: a file\)"):
        read_bytes(tmp_path / "a.png")
    with pytest.raises(DataError, match="is a pipe or a device"):
        reader(tmp_path / "a.png").read()


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = [temporary_name(tmp_path / "last.keras", ".keras"), temporary_name(tmp_path / "log.csv")]
    kept = [tmp_path / ".hidden.tmp", tmp_path / "log.csv", tmp_path / ".keras"]
    for path in (*left, *kept):
        path.write_bytes(b"")
    remove_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
