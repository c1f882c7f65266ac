import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from seg import build, evaluate
from seg.config import load_config
from seg.data.dataset import load_pair
from seg.metrics.iou import confusion_matrix, scores
from seg.training.segmenter import load_segmenter


@pytest.fixture
def run(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


def command(capsys, *arguments):
    code = evaluate.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_scores_equal_those_of_a_loop_over_the_split(run, capsys):
    code, out, _ = command(capsys, run, "--split", "test")
    assert code == 0
    config = load_config(run / "config.yaml")
    model, preprocessing = load_segmenter(run / "checkpoints/best.keras"), build.preprocessing(config)
    matrix = np.zeros((7, 7), np.int64)
    for sample in build.samples(config)["test"]:
        image, mask = load_pair(sample, build.label_set(config), build.mask_encoding(config), preprocessing)
        prediction = model.predict_on_batch(preprocessing.prepare(image)[None])[0].argmax(-1)
        matrix += confusion_matrix(mask, prediction, 7, 255)
    metrics = json.loads((run / "evaluation/test/metrics.json").read_text())
    assert metrics["confusion_matrix"] == matrix.tolist()
    expected = scores(matrix)
    assert metrics["mean_iou"] == pytest.approx(expected.mean_iou)
    assert metrics["classes_averaged"] == expected.num_averaged
    assert metrics["classes"]["field"]["iou"] == pytest.approx(expected.iou[0])
    assert (metrics["split"], metrics["images"], metrics["image_size"]) == ("test", 2, "as stored")
    assert f"mean IoU {expected.mean_iou:.3f} over {expected.num_averaged} of 7 classes" in out


def test_writes_csv_and_a_picture_and_nothing_temporary(run, capsys):
    command(capsys, run, "--split", "val", "--checkpoint", "last")
    folder = run / "evaluation/val"
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "metrics.csv", "confusion_matrix.png"}
    with (folder / "metrics.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)][:2] == ["field", "forest"]
    assert cv2.imread(str(folder / "confusion_matrix.png")) is not None
    assert json.loads((folder / "metrics.json").read_text())["checkpoint"] == "last.keras"


def test_a_second_evaluation_writes_the_same_file(run, capsys):
    command(capsys, run)
    first = (run / "evaluation/test/metrics.json").read_bytes()
    command(capsys, run)
    assert (run / "evaluation/test/metrics.json").read_bytes() == first


def test_not_a_run(tmp_path, capsys):
    code, _, err = command(capsys, tmp_path)
    assert code == 2
    assert err == f"error: {tmp_path}: no run there (config.yaml is missing); allowed: a folder that seg.train made\n"


def test_a_checkpoint_that_is_not_there(run, capsys):
    code, _, err = command(capsys, run, "--checkpoint", "nowhere.keras")
    assert code == 2
    assert err.startswith("error: nowhere.keras: no such checkpoint; allowed: best, last")


def test_a_broken_checkpoint(run, capsys):
    (run / "checkpoints/best.keras").write_bytes(b"not a zip")
    code, _, err = command(capsys, run)
    assert code == 2
    assert "best.keras: cannot be loaded as a model:" in err
    assert not (run / "evaluation").exists()


def test_a_split_that_the_data_does_not_have(run, capsys, monkeypatch):
    everything = build.samples
    monkeypatch.setattr(build, "samples", lambda config: {"train": everything(config)["train"]})
    code, _, err = command(capsys, run, "--split", "test")
    assert code == 2
    assert err == f"error: --split: got 'test', which {run}'s data does not have; allowed: train\n"


def test_a_broken_image_is_named(run, capsys):
    config = load_config(run / "config.yaml")
    image = build.samples(config)["test"][0].image
    whole = image.read_bytes()
    try:
        image.write_bytes(whole[: len(whole) // 2])
        code, _, err = command(capsys, run)
    finally:
        image.write_bytes(whole)
    assert code == 2
    assert err.startswith("error: ")
    assert image.name in err
    assert "Traceback" not in err


@pytest.mark.parametrize("module", ["seg.train", "seg.evaluate", "seg.predict"])
def test_help_answers_without_tensorflow(module):
    code = (
        f"import sys, {module} as command\n"
        "try: command.main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'tensorflow', 'keras', 'albumentations', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
