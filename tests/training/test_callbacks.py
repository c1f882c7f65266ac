import csv
import io
import math

import keras
import pytest
from rich.console import Console

from seg.training.callbacks import EpochFacts, ProgressBar, TrainingLog, read_log
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


def test_epoch_facts_count_what_an_epoch_took_before_a_resume(model, monkeypatch):
    clock = iter([100.0, 104.0, 110.0, 200.0, 201.0, 201.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    facts = attached(EpochFacts(images_per_epoch=20, seconds_before=6.0), model)
    for expected in ({"images_per_second": 2.0, "seconds": 16.0}, {"images_per_second": 20.0, "seconds": 1.0}):
        seen = {}
        facts.on_epoch_begin(0)
        facts.on_test_begin()
        facts.on_epoch_end(0, seen)
        assert seen == {"learning_rate": 0.25, **expected}


def test_log_has_a_row_an_epoch_and_drops_undone_epochs_on_resume(tmp_path):
    file = tmp_path / "log.csv"
    log = TrainingLog(file)
    for epoch in range(3):
        log.on_epoch_end(epoch, logs(epoch / 10))
    assert b"\r" not in file.read_bytes()
    kept = read_log(file)[:2]
    assert [row["val_mean_iou"] for row in kept] == ["0.0", "0.1"]
    TrainingLog(file, kept).on_epoch_end(2, logs(0.7))
    with file.open(newline="") as text:
        assert [row["val_mean_iou"] for row in csv.DictReader(text)] == ["0.0", "0.1", "0.7"]


@pytest.mark.parametrize("torn", [1, 3, 10])
def test_a_torn_log_has_the_rows_before(tmp_path, torn):
    file = tmp_path / "log.csv"
    log = TrainingLog(file)
    for epoch in range(3):
        log.on_epoch_end(epoch, logs(epoch / 10))
    whole = file.read_bytes()
    file.write_bytes(whole[:-torn])
    assert len(read_log(file)) == 2
    file.write_bytes(whole[:20])
    assert read_log(file) == []
    file.write_bytes(b"\xff\x00" * 50)
    assert read_log(file) == []


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


def test_progress_shows_what_is_monitored():
    text = io.StringIO()
    bar = ProgressBar(Console(file=text, width=200), epochs=2, steps_per_epoch=2, monitor=Monitor("iou/[b]"))
    bar.on_epoch_end(0, logs() | {"val_iou/[b]": 0.25})
    assert "val mean IoU 0.5000  val iou/[b] 0.2500  10.0 images/s" in text.getvalue()
