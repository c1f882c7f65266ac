import csv
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from seg import evaluate
from seg.config import Config, dump_config, load_config
from seg.data.batches.loading import load_pair
from seg.inference.sliding_window import predict_logits
from seg.inference.views import predict_views
from seg.metrics.iou import confusion_matrix, scores
from seg.runs.run_dir import RunDir
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
    model, preprocessing = load_segmenter(run / "checkpoints/best.keras"), config.input.preprocessing()
    matrix = np.zeros((7, 7), np.int64)
    for sample in config.samples()["test"]:
        image, mask = load_pair(sample, config.labels.label_set(), config.labels.mask_encoding(), preprocessing)
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


FITTED = "is fitted on val, whose scores it would flatter; allowed: --split test"
FILES = {"metrics.json", "metrics.csv", "per_image.csv", "confusion_matrix.png", "reliability.png", "report.html"}


def metrics_of(run, split="test"):
    return json.loads((run / f"evaluation/{split}/metrics.json").read_text())


def test_writes_the_report_and_nothing_temporary(run, capsys):
    command(capsys, run, "--split", "val", "--checkpoint", "last", "--rare-share", 0.4)
    folder = run / "evaluation/val"
    assert {path.name for path in folder.iterdir()} == FILES
    with (folder / "metrics.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)][:2] == ["field", "forest"]
    assert cv2.imread(str(folder / "confusion_matrix.png")) is not None
    metrics = metrics_of(run, "val")
    assert metrics["checkpoint"] == "last.keras"
    assert {row["rare"] for row in metrics["classes"].values()} == {True, False}
    assert all(row["rare"] == (0 < row["share"] < 0.4) for row in metrics["classes"].values())
    assert metrics["classes"]["boat"]["weight"] > metrics["classes"]["field"]["weight"]
    text = (folder / "report.html").read_text()
    assert "scheme: inverse_sqrt" in text  # the configuration
    assert "forest, worst: IoU " in text and "forest, best: IoU " in text and "images/val/" in text


def test_a_second_evaluation_writes_the_same_files_but_for_their_date(run, capsys):
    command(capsys, run)
    files = {path.name: path.read_bytes() for path in (run / "evaluation/test").iterdir()}
    date = metrics_of(run)["date"].encode()
    assert files["metrics.json"].count(date) == files["report.html"].count(date) == 1
    command(capsys, run)
    again = metrics_of(run)["date"].encode()
    for name, content in files.items():
        assert (run / "evaluation/test" / name).read_bytes().replace(again, date) == content


def changed(run, name, *overrides):
    """A copy of a run whose configuration says something else."""
    copied = shutil.copytree(run, run.parent / name)
    (copied / "config.yaml").write_text(dump_config(load_config(run / "config.yaml", overrides)))
    return copied


@pytest.fixture
def pair(run):
    """The tiny run as if its loss had been cross-entropy alone, and one whose loss had no weights."""
    loss = ("loss=[{name: cross_entropy}]", "pixel_weights=null")
    weighted = changed(run, "weighted", *loss, "class_weights={scheme: inverse_sqrt}")
    plain = changed(run, "plain", *loss, "class_weights={scheme: uniform}")
    weights = json.loads((run / "class_weights.json").read_text())
    (plain / "class_weights.json").write_text(json.dumps(dict.fromkeys(weights, 1.0)))
    return weighted, plain


def test_corrections_and_a_comparison(pair, capsys):
    weighted, plain = pair
    corrections = ("--prior-correction", "--temperature", "--thresholds")
    code, out, err = command(capsys, weighted, "--against", plain, *corrections, "--resamples", 100)
    assert code == 0, err
    metrics = metrics_of(weighted)
    assert [rule["rule"] for rule in metrics["rules"]] == [
        "as trained",
        "prior corrected",
        "temperature",
        "thresholds",
    ]
    assert metrics["rules"][1]["weights_removed"]["boat"] == pytest.approx(metrics["classes"]["boat"]["weight"])
    against = metrics["against"]
    assert against["run"] == str(plain) and against["checkpoint"] == "best.keras"
    first, corrected = against["rules"][:2]
    # The same weights of the network in both folders: as trained they agree; corrected, one has its loss's weights out.
    assert first["mean_iou"] == {
        "ours": first["mean_iou"]["theirs"],
        "theirs": first["mean_iou"]["ours"],
        "difference": 0.0,
        "interval": [0.0, 0.0],
        "verdict": "no difference shown",
    }
    assert corrected["mean_iou"]["theirs"] == first["mean_iou"]["theirs"]
    assert f"against {plain} (best.keras), paired over the images:" in out
    assert "mean IoU, as trained: +0.000 [+0.000, +0.000] no difference shown" in out
    assert "with and without corrections" in out


def test_prior_correction_is_refused_where_the_loss_has_another_optimum(run, capsys):
    code, _, err = command(capsys, run, "--prior-correction")
    assert code == 2
    assert err.startswith(f"error: {run}: prior correction: the loss is cross_entropy + dice, and the optimum of such")
    assert not (run / "evaluation").exists()


def test_views_and_tiles_are_used(run, capsys, tmp_path):
    out = tmp_path / "elsewhere"
    assert command(capsys, run, "--tta", "d4", "--tile", 48, "--overlap", 16, "--out", out)[0] == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["tta"], metrics["tile"], metrics["overlap"]) == ("d4", 48, 16)
    assert not (run / "evaluation").exists()
    config = load_config(run / "config.yaml")
    model, preprocessing = load_segmenter(run / "checkpoints/best.keras"), config.input.preprocessing()
    matrix = np.zeros((7, 7), np.int64)
    for sample in config.samples()["test"]:
        image, mask = load_pair(sample, config.labels.label_set(), config.labels.mask_encoding(), preprocessing)

        def tiled(images):
            return np.stack([predict_logits(model, one, tile=48, overlap=16) for one in images])

        logits = predict_views(tiled, preprocessing.prepare(image)[None], "d4")
        matrix += confusion_matrix(mask, logits[0].argmax(-1), 7, 255)
    assert metrics["confusion_matrix"] == matrix.tolist()


def test_runs_of_other_data_are_not_compared(run, capsys):
    other = changed(run, "other", "input.resize=[48, 48]")
    code, _, err = command(capsys, run, "--against", other)
    assert code == 2
    assert err == (
        f"error: --against: {run} and {other} differ in input.resize (None and (48, 48)); allowed: two runs evaluated "
        "on the same pixels\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tile", 0], "--tile: got 0, allowed: 1 to 32766 (pixels of a side)"),
        (["--tile", 64, "--overlap", 64], "--overlap: got 64, allowed: 0 to 63 (less than --tile)"),
        (["--boundary-tolerance", -1], "--boundary-tolerance: got -1, allowed: 0 to 32766 pixels"),
        (["--rare-share", 0], "--rare-share: got 0, allowed: above 0, at most 1"),
        (["--resamples", 10], "--resamples: got 10, allowed: 100 to 1000000 (more change no digit that is printed)"),
        (
            ["--resamples", 10**9],
            "--resamples: got 1000000000, allowed: 100 to 1000000 (more change no digit that is printed)",
        ),
        (["--against-checkpoint", "last"], "--against-checkpoint: has no effect without --against"),
        (
            ["--thresholds", "--ranking", "iou"],
            "--ranking: is a way to decide, as --thresholds is; allowed: one",
        ),
        (["--split", "val", "--temperature"], f"--temperature: {FITTED}"),
        (["--split", "val", "--thresholds"], f"--thresholds: {FITTED}"),
    ],
)
def test_options_out_of_range(run, capsys, options, message):
    code, _, err = command(capsys, run, *options)
    assert code == 2 and err == f"error: {message}\n"
    assert not (run / "evaluation").exists()


def test_overlapping_classes_take_no_option_that_would_do_nothing(run, capsys, monkeypatch):
    monkeypatch.setattr(RunDir, "config", lambda _: SimpleNamespace(labels=SimpleNamespace(multi_label=True)))
    for option, value in (
        ("--tta", "d4"),
        ("--thresholds", None),
        ("--temperature", None),
        ("--prior-correction", None),
        ("--ranking", "dice"),
    ):
        code, _, err = command(capsys, run, option, *([] if value is None else [value]))
        assert (code, err) == (2, f"error: {option}: is not for classes that overlap; allowed: leave it out\n")


def test_the_model_s_file_alone_scores_as_its_run_does(run, tmp_path, capsys):
    model, config = tmp_path / "boats.keras", tmp_path / "other.yaml"
    shutil.copy(run / "checkpoints/best.keras", model)
    # What it sees is in the file: that the configuration says otherwise does not matter.
    config.write_text(
        dump_config(load_config(run / "config.yaml", ["input.mean=0.1", "class_weights.scheme=inverse_frequency"]))
    )
    assert command(capsys, run)[0] == 0
    code, _, err = command(capsys, model, "--config", config, "--out", tmp_path / "out", "--against", run)
    assert code == 0, err
    ours, theirs = json.loads((tmp_path / "out/metrics.json").read_text()), metrics_of(run)
    assert (ours["run"], ours["counts_of"], theirs["counts_of"]) == (str(model), "test", "train")
    assert (ours["confusion_matrix"], ours["mean_iou"]) == (theirs["confusion_matrix"], theirs["mean_iou"])
    support = {name: row["support"] for name, row in ours["classes"].items()}
    for name, row in ours["classes"].items():
        assert row["weight"] is None and row["share"] == pytest.approx(support[name] / sum(support.values()))
    assert "<th>test share %</th>" in (tmp_path / "out/report.html").read_text().replace(' class="number"', "")
    assert ours["against"]["rules"][0]["mean_iou"]["difference"] == 0


def test_what_a_file_alone_lacks_is_said(run, tmp_path, capsys):
    model, config = run / "checkpoints/best.keras", run / "config.yaml"
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text().replace("boat", "ship"))
    names = "field, forest, water, road, building, boat, solar_panel"
    ours, out = ("--config", config), ("--out", tmp_path / "out")
    cases = [
        ([model, *out], f"--config: left out, and {model} knows no data; allowed: a YAML file with data and labels"),
        ([model, *ours], f"--out: left out, and {model} is no run folder; allowed: a folder for the results"),
        (
            [model, *ours, *out, "--prior-correction"],
            f"--prior-correction: {model} says no class weights; allowed: with a run ",
        ),
        (
            [model, "--config", other, *out],
            f"{other}: got the classes {names.replace('boat', 'ship')}; allowed with {model}: {names}",
        ),
        ([run, *ours], "--config: has no effect with a run folder, which has its own; allowed: with a .keras file"),
    ]
    for arguments, message in cases:
        code, _, err = command(capsys, *arguments)
        assert code == 2 and err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


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
    assert "best.keras: cannot be read as a model (" in err
    assert not (run / "evaluation").exists()


def test_a_split_that_the_data_does_not_have(run, capsys, monkeypatch):
    everything = Config.samples
    monkeypatch.setattr(Config, "samples", lambda config: {"train": everything(config)["train"]})
    code, _, err = command(capsys, run, "--split", "test")
    assert code == 2
    assert err == f"error: --split: got 'test', which {run}'s data does not have; allowed: train\n"


def test_a_broken_image_is_named(run, capsys):
    config = load_config(run / "config.yaml")
    image = config.samples()["test"][0].image
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
