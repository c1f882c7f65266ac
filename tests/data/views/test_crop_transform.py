"""Crop transforms drawn from a size alone; whatever is configured, a target lands in the window."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pytest

from seg.data.views import crop_transform
from seg.data.views.crop_transform import CropTransformRanges, Target, window_matrix
from seg.data.views.transforms import Augmentation

SHAPE = (90, 120)
CROP = (32, 40)
VOID = 255
CONFIGURED = {
    "crop": {},
    "flips": {"horizontal_flip": 0.5, "vertical_flip": 0.5},
    "quarter turns": {"rotate90": 0.75},
    "zoom in": {"scale": (1.0, 3.0)},
    "zoom out": {"scale": (0.4, 1.0)},
    "zoom far out": {"scale": (0.1, 0.3)},  # the whole image is smaller than the crop
    "turn": {"rotate": 180.0},
    "elastic": {"elastic": 3.0},
    "shrunk": {"resize": (60, 70)},
    "enlarged": {"resize": (150, 130)},
    "larger crop": {"crop": (100, 140)},
    "all": {
        "horizontal_flip": 0.5,
        "vertical_flip": 0.5,
        "rotate90": 0.5,
        "scale": (0.5, 2.0),
        "rotate": 45.0,
        "elastic": 2.0,
        "resize": (80, 130),
        "brightness": 0.2,
        "contrast": 0.2,
        "colour_jitter": 0.2,
    },
}
PLACES = [(0, 0), (0, 119), (89, 0), (89, 119), (45, 60), (1, 70), (88, 3)]


def marked(row: int, column: int, radius: int) -> np.ndarray:
    """A mask of 1 with a disc of 2 about a pixel: large enough for one of its pixels to be sampled when zoomed out."""
    mask = np.ones(SHAPE, np.uint8)
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    mask[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = 2
    return mask


@pytest.mark.parametrize("jitter", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("settings", CONFIGURED.values(), ids=CONFIGURED.keys())
def test_a_target_lands_in_the_crop(settings: dict, jitter: float) -> None:
    augment = Augmentation(**({"crop": CROP} | settings))
    # Zoomed out by s, every 1/s-th pixel is kept; the elastic grid may squeeze by as much again.
    radius = 1 + round(2 / min(settings.get("scale", (1.0,))[0], settings.get("resize", SHAPE)[1] / SHAPE[1]))
    image = np.zeros((*SHAPE, 3), np.uint8)
    for row, column in PLACES:
        mask = marked(row, column, radius)
        for seed in range(12):
            _, shown = augment(image, mask, seed, target=Target(row, column, jitter))
            assert shown.shape == augment.crop
            assert (shown == 2).any(), (row, column, seed)


@pytest.mark.parametrize("settings", CONFIGURED.values(), ids=CONFIGURED.keys())
def test_the_frame_says_where_the_target_is_shown(settings: dict) -> None:
    """The output pixel nearest to the target shows the file within half an output pixel's diagonal of it."""
    augment = Augmentation(**({"crop": CROP} | settings))
    rows, columns = augment.crop
    for row, column in PLACES[::2]:
        for seed in range(2):
            transform = augment.draw(SHAPE, seed, Target(row, column, 0.8)).transform
            sources = np.array([[transform.source(r, c) for c in range(columns)] for r in range(rows)])
            steps = np.abs(np.diff(sources, axis=1)).max() + np.abs(np.diff(sources, axis=0)).max()
            distance = np.abs(sources - (row, column)).max(axis=-1).min()
            assert distance <= 0.75 * steps + 1e-6


def test_a_pixel_alone_is_shown_where_nothing_shrinks() -> None:
    settings = {"horizontal_flip": 0.5, "vertical_flip": 0.5, "rotate90": 0.5, "scale": (1.2, 3.0), "rotate": 90.0}
    augment = Augmentation(**settings, crop=CROP)
    image = np.zeros((*SHAPE, 3), np.uint8)
    for row, column in PLACES:
        for seed in range(10):
            assert (augment(image, marked(row, column, 0), seed, target=Target(row, column, 1.0))[1] == 2).any()


def test_jitter_by_hand() -> None:
    """Without zoom and turn, jitter 0 puts an inner pixel at the crop's centre, (32 - 1) / 2 = 15.5 rounded: row 15 or
    16; jitter j moves it by up to j * (32 / 2 - 1) = 15 j rows."""
    augment = Augmentation(crop=CROP)
    image = np.zeros((*SHAPE, 3), np.uint8)
    rows: dict[float, set[int]] = {0.0: set(), 0.5: set(), 1.0: set()}
    for jitter, seen in rows.items():
        for seed in range(300):
            _, shown = augment(image, marked(45, 60, 0), seed, target=Target(45, 60, jitter))
            seen.update(np.argwhere(shown == 2)[:, 0].tolist())
    assert rows[0.0] <= {15, 16}
    assert min(rows[0.5]) == 8 and max(rows[0.5]) == 23  # 15.5 -+ 7.5
    assert min(rows[1.0]) <= 1 and max(rows[1.0]) >= 30


def test_an_aimed_window_stays_in_the_image() -> None:
    augment = Augmentation(crop=CROP, rotate90=0.5, horizontal_flip=0.5)
    image = np.zeros((*SHAPE, 3), np.uint8)
    for row, column in PLACES:
        for seed in range(20):
            _, shown = augment(image, np.ones(SHAPE, np.uint8), seed, target=Target(row, column, 1.0))
            assert (shown == 1).all()  # no void


def test_aiming_changes_neither_zoom_nor_turn_nor_colours() -> None:
    """Beside an unaimed draw of the same seed only the window's place differs; the streams go on alike."""
    augment = Augmentation(**CONFIGURED["all"], crop=CROP)
    for seed in range(10):
        free, centred = augment.draw(SHAPE, seed), augment.draw(SHAPE, seed, Target(45, 60, 0.5))
        assert free.transform.flips == centred.transform.flips and free.transform.shrunk == centred.transform.shrunk
        np.testing.assert_array_equal(free.transform.matrix[:, :2], centred.transform.matrix[:, :2])
        np.testing.assert_array_equal(free.transform.bend, centred.transform.bend)


def test_source_follows_a_pixel_back_to_the_file() -> None:
    """An image whose values are its own coordinates, seen through crop transforms that enlarge."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    image = np.stack([y / 200, x / 200, y * 0], axis=-1)
    for settings in (CONFIGURED["crop"], CONFIGURED["flips"], CONFIGURED["quarter turns"], CONFIGURED["elastic"]):
        augment = Augmentation(**settings, scale=(1.0, 2.0), crop=CROP)
        for seed in range(8):
            draw = augment.draw(SHAPE, seed)
            shown = draw.transform.of_image(image)
            inside = draw.transform.of_mask(np.ones(SHAPE, np.uint8), VOID) == 1
            for row, column in ((0, 0), (5, 33), (31, 39), (16, 20)):
                if inside[row, column]:
                    found = draw.transform.source(row, column)
                    # cv2 interpolates at 1/32 of a pixel; at the border it blends with what is outside.
                    if 1 < found[0] < SHAPE[0] - 2 and 1 < found[1] < SHAPE[1] - 2:
                        np.testing.assert_allclose(shown[row, column, :2] * 200, found, atol=0.1)


def test_zoom_by_hand() -> None:
    """Zoom 2, no turn, window at the origin: output pixel centre x + 0.5 shows input (x + 0.5) / 2, that is index
    x / 2 - 0.25."""
    matrix = window_matrix((10, 20), (10, 20), (10, 20), scale=2.0, angle=0.0, top=0, left=0)
    np.testing.assert_allclose(matrix, [[0.5, 0, -0.25], [0, 0.5, -0.25]], atol=1e-12)


def test_a_frame_needs_no_pixels() -> None:
    """Drawn from the size of an image, also one that no memory holds."""
    ranges = CropTransformRanges(0.5, (0.5, 2.0), 10.0, 0.0, None, (64, 64))
    transform = ranges.draw((10**6, 10**6), (False, False), random.Random(0), np.random.default_rng(0))
    assert transform.size == (64, 64)


@pytest.mark.parametrize("outside", [0, VOID])
@pytest.mark.parametrize("shape", [(40, 56, 3), (41, 57)])
def test_whole_pixels_are_copied_as_opencv_would_warp_them(shape: tuple, outside: int) -> None:
    pixels = np.random.default_rng(0).integers(1, 250, shape, dtype=np.uint8)
    copied = 0
    for turn in crop_transform._QUARTER_TURNS:
        for shift in ((0, 0), (55, 3), (-7, 60), (200, -300), (20, 39)):
            matrix = np.column_stack([turn, shift]).astype(float)
            expected = cv2.warpAffine(
                pixels, matrix, (30, 24), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=(outside,) * 4
            )
            for interpolation in (cv2.INTER_NEAREST, cv2.INTER_LINEAR):
                np.testing.assert_array_equal(
                    crop_transform.warp(pixels, matrix, (24, 30), None, interpolation, outside), expected
                )
            copied += crop_transform._copied(pixels, matrix, (24, 30), outside) is not None
    assert copied == 4 * 5


@pytest.mark.parametrize(
    "matrix", [[[1, 0, 0.5], [0, 1, 0]], [[2, 0, 0], [0, 2, 0]], [[-1, 0, 9], [0, 1, 0]], [[1, 0.01, 0], [0, 1, 0]]]
)
def test_other_frames_are_warped(matrix: list) -> None:
    assert crop_transform._copied(np.ones((20, 20), np.uint8), np.array(matrix, float), (8, 8), 0) is None
