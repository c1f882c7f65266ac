"""Overlapping classes from the generated scenes through train, evaluate, predict and resume."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_tools.scenes.attributes import ATTRIBUTE_LABELS
from data_tools.scenes.scene import write_scenes
from seg import evaluate, predict, train
from seg.balance import ClassCounts, class_weights
from seg.config import load_config
from seg.data.batches.loading import load_pair
from seg.data.files.reading import read_values
from seg.data.masks.planes import MultiLabelEncoding, count_planes
from seg.losses import binary_cross_entropy
from seg.metrics.iou import scores
from seg.pictures.panels import GAP
from seg.training.checkpoints import Checkpoints
from seg.training.segmenter import load_segmenter

NAMES = ATTRIBUTE_LABELS.names
CONFIG = """
name: tiny
labels: {{names: [{names}], encoding: {{name: multi_label}}}}
data: {{name: folders, root: {root}/scenes}}
input: {{crop: [32, 32]}}
augmentation: {{horizontal_flip: 0.5, rotate: 10.0}}
class_weights: {{scheme: inverse_frequency, cap: 20}}
model: {{name: unet, depth: 1, base_filters: 2, dropout: 0.3}}
loss: [{{name: binary_cross_entropy}}, {{name: dice, weighted: false}}]
training: {{epochs: 2, batch_size: 2, precision: float32}}
output: {{overlays: 1}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multi_label")
    write_scenes(folder / "scenes", {"train": 4, "val": 2, "test": 2}, size=64, seed=0, multi_label=True)
    (folder / "tiny.yaml").write_text(CONFIG.format(root=folder, names=", ".join(NAMES)))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def run(tiny: Path) -> Path:
    assert train.main(["--config", str(tiny), "--run-dir", str(tiny.parent / "run")]) == 0
    return tiny.parent / "run"


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_a_run_leaves(run: Path):
    counts = ClassCounts.load(run / "counts.json")
    masks = sorted((run.parent / "scenes/masks/train").glob("*.tif"))
    counted = sum(count_planes(mask, ATTRIBUTE_LABELS) for mask in masks)
    assert counts.pixel_counts.tolist() == counted[:, 1].tolist()
    weights = json.loads((run / "class_weights.json").read_text())
    assert weights == dict(zip(NAMES, class_weights(counts, "inverse_frequency", cap=20).tolist(), strict=True))
    numbers = {"loss", "loss/binary_cross_entropy", "loss/dice", "mean_iou", *(f"iou/{name}" for name in NAMES)}
    log = rows(run)
    assert len(log) == 2 and numbers | {f"val_{key}" for key in numbers} <= set(log[0])
    assert float(log[0]["loss"]) == pytest.approx(
        float(log[0]["loss/binary_cross_entropy"]) + float(log[0]["loss/dice"]), rel=1e-5
    )
    events = EventAccumulator(str(run / "tensorboard/val"), size_guidance={"tensors": 0}).Reload()
    assert numbers | {"overlay/0000"} <= set(events.Tags()["tensors"])
    encoded = events.Tensors("overlay/0000")[0].tensor_proto.string_val[2]
    height, width, _ = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).shape
    assert width == 4 * 64 + 3 * GAP and height > 64  # image | labels | prediction | errors, caption and legends


def test_evaluate_equals_a_loop_over_the_split(run: Path, capsys):
    assert evaluate.main([str(run), "--split", "test"]) == 0
    out = capsys.readouterr().out
    config = load_config(run / "config.yaml")
    model, preprocessing = load_segmenter(run / "checkpoints/best.keras"), config.input.preprocessing()
    matrix, losses, entries = np.zeros((6, 2, 2), np.int64), [], []
    for sample in config.samples()["test"]:
        image, mask = load_pair(sample, config.labels.label_set(), MultiLabelEncoding(), preprocessing)
        logits = model.predict_on_batch(preprocessing.prepare(image)[None])[0]
        losses.append(float(binary_cross_entropy(mask[None], logits[None])))
        entries.append((mask != 255).sum())
        for k in range(6):
            for label in (0, 1):
                predicted = logits[..., k][mask[..., k] == label] > 0
                matrix[k, label] += [(~predicted).sum(), predicted.sum()]
    metrics, expected = json.loads((run / "evaluation/test/metrics.json").read_text()), scores(matrix)
    assert metrics["confusion_matrix"] == matrix.tolist()
    assert metrics["mean_iou"] == pytest.approx(expected.mean_iou)
    assert metrics["pixel_accuracy"] == pytest.approx(expected.pixel_accuracy)
    assert metrics["cross_entropy"] == pytest.approx(np.average(losses, weights=entries), rel=1e-5)
    assert metrics["classes"]["built"]["support"] == expected.support[2]
    written = {"metrics.json", "metrics.csv", "per_image.csv", "report.html", "reliability.png"}
    assert {path.name for path in (run / "evaluation/test").iterdir()} == written  # no picture of one class for another
    with (run / "evaluation/test/metrics.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == list(NAMES)
    assert f"mean IoU {expected.mean_iou:.3f} over {expected.num_averaged} of 6 classes" in out


def test_a_run_against_itself_shows_no_difference(run: Path, tmp_path: Path, capsys):
    assert (
        evaluate.main([str(run), "--against", str(run), "--out", str(tmp_path), "--tile", "48", "--overlap", "8"]) == 0
    )
    assert "mean IoU, as trained: +0.000 [+0.000, +0.000] no difference shown" in capsys.readouterr().out


def test_predict_writes_planes_that_the_encoding_reads(run: Path, tmp_path: Path, capsys):
    image = run.parent / "scenes/images/test/0000.png"
    assert predict.main([str(run), str(image), "--out", str(tmp_path)]) == 0
    from seg.data.masks.reading import read_mask

    mask = read_mask(tmp_path / "masks/0000.tif", ATTRIBUTE_LABELS, MultiLabelEncoding())
    preprocessing = load_config(run / "config.yaml").input.preprocessing()
    model = load_segmenter(run / "checkpoints/best.keras")
    logits = model.predict_on_batch(preprocessing.prepare(read_values(image, 3)[0])[None])[0]
    np.testing.assert_array_equal(mask, logits > 0)
    assert cv2.imread(str(tmp_path / "overlays/0000.png")).shape == (64, 64, 3)


def test_a_resumed_run_equals_the_uninterrupted_one(run: Path, tiny: Path, tmp_path: Path, monkeypatch):
    class Stopping(Checkpoints):
        def on_epoch_end(self, epoch, logs=None):
            if len(self.history) == 1:
                raise KeyboardInterrupt
            super().on_epoch_end(epoch, logs)

    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr("seg.training.checkpoints.Checkpoints", Stopping)
        assert train.main(["--config", str(tiny), "--run-dir", str(stopped)]) == 130
    assert train.main(["--resume", str(stopped)]) == 0
    times = ("seconds", "images_per_second")
    found, expected = ([{k: v for k, v in row.items() if k not in times} for row in rows(r)] for r in (stopped, run))
    assert found == expected
    ours, theirs = (load_segmenter(r / "checkpoints/last.keras").get_weights() for r in (stopped, run))
    assert all(map(np.array_equal, ours, theirs))


def test_counts_of_the_other_kind_are_refused(tiny: Path, tmp_path: Path, capsys):
    empty = {"ignore_index": 255, "encoding": "index", "num_images": 1, "fingerprint": "0" * 64, "void_pixels": 9}
    zeros = {key: [0] * len(NAMES) for key in ("pixel_counts", "image_counts", "image_pixels")}
    content = {"format": "seg class counts", "version": 1, "class_names": list(NAMES), **empty, **zeros}
    (tmp_path / "counts.json").write_text(json.dumps(content))
    arguments = ["--config", str(tiny), "--run-dir", str(tmp_path / "run")]
    assert train.main([*arguments, f"class_weights.counts={tmp_path / 'counts.json'}"]) == 2
    assert "do not match the data: encoding: got index, expected multi_label" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_shipped_configuration_learns_every_class(tmp_path: Path):
    config = Path(__file__).resolve().parents[2] / "configs/multi_label.yaml"
    write_scenes(tmp_path / "scenes", {"train": 48, "val": 16, "test": 16}, size=256, seed=0, multi_label=True)
    overrides = [f"data.root={tmp_path / 'scenes'}", "training.epochs=6"]
    assert train.main(["--config", str(config), "--run-dir", str(tmp_path / "run"), *overrides]) == 0
    best = max(rows(tmp_path / "run"), key=lambda row: float(row["val_mean_iou"]))
    # Never predicting a class is 0, predicting it everywhere its share: 0.66, 0.17, 0.10, 0.2, 0.01, 0.15.
    assert all(float(best[f"val_iou/{name}"]) > 0.2 for name in NAMES if name != "small_object")
    assert float(best["val_mean_iou"]) > 0.45
