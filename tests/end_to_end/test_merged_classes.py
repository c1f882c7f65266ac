"""A run whose configuration merges classes: everything it writes is of the merged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seg import evaluate, train
from seg.balance import ClassCounts

MERGED = ["field", "green", "road", "building", "boat", "solar_panel"]


@pytest.mark.slow
def test_a_run_with_merged_classes(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    overrides = ["labels.merge={green: [water, forest]}", "training.epochs=1", "schedule={name: constant}"]
    assert train.main(["--config", str(tiny_config), "--run-dir", str(run), *overrides]) == 0
    assert evaluate.main([str(run), "--split", "val"]) == 0
    assert "green" in capsys.readouterr().out
    counts = ClassCounts.load(run / "counts.json")
    assert list(counts.names) == MERGED
    assert counts.encoding.startswith("index, merged {field: 0, forest: 1, water: 1, road: 2")
    assert list(json.loads((run / "class_weights.json").read_text())) == MERGED
    written = (run / "evaluation" / "val").rglob("*.json")
    assert all("green" in path.read_text() and "forest" not in path.read_text() for path in written)
    resumed = train.main(["--resume", str(run)])  # the artefact matches its own configuration
    assert resumed == 0
