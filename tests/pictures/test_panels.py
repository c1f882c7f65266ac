import numpy as np
import pytest

from seg.labels import LabelSet
from seg.pictures.overlay import LEGEND_ROW
from seg.pictures.panels import (
    FALSE_ALARM,
    GAP,
    HIT,
    MISSED,
    OTHER,
    WRONG,
    Tile,
    error_map,
    panel,
    shrunk,
    stretched,
    worst_window,
)

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
LABELS = LabelSet(("a", "b", "c"), (RED, BLUE, GREEN))
MASK = np.array([[0, 1, 1], [255, 0, 2]], np.uint8)
PREDICTION = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
PICTURE = np.full((2, 3, 3), 100, np.uint8)
DIM, VOID = (50, 50, 50), (0, 0, 0)


def rows(picture):
    return [[tuple(pixel) for pixel in row] for row in picture.tolist()]


def test_errors_by_hand():
    errors, meaning = error_map(PICTURE, MASK, PREDICTION, LABELS)
    assert rows(errors) == [[DIM, DIM, WRONG], [VOID, WRONG, WRONG]]
    assert [text for text, _ in meaning] == ["dim: right", "wrong", "void"]


def test_errors_of_one_class_by_hand():
    errors, meaning = error_map(PICTURE, MASK, PREDICTION, LABELS, focus=1)
    assert rows(errors) == [[DIM, HIT, MISSED], [VOID, FALSE_ALARM, OTHER]]
    assert ("b missed", MISSED) in meaning
    assert ("no b, but predicted", FALSE_ALARM) in meaning


def test_panel_by_hand():
    picture = panel(Tile(PICTURE, MASK, PREDICTION, "tile 7"), LABELS)
    assert picture.shape[1] == 4 * 3 + 3 * GAP
    row = picture[2 * LEGEND_ROW : 2 * LEGEND_ROW + 2]
    np.testing.assert_array_equal(row[:, :3], PICTURE)
    assert rows(row[:, 3 + GAP : 6 + GAP]) == [[RED, BLUE, BLUE], [VOID, RED, GREEN]]
    assert rows(row[:, 6 + 2 * GAP : 9 + 2 * GAP]) == [[RED, BLUE, RED], [BLUE, BLUE, RED]]
    assert rows(row[:, 9 + 3 * GAP :])[0] == [DIM, DIM, WRONG]
    assert (picture[: 2 * LEGEND_ROW] < 100).any()  # the caption


def test_the_legend_has_the_classes_that_occur():
    wide = np.zeros((2, 300, 3), np.uint8) + 90
    mask = np.zeros((2, 300), np.uint8)
    picture = panel(Tile(wide, mask, mask + 2, "x"), LABELS)[2 * LEGEND_ROW + 2 :]
    found = [colour for colour in (RED, BLUE, GREEN) if (picture == colour).all(-1).any()]
    assert found == [RED, GREEN]


def test_the_legend_of_many_classes_stays_short():
    labels = LabelSet.from_names([f"class {index}" for index in range(150)])
    mask = np.arange(150, dtype=np.uint8).repeat(12).reshape(30, 60)
    height = panel(Tile(np.zeros((30, 60, 3), np.uint8), mask, mask, "x"), labels).shape[0]
    assert height < 30 + 40 * LEGEND_ROW


def test_gray_pictures_are_shown_too():
    gray = Tile(np.full((2, 3, 1), 0.5, np.float32), MASK, PREDICTION, "x")
    np.testing.assert_array_equal(panel(gray, LABELS)[2 * LEGEND_ROW : 2 * LEGEND_ROW + 2, :3], np.full((2, 3, 3), 128))


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"image has shape \(2, 3, 3\) and mask \(2, 1\); height and width must agree"):
        panel(Tile(PICTURE, MASK[:, :1], PREDICTION, "x"), LABELS)
    with pytest.raises(ValueError, match=r"image has shape \(2, 3, 3\) and mask \(1, 3\)"):
        panel(Tile(PICTURE, MASK, PREDICTION[:1], "x"), LABELS)


def test_shrinking_averages_the_picture_and_keeps_labels_labels():
    picture = np.arange(4, dtype=np.uint8).repeat(4).reshape(4, 4, 1) * 10
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)
    small = shrunk(Tile(picture, mask, mask, "x"), 2)
    assert small.picture[..., 0].tolist() == [[5, 5], [25, 25]]
    assert small.mask.tolist() == [[0, 2], [8, 10]]
    assert shrunk(small, 2) is small


@pytest.mark.parametrize("size", [(2048, 1500), (300, 65)])
def test_large_samples_become_small_ones(size):
    mask = np.zeros(size, np.uint8)
    small = shrunk(Tile(np.zeros((*size, 3), np.uint8), mask, mask, "x"), 256)
    assert max(small.mask.shape) <= 256
    assert small.picture.shape == (*small.mask.shape, 3)
    assert small.prediction.shape == small.mask.shape


def test_the_worst_window_by_brute_force():
    wrong = np.random.default_rng(0).random((9, 13)) < 0.2
    window = worst_window(wrong, 4)
    counts = [wrong[top : top + 4, left : left + 4].sum() for top in range(6) for left in range(10)]
    assert wrong[window].shape == (4, 4)
    assert wrong[window].sum() == max(counts)


def test_the_worst_window_of_a_small_image_is_all_of_it():
    assert worst_window(np.ones((3, 5), bool), 4) == (slice(0, 3), slice(0, 4))
    assert worst_window(np.ones((3, 2), bool), 4) == (slice(0, 3), slice(0, 2))


@pytest.mark.parametrize(("bands", "shown"), [(1, 1), (2, 1), (3, 3), (8, 3)])
def test_inputs_of_any_bands_and_range_are_stretched_to_pictures(bands, shown):
    image = np.random.default_rng(0).normal(-40, 7, (20, 30, bands))
    picture = stretched(image)
    assert picture.shape == (20, 30, shown)
    assert picture.dtype == np.float32
    assert (picture.min(), picture.max()) == (0, 1)
    order = np.argsort(image[..., 0].ravel())
    assert (np.diff(picture[..., 0].ravel()[order]) >= 0).all()


def test_a_flat_input_is_black():
    assert not stretched(np.full((4, 4, 3), 7.0)).any()


def test_overlapping_classes_by_hand():
    labels = LabelSet(("a", "b"), (RED, BLUE), 255, multi_label=True)
    mask = np.array([[[1, 1], [1, 0], [255, 255], [255, 0]]], np.uint8)
    prediction = np.array([[[1, 1], [1, 1], [1, 0], [0, 1]]], np.uint8)
    picture = np.full((1, 4, 3), 100, np.uint8)
    errors, _ = error_map(picture, mask, prediction, labels)
    assert rows(errors) == [[DIM, WRONG, VOID, WRONG]]
    errors, _ = error_map(picture, mask, prediction, labels, focus=0)
    assert rows(errors) == [[HIT, HIT, VOID, OTHER]]
    assert panel(Tile(picture, mask, prediction, "x"), labels, focus=1).shape[1] == 4 * 4 + 3 * GAP
