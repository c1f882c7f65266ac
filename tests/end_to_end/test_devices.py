"""The same training on one device and on two that share its batches: the same weights and scores."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.scenes.scene import write_scenes

CONFIG = """
name: shared
labels: {{names: [field, forest, water, road, building, boat, solar_panel]}}
data: {{name: folders, root: {root}}}
input: {{crop: [32, 32]}}
augmentation: {{horizontal_flip: 0.5, brightness: 0.1}}
class_weights: {{scheme: inverse_sqrt, online: 0.9}}
pixel_weights: {{name: border, classes: [building, boat]}}
model: {{name: unet, depth: 1, base_filters: 4}}
loss: [{{name: cross_entropy, normalize: weights}}, {{name: dice, weighted: false}}]
optimizer: {{name: adamw, clip: {{by: global_norm, limit: 0.01}}}}
training: {{epochs: 1, batch_size: 8, precision: float32, l2: 1e-4}}
output: {{overlays: 1}}
"""
# In one process, which pays for TensorFlow once: each line of the arguments is a run's folder and its overrides.
RUNS = """
import sys
from pathlib import Path

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from seg.train import main

for line in sys.argv[2:]:
    folder, *overrides = line.split()
    assert main(["--config", sys.argv[1], "--run-dir", folder, *overrides]) == 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose epoch has 5 steps, and whose validation leaves the second of two devices without a third
    image."""
    folder = tmp_path_factory.mktemp("devices")
    write_scenes(folder / "scenes", {"train": 40, "val": 3}, size=64, seed=0)
    (folder / "config.yaml").write_text(CONFIG.format(root=folder / "scenes"))
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    """The folder with a run on one device and one on two, whose batch normalisation is synchronised."""
    mirrored = "training.distribution=mirrored"
    lines = [f"{folder}/one", f"{folder}/two model.norm=sync_batch {mirrored}"]
    command = [sys.executable, "-c", RUNS, str(folder / "config.yaml"), *lines]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "a batch is shared by 2 CPUs" in result.stdout
    assert "ran out of data" not in result.stderr
    return folder


def largest_difference(one: Path, two: Path) -> float:
    """Between the weights, normalisation statistics and online class weights of two runs' last checkpoints."""
    from seg.training.segmenter import load_segmenter

    pairs = zip(*(load_segmenter(run / "checkpoints/last.keras").get_weights() for run in (one, two)), strict=True)
    return max(float(np.abs(left - right).max()) for left, right in pairs)


def logs(run: Path) -> dict[str, float]:
    """The first epoch's row of log.csv without what is timed."""
    with (run / "log.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    return {key: float(value) for key, value in row.items() if key not in ("seconds", "images_per_second")}


# AdamW steps by 1e-3 whatever the gradient's size: after 5 steps a wrong gradient differs by 1e-3. The sums of float32
# in another order differ by 1e-7 of a gradient, and most where AdamW divides one by another that is as small.
TOLERANCE = 2e-5


def test_two_devices_train_to_the_weights_and_scores_of_one(runs: Path) -> None:
    one, two = runs / "one", runs / "two"
    assert largest_difference(one, two) < TOLERANCE
    expected, found = logs(one), logs(two)
    assert found == pytest.approx(expected, abs=1e-4, nan_ok=True)  # a pixel of 12,288 may tip over: 8e-5
