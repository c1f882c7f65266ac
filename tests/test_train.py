import csv
import json
import os
import shutil
import signal

import cv2
import keras
import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg import train
from seg.balance import ClassCounts
from seg.config import load_config
from seg.runs.checkpoints import TrainingState
from seg.runs.model_file import read_description
from seg.runs.run_dir import RunDir
from seg.training.checkpoints import Checkpoints
from seg.training.preparation import count_classes
from seg.training.segmenter import load_segmenter

NAMES = ("field", "forest", "water", "road", "building", "boat", "solar_panel")


def rows(run):
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same_weights(ours, theirs):
    pairs = zip(load_segmenter(ours).get_weights(), load_segmenter(theirs).get_weights(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def assert_equal_runs(ours, theirs):
    """Bit for bit, but for what is measured by the clock: log, best and last checkpoint."""
    times = ("seconds", "images_per_second")
    one, other = ([{k: v for k, v in row.items() if k not in times} for row in rows(run)] for run in (ours, theirs))
    assert one == other
    for name in ("best", "last"):
        assert same_weights(ours / f"checkpoints/{name}.keras", theirs / f"checkpoints/{name}.keras")


def command(capsys, *arguments):
    """(exit code, stderr) of seg.train."""
    code = train.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


# --- what a run leaves ------------------------------------------------------------------------------------------------
def test_the_run_folder_holds_everything_and_no_temporary_file(trained_run):
    names = {path.relative_to(trained_run).as_posix() for path in trained_run.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("tensorboard/")}
    assert {name.split("/")[1] for name in events} == {"train", "val"}
    assert {name for name in names - events if not name.startswith("evaluation/")} == {
        "config.yaml",
        "counts.json",
        "class_weights.json",
        "environment.json",
        "log.csv",
        "checkpoints/best.keras",
        "checkpoints/last.keras",
        "checkpoints/last-1.keras",
    }


def test_checkpoints_hold_classes_and_preprocessing(trained_run, tiny_config):
    config = load_config(tiny_config)
    for name in ("best", "last"):
        described = read_description(trained_run / f"checkpoints/{name}.keras")
        assert described == (config.labels.label_set(), config.input.preprocessing())


def test_the_configuration_loads_equal(trained_run, tiny_config):
    assert load_config(trained_run / "config.yaml") == load_config(tiny_config)


def test_counts_and_weights_are_of_the_training_masks(trained_run, tiny_config):
    folder = tiny_config.parent / "scenes/masks/train"
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in folder.iterdir()]
    counts = ClassCounts.load(trained_run / "counts.json")
    assert counts.num_images == len(masks) == 4
    assert counts.pixel_counts.tolist() == [sum(int((mask == index).sum()) for mask in masks) for index in range(7)]
    weights = json.loads((trained_run / "class_weights.json").read_text())
    assert tuple(weights) == NAMES
    # inverse_sqrt, mean_one: w_c ~ 1 / sqrt(f_c), and the weights' mean over labelled pixels is 1.
    assert sum(weights[name] * share for name, share in zip(NAMES, counts.frequencies, strict=True)) == pytest.approx(1)


def test_the_log_has_a_row_an_epoch_with_every_score(trained_run):
    first, second = rows(trained_run)
    assert (first["epoch"], second["epoch"]) == ("0", "1")
    scores = {"loss", "loss/cross_entropy", "loss/dice", "mean_iou", *(f"iou/{name}" for name in NAMES)}
    expected = scores | {f"val_{key}" for key in scores} | {"epoch", "learning_rate", "images_per_second", "seconds"}
    assert set(first) == expected
    # One warm-up epoch of 2 steps up to 1e-3; the logged rate is the one that the next step takes.
    assert float(first["learning_rate"]) == pytest.approx(1e-3)
    assert float(second["learning_rate"]) == pytest.approx(0)
    terms = float(first["loss/cross_entropy"]) + float(first["loss/dice"])
    assert float(first["loss"]) == pytest.approx(terms, rel=1e-5)


def test_the_environment_names_versions_and_precision(trained_run):
    environment = json.loads((trained_run / "environment.json").read_text())
    assert environment["packages"]["keras"] == keras.__version__
    assert environment["precision"] == "float32"


def test_tensorboard_holds_scores_shares_texts_and_pictures(trained_run):
    tags = {}
    for run in ("train", "val"):
        events = EventAccumulator(str(trained_run / "tensorboard" / run), size_guidance={"tensors": 0}).Reload()
        tags[run] = set(events.Tags()["tensors"])
        for tag in ("mean_iou", "pixel_accuracy", "recall/field"):
            assert [event.step for event in events.Tensors(tag)] == [1, 2]
    by_class = {f"{score}/{name}" for score in ("iou", "dice", "precision", "recall") for name in NAMES}
    scores = {"loss", "loss/cross_entropy", "loss/dice", "mean_iou", "pixel_accuracy"}
    # A class that is never predicted has no precision, and no point.
    assert scores <= tags["train"] <= scores | by_class | {f"weight/{name}" for name in NAMES} | {
        "mean_iou_rare", "learning_rate", "images_per_second", "input_wait_share",
        "classes", "config", "resume", "class_balance", "custom_scalars__config__",
    }  # fmt: skip
    assert {"input_wait_share", "classes", "config", "resume", "class_balance", "weight/boat"} <= tags["train"]
    shares = {f"{kind}_share/{name}" for kind in ("pixel", "loss", "gradient") for name in NAMES}
    pictures = {tag for tag in tags["val"] if tag.startswith(("overlay/", "worst/"))}
    curves = {tag for tag in tags["val"] if tag.startswith("pr_curve/")}
    assert scores | shares | {"confusion", "_hparams_/experiment", "_hparams_/session_start_info"} <= tags["val"]
    assert "overlay/0000" in pictures
    assert len(curves) == 4
    known = scores | by_class | shares | pictures | curves
    assert tags["val"] - known <= {"confusion", "mean_iou_rare", "_hparams_/experiment", "_hparams_/session_start_info"}


def assert_equal_events(run, trained_run):
    """The same tags and steps, and the same scores."""
    for folder in ("train", "val"):
        resumed, whole = (
            EventAccumulator(str(r / "tensorboard" / folder), size_guidance={"tensors": 0}).Reload()
            for r in (run, trained_run)
        )
        assert set(resumed.Tags()["tensors"]) == set(whole.Tags()["tensors"])
        for tag in whole.Tags()["tensors"]:
            steps = [event.step for event in resumed.Tensors(tag)]
            assert steps == [event.step for event in whole.Tensors(tag)], tag
            if tag in ("loss", "mean_iou", "iou/field", "loss/dice", "weight/road"):
                for ours, theirs in zip(resumed.Tensors(tag), whole.Tensors(tag), strict=True):
                    assert ours.tensor_proto == theirs.tensor_proto


def test_the_best_checkpoint_has_the_best_score_of_the_log(trained_run):
    values = [float(row["val_mean_iou"]) for row in rows(trained_run)]
    same = same_weights(trained_run / "checkpoints/best.keras", trained_run / "checkpoints/last.keras")
    assert same == (values[1] > values[0])


# --- resuming ---------------------------------------------------------------------------------------------------------
def interrupted_run(config, folder, monkeypatch, *, saves):
    """A run that is stopped at the end of an epoch, once last.keras was saved `saves` times."""

    class Stopping(Checkpoints):
        def on_epoch_end(self, epoch, logs=None):
            if len(self.history) == saves:
                raise KeyboardInterrupt
            super().on_epoch_end(epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr("seg.training.checkpoints.Checkpoints", Stopping)
        assert train.main(["--config", str(config), "--run-dir", str(folder)]) == 130
    return folder


@pytest.mark.parametrize("saves", [0, 1])
def test_a_resumed_run_equals_the_uninterrupted_one(saves, trained_run, tiny_config, tmp_path, monkeypatch, capsys):
    # Stopped before anything is saved (the run starts again) and in the middle of an epoch's callbacks, where log.csv
    # has a row more than the checkpoint. Dropout, augmentation, optimizer state and schedule all have to go on exactly.
    run = interrupted_run(tiny_config, tmp_path / "run", monkeypatch, saves=saves)
    assert len(rows(run)) == saves + 1
    assert "interrupted" in capsys.readouterr().err
    assert train.main(["--resume", str(run)]) == 0
    assert ("resuming after epoch 1" in capsys.readouterr().out) == (saves == 1)
    assert_equal_events(run, trained_run)
    assert_equal_runs(run, trained_run)


def stopped_run(arguments, monkeypatch, *, epoch, method, number):
    """The exit code of a training that gets a signal in an epoch: at its first batch, or at its first of validation."""

    class Signalled(Checkpoints):
        pass

    def signalled(self, batch, logs=None):
        if self._epoch == epoch and batch == 0 and self.stop.signal is None:
            os.kill(os.getpid(), number)
        getattr(Checkpoints, method)(self, batch, logs)

    setattr(Signalled, method, signalled)
    with monkeypatch.context() as patch:
        patch.setattr("seg.training.checkpoints.Checkpoints", Signalled)
        return train.main(arguments)


def test_a_run_that_is_stopped_within_epochs_equals_the_uninterrupted_one(
    trained_run, tiny_config, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    new, resumed = ["--config", str(tiny_config), "--run-dir", str(run)], ["--resume", str(run)]
    code = stopped_run(new, monkeypatch, epoch=0, method="on_train_batch_end", number=signal.SIGTERM)
    printed = capsys.readouterr()
    assert code == 143
    assert "SIGTERM: saves and stops after this step; a second one stops at once" in printed.out
    assert f"resume   python -m seg.train --resume {run}" in printed.out
    assert printed.err == "stopped by SIGTERM\n"
    assert TrainingState.read(run / "checkpoints/last.keras").position.step == 1
    # Within the validation of the second epoch: its training is not done again, and its means are in the log.
    code = stopped_run(resumed, monkeypatch, epoch=1, method="on_test_batch_begin", number=signal.SIGINT)
    printed = capsys.readouterr().out
    assert code == 130
    assert "resuming after epoch 0 and 1 steps" in printed
    assert "epoch   1/2" in printed
    assert train.main(resumed) == 0
    assert "resuming after epoch 1 and 2 steps" in capsys.readouterr().out
    assert_equal_runs(run, trained_run)
    assert_equal_events(run, trained_run)


def test_resuming_a_finished_run_changes_nothing(trained_run, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    assert train.main(["--resume", str(run)]) == 0
    assert "validation, best epoch" in capsys.readouterr().out
    for name in ("log.csv", "checkpoints/best.keras", "checkpoints/last.keras"):
        assert (run / name).read_bytes() == (trained_run / name).read_bytes()


def test_resuming_a_run_that_stopped_early_trains_no_more(trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    config = config.replace("epochs: 2", "epochs: 4").replace("early_stopping: null", "early_stopping: 1")
    (run / "config.yaml").write_text(config)
    log = (run / "log.csv").read_text().splitlines()
    column = log[0].split(",").index("val_mean_iou")
    worse = [*log[1].split(",")]
    worse[0], worse[column] = "1", "0.0"
    (run / "log.csv").write_text("\n".join([log[0], log[1], ",".join(worse)]) + "\n")
    assert train.main(["--resume", str(run)]) == 0
    assert len(rows(run)) == 2


def test_a_log_with_fewer_epochs_than_the_checkpoint_is_refused(trained_run, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    (run / "log.csv").write_text("\n".join((run / "log.csv").read_text().splitlines()[:2]) + "\n")
    code, message = command(capsys, "--resume", run)
    last = run / "checkpoints/last.keras"
    assert code == 2
    assert message == f"error: {run}/log.csv: got 1 epochs, but {last} has 2; allowed: a row an epoch\n"


def test_a_missing_log_is_refused(trained_run, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    (run / "log.csv").unlink()
    code, message = command(capsys, "--resume", run)
    assert code == 2
    assert f"{run}/log.csv: got 0 epochs, but" in message


@pytest.mark.parametrize("spoil", [lambda last: last.write_bytes(b"half a file"), lambda last: last.unlink()])
def test_without_the_last_checkpoint_the_one_before_is_gone_on_from(spoil, trained_run, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    spoil(run / "checkpoints/last.keras")
    assert train.main(["--resume", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "going on from the checkpoint before it, last-1.keras" in printed
    assert "resuming after epoch 1\n" in printed
    assert_equal_runs(run, trained_run)


def test_without_any_whole_checkpoint_a_resume_is_refused(trained_run, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    for name in ("last", "last-1"):
        (run / f"checkpoints/{name}.keras").write_bytes(b"half a file")
    code, message = command(capsys, "--resume", run)
    assert (code, message.count("\n")) == (2, 1)
    assert message.startswith(f"error: {run}/checkpoints/last.keras: cannot be read as a model")
    for name in ("last", "last-1"):
        (run / f"checkpoints/{name}.keras").unlink()
    before = (run / "log.csv").read_bytes()
    code, message = command(capsys, "--resume", run)
    assert (code, message.count("\n")) == (2, 1)
    assert f"last.keras: is not there, nor one before it, but {run}/log.csv has 2 epochs; allowed: to put a" in message
    assert (run / "log.csv").read_bytes() == before


def test_a_lost_best_checkpoint_is_told_and_replaced(trained_run, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    (run / "checkpoints/best.keras").unlink()
    (run / "checkpoints/last.keras").unlink()
    assert train.main(["--resume", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "best.keras: cannot be read as a model" in printed
    assert "the best of the epochs from 2 on takes its place" in printed
    assert same_weights(run / "checkpoints/best.keras", run / "checkpoints/last.keras")


def test_changed_masks_are_refused_on_resume(trained_run, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    counts = json.loads((run / "counts.json").read_text())
    (run / "counts.json").write_text(json.dumps(counts | {"fingerprint": "0" * 64}))
    code, message = command(capsys, "--resume", run)
    assert code == 2
    assert message.startswith(f"error: {run / 'counts.json'}: these class counts do not match the data: ")
    assert message.endswith(
        "bring back the files that the run was begun with, or train a new run (--config with its config.yaml)\n"
    )


# --- refusals ---------------------------------------------------------------------------------------------------------
def test_two_runs_never_share_a_folder(trained_run, tiny_config, capsys):
    code, message = command(capsys, "--config", tiny_config, "--run-dir", trained_run)
    assert code == 2
    assert message == f"error: {trained_run}: exists, and two runs never share a folder; allowed: a new folder\n"


def test_a_resume_may_change_what_makes_no_second_half(trained_run, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    code, message = command(capsys, "--resume", run, "seed=1")
    assert code == 2
    assert message.startswith("error: --resume: 1 change needs a new run; allowed to change: data.root, ")
    expected = "error: --run-dir: has no effect with --resume, which goes on in the run's own folder\n"
    assert command(capsys, "--resume", run, "--run-dir", "elsewhere") == (2, expected)
    before = (run / "config.yaml").read_bytes()
    data = shutil.copytree(load_config(run / "config.yaml").data.root, tmp_path / "moved")
    leftover = run / "checkpoints" / f".last.keras.host.{'0' * 32}.keras"
    leftover.write_bytes(b"half")
    assert train.main(["--resume", str(run), "training.epochs=3", f"data.root={data}"]) == 0
    assert "changed  training.epochs: 3, was 2" in capsys.readouterr().out
    assert rows(run)[:2] == rows(trained_run)
    assert len(rows(run)) == 3
    assert (run / "config-1.yaml").read_bytes() == before
    assert load_config(run / "config.yaml").training.epochs == 3
    assert not leftover.exists()


def test_resume_wants_a_run(tmp_path, capsys):
    code, message = command(capsys, "--resume", tmp_path)
    assert code == 2
    assert "no run there (config.yaml is missing)" in message


def test_a_wrong_key_is_told_before_anything_is_written(tiny_config, tmp_path, capsys):
    code, message = command(capsys, "--config", tiny_config, "--run-dir", tmp_path / "run", "training.epoch=3")
    assert code == 2
    assert "training.epoch: unknown key (did you mean 'epochs'?)" in message
    assert not (tmp_path / "run").exists()


def test_counts_of_other_masks_are_refused(trained_run, tiny_config, tmp_path, capsys):
    counts = json.loads((trained_run / "counts.json").read_text())
    artefact = tmp_path / "counts.json"
    artefact.write_text(json.dumps(counts | {"fingerprint": "0" * 64}))
    run = tmp_path / "run"
    code, message = command(capsys, "--config", tiny_config, "--run-dir", run, f"class_weights.counts={artefact}")
    assert code == 2
    assert message.startswith(f"error: {artefact}: these class counts do not match the data: ")
    assert not run.exists()


def test_counts_of_the_same_masks_are_taken(trained_run, tiny_config, capsys):
    config = load_config(tiny_config, [f"class_weights.counts={trained_run / 'counts.json'}"])

    run = RunDir(tiny_config.parent / "never_made")
    counts = count_classes(config, run, config.samples()["train"], Console(quiet=True))
    assert counts.pixel_counts.tolist() == ClassCounts.load(trained_run / "counts.json").pixel_counts.tolist()


@pytest.fixture
def folders(tmp_path):
    """Images and masks (two classes, 16 x 16) in folders, and a configuration of them."""
    random = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for index in range(count):
            for kind, pixels in (("images", random.integers(0, 256, (16, 16, 3))), ("masks", np.eye(16))):
                path = tmp_path / "data" / kind / split / f"{split}{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels.astype(np.uint8))
    config = tmp_path / "folders.yaml"
    config.write_text(
        f"name: folders\nlabels: {{names: [a, b]}}\ndata: {{name: folders, root: {tmp_path}/data}}\n"
        "model: {name: unet, depth: 1, base_filters: 1}\n"
        "training: {epochs: 1, batch_size: 1, precision: float32}\noutput: {overlays: 0}\n"
    )
    return config


def test_a_file_that_is_no_image_is_named_before_a_run_is_made(folders, tmp_path, capsys):
    broken = tmp_path / "data/images/train/train1.png"
    broken.write_bytes(b"no image")
    code, message = command(capsys, "--config", folders, "--run-dir", tmp_path / "run")
    assert code == 2
    assert message.startswith(f"error: {broken}: ")
    assert not (tmp_path / "run").exists()


def test_a_broken_mask_is_named_before_a_run_is_made(folders, tmp_path, capsys):
    broken = tmp_path / "data/masks/train/train1.png"
    cv2.imwrite(str(broken), np.full((16, 16), 7, np.uint8))
    code, message = command(capsys, "--config", folders, "--run-dir", tmp_path / "run")
    assert code == 2
    assert str(broken) in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["train/train0.png", "train/train1.png", "val/val0.png"])
def test_a_truncated_image_is_named_without_a_traceback(file, folders, tmp_path, capsys):
    broken = tmp_path / "data/images" / file
    broken.write_bytes(broken.read_bytes()[:-200])  # the header is whole, the pixels are not
    code, message = command(capsys, "--config", folders, "--run-dir", tmp_path / "run")
    assert code == 2
    assert message.startswith(f"error: {broken}: ")


def test_a_batch_larger_than_the_data_is_told_before_a_run_is_made(folders, tmp_path, capsys):
    code, message = command(capsys, "--config", folders, "--run-dir", tmp_path / "run", "training.batch_size=3")
    assert code == 2
    assert "got batch_size 3, allowed: 1 to 2" in message
    assert not (tmp_path / "run").exists()
