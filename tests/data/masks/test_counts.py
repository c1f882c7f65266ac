"""Pixels of a class in one file: the histogram of an array, components, and what the fast counter is not asked."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.data.masks import counts as mask_counts
from seg.data.masks.counts import components, count_pixels, load_fast_counter, value_counts
from seg.data.masks.reading import BinaryEncoding, ColourEncoding, IndexEncoding
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(["field", "road", "boat"], ignore_index=255)
TWO = LabelSet.from_names(["background", "cell"], ignore_index=255)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (300, 401)])
def test_value_counts_are_those_of_np_unique(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    expected = np.zeros(256, np.int64)
    values, occurrences = np.unique(mask, return_counts=True)
    expected[values] = occurrences
    np.testing.assert_array_equal(value_counts(mask), expected)
    np.testing.assert_array_equal(value_counts(mask[:, ::-1]), expected)  # not contiguous


def test_value_counts_stay_exact_where_float32_does_not() -> None:
    mask = np.zeros(2**24 + 2**20 + 1, np.uint8)  # one value more often than float32 can count
    mask[:3] = 7
    counted = value_counts(mask.reshape(1, -1))
    assert counted[0] == len(mask) - 3
    assert counted[7] == 3


# --- one file ---


@pytest.fixture(params=[False, True], ids=["ordinary", "fast"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fast counter loaded, and without."""
    load_fast_counter(wait=True)
    if not request.param:
        monkeypatch.setattr(mask_counts, "_histogram", mask_counts.Future())


def write(path: Path, mask: list[list[int]] | np.ndarray) -> Path:
    assert cv2.imwrite(str(path), np.asarray(mask, np.uint8))
    return path


def test_an_index_mask_by_hand(tmp_path: Path, fast: None) -> None:
    counted = count_pixels(write(tmp_path / "a.png", [[0, 0, 1], [255, 2, 2]]), LABELS, IndexEncoding())
    assert counted.tolist() == [2, 1, 2, 1]
    assert counted.dtype == np.int64


def test_an_ignore_index_below_the_number_of_values(tmp_path: Path, fast: None) -> None:
    labels = LabelSet.from_names(["field", "road"], ignore_index=2)
    assert count_pixels(write(tmp_path / "a.png", [[0, 2, 1, 2]]), labels, IndexEncoding()).tolist() == [1, 1, 2]


@pytest.mark.parametrize(("threshold", "expected"), [(0, [1, 4, 0]), (127, [3, 2, 0]), (254, [4, 1, 0])])
def test_a_binary_mask_by_hand(tmp_path: Path, fast: None, threshold: int, expected: list[int]) -> None:
    mask = write(tmp_path / "a.png", [[0, 1, 127, 128, 255]])
    assert count_pixels(mask, TWO, BinaryEncoding(threshold)).tolist() == expected


def test_an_unknown_value_is_named(tmp_path: Path, fast: None) -> None:
    mask = write(tmp_path / "a.png", [[0, 3, 3, 9]])
    with pytest.raises(DataError, match="a.png: label value 3 in 2 pixels, 9 in 1 pixels; allowed: 0 to 2"):
        count_pixels(mask, LABELS, IndexEncoding())


def test_a_wrong_number_of_classes_is_named(tmp_path: Path, fast: None) -> None:
    with pytest.raises(ConfigError, match="mask encoding 'binary': got 3 classes, allowed: 2"):
        count_pixels(write(tmp_path / "a.png", [[0]]), LABELS, BinaryEncoding())


def test_a_gray_mask_is_no_colour_mask(tmp_path: Path, fast: None) -> None:
    with pytest.raises(DataError, match="a.png: is an 8-bit gray PNG, but the mask encoding 'colour' reads an RGB"):
        count_pixels(write(tmp_path / "a.png", [[0]]), LABELS, ColourEncoding())


def test_a_class_without_pixels_has_no_components() -> None:
    areas = components(np.array([[0, 0, 9]], np.uint8), 2)
    assert [area.tolist() for area in areas] == [[2], []]
