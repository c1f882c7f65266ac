from pathlib import Path

import pytest

from experiments.grid import load_cells
from seg.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def grid_file(tmp_path, tiny_config, text):
    file = tmp_path / "grid.yaml"
    file.write_text(f"config: {tiny_config}\n{text}", encoding="utf-8")
    return file


def test_cells_are_variants_by_seeds_with_all_overrides_in_order(tmp_path, tiny_config):
    text = """
split: test
seeds: [3, 4]
overrides: [training.epochs=5]
variants:
  plain: ["class_weights={scheme: uniform}"]
  weighted: []
"""
    cells, split = load_cells(grid_file(tmp_path, tiny_config, text), tmp_path / "out", ["training.batch_size=1"])
    assert split == "test"
    assert {cell.checkpoint for cell in cells} == {"best"}
    assert [(cell.variant, cell.seed, cell.folder.name) for cell in cells] == [
        ("plain", 3, "plain-seed3"),
        ("plain", 4, "plain-seed4"),
        ("weighted", 3, "weighted-seed3"),
        ("weighted", 4, "weighted-seed4"),
    ]
    assert cells[0].overrides == (
        "seed=3",
        "training.epochs=5",
        "class_weights={scheme: uniform}",
        "training.batch_size=1",
    )
    assert (cells[0].config.seed, cells[0].config.training.epochs, cells[0].config.training.batch_size) == (3, 5, 1)
    assert cells[0].config.class_weights.scheme == "uniform"
    assert cells[2].config.class_weights.scheme == "inverse_sqrt"


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").rglob("grid.yaml")), ids=lambda file: file.parent.name)
def test_the_projects_grids_load(file, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cells, _ = load_cells(file, tmp_path)
    assert len(cells) >= 2


def test_all_problems_at_once(tmp_path, tiny_config):
    text = """
spilt: test
checkpoint: first
seeds: [1, 1]
variants: {"a b": [], c: [seed=3, 4]}
"""
    with pytest.raises(ConfigError) as error:
        load_cells(grid_file(tmp_path, tiny_config, text), tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0].endswith("grid.yaml: 7 problems")
    assert lines[1].startswith("  spilt: unknown key (did you mean 'split'?)")
    assert lines[2:] == [
        "  split: missing, and there is no default",
        "  checkpoint: got 'first', allowed: best, last",
        "  seeds: got [1, 1], allowed: a list of different whole numbers from 0 to 2147483647",
        "  variants.a b: allowed as a name: letters, digits, '.', '_' and '-', a letter or digit first",
        "  variants.c: got 'seed=3', allowed: no seed here; the grid's seeds set it",
        "  variants.c: got 4 in the list, allowed: key.sub=value",
    ]


def test_the_configuration_of_every_variant_is_checked(tmp_path, tiny_config):
    text = "split: test\nseeds: [0, 1]\nvariants: {a: [model.depth=99], b: [], c: [training.epoch=1]}\n"
    with pytest.raises(ConfigError) as error:
        load_cells(grid_file(tmp_path, tiny_config, text), tmp_path)
    assert str(error.value).count("model.depth: got 99") == 1
    assert "training.epoch: unknown key (did you mean 'epochs'?)" in str(error.value)


def test_variants_that_are_the_same_are_refused(tmp_path, tiny_config):
    text = "split: test\nseeds: [0]\nvariants: {a: [], b: [class_weights.scheme=inverse_sqrt]}\n"
    with pytest.raises(ConfigError, match="variants.b: the same configuration as a; allowed: a difference"):
        load_cells(grid_file(tmp_path, tiny_config, text), tmp_path)
