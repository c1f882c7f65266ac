"""Every configuration that the project ships trains: two steps of a narrow network on its own data."""

import csv
from pathlib import Path

import pytest

from data_tools.scenes.scene import SCENE_LABELS, write_scenes
from seg import train
from seg.config import Config, load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
REAL_DATA = ROOT.parent / "shared" / "data"
NARROW = ("training.epochs=1", "training.batch_size=2", "schedule.warmup_epochs=0", "model.base_filters=2")


def data_overrides(config, folder):
    """Where the configuration's data is: drawn into `folder`, or the real data, where this machine has it."""
    if Path(config.data.root).name.startswith("scenes"):
        splits = {"train": 4, "val": 1, "test": 1}
        write_scenes(folder / "scenes", splits, 256, 0, multi_label=config.labels.multi_label)
        return [f"data.root={folder / 'scenes'}"]
    root = REAL_DATA / Path(config.data.root).name
    if not root.is_dir():
        pytest.skip(f"the data of {config.name} is not on this machine")
    return [f"data.root={root}"]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_trains_two_steps(file, tmp_path, monkeypatch):
    config = load_config(file)
    overrides = [*NARROW, *data_overrides(config, tmp_path)]
    if config.input.crop:
        overrides.append("input.crops_per_image=1")
    everything = Config.samples

    def four_of_each(config, *tell):
        return {split: samples[:4] for split, samples in everything(config, *tell).items()}

    monkeypatch.setattr(Config, "samples", four_of_each)
    assert train.main(["--config", str(file), "--run-dir", str(tmp_path / "run"), *overrides]) == 0
    with (tmp_path / "run" / "log.csv").open(newline="") as log:
        (row,) = csv.DictReader(log)
    assert float(row["loss"]) > 0
    assert (tmp_path / "run" / "checkpoints" / "best.keras").exists()


def test_quickstart_names_the_scenes_classes_and_colours():
    assert load_config(ROOT / "configs" / "quickstart.yaml").labels.label_set() == SCENE_LABELS
