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


def test_a_created_run_opens_with_the_configuration_it_was_given(tmp_path, config):
    RunDir.new(tmp_path / "run").create(config)
    assert RunDir.open(tmp_path / "run").config() == config


def test_nothing_is_written_before_create(tmp_path):
    RunDir.dated(tmp_path / "runs", "tiny")
    assert not (tmp_path / "runs").exists()


def test_two_runs_never_share_a_folder(tmp_path, config):
    first, second = RunDir.new(tmp_path / "run"), RunDir.new(tmp_path / "run")
    first.create(config)
    with pytest.raises(DataError, match="run: another run has just made it; allowed: a new folder"):
        second.create(config)
    with pytest.raises(DataError, match="run: exists, and two runs never share a folder; allowed: a new folder"):
        RunDir.new(tmp_path / "run")


def test_a_folder_that_cannot_be_made(tmp_path, config):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/run: the run folder cannot be made: Not a directory"):
        RunDir.new(tmp_path / "file" / "run").create(config)


def test_open_wants_a_run(tmp_path):
    with pytest.raises(
        DataError, match=r"no run there \(config.yaml is missing\); allowed: a folder that seg.train made"
    ):
        RunDir.open(tmp_path)


def test_checkpoints_by_name_and_by_path(tmp_path, config):
    run = RunDir.new(tmp_path / "run")
    run.create(config)
    run.best.write_bytes(b"x")
    other = tmp_path / "other.keras"
    other.write_bytes(b"x")
    assert run.checkpoint("best") == run.best
    assert run.checkpoint(str(other)) == other
    with pytest.raises(DataError, match=r"last.keras: no such checkpoint; allowed: best, last"):
        run.checkpoint("last")


def test_no_temporary_file_stays(tmp_path, config):
    run = RunDir.new(tmp_path / "run")
    run.create(config)
    run.write_json("facts.json", {"a": 1})
    names = {path.name for path in run.path.iterdir()}
    assert names == {"config.yaml", "facts.json", "checkpoints", "tensorboard"}
