"""A training with what docs/training.md offers, in one run: it goes on exactly where it was stopped."""

import csv
import dataclasses

import numpy as np
import pytest

from seg import train
from seg.balance import ClassCounts
from seg.config import load_config
from seg.errors import DataError
from seg.runs.devices import Devices
from seg.runs.run_dir import RunDir
from seg.training.checkpoints import Checkpoints
from seg.training.segmenter import load_segmenter

OPTIONS = (
    "training.epochs=4",
    "training.steps_per_epoch=3",  # of a data set of 2 whole batches
    "training.l2=1e-4",
    "training.accumulation=2",
    "training.ema=0.8",
    "training.freeze={layers: [down0_*], epochs: 3}",
    "training.monitor=loss/dice",
    "optimizer={name: sgd, learning_rate: 0.05, nesterov: true, clip: {limit: 0.5}}",
    "schedule={name: plateau, patience: 1, factor: 0.5, warmup_steps: 2}",
)


def rows(run):
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(run):
    """Those of the best and of the last checkpoint."""
    return [load_segmenter(run / f"checkpoints/{name}.keras").get_weights() for name in ("best", "last")]


def run_once(config, folder):
    return train.main(["--config", str(config), "--run-dir", str(folder), *OPTIONS])


@pytest.fixture(scope="module")
def run(tiny_config):
    folder = tiny_config.parent / "options"
    assert run_once(tiny_config, folder) == 0
    return folder


def test_the_best_epoch_is_that_of_the_monitored_value(run, tiny_config):
    values = [float(row["val_loss/dice"]) for row in rows(run)]
    assert int(np.argmin(values)) != int(np.argmax([float(row["val_mean_iou"]) for row in rows(run)]))
    same = all(
        np.array_equal(*pair)
        for pair in zip(
            *(load_segmenter(run / f"checkpoints/{n}.keras").get_weights() for n in ("best", "last")), strict=True
        )
    )
    assert same == (int(np.argmin(values)) == len(values) - 1)


def test_the_rate_follows_the_monitored_value(run):
    best, rate = np.inf, 0.05
    for row in rows(run):
        value = float(row["val_loss/dice"])
        rate, best = (rate, value) if value < best else (rate / 2, best)
        assert float(row["learning_rate"]) == pytest.approx(rate)


def test_the_last_file_holds_both_weights(run, tiny_config):
    """What is validated, saved as the model and predicted with is the average; a resume goes on from the raw ones."""
    config = load_config(tiny_config, OPTIONS)
    model, confusion = train.build_model(config, RunDir(run), np.ones(7), 3, 0, Devices.of("none", 0))
    model.load_weights(run / "checkpoints/last.keras")
    data = config.evaluation_data(config.samples()["val"], config.input.preprocessing())
    logs = model.evaluate(data, return_dict=True, verbose=0)
    last = rows(run)[-1]
    for key in ("loss", "loss/dice", "mean_iou"):
        assert logs[key] == pytest.approx(float(last[f"val_{key}"]), rel=1e-6)
    for saved, weight in zip(weights(run)[1], model.get_weights(), strict=False):
        np.testing.assert_array_equal(saved, weight)
    raw = model.average.others
    assert any((np.asarray(one) != weight).any() for one, weight in zip(raw, weights(run)[1], strict=True))


def test_a_resumed_run_equals_the_uninterrupted_one(run, tiny_config, tmp_path, monkeypatch):
    class Stopping(Checkpoints):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt
            super().on_epoch_end(epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr("seg.training.checkpoints.Checkpoints", Stopping)
        assert run_once(tiny_config, tmp_path / "run") == 130
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    times = ("seconds", "images_per_second")
    resumed, whole = (
        [{k: v for k, v in row.items() if k not in times} for row in rows(r)] for r in (tmp_path / "run", run)
    )
    assert resumed == whole
    for name in ("best", "last"):
        pair = (load_segmenter(r / f"checkpoints/{name}.keras").get_weights() for r in (tmp_path / "run", run))
        for ours, theirs in zip(*pair, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_no_rare_class_to_monitor_is_refused(run, tiny_config):
    config = load_config(tiny_config, ["training.monitor=mean_iou_rare", "tensorboard.rare_share=0.5"])
    counts = ClassCounts.load(run / "counts.json")
    assert set(train.rare_names(config, counts)) == set(counts.names)
    even = dataclasses.replace(counts, pixel_counts=np.full(7, 100))
    with pytest.raises(DataError, match="got 'mean_iou_rare', but every class has at least 0.01 of the labelled"):
        train.rare_names(load_config(tiny_config, ["training.monitor=mean_iou_rare"]), even)


def test_a_class_that_the_validation_lacks_cannot_be_monitored(tiny_config, tmp_path, capsys):
    overrides = [*OPTIONS, "training.monitor=mean_iou_rare"]  # boats and solar panels, of which the 2 masks show none
    assert train.main(["--config", str(tiny_config), "--run-dir", str(tmp_path / "run"), *overrides]) == 2
    message = "error: training.monitor: 'mean_iou_rare' has no value, the validation split shows none of its classes"
    assert capsys.readouterr().err.startswith(message)
