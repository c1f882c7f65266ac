import csv
import json

import pytest

from experiments import compare
from seg.config import load_config
from seg.runs.run_dir import RunDir

GRID = """
config: {config}
split: test
seeds: [0, 1]
variants:
  plain: ["class_weights={{scheme: uniform}}"]
  weighted: []
"""
# field's and boat's IoU by (variant, seed); boat is absent in one run
IOUS = {
    ("plain", 0): (0.5, 0.1),
    ("plain", 1): (0.7, None),
    ("weighted", 0): (0.4, 0.3),
    ("weighted", 1): (0.6, 0.5),
}


@pytest.fixture
def grid(tmp_path, tiny_config):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID.format(config=tiny_config), encoding="utf-8")
    return file


@pytest.fixture
def runner(monkeypatch):
    """Stands for the two commands: writes what they would leave, and keeps what they were called with."""
    calls = []

    def run_module(cell, module, arguments):
        calls.append((module, cell.variant, cell.seed, arguments[0]))
        run = RunDir(cell.folder)
        if module == "seg.train":
            if not cell.folder.exists():
                RunDir.new(cell.folder, cell.config)
            run.log.write_text("epoch,seconds\n0,30\n1,60\n")
            return
        field, boat = IOUS[cell.variant, cell.seed]
        defined = [value for value in (field, boat) if value is not None]
        run.evaluation("test").mkdir(parents=True, exist_ok=True)
        assert arguments[1:4] == ["--split", "test", "--checkpoint"]
        classes = {"field": {"iou": field}, "boat": {"iou": boat}}
        metrics = {"mean_iou": sum(defined) / len(defined), "classes": classes, "checkpoint": f"{arguments[4]}.keras"}
        (run.evaluation("test") / "metrics.json").write_text(json.dumps(metrics))

    monkeypatch.setattr(compare, "run_module", run_module)
    return calls


def test_every_cell_is_trained_and_evaluated_and_tabled(grid, tmp_path, runner, capsys):
    assert compare.main([str(grid), "--out", str(tmp_path / "out")]) == 0
    assert [call[:3] for call in runner] == [
        (module, *cell) for cell in IOUS for module in ("seg.train", "seg.evaluate")
    ]
    with (tmp_path / "out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "variant": "plain", "seed": "0", "mean_iou": "0.3", "minutes": "1.5", "iou/field": "0.5", "iou/boat": "0.1"
    }  # fmt: skip
    assert rows[1]["iou/boat"] == ""
    table = (tmp_path / "out/results.md").read_text()
    # Of 0.5 and 0.7: mean 0.6, standard deviation with n - 1: sqrt((0.1^2 + 0.1^2) / 1) = 0.141
    assert "| field | 0.600 ± 0.141 | 0.500 ± 0.141 |" in table
    assert "| boat | 0.100 | 0.400 ± 0.141 |" in table
    assert "| training minutes | 1.5 ± 0.0 | 1.5 ± 0.0 |" in table
    assert "field" in capsys.readouterr().out


def test_scores_of_the_other_checkpoint_are_not_taken(grid, tmp_path, runner):
    out = str(tmp_path / "out")
    assert compare.main([str(grid), "--out", out]) == 0
    runner.clear()
    grid.write_text(grid.read_text("utf-8") + "checkpoint: last\n", encoding="utf-8")
    assert compare.main([str(grid), "--out", out]) == 0
    assert [call[0] for call in runner if call[0] == "seg.evaluate"] == 4 * ["seg.evaluate"]
    metrics = json.loads((tmp_path / "out/plain-seed0/evaluation/test/metrics.json").read_text("utf-8"))
    assert metrics["checkpoint"] == "last.keras"
    assert "split test, last checkpoint" in (tmp_path / "out/results.md").read_text("utf-8")


def test_a_comparison_goes_on_where_it_was(grid, tmp_path, runner):
    out = str(tmp_path / "out")
    assert compare.main([str(grid), "--out", out]) == 0
    (tmp_path / "out/weighted-seed1/evaluation/test/metrics.json").unlink()
    (tmp_path / "out/weighted-seed1/evaluation/test").rmdir()
    runner.clear()
    assert compare.main([str(grid), "--out", out]) == 0
    assert runner == [
        ("seg.train", "weighted", 1, "--resume"),
        ("seg.evaluate", "weighted", 1, str(tmp_path / "out/weighted-seed1")),
    ]


def test_a_run_folder_of_another_configuration_is_refused(grid, tmp_path, tiny_config, runner, capsys):
    other = load_config(tiny_config, ["seed=0", "training.epochs=9"])
    RunDir.new(tmp_path / "out/weighted-seed0", other)
    assert compare.main([str(grid), "--out", str(tmp_path / "out")]) == 2
    assert "weighted-seed0: config.yaml differs from what the grid says now" in capsys.readouterr().err
    assert runner == []


def test_a_run_that_fails_ends_the_comparison_with_its_name(grid, tmp_path, monkeypatch, capsys):
    class Failed:
        returncode = 2

    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: Failed)
    assert compare.main([str(grid), "--out", str(tmp_path / "out")]) == 2
    message = "error: plain, seed 0: seg.train ended with exit code 2; its message is above\n"
    assert capsys.readouterr().err == message


@pytest.mark.slow
def test_two_real_cells(grid, tmp_path):
    grid.write_text(grid.read_text().replace("[0, 1]", "[0]"))
    assert compare.main([str(grid), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out/results.csv").open(newline="") as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["plain", "weighted"]
