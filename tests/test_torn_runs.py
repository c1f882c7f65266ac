"""A run folder of which a crash has torn or lost a file: a resume, an evaluation and a prediction end in one line each,
or do what the file is not needed for."""

import shutil

import pytest

from seg import evaluate, predict, train

RESUME = "to write it anew: python -m seg.train --resume"
# What the commands say, None: nothing, they end well. `half`: cut in the middle.
CASES = {
    ("class_weights.json", "gone"): (
        None,
        f"the class weights cannot be read (No such file or directory); {RESUME}",
        None,
    ),
    ("class_weights.json", "half"): (None, f"; {RESUME}", None),
    ("counts.json", "gone"): (None, "cannot read the class counts: No such file or directory", None),
    ("counts.json", "half"): (None, f"; {RESUME}", None),
    ("environment.json", "half"): (None, None, None),
    ("log.csv", "gone"): ("got 0 epochs, but", None, None),
    ("log.csv", "half"): ("epochs, but", None, None),
    ("config.yaml", "half"): ("config.yaml",) * 3,
    ("tensorboard", "half"): (None, None, None),
    ("checkpoints/best.keras", "gone"): ("best.keras", "no such checkpoint", "no such checkpoint"),
    ("checkpoints/best.keras", "half"): ("best.keras: cannot be read as a model",) * 3,
}


@pytest.fixture
def commands(tmp_path, tiny_config):
    image = tiny_config.parent / "scenes/images/test/0000.png"

    def called(run):
        yield train.main(["--resume", str(run)])
        yield evaluate.main([str(run), "--resamples", "100", "--out", str(tmp_path / "report")])
        yield predict.main([str(run), str(image), "--out", str(tmp_path / "out"), "--overwrite"])

    return called


@pytest.mark.parametrize(("name", "how"), CASES)
def test_one_line_says_what_is_torn(name, how, trained_run, tmp_path, commands, capsys, monkeypatch):
    expected = CASES[name, how]
    # What comes behind the run folder's files takes minutes in all, and is tested elsewhere.
    if not name.startswith("checkpoints"):
        monkeypatch.setattr("seg.evaluate.evaluate", lambda *_: None)
    run = tmp_path / "run"

    def tear():
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(trained_run, run)
        for path in [file for file in (run / name).rglob("*") if file.is_file()] or [run / name]:
            content = path.read_bytes()
            path.unlink() if how == "gone" else path.write_bytes(content[: len(content) // 2])

    tear()
    codes = commands(run)
    for told in expected:
        code, err = next(codes), capsys.readouterr().err
        if told is None:
            assert (code, err) == (0, "")
        else:
            assert code == 2 and err.startswith("error: ") and told in err
            assert err.count("\n") == 1 or name == "config.yaml"  # all problems of a configuration, a line each
        tear()  # a resume may have mended it
