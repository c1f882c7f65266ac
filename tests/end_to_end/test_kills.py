"""A training is killed twenty times, some of them while it writes a checkpoint, and ends with the bits of the one that
was left alone."""

import csv
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from seg.runs.checkpoints import TrainingState
from seg.training.segmenter import load_segmenter

KILLS = 20
LONGER = ("training.epochs=40", "checkpoints.steps=1", "tensorboard.look_every=20")


def start(*arguments):
    command = [sys.executable, "-m", "seg.train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output


def wait_for(condition, process):
    """Until it holds or the process has ended; whether it holds."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


def scores(run):
    """The rows of the log, but for what is measured by the clock."""
    with (run / "log.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in csv.DictReader(file)
        ]


def stamp(run):
    """Changes with every checkpoint."""
    path = run / "checkpoints/last.keras"
    return path.stat().st_mtime_ns if path.exists() else None


def position(run):
    path = run / "checkpoints/last.keras"
    found = TrainingState.read(path).position if path.exists() else None
    return f"epoch {found.epoch}, step {found.step}" if found else "none"


@pytest.mark.slow
def test_twenty_kills_change_nothing(tiny_config, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start("--config", tiny_config, "--run-dir", whole, *LONGER))
    again = tmp_path / "again"
    finish(start("--config", tiny_config, "--run-dir", again, *LONGER))
    assert_equal(again, whole)  # the same seed twice

    draw, written = random.Random(0), 0
    for kill in range(KILLS):
        new = ("--config", tiny_config, "--run-dir", killed, *LONGER)
        before = stamp(killed)
        process = start(*(("--resume", killed) if killed.exists() else new))
        wait_for(lambda: stamp(killed) != before, process)  # noqa: B023 - used at once; it trains now
        if kill % 2:  # while a checkpoint has its temporary name
            wait_for(lambda: list((killed / "checkpoints").glob(".*")), process)
        else:
            time.sleep(draw.uniform(0, 0.2))
        process.kill()
        process.communicate()
        writing = bool(list((killed / "checkpoints").glob(".*")))
        written += writing
        print(f"kill {kill + 1:2d}: last checkpoint {position(killed)}{', while one was written' if writing else ''}")
    assert "epoch 40" not in position(killed)  # it was never left alone to the end
    finish(start("--resume", killed))
    print(f"{written} of {KILLS} kills while a checkpoint was written")
    assert written >= 3
    assert_equal(killed, whole)


def assert_equal(ours, theirs):
    assert scores(ours) == scores(theirs)
    for name in ("best", "last"):
        pair = (load_segmenter(run / f"checkpoints/{name}.keras").get_weights() for run in (ours, theirs))
        assert all(np.array_equal(one, other) for one, other in zip(*pair, strict=True))
    states = [TrainingState.read(run / "checkpoints/last.keras").variables for run in (ours, theirs)]
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
