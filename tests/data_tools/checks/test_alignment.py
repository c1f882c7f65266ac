from __future__ import annotations

import numpy as np
import pytest

from data_tools.checks.alignment import LEAST_SIDE, REACH, Move, better_place
from data_tools.scenes.scene import draw_scene

SEEDS = range(30, 50)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_scene(256, seed) for seed in SEEDS]


def test_scenes_lie_where_they_are(scenes):
    assert [better_place(image, mask, 7) for image, mask in scenes] == [None] * len(scenes)


@pytest.mark.parametrize("shift", [(5, 5), (-6, 3), (0, 8), (-9, 0)])
def test_moved_masks_are_found_and_sent_back(scenes, shift):
    moves = [better_place(image, np.roll(mask, shift, (0, 1)), 7) for image, mask in scenes]
    # To a pixel: soft edges and the void border of some scenes move the best fit by as much.
    right = [m is not None and np.hypot(m.down + shift[0], m.right + shift[1]) <= 1.5 for m in moves]
    assert sum(right) >= 0.8 * len(scenes)  # 17 to 20 of these 20 are


def rectangles(bands: int = 1, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((170, 180), np.uint8)
    mask[30:90, 40:120] = 1
    mask[105:140, 20:90] = 2
    return np.repeat((mask * 60 + 20)[..., None], bands, 2).astype(dtype), mask


@pytest.mark.parametrize("bands", [1, 3, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_rectangles_by_hand(bands, dtype):
    image, mask = rectangles(bands, dtype)
    assert better_place(image, mask, 3) is None
    move = better_place(image, np.roll(mask, (7, -4), (0, 1)), 3)
    assert isinstance(move, Move)
    assert (move.down, move.right) == (-7, 4)
    assert move.gain > 0.3


def test_what_cannot_be_told_is_not_told():
    image, mask = rectangles()
    moved = np.roll(mask, 6, 1)
    assert better_place(image * 0, moved, 3) is None  # no edges
    assert better_place(image, moved * 0, 3) is None  # no outlines
    assert better_place(image, np.where(moved > 0, np.uint8(255), moved), 3) is None  # void has no outlines
    assert better_place(image[: LEAST_SIDE - 1], moved[: LEAST_SIDE - 1], 3) is None  # too small
    assert better_place(image, np.roll(mask, 2, 1), 3) is None  # as far off as annotators are
    assert better_place(image, np.roll(mask, REACH + 6, 1), 3) is None  # farther than is looked
