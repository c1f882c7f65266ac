"""The README's commands are what a reader types first: each must parse, and (slow) run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools import make_scenes
from data_tools.scenes.scene import write_scenes
from seg.config import load_config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def commands():
    """Every line of the README's shell blocks, continued lines joined, without comments."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    lines = [line.split(" # ")[0].strip() for block in blocks for line in re.sub(r"\\\n *", "", block).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_there_are_commands():
    assert {"make quickstart", "make test"} <= set(commands())
    assert any("seg.train" in command for command in commands())


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("make ")])
def test_make_targets_exist(command):
    _, target = command.split()
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in commands() if "python -m " in command])
def test_modules_options_and_overrides_exist(command):
    words = shlex.split(command)
    module, arguments = words[2], words[3:]
    assert words[:2] == [".venv/bin/python", "-m"]
    answer = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    for option in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{option}\b", answer.stdout), f"{module} has no {option}"
    if "--config" in arguments:
        config = arguments[arguments.index("--config") + 1]
        overrides = [word for word in arguments if re.match(r"[a-z_.]+=", word)]
        load_config(ROOT / config, overrides)
    for path in (word for word in arguments if word.startswith(("configs/", "experiments/"))):
        assert (ROOT / path).exists(), path


def test_every_command_is_of_a_kind_that_is_tested():
    known = ("make ", ".venv/bin/python -m ", ".venv/bin/tensorboard --logdir ")
    assert [command for command in commands() if not command.startswith(known)] == []


def test_pictures_and_linked_files_exist():
    for path in re.findall(r"\]\(((?!http)[^)#]+)", README):
        assert (ROOT / path).exists(), path


def python_examples():
    return re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_a_trained_run_predicts_in_python(tmp_path, monkeypatch, trained_run):
    write_scenes(tmp_path / "data" / "scenes", {"test": 1}, 64, 0)
    shutil.copytree(trained_run, tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(python_examples()[0], names)  # noqa: S102 - our own README
    assert names["prediction"].classes.shape == names["boats"].shape == (64, 64)


def test_losses_and_weights_go_with_any_keras_model(tmp_path, monkeypatch):
    write_scenes(tmp_path / "data" / "scenes", {"train": 4}, 64, 0)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(python_examples()[1], names)  # noqa: S102 - our own README
    assert names["model"].loss.get_config()["class_weights"] == names["weights"].tolist()
    assert len(python_examples()) == 2


@pytest.mark.slow
def test_the_commands_on_the_scenes_run(tmp_path):
    """As written and in their order, but for one epoch and in a folder that can be thrown away."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    assert make_scenes.main([str(tmp_path / "data" / "scenes")]) == 0  # as `make quickstart` did
    ran = 0
    for command in commands():
        if "python -m" not in command or "PATH/TO" in command:
            continue
        words = [sys.executable, *shlex.split(command)[1:]]
        words = [re.sub(r"^training\.epochs=\d+", "training.epochs=2", word) for word in words]
        if (
            "--config" in words
            and "seg.train" in words
            and not any(word.startswith("training.epochs") for word in words)
        ):
            words.append("training.epochs=2")
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
        ran += 1
    assert ran >= 4
    assert (tmp_path / "runs/first/evaluation/test/metrics.json").exists()
    assert len(list((tmp_path / "predictions/masks").glob("*.png"))) == 16
