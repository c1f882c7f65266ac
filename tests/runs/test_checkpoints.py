import os

import numpy as np
import pytest

from seg.errors import DataError
from seg.runs.checkpoints import CheckpointFiles, Position, TrainingState


def writing(content):
    """Writes a file that is no model, but an archive that `TrainingState` can be added to."""

    def write(path):
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("content", content)

    return write


@pytest.fixture
def unchecked(monkeypatch):
    monkeypatch.setattr("seg.runs.checkpoints.check_model_file", lambda path: None)


def saved(folder, numbers, keep=2):
    files = CheckpointFiles(folder, keep)
    for number in numbers:
        files.save(writing(str(number)), TrainingState(Position(number)), best=number == 1)
    files.wait()
    return files


def epochs(files):
    return [TrainingState.read(path).position.epoch for path in files.existing()]


def test_the_last_ones_are_kept_and_nothing_else(tmp_path):
    files = saved(tmp_path, range(4), keep=3)
    assert [path.name for path in files.existing()] == ["last.keras", "last-1.keras", "last-2.keras"]
    assert epochs(files) == [3, 2, 1]
    assert TrainingState.read(files.best).position.epoch == 1
    assert len(list(tmp_path.iterdir())) == 4
    assert epochs(saved(tmp_path, [4], keep=1)) == [4]  # kept fewer from now on


def test_a_state_comes_back_as_it_was(tmp_path):
    state = TrainingState(Position(3, 4, 1.5, 2), {"000 matrix": np.array([[1, 2**40]]), "001 total": np.float32(0.1)})
    path = tmp_path / "a.keras"
    writing("x")(path)
    state.add_to(path)
    read = TrainingState.read(path)
    assert read.position == state.position
    assert read.variables.keys() == state.variables.keys()
    for name, value in state.variables.items():
        np.testing.assert_array_equal(read.variables[name], value)
        assert read.variables[name].dtype == value.dtype


def test_a_file_without_a_state_is_named(tmp_path):
    writing("x")(tmp_path / "a.keras")
    with pytest.raises(DataError, match=r"a\.keras: has no readable training\.npz .*allowed: a checkpoint that this"):
        TrainingState.read(tmp_path / "a.keras")


def test_the_newest_that_is_whole_is_found(tmp_path, unchecked):
    told = []
    assert CheckpointFiles(tmp_path).newest(told.append) is None
    files = saved(tmp_path, range(3))
    assert files.newest(told.append).state.position.epoch == 2
    assert told == []
    files.last.write_bytes(b"half")
    assert files.newest(told.append).state.position.epoch == 1
    assert told[1] == f"warning: {files.last}: it is damaged; going on from the checkpoint before it, last-1.keras"
    files.last.unlink()
    told.clear()
    assert files.newest(told.append).path.name == "last-1.keras"
    assert told == [f"warning: {files.last}: it is not there; going on from the checkpoint before it, last-1.keras"]


def test_without_links_best_is_a_copy(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    files = saved(tmp_path, range(2))
    assert files.best.read_bytes() == files.last.read_bytes()
    assert not files.best.samefile(files.last)


def test_what_fails_in_the_background_is_raised_by_the_next_call(tmp_path, monkeypatch):
    files = CheckpointFiles(tmp_path)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seg.runs.checkpoints.settle", full)
    files.save(writing("x"), TrainingState(Position(1)))
    with pytest.raises(DataError, match=r"last\.keras: cannot be written \(No space left on device\)"):
        files.wait()
    assert list(tmp_path.iterdir()) == []
