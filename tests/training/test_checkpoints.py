import math
import zipfile

import keras
import numpy as np
import pytest

from seg.errors import DataError
from seg.runs.checkpoints import CheckpointFiles, Position, TrainingState
from seg.training.checkpoints import (
    Checkpoints,
    DoneSteps,
    best_epoch,
    load_checkpoint,
    out_of_patience,
    restore,
    resumed_at,
    unsaved_variables,
)
from seg.training.diverged import DivergedError
from seg.training.monitor import Monitor


@pytest.fixture
def model():
    images = keras.Input((None, None, 3))
    layer = keras.layers.Dropout(0.5, seed=1)(keras.layers.Conv2D(2, 1)(images))
    model = keras.Model(images, layer)
    model.compile(keras.optimizers.SGD(0.25), loss="mse")
    return model


def attached(callback, model, steps=4):
    callback.set_model(model)
    callback.set_params({"steps": steps})
    model.make_train_function()
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    return callback


def logs(val_mean_iou=0.5):
    return {"loss": 1.5, "val_loss": 2.0, "val_mean_iou": val_mean_iou}


def kernel(path):
    return keras.ops.convert_to_numpy(keras.models.load_model(path).layers[1].kernel)[0, 0, 0, 0]


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


def test_the_best_and_the_last_are_kept(tmp_path, model):
    files = CheckpointFiles(tmp_path, keep=2)
    callback = attached(Checkpoints(files), model)
    for epoch, value in enumerate([0.2, 0.6, 0.4]):
        model.layers[1].kernel.assign(np.full((1, 1, 3, 2), epoch))
        callback.on_epoch_end(epoch, logs(value))
    callback.on_train_end()
    assert [kernel(tmp_path / f"{name}.keras") for name in ("best", "last", "last-1")] == [1.0, 2.0, 1.0]
    assert {path.name for path in tmp_path.iterdir()} == {"best.keras", "last.keras", "last-1.keras"}
    assert TrainingState.read(files.last).position == Position(3)


def test_a_history_decides_what_is_best_and_when_patience_ends(tmp_path, model):
    callback = attached(Checkpoints(CheckpointFiles(tmp_path), history=[0.9], patience=2), model)
    model.stop_training = False
    callback.on_epoch_end(1, logs(0.8))
    callback.files.wait()
    assert not callback.files.best.exists()  # the best epoch lies before the resume
    assert not model.stop_training
    callback.on_epoch_end(2, logs(0.8))
    assert model.stop_training


def test_best_and_patience_follow_the_monitor(tmp_path, model):
    callback = attached(Checkpoints(CheckpointFiles(tmp_path), patience=1, monitor=Monitor("loss")), model)
    model.stop_training = False
    for epoch, value in enumerate([2.0, 1.0, 1.5]):
        assert not model.stop_training
        model.layers[1].kernel.assign(np.full((1, 1, 3, 2), epoch))
        callback.on_epoch_end(epoch, logs() | {"val_loss": value})
    callback.on_train_end()
    assert model.stop_training
    assert kernel(tmp_path / "best.keras") == 1.0


def test_where_the_best_is_lost_the_best_of_the_rest_takes_its_place(tmp_path, model):
    callback = attached(Checkpoints(CheckpointFiles(tmp_path), history=[0.9], best_since=1), model)
    callback.on_epoch_end(1, logs(0.8))
    callback.on_train_end()
    assert callback.files.best.exists()


def test_an_epoch_is_saved_within_by_steps_counted_through_the_run(tmp_path, model):
    callback = attached(Checkpoints(CheckpointFiles(tmp_path, keep=9), every_steps=3), model)
    for epoch in range(2):
        callback.on_epoch_begin(epoch)
        for batch in range(4):
            callback.on_train_batch_end(batch)
    callback.on_train_end()
    positions = [TrainingState.read(path).position for path in callback.files.existing()]
    assert positions == [Position(1, 2), Position(0, 3)]


def test_an_epoch_is_saved_within_by_minutes(tmp_path, model, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    callback = attached(Checkpoints(CheckpointFiles(tmp_path), every_minutes=2), model)
    for batch, seconds in enumerate([100.0, 10.0, 11.0]):
        now += seconds
        callback.on_train_batch_end(batch)
    callback.on_train_end()
    assert TrainingState.read(callback.files.last).position == Position(0, 3)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path, model):
    callback = attached(Checkpoints(CheckpointFiles(tmp_path), every_steps=2), model)
    model.layers[1].kernel.assign(np.full((1, 1, 3, 2), np.nan))
    callback.on_train_batch_end(0)
    with pytest.raises(DivergedError, match="weights became NaN or infinite in epoch 1, by step 2"):
        callback.on_train_batch_end(1)
    with pytest.raises(DivergedError, match="weights became NaN or infinite in epoch 2, by step 0"):
        callback.on_epoch_end(0, logs())
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_saving_leaves_the_old_checkpoint(tmp_path, model, monkeypatch):
    callback = attached(Checkpoints(CheckpointFiles(tmp_path)), model)
    callback.on_epoch_end(0, logs())
    callback.files.wait()
    before = callback.files.last.read_bytes()

    def half(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", half)
    with pytest.raises(DataError, match=r"last\.keras: cannot be written \(No space left on device\)"):
        callback.on_epoch_end(1, logs(0.1))
    assert callback.files.last.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"best.keras", "last.keras"}


def test_random_streams_and_metrics_are_restored(tmp_path, model):
    x = np.ones((2, 4, 4, 3), np.float32)
    model.fit(x, np.ones((2, 4, 4, 2), np.float32), verbose=0)
    kept = {name: keras.ops.convert_to_numpy(v) for name, v in unsaved_variables(model).items()}
    assert [name[4:] for name in kept] == ["seed_generator_state", "total", "count"]
    first = model(x, training=True)
    model.reset_metrics()
    restore(model, kept)
    np.testing.assert_array_equal(model(x, training=True), first)
    assert float(model.metrics[0].result()) > 0
    with pytest.raises(DataError, match="got the variables none; allowed: those of the model, 000 seed_generator"):
        restore(model, {})


def test_steps_that_are_done_are_counted_and_not_done_again(model):
    done = DoneSteps(model)
    model.make_train_function()
    calls = []
    model.train_function = lambda iterator: calls.append(next(iterator))
    done.install()
    done.begin(3, whole=False)
    data = iter("abc")
    answers = [model.train_function(data) for _ in range(4)]
    assert answers[:3] == [{"loss": 0.0}] * 3
    assert calls == ["a"]
    # Of an epoch whose validation alone is missing the data still has the last batch.
    done.begin(2, whole=True)
    for _ in range(3):
        model.train_function(data)
    assert calls == ["a", "c"]
    assert (resumed_at(Position(1, 3), 4), resumed_at(Position(1, 4), 4)) == (3, 3)


def test_a_checkpoint_of_another_model_is_named(tmp_path, model):
    files = CheckpointFiles(tmp_path)
    attached(Checkpoints(files), model).on_epoch_end(0, logs())
    files.wait()
    images = keras.Input((None, None, 3))
    other = keras.Model(images, keras.layers.Conv2D(5, 1)(images))
    with pytest.raises(DataError, match=r"last\.keras: cannot be loaded into the configured model: "):
        load_checkpoint(other, files.newest(print))


def test_the_state_is_in_the_models_file(tmp_path, model):
    files = CheckpointFiles(tmp_path)
    attached(Checkpoints(files, description="{}"), model).on_epoch_end(0, logs())
    files.wait()
    with zipfile.ZipFile(files.last) as archive:
        assert {"model.weights.h5", "seg.json", "training.npz"} <= set(archive.namelist())
