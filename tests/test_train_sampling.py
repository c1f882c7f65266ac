"""A run with a sampler: what it keeps and prints, and that a resumed one goes on as the uninterrupted one did."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg import train
from seg.balance import ClassCounts
from seg.training.segmenter import load_segmenter

SAMPLER = "{images: {name: class_presence}, crops: {share: 0.5, classes: {boat: 1, building: 1}}}"
SETTINGS = [f"sampler={SAMPLER}", "pixel_weights=null", "input.crops_per_image=2", "input.cache={name: memory}"]


@pytest.fixture(scope="module")
def sampled_run(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("sampled") / "run"
    assert train.main(["--config", str(tiny_config), "--run-dir", str(run), *SETTINGS]) == 0
    return run


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        times = ("seconds", "images_per_second")
        return [{key: value for key, value in row.items() if key not in times} for row in csv.DictReader(file)]


def test_the_run_keeps_what_it_drew(sampled_run: Path) -> None:
    stored = json.loads((sampled_run / "effective_frequencies.json").read_text())
    counts = ClassCounts.load(sampled_run / "counts.json")  # of the masks as they are
    natural = dict(zip(counts.names, counts.frequencies, strict=True))
    for name, shares in stored["classes"].items():
        assert shares["natural"] == pytest.approx(natural[name])
    assert stored["classes"]["boat"]["effective"] > natural["boat"]
    weights = json.loads((sampled_run / "class_weights.json").read_text())
    # inverse_sqrt with mean_one: over the effective shares the mean weight is 1, but for the rounding of counts.
    mean = sum(weights[name] * shares["effective"] for name, shares in stored["classes"].items())
    assert mean == pytest.approx(1, abs=2e-3)


def test_tensorboard_has_the_drawn_shares(sampled_run: Path) -> None:
    events = EventAccumulator(str(sampled_run / "tensorboard" / "train"), size_guidance={"tensors": 0}).Reload()
    (event,) = events.Tensors("classes")
    text = event.tensor_proto.string_val[0].decode()
    assert text.startswith("| class | pixels | share | drawn | images | weight |\n|---|---|---|---|---|---|\n| ")
    stored = json.loads((sampled_run / "effective_frequencies.json").read_text())["classes"]["boat"]
    assert f"| {stored['effective']:.3%} ± " in text


@pytest.mark.slow
def test_a_resumed_run_equals_the_uninterrupted_one(
    sampled_run: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second epoch again, from the first one's checkpoint, with the index that the run has kept."""
    run = tmp_path / "run"
    short = [*SETTINGS, "class_weights.online=0.9"]
    stop = RuntimeError("stop")

    class Stopping(_checkpoints()):
        def on_epoch_end(self, epoch, logs=None):
            if len(self.history) == 1:
                raise stop
            super().on_epoch_end(epoch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seg.training.checkpoints.Checkpoints", Stopping)
        with pytest.raises(RuntimeError) as raised:
            train.main(["--config", str(tiny_config), "--run-dir", str(run), *short])
    assert raised.value is stop
    out = capsys.readouterr().out
    assert "drawn: the share in the run's first 2,048 draws and its standard error" in " ".join(out.split())
    assert train.main(["--resume", str(run)]) == 0
    assert rows(run) == rows(sampled_run)
    for name in ("best", "last"):
        ours, theirs = (load_segmenter(r / f"checkpoints/{name}.keras").get_weights() for r in (run, sampled_run))
        for resumed, whole in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(resumed, whole)


def _checkpoints() -> type:
    from seg.training.checkpoints import Checkpoints

    return Checkpoints


def test_a_class_without_pixels_is_told_before_a_run_is_made(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mask in (shutil.copytree(tiny_config.parent / "scenes", tmp_path / "scenes") / "masks/train").iterdir():
        pixels = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(mask), np.where(pixels == 5, 2, pixels))  # the boats are water
    settings = ["sampler={crops: {share: 0.5, classes: {boat: 1}}}", f"data.root={tmp_path / 'scenes'}"]
    settings += ["pixel_weights=null"]
    run = tmp_path / "run"
    assert train.main(["--config", str(tiny_config), "--run-dir", str(run), *settings]) == 2
    message = capsys.readouterr().err
    assert message == (
        "error: sampler.crops.classes: no pixel of boat in 4 training masks; allowed: classes that have some\n"
    )
    assert not run.exists()


def test_manual_weights_beside_a_sampler_are_warned_of(
    sampled_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(sampled_run, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    names = ClassCounts.load(run / "counts.json").names
    manual = "{" + ", ".join(f"{name}: 1.0" for name in names) + "}"
    config = config.replace("scheme: inverse_sqrt", "scheme: manual").replace("manual: null", f"manual: {manual}")
    (run / "config.yaml").write_text(config.replace("online: 0.9", "online: null"))
    assert train.main(["--resume", str(run)]) == 0
    assert "warning: class_weights.manual is used as it is, although the sampler" in capsys.readouterr().out
