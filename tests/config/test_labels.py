"""The `labels` section: values, ignored values, merges; what follows from them, and every message."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg.config import Config, dump_config, load_config
from seg.data.masks.reading import ColourEncoding, IndexEncoding, MergedEncoding, ValueEncoding
from seg.errors import ConfigError

THREE = "names: [tree, road, grass]"


def config(folder: Path, labels: str, more: str = "") -> Config:
    path = folder / "c.yaml"
    text = f"name: t\nlabels: {{{labels}}}\ndata: {{name: folders, root: x}}\ntraining: {{epochs: 2, batch_size: 2}}\n"
    path.write_text(f"{text}{more}\n")
    loaded = load_config(path)
    path.write_text(dump_config(loaded))
    assert load_config(path) == loaded  # the run folder's copy says the same
    return loaded


def test_values_and_ignored_values(tmp_path: Path) -> None:
    loaded = config(
        tmp_path,
        f"{THREE}, encoding: {{name: values, values: {{0: grass, 9: tree, 65535: road, 7: tree}}}}, ignore_values: [3]",
    )
    assert loaded.labels.mask_encoding() == ValueEncoding(((0, 2), (9, 0), (65535, 1), (7, 0)), (3,))
    assert config(tmp_path, f"{THREE}, ignore_values: [9]").labels.mask_encoding() == IndexEncoding((9,))
    near = "{name: values, values: {0: grass, 5-9: tree, 65535: road}, tolerance: 3}"
    assert config(tmp_path, f"{THREE}, encoding: {near}").labels.mask_encoding() == ValueEncoding(
        ((0, 2), (65535, 1)), ranges=((5, 9, 0),), tolerance=3
    )


def test_tolerance(tmp_path: Path) -> None:
    colours = "names: [a, b], colours: [[0, 0, 0], [9, 9, 9]]"
    loaded = config(tmp_path, f"{colours}, encoding: {{name: colour, tolerance: 40, void_colours: [[1, 1, 1]]}}")
    assert loaded.labels.mask_encoding() == ColourEncoding(((1, 1, 1),), 40.0)


def test_everything_behind_a_merge_has_the_merged_classes(tmp_path: Path) -> None:
    colours = "colours: [[1, 1, 1], [2, 2, 2], [3, 3, 3]]"
    loaded = config(
        tmp_path,
        f"{THREE}, {colours}, ignore_index: 9, merge: {{vegetation: [grass, tree]}}",
        "class_weights: {scheme: manual, manual: {vegetation: 1, road: 2}}\n"
        "pixel_weights: {name: border, classes: [road]}\nmodel: {name: unet, one_logit: true}",
    )
    labels = loaded.labels.label_set()
    # vegetation stands where its first member in the files' order, tree, stood, and has its colour
    assert (labels.names, labels.colours, labels.ignore_index) == (("vegetation", "road"), ((1, 1, 1), (2, 2, 2)), 9)
    encoding = loaded.labels.mask_encoding()
    assert isinstance(encoding, MergedEncoding)
    assert (encoding.labels.names, encoding.classes) == (("tree", "road", "grass"), (0, 1, 0))
    weights = loaded.build_pixel_weights()
    assert weights is not None
    assert weights.classes == (1,)


def test_a_merge_may_rename_and_reuse_a_member_s_name(tmp_path: Path) -> None:
    assert config(tmp_path, f"{THREE}, merge: {{green: [tree], grass: [grass, road]}}").labels.class_names == (
        "green",
        "grass",
    )
    assert config(tmp_path, THREE).labels.class_names == ("tree", "road", "grass")


VALUE_MASKS = "encoding: {name: values, values: {0: tree, 1: road, 2: grass}}"
RANGES = "encoding: {name: values, values: {0: tree, %s: road, 200: grass}}"


MESSAGES = [
    ("encoding: {name: values}", "encoding.values: missing, and there is no default"),
    (RANGES % "9-5", "encoding.values.9-5: got 9-5, allowed: first-last of 0 to 65535, the first not above the last"),
    (RANGES % "9-70000", "encoding.values.9-70000: got 9-70000, allowed: first-last of 0 to 65535"),
    (RANGES % "9-200", "encoding.values.200: shares values with 9-200, allowed: one meaning a value"),
    (RANGES % "some", "encoding.values.some: got 'some', allowed: a whole number or first-last, as in 120-136"),
    ("encoding: {name: values, values: {}}", "encoding.values: got {}, allowed: at least one item"),
    (
        "encoding: {name: values, values: {0: tree, 1: raod, 2: grass}}",
        "encoding.values.1: got 'raod', allowed: tree, road, grass",
    ),
    (
        "encoding: {name: values, values: {0: tree, 2: grass}}",
        "encoding.values: class 'road' has no value, allowed: at least one a class",
    ),
    ("encoding: {name: values, values: {70000: tree}}", "encoding.values.70000: got '70000', allowed: at most 65535"),
    (
        f"{VALUE_MASKS}, ignore_values: [1]",
        "ignore_values: 1 is the value of class 'road', allowed: one meaning a value",
    ),
    ("ignore_values: [2]", "ignore_values: 2 is the value of class 'grass', allowed: other values"),
    ("ignore_values: [255]", "ignore_values: 255 has no effect: it is ignore_index, which is void already"),
    ("ignore_values: [8, 8]", "ignore_values: 8 stands twice, allowed: each value once"),
    ("ignore_values: [65536]", "ignore_values.0: got 65536, allowed: at most 65535"),
    (
        "encoding: {name: palette}, ignore_values: [256]",
        "ignore_values: 256 has no effect: palette indices are 0 to 255",
    ),
    (
        "colours: [[0, 0, 0], [1, 1, 1], [2, 2, 2]], encoding: {name: colour}, ignore_values: [3]",
        "ignore_values: has no effect on colours, allowed: encoding.void_colours",
    ),
    (
        "encoding: {name: multi_label}, ignore_values: [3]",
        "ignore_values: has no effect on multi_label masks,",
    ),
    (
        "encoding: {name: multi_label}, merge: {a: [tree, road]}",
        "merge: is for masks of one class a pixel,",
    ),
    ("encoding: {name: colour, tolerance: 443}", "encoding.tolerance: got 443, allowed: at most 442"),
    ("merge: {green: [tree, gras]}", "merge.green: got 'gras', allowed: tree, road, grass"),
    ("merge: {a: [tree], b: [tree]}", "merge.b: 'tree' stands twice in labels.merge, allowed: once"),
    ("merge: {tree: [tree]}", "merge.tree: has no effect: 'tree' is its only member"),
    (
        "merge: {road: [tree, grass]}",
        "merge.road: is the name of another class, allowed: a new name, or one of its members",
    ),
    ("merge: {all: [tree, road, grass]}", "merge: leaves 1 class, allowed: at least 2"),
    ("merge: {green: []}", "merge.green: got [], allowed: at least one item"),
]


@pytest.mark.parametrize(("labels", "message"), MESSAGES)
def test_messages(tmp_path: Path, labels: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, f"{THREE}, {labels}")
    assert f"labels.{message}" in str(caught.value)


def test_a_value_that_stands_twice_in_two_spellings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid YAML: key '0' stands twice"):
        config(tmp_path, f"{THREE}, encoding: {{name: values, values: {{0: tree, '0': road}}}}")


def test_manual_weights_name_the_merged_classes(tmp_path: Path) -> None:
    weights = "class_weights: {scheme: manual, manual: {tree: 1, green: 1, road: 1}}"
    with pytest.raises(ConfigError, match="manual.tree: unknown class .*allowed: green, road"):
        config(tmp_path, f"{THREE}, merge: {{green: [tree, grass]}}", weights)


def test_lists_of_annotated_classes(tmp_path: Path) -> None:
    labels = config(tmp_path, f"{THREE}, merge: {{green: [tree, grass]}}").labels.label_set()
    assert labels.partial == ()
    loaded = config(tmp_path, "names: [sky, tree, road, grass], partial: [[tree], [road, tree]]")
    assert loaded.labels.label_set().sets == ((4, (0, 2, 3)), (5, (0, 3)))
    assert loaded.labels.confusion().matrix.shape == (5, 4)


@pytest.mark.parametrize(
    ("labels", "more", "problem"),
    [
        (f"{THREE}, partial: [[oak]]", "", "labels.partial.0: got 'oak', allowed: tree, road, grass"),
        (f"{THREE}, partial: [[tree, road]]", "", "labels.partial.0: must name each class once and leave"),
        (
            f"{THREE}, partial: [[tree], [tree]]",
            "",
            "labels.partial.1: has the classes of a list before, allowed",
        ),
        (
            f"{THREE}, partial: [[tree]], encoding: {{name: multi_label}}",
            "loss: [{name: dice}]",
            "labels.partial: has no effect: an unlisted class is void in its plane, whatever the lists; allowed: []",
        ),
        (
            f"{THREE}, partial: [[tree]]",
            "loss: [{name: focal}]",
            "loss.0.name: got 'focal', which takes one known class a pixel; allowed with labels.partial: cross_entropy",
        ),
        (
            f"{THREE}, partial: [[tree]]",
            "loss: [{name: cross_entropy, label_smoothing: 0.1}]",
            "loss.0.label_smoothing: got 0.1, allowed with labels.partial: 0",
        ),
        (
            f"{THREE}, partial: [[tree]]",
            "class_weights: {scheme: inverse_sqrt, online: 0.9}",
            "class_weights.online: counts known classes alone; allowed with labels.partial: leave it out",
        ),
    ],
)
def test_what_is_wrong_with_lists_of_annotated_classes(tmp_path: Path, labels: str, more: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(tmp_path, labels, more)
    assert f"  {problem}" in str(error.value)
