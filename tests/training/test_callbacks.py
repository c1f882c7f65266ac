import csv
import io
import math

import keras
import numpy as np
import pytest
from rich.console import Console

from seg.errors import SegError
from seg.training.callbacks import (
    Checkpoints,
    EpochFacts,
    NaNStop,
    ProgressBar,
    TrainingLog,
    best_epoch,
    out_of_patience,
    read_log,
)
from seg.training.monitor import Monitor, RareMean


@pytest.fixture
def model():
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(2, 1)(images))
    model.compile(keras.optimizers.SGD(0.25), loss="mse")
    return model


def attached(callback, model):
    callback.set_model(model)
    return callback


def logs(val_mean_iou=0.5):
    return {"loss": 1.5, "val_loss": 2.0, "val_mean_iou": val_mean_iou, "images_per_second": 10.0, "seconds": 3.0}


def test_epoch_facts_measure_training_without_validation(model, monkeypatch):
    clock = iter([100.0, 104.0, 110.0])  # epoch begins, validation begins, epoch ends
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    facts, seen = attached(EpochFacts(images_per_epoch=20), model), {}
    facts.on_epoch_begin(0)
    facts.on_test_begin()
    facts.on_epoch_end(0, seen)
    assert seen == {"learning_rate": 0.25, "images_per_second": 5.0, "seconds": 10.0}


def test_best_is_the_first_highest_and_nan_never_wins():
    assert best_epoch([0.1, 0.3, 0.3, 0.2]) == 1
    assert best_epoch([math.nan, 0.0]) == 1
    assert best_epoch([math.nan, math.nan]) == 0


def test_patience_counts_epochs_since_the_best():
    assert not out_of_patience([0.5, 0.4], 2)
    assert out_of_patience([0.5, 0.4, 0.3], 2)
    assert not out_of_patience([0.5, 0.4, 0.6], 2)
    assert not out_of_patience([0.5] * 100, None)
    assert not out_of_patience([], 1)


def test_checkpoints_keep_the_best_and_the_last(tmp_path, model):
    best, last = tmp_path / "best.keras", tmp_path / "last.keras"
    callback = attached(Checkpoints(best, last), model)
    kernels = []
    for epoch, value in enumerate([0.2, 0.6, 0.4]):
        model.layers[-1].kernel.assign(np.full((1, 1, 3, 2), epoch))
        callback.on_epoch_end(epoch, logs(value))
    for path in (best, last):
        kernels.append(keras.ops.convert_to_numpy(keras.models.load_model(path).layers[-1].kernel)[0, 0, 0, 0])
    assert kernels == [1.0, 2.0]
    assert {path.name for path in tmp_path.iterdir()} == {"best.keras", "last.keras"}


def test_checkpoints_go_on_from_a_history(tmp_path, model):
    best, last = tmp_path / "best.keras", tmp_path / "last.keras"
    callback = attached(Checkpoints(best, last, history=[0.9], patience=2), model)
    model.stop_training = False
    callback.on_epoch_end(1, logs(0.8))
    assert not best.exists()  # the best epoch lies before the resume
    assert not model.stop_training
    callback.on_epoch_end(2, logs(0.8))
    assert model.stop_training


def test_a_crash_while_saving_leaves_the_old_checkpoint(tmp_path, model, monkeypatch):
    callback = attached(Checkpoints(tmp_path / "best.keras", tmp_path / "last.keras"), model)
    callback.on_epoch_end(0, logs())
    before = (tmp_path / "last.keras").read_bytes()

    def half(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", half)
    with pytest.raises(OSError, match="disk full"):
        callback.on_epoch_end(1, logs(0.1))
    assert (tmp_path / "last.keras").read_bytes() == before


def test_log_has_a_row_an_epoch_and_drops_undone_epochs_on_resume(tmp_path):
    file = tmp_path / "log.csv"
    log = TrainingLog(file)
    for epoch in range(3):
        log.on_epoch_end(epoch, logs(epoch / 10))
    assert b"\r" not in file.read_bytes()
    kept = read_log(file, 2)
    assert [row["val_mean_iou"] for row in kept] == ["0.0", "0.1"]
    TrainingLog(file, kept).on_epoch_end(2, logs(0.7))
    with file.open(newline="") as text:
        assert [row["val_mean_iou"] for row in csv.DictReader(text)] == ["0.0", "0.1", "0.7"]


def test_a_loss_that_is_no_number_ends_the_run_with_advice():
    NaNStop().on_epoch_end(0, logs())
    with pytest.raises(SegError, match="the training loss became nan in epoch 3; try a lower optimizer.learning_rate"):
        NaNStop().on_epoch_end(2, logs() | {"loss": math.nan})


def test_progress_prints_a_line_an_epoch_where_there_is_no_terminal():
    text = io.StringIO()
    bar = ProgressBar(Console(file=text, width=200), epochs=12, steps_per_epoch=2)
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.on_train_batch_end(0)
    bar.on_epoch_end(0, logs())
    bar.on_train_end()
    expected = "epoch   1/12  loss 1.5000  val loss 2.0000  val mean IoU 0.5000  10.0 images/s  3 s\n"
    assert text.getvalue() == expected


def test_a_loss_is_better_when_lower():
    assert Monitor("loss/dice").score({"val_loss/dice": "0.25"}) == -0.25
    assert Monitor("iou/loss").score({"val_iou/loss": 0.25}) == 0.25
    assert Monitor().key == "val_mean_iou"


def test_the_mean_of_the_rare_leaves_out_absent_classes():
    seen = {"val_iou/a": 0.5, "val_iou/b": math.nan, "val_iou/c": 0.25}
    RareMean(["a", "b", "c"]).on_epoch_end(0, seen)
    assert seen["val_mean_iou_rare"] == 0.375
    RareMean(["b"]).on_epoch_end(0, seen)
    assert math.isnan(seen["val_mean_iou_rare"])


def test_best_and_patience_follow_the_monitor(tmp_path, model):
    best = tmp_path / "best.keras"
    callback = attached(Checkpoints(best, tmp_path / "last.keras", patience=1, monitor=Monitor("loss")), model)
    model.stop_training = False
    for epoch, value in enumerate([2.0, 1.0, 1.5]):
        assert not model.stop_training
        model.layers[-1].kernel.assign(np.full((1, 1, 3, 2), epoch))
        callback.on_epoch_end(epoch, logs() | {"val_loss": value})
    assert model.stop_training
    assert keras.ops.convert_to_numpy(keras.models.load_model(best).layers[-1].kernel)[0, 0, 0, 0] == 1.0


def test_progress_shows_what_is_monitored():
    text = io.StringIO()
    bar = ProgressBar(Console(file=text, width=200), epochs=2, steps_per_epoch=2, monitor=Monitor("iou/[b]"))
    bar.on_epoch_end(0, logs() | {"val_iou/[b]": 0.25})
    assert "val mean IoU 0.5000  val iou/[b] 0.2500  10.0 images/s" in text.getvalue()
