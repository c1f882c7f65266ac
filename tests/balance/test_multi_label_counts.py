"""seg.balance of classes that may overlap: a two-class problem a class, counted exactly, weighted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from seg.balance import SCHEMES, ClassCounts, count_masks, fingerprint_files
from seg.balance import class_weights as pos_weights
from seg.balance import weight_warnings as pos_weight_warnings
from seg.balance.counts import AbsentCounts
from seg.data.masks.planes import MultiLabelEncoding, write_planes
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

NAMES = ("tree", "water", "boat")
LABELS = LabelSet.from_names(NAMES, multi_label=True)
ENCODING = MultiLabelEncoding()


def write(path: Path, *planes: list[list[int]]) -> Path:
    write_planes(path, np.moveaxis(np.array(planes, np.uint8), 0, -1))
    return path


@pytest.fixture
def masks(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "a.tif", [[1, 1], [0, 255]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]),
        write(tmp_path / "b.tif", [[0, 0], [0, 0]], [[1, 1], [1, 1]], [[255, 255], [255, 255]]),
    ]


def count(masks: list[Path], **options) -> ClassCounts:
    return count_masks(masks, LABELS, ENCODING, **options)


def made(*rows: tuple[int, int], names: tuple[str, ...] = NAMES) -> ClassCounts:
    """Counts of one large image with (absent, present) pixels of each class."""
    pixels = np.array(rows)
    shown = np.where(pixels > 0, pixels.sum(axis=1, keepdims=True), 0)
    absent, present = np.stack([pixels, np.minimum(pixels, 1), shown]).transpose(2, 0, 1)
    others = AbsentCounts(*absent, np.zeros(len(rows), np.int64))
    return ClassCounts(names[: len(rows)], 255, "multi_label", *present, 0, 1, "0" * 64, absent=others)


def test_counts_by_hand(masks: list[Path]) -> None:
    counts = count(masks)
    assert counts.pixel_counts.tolist() == [2, 5, 0]
    assert counts.labelled_pixels.tolist() == [7, 8, 4]
    assert counts.image_counts.tolist() == [1, 2, 0]
    np.testing.assert_allclose(counts.frequencies, [2 / 7, 5 / 8, 0])
    tree = counts.two_classes()[0]
    assert tree.pixel_counts.tolist() == [5, 2] and tree.void_pixels == 1
    # tree is present in a (3 labelled pixels), absent pixels are in a and b (3 + 4 labelled)
    assert tree.image_counts.tolist() == [2, 1] and tree.image_pixels.tolist() == [7, 3]
    assert counts.num_images == 2


def test_counts_of_a_union_are_the_sum(masks: list[Path], tmp_path: Path) -> None:
    first, second = (count([mask], root=tmp_path) for mask in masks)
    assert first + second == count(masks, root=tmp_path) == count(masks[::-1], root=tmp_path, workers=1)
    assert count(masks + masks[:1], root=tmp_path) == first + second + first
    with pytest.raises(
        DataError, match="class counts cannot be added: class names: got tree, water, boat; expected tree"
    ):
        first + made((1, 1))


def test_progress_tells_masks_and_pixels(masks: list[Path]) -> None:
    told: list[tuple[int, int]] = []
    count(masks, progress=lambda *done: told.append(done))
    assert told == [(1, 4), (2, 8)]


def test_the_file_keeps_all_of_it(masks: list[Path], tmp_path: Path) -> None:
    counts = count(masks)
    counts.save(tmp_path / "counts.json")
    assert ClassCounts.load(tmp_path / "counts.json") == counts
    content = json.loads((tmp_path / "counts.json").read_text())
    assert content["classes"]["water"]["present"] == {"pixel_counts": 5, "image_counts": 2, "image_pixels": 8}
    fingerprint = fingerprint_files(masks)
    counts.check_matches(NAMES, 255, "multi_label", fingerprint)
    for arguments, message in (
        (
            (NAMES[::-1], 255, "multi_label", fingerprint),
            "class names: got tree, water, boat; expected boat, water, tree",
        ),
        ((NAMES, 7, "multi_label", fingerprint), "ignore_index: got 255, expected 7"),
        ((NAMES, 255, "multi_label", "1" * 64), "files (paths and sizes): got fingerprint"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            counts.check_matches(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "seg counts"}, 'it has no "format": "seg class counts"'),
        ({"version": 2}, "version: got 2, allowed: 1"),
        ({"classes": {}}, "classes: got {}, allowed: the counts of each class, by name"),
        ({"classes": {"tree": {}}}, "class 'tree': void_pixels: got None, allowed: an integer of 0 or more"),
        ({"num_images": -1}, "class 'tree': num_images: got -1, allowed: an integer of 0 or more"),
        ({"num_images": 1}, "class 'tree': image_counts: 'absent' is in 2 of 1 masks"),
    ],
)
def test_broken_files(masks: list[Path], tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps(count(masks).to_json() | change))
    with pytest.raises(DataError, match=re.escape(message)) as error:
        ClassCounts.load(path)
    assert str(error.value).startswith(f"{path}: not a valid class counts file: ")


def test_a_counts_file_of_the_other_kind(masks: list[Path], tmp_path: Path) -> None:
    count(masks).save(tmp_path / "counts.json")
    counts = ClassCounts.load(tmp_path / "counts.json")
    with pytest.raises(DataError, match="do not match the data: encoding: got multi_label, expected index"):
        counts.check_matches(NAMES, 255, "index", counts.fingerprint)


def test_what_cannot_be_counted(masks: list[Path]) -> None:
    with pytest.raises(DataError, match="no masks to count: the list is empty"):
        count([])
    write(masks[1], [[3, 0]], [[0, 0]], [[0, 0]])
    with pytest.raises(DataError, match=r"b.tif: plane of class 'tree': value 3 in 1 pixels"):
        count(masks)


# --- weights ----------------------------------------------------------------------------------------------------------
def test_inverse_frequency_is_negatives_over_positives() -> None:
    counts = made((75, 25), (50, 50), (1, 99))
    np.testing.assert_allclose(pos_weights(counts, "inverse_frequency"), [3, 1, 1 / 99], rtol=1e-12)
    np.testing.assert_allclose(pos_weights(counts, "inverse_sqrt"), np.sqrt([3, 1, 1 / 99]), rtol=1e-12)
    np.testing.assert_allclose(pos_weights(counts, "inverse_square"), [9, 1, 1 / 99**2], rtol=1e-12)
    assert pos_weights(counts, "uniform").tolist() == [1, 1, 1]
    # ENet: 1 / ln(1.02 + f) of either side
    assert pos_weights(counts, "log_frequency")[0] == pytest.approx(
        np.log(1.02 + 0.75) / np.log(1.02 + 0.25), rel=1e-12
    )


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "manual"])
def test_a_class_of_half_the_pixels_weighs_1(scheme: str) -> None:
    assert pos_weights(made((40, 40)), scheme, unit="pixels")[0] == pytest.approx(1, rel=1e-12)


def test_the_inverse_frequency_balances_each_class() -> None:
    counts = made((75, 25), (3, 7))
    weights = pos_weights(counts, "inverse_frequency")
    for of_class, weight in zip(counts.two_classes(), weights, strict=True):
        assert weight * of_class.pixel_counts[1] == pytest.approx(of_class.pixel_counts[0])


def test_the_cap_bounds_either_way() -> None:
    weights = pos_weights(made((75, 25), (1, 99), (99, 1)), "inverse_frequency", cap=5)
    np.testing.assert_allclose(weights, [3, 1 / 5, 5], rtol=1e-12)


def test_manual_weights_are_given_by_name() -> None:
    counts = made((75, 25), (1, 99))
    assert pos_weights(counts, "manual", manual={"water": 2.5, "tree": 0.0}).tolist() == [0, 2.5]
    with pytest.raises(ConfigError, match="class_weights.manual: no weight for water"):
        pos_weights(counts, "manual", manual={"tree": 1.0})
    with pytest.raises(ConfigError, match="class_weights.scheme: got 'inverse' .nearest: 'inverse_sqrt'., allowed"):
        pos_weights(counts, "inverse")


def test_a_class_on_one_side_alone() -> None:
    counts = made((10, 0), (0, 10), (9, 1))
    for scheme in ("uniform", "inverse_frequency", "effective_number"):
        weights = pos_weights(counts, scheme)
        assert weights[:2].tolist() == [0, 1] and weights[2] > 0
    assert pos_weight_warnings(counts, weights, "uniform") == [
        "tree: present in none of 1 masks, so the model learns to never predict it",
        "water: present at every labelled pixel of 1 masks, so the model learns to always predict it",
    ]
    assert pos_weight_warnings(made((0, 0), (1, 1)), np.array([0, 1]), "uniform") == [
        "no labelled pixel of tree in 1 masks: the model cannot learn it"
    ]
    with pytest.raises(DataError, match="no pos_weight: no class is present in any of the 1 counted masks"):
        pos_weights(made((10, 0), (0, 0)), "uniform")


def test_a_flat_effective_number_is_told() -> None:
    counts = made((10**6, 10**5), (10**6, 10**6))
    weights = pos_weights(counts, "effective_number", beta=0.9999, unit="pixels")
    assert weights[0] == pytest.approx(1, abs=1e-4)
    (warning,) = pos_weight_warnings(counts, weights, "effective_number")
    assert warning.startswith("effective_number is flat for tree: pos_weight is within 5 % of 1")
    sharp = pos_weights(counts, "effective_number", beta="auto", unit="pixels")
    assert sharp[0] > 2 and pos_weight_warnings(counts, sharp, "effective_number") == []
