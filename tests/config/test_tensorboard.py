from pathlib import Path

import pytest

from seg.config import load_config
from seg.config.tensorboard import TensorBoard
from seg.errors import ConfigError

BASE = """\
name: test
labels: {names: [sky, road]}
data: {name: folders, root: somewhere}
training: {epochs: 3, batch_size: 2}
"""


def load(tmp_path: Path, *overrides: str):
    path = tmp_path / "config.yaml"
    path.write_text(BASE, encoding="utf-8")
    return load_config(path, overrides)


def test_a_configuration_without_the_section_has_its_defaults(tmp_path: Path):
    assert load(tmp_path).tensorboard == TensorBoard()


def test_curve_classes_are_a_number_or_names(tmp_path: Path):
    assert load(tmp_path, "tensorboard.curve_classes=7").tensorboard.curve_classes == 7
    assert load(tmp_path, "tensorboard.curve_classes=[road]").tensorboard.curve_classes == ("road",)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("rare_share=0", "tensorboard.rare_share: got 0, allowed: above 0"),
        ("look_every=0", "tensorboard.look_every: got 0, allowed: at least 1"),
        ("look_every=4", "tensorboard.look_every: got 4, allowed: at most training.epochs (3)"),
        ("confusion_every=-1", "tensorboard.confusion_every: got -1, allowed: at least 0"),
        ("tile_classes=151", "tensorboard.tile_classes: got 151, allowed: at most 150"),
        ("side=32", "tensorboard.side: got 32, allowed: at least 64"),
        ("side=4096", "tensorboard.side: got 4096, allowed: at most 2048"),
        ("max_mb=0", "tensorboard.max_mb: got 0, allowed: above 0"),
        ("curve_classes=[rod]", "tensorboard.curve_classes: unknown class (did you mean 'road'?); allowed: sky, road"),
        ("curve_classes=[sky, sky]", "tensorboard.curve_classes: 'sky' stands twice, allowed: each class once"),
    ],
)
def test_messages(tmp_path: Path, override: str, problem: str):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f"tensorboard.{override}")
    assert problem in str(error.value)


def test_tiles_of_no_class_have_no_effect(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"tensorboard.tiles: has no effect with tile_classes 0, allowed: 1"):
        load(tmp_path, "tensorboard={tile_classes: 0, tiles: 2}")
