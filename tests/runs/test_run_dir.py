from concurrent.futures import ThreadPoolExecutor

import pytest

from seg.config import load_config
from seg.errors import DataError
from seg.runs.run_dir import RunDir

CONFIG = """
name: tiny
labels: {names: [a, b]}
data: {name: folders, root: somewhere}
training: {epochs: 2, batch_size: 1}
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG)
    return load_config(file)


def test_a_new_run_opens_with_the_configuration_it_was_given(tmp_path, config):
    RunDir.new(tmp_path / "runs/run", config)
    assert RunDir.open(tmp_path / "runs/run").config() == config
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


def test_two_runs_never_share_a_folder(tmp_path, config):
    RunDir.new(tmp_path / "run", config)
    (tmp_path / "file").write_text("")
    for name in ("run", "file"):
        with pytest.raises(
            DataError, match=f"{name}: exists, and two runs never share a folder; allowed: a new folder"
        ):
            RunDir.new(tmp_path / name, config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run", "tiny.yaml"]


def test_runs_of_one_moment_have_names_of_their_own(tmp_path, config, monkeypatch):
    monkeypatch.setattr("seg.runs.run_dir.time.strftime", lambda _: "20260101-120000")
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunDir.dated(tmp_path / "runs", config), range(8)))
    names = {"tiny-20260101-120000", *(f"tiny-20260101-120000-{number}" for number in range(2, 9))}
    assert {run.path.name for run in runs} == names == {path.name for path in (tmp_path / "runs").iterdir()}


def test_an_empty_folder_becomes_a_run(tmp_path, config):
    (tmp_path / "run").mkdir()
    assert RunDir.new(tmp_path / "run", config).config() == config


def test_a_folder_that_cannot_be_made(tmp_path, config):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/\.run\..*: cannot be written \(Not a directory\)"):
        RunDir.new(tmp_path / "file" / "run", config)


def test_an_error_before_anything_was_counted_leaves_no_folder(tmp_path, config):
    run = RunDir.new(tmp_path / "run", config)
    with pytest.raises(KeyboardInterrupt), run.locked(print), run.removed_if_unprepared():
        raise KeyboardInterrupt
    assert not run.path.exists()
    run = RunDir.new(tmp_path / "run", config)
    with pytest.raises(DataError), run.locked(print), run.removed_if_unprepared():
        run.write_json("counts.json", {})
        raise DataError("the first batch")
    assert run.counts.exists() and not (run.path / "run.lock").exists()


def test_open_wants_a_run(tmp_path):
    with pytest.raises(
        DataError, match=r"no run there \(config.yaml is missing\); allowed: a folder that seg.train made"
    ):
        RunDir.open(tmp_path)


def test_checkpoints_by_name_and_by_path(tmp_path, config):
    run = RunDir.new(tmp_path / "run", config)
    run.best.write_bytes(b"x")
    other = tmp_path / "other.keras"
    other.write_bytes(b"x")
    assert run.checkpoint("best") == run.best
    assert run.checkpoint(str(other)) == other
    with pytest.raises(DataError, match=r"last.keras: no such checkpoint; allowed: best, last"):
        run.checkpoint("last")


def test_no_temporary_file_stays(tmp_path, config):
    run = RunDir.new(tmp_path / "run", config)
    run.write_json("facts.json", {"a": 1})
    names = {path.name for path in run.path.iterdir()}
    assert names == {"config.yaml", "facts.json", "checkpoints", "tensorboard", "run.lock"}
