"""seg.data.files.outputs: where results go is looked at before the work, and nothing that is read is replaced."""

import os
from pathlib import Path

import pytest

from seg.data.files.outputs import check_folder, check_reports, check_targets
from seg.data.files.storage import LimitedMask, VolumeSlice
from seg.errors import ConfigError, DataError


@pytest.fixture
def mask(tmp_path):
    path = tmp_path / "data/masks/a.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mask")
    return path


def test_a_folder_that_is_there_or_can_be_made(tmp_path):
    check_folder(tmp_path)
    check_folder(tmp_path / "new/folder")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_or_under_one_is_named(mask):
    for path in (mask, mask / "below/it"):
        with pytest.raises(DataError) as raised:
            check_folder(path)
        assert str(raised.value) == f"{mask}: is no folder; allowed: a folder, or a new name"


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # to root nothing is read-only
    with pytest.raises(DataError, match=r"cannot be written \(Permission denied, or a read-only file system\)"):
        check_folder(tmp_path / "new")


def test_targets_that_exist_are_replaced_only_when_asked(tmp_path, mask):
    there, new = tmp_path / "out.png", tmp_path / "new.png"
    there.write_bytes(b"x")
    check_targets([new], lambda: pytest.fail("nothing exists"), overwrite=False)
    check_targets([there, new], lambda: [mask], overwrite=True)
    with pytest.raises(DataError) as raised:
        check_targets([new, there], lambda: [mask], overwrite=False)
    assert str(raised.value) == f"{there}: exists; allowed: another --out, or --overwrite to replace them"


@pytest.mark.parametrize("name", ["itself", "symbolic link", "hard link", "linked folder", "relative path"])
def test_the_datas_own_files_are_never_replaced_whatever_they_are_called(tmp_path, mask, monkeypatch, name):
    target = tmp_path / "out.png"
    if name == "itself":
        target = mask
    elif name == "symbolic link":
        target.symlink_to(mask)
    elif name == "hard link":
        os.link(mask, target)
    elif name == "linked folder":
        (tmp_path / "linked").symlink_to(mask.parent)
        target = tmp_path / "linked/a.png"
    else:
        monkeypatch.chdir(tmp_path / "data")
        target = Path("../data/masks/../masks/a.png")
    with pytest.raises(DataError) as raised:
        check_targets([target], lambda: [mask], overwrite=True)
    assert str(raised.value) == (
        f"{target}: is one of the data's own files, which are never replaced; allowed: another --out"
    )


def test_slices_and_limited_masks_are_known_by_their_files(mask, tmp_path):
    valid = tmp_path / "valid.png"
    valid.write_bytes(b"valid")
    for target, source in (
        (mask, VolumeSlice(mask, 0, 1)),
        (valid, LimitedMask(mask, valid)),
        (mask, LimitedMask(mask, valid)),
    ):
        with pytest.raises(DataError, match="one of the data's own files"):
            check_targets([target], lambda source=source: [source], overwrite=True)


def test_reports_replace_reports_alone(tmp_path, mask):
    old, notes = tmp_path / "report.json", tmp_path / "notes.txt"
    for path in (old, notes):
        path.write_text("x")
    check_reports([("--json", old), ("--csv", None), ("--html", tmp_path / "new/page.html")], lambda: [mask])
    for reports, told in (
        ([("--json", notes)], f"--json: {notes} exists and is no report; allowed: a new name, or .json .csv"),
        ([("--png", mask)], f"--png: {mask} is one of the files that are read; allowed: another name"),
        ([("--json", tmp_path)], f"--json: {tmp_path} is no file; allowed: a file name"),
        ([("--json", old), ("--csv", tmp_path / "data/../report.json")], "--json and --csv: both are "),
    ):
        with pytest.raises(ConfigError) as raised:
            check_reports(reports, lambda: [mask])
        assert str(raised.value).startswith(told)
