"""seg.data.views.transforms: void and never class 0 from outside, one draw a seed, image and mask moved alike."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seg.data.files.images import resize_image, resize_mask
from seg.data.views.transforms import Augmentation
from seg.errors import ConfigError

VOID = 255
EVERYTHING = Augmentation(
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotate90=0.5,
    scale=(0.5, 2.0),
    rotate=20.0,
    brightness=0.2,
    contrast=0.2,
    colour_jitter=0.2,
    elastic=4.0,
    crop=(32, 48),
)
GEOMETRIC = {
    "flips": {"horizontal_flip": 0.5, "vertical_flip": 0.5},
    "rotate90": {"rotate90": 1.0},
    "scale": {"scale": (0.4, 2.5)},
    "rotate": {"rotate": 45.0},
    "elastic": {"elastic": 8.0},
    "crop": {"crop": (24, 20)},
    "padding": {"crop": (64, 80)},
    "all": {"rotate90": 0.5, "scale": (0.5, 2.0), "rotate": 30.0, "elastic": 5.0, "crop": (50, 30)},
}


def picture(height: int = 40, width: int = 56, bands: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (height, width, bands), dtype=np.uint8)
    return image, rng.integers(1, 6, (height, width), dtype=np.uint8)  # no class 0


@pytest.mark.parametrize("settings", GEOMETRIC.values(), ids=GEOMETRIC.keys())
def test_geometry_brings_in_void_and_no_other_value(settings: dict) -> None:
    image, mask = picture()
    augment = Augmentation(**settings)
    seen = set()
    for seed in range(30):
        new_image, new_mask = augment(image, mask, seed)
        seen |= set(np.unique(new_mask).tolist())
        size = settings.get("crop", mask.shape)
        assert new_mask.shape == size and new_image.shape == (*size, 3)
        assert new_image.dtype == np.uint8 and new_mask.dtype == np.uint8
        assert new_image.flags.c_contiguous and new_mask.flags.c_contiguous
    assert seen <= {1, 2, 3, 4, 5, VOID}
    assert (VOID in seen) == (settings not in (GEOMETRIC["flips"], GEOMETRIC["crop"]))  # these two look inside only


@pytest.mark.parametrize("more", [{}, {"resize": (20, 28)}, {"resize": (60, 90)}], ids=["", "shrunk", "enlarged"])
@pytest.mark.parametrize("settings", GEOMETRIC.values(), ids=GEOMETRIC.keys())
def test_pixel_weights_move_with_the_mask_and_draw_nothing(settings: dict, more: dict) -> None:
    image, mask = picture()
    augment = Augmentation(**settings | more, brightness=0.2)
    weights = mask.astype(np.float32) + 0.5
    for seed in range(5):
        new_image, new_mask, new_weights = augment(image, mask, seed, weights)
        inside = new_mask != VOID
        np.testing.assert_array_equal(new_weights[inside], new_mask[inside] + np.float32(0.5))
        assert new_weights.dtype == np.float32 and new_weights.flags.c_contiguous and np.isfinite(new_weights).all()
        for array, alone in zip((new_image, new_mask), augment(image, mask, seed), strict=True):
            np.testing.assert_array_equal(array, alone)


def test_another_ignore_index_is_painted() -> None:
    image, mask = picture()
    _, padded = Augmentation(crop=(64, 80), ignore_index=11)(image, mask, 0)
    assert np.sum(padded == 11) == 64 * 80 - mask.size


def test_padding_is_zero_in_the_image_exactly_where_the_mask_is_void() -> None:
    image, mask = picture()
    new_image, new_mask = Augmentation(crop=(64, 80))(image, mask, 3)
    np.testing.assert_array_equal((new_image == 0).all(axis=-1), new_mask == VOID)


def test_off_changes_nothing() -> None:
    image, mask = picture()
    new_image, new_mask = Augmentation()(image, mask, 5)
    np.testing.assert_array_equal(new_image, image)
    np.testing.assert_array_equal(new_mask, mask)


@pytest.mark.parametrize("size", [(40, 40), (41, 41)])
def test_quarter_turns_of_a_square_copy_values(size: tuple[int, int]) -> None:
    image, mask = picture(*size)
    counts = Counter()
    for seed in range(60):
        new_image, new_mask = Augmentation(rotate90=1.0)(image, mask, seed)
        turns = [k for k in (1, 2, 3) if np.array_equal(new_mask, np.rot90(mask, k))]
        assert len(turns) == 1
        np.testing.assert_array_equal(new_image, np.rot90(image, turns[0]))
        counts.update(turns)
    assert min(counts[k] for k in (1, 2, 3)) >= 10  # 20 each expected; 10 is 2.7 deviations below


def test_a_crop_is_a_window_of_the_image() -> None:
    image, mask = picture()
    values = np.arange(mask.size).reshape(mask.shape)
    tops = set()
    for seed in range(200):
        new_image, new_mask = Augmentation(crop=(30, 50))(image, mask, seed)
        matches = [
            (top, left)
            for top in range(11)
            for left in range(7)
            if np.array_equal(image[top : top + 30, left : left + 50], new_image)
        ]
        assert len(matches) == 1
        top, left = matches[0]
        np.testing.assert_array_equal(new_mask, mask[top : top + 30, left : left + 50])
        tops.add(values[top, left])
    assert {t // mask.shape[1] for t in tops} == set(range(11))  # first and last row included


@pytest.mark.parametrize("settings", GEOMETRIC.values(), ids=GEOMETRIC.keys())
def test_image_and_mask_move_together(settings: dict) -> None:
    """A disc drawn in both: its centre of mass in the moved image is the one in the moved mask."""
    y, x = np.mgrid[:160, :160]
    disc = ((y - 75) ** 2 + (x - 83) ** 2) < 20**2
    image = np.repeat(np.where(disc, 200, 0).astype(np.uint8)[..., None], 3, axis=2)
    offsets = []
    for seed in range(120):
        new_image, new_mask = Augmentation(**settings)(image, disc.astype(np.uint8), seed)
        if (new_mask == 1).sum() > 100:  # a small crop may miss the disc
            offsets.append(np.subtract(mass_centre(new_image[..., 0]), mass_centre(new_mask == 1)))
    # Nearest pixels jitter by a tenth of a pixel; half a pixel's misalignment would show as 0.5, or 0.35 an axis.
    assert len(offsets) >= 5 and np.abs(np.mean(offsets, axis=0)).max() < 0.1


def mass_centre(weights: np.ndarray) -> tuple[float, float]:
    y, x = np.indices(weights.shape)
    return (weights * y).sum() / weights.sum(), (weights * x).sum() / weights.sum()


def test_zooming_in_shows_the_border_too() -> None:
    mask = np.ones((40, 40), np.uint8)
    mask[0], mask[:, -1] = 2, 3
    seen = set()
    for seed in range(60):
        seen |= set(np.unique(Augmentation(scale=(2.0, 2.0))(np.zeros((40, 40, 3), np.uint8), mask, seed)[1]).tolist())
    assert seen == {1, 2, 3}


def test_flips_are_drawn_apart() -> None:
    """albumentations' set_random_seed starts each transform from the same seed: both flips or none, never one."""
    image, mask = picture()
    augment = Augmentation(horizontal_flip=0.5, vertical_flip=0.5)
    versions = {"none": mask, "horizontal": mask[:, ::-1], "vertical": mask[::-1], "both": mask[::-1, ::-1]}
    counts = Counter()
    for seed in range(200):
        flipped = augment(image, mask, seed)[1]
        counts.update(name for name, version in versions.items() if np.array_equal(version, flipped))
    assert min(counts[name] for name in versions) >= 30  # 50 each expected; 30 is 3.3 deviations below


def test_a_draw_depends_on_the_seed_alone() -> None:
    image, mask = picture()
    first = [EVERYTHING(image, mask, seed) for seed in range(16)]
    EVERYTHING(*picture(33, 57, seed=1), seed=99)  # another call in between
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda seed: EVERYTHING(image, mask, seed), reversed(range(16))))[::-1]
    for (image_a, mask_a), (image_b, mask_b) in zip(first, again, strict=True):
        np.testing.assert_array_equal(image_a, image_b)
        np.testing.assert_array_equal(mask_a, mask_b)
    assert len({image.tobytes() for image, _ in first}) == 16


def test_the_input_is_left_alone() -> None:
    image, mask = picture()
    image_before, mask_before = image.copy(), mask.copy()
    EVERYTHING(image, mask, 0)
    np.testing.assert_array_equal(image, image_before)
    np.testing.assert_array_equal(mask, mask_before)


def test_float_images_stay_float_in_the_unit_range() -> None:
    image, mask = picture()
    for seed in range(20):
        new_image, new_mask = EVERYTHING(image.astype(np.float32) / 255, mask, seed)
        byte_image, byte_mask = EVERYTHING(image, mask, seed)
        assert new_image.dtype == np.float32 and new_image.min() >= 0 and new_image.max() <= 1
        np.testing.assert_array_equal(new_mask, byte_mask)
        assert np.abs(new_image * 255 - byte_image).mean() < 4  # 8-bit hue has 180 steps, and each step rounds


def test_gray_images_keep_their_axis() -> None:
    image, mask = picture(bands=1)
    gray = Augmentation(bands=1, horizontal_flip=0.5, scale=(0.5, 2.0), brightness=0.2, contrast=0.2, crop=(16, 24))
    for whole in (gray, Augmentation(bands=1), Augmentation(bands=1, elastic=3.0), Augmentation(bands=1, contrast=0.1)):
        new_image, new_mask = whole(image, mask, 1)
        assert new_image.shape == (*new_mask.shape, 1)


def test_brightness_by_hand() -> None:
    """A brightness limit b adds between -b and b of the value range to every pixel alike."""
    image, mask = np.full((8, 8, 3), 128, np.uint8), np.ones((8, 8), np.uint8)
    changes = [int(Augmentation(brightness=0.2)(image, mask, seed)[0][0, 0, 0]) - 128 for seed in range(100)]
    assert -51 <= min(changes) < -40 and 40 < max(changes) <= 51  # 0.2 * 255 = 51


def test_colour_jitter_leaves_gray_pixels_and_masks_alone() -> None:
    gray = np.repeat(picture(bands=1)[0], 3, axis=2)
    mask = picture()[1]
    new_image, new_mask = Augmentation(colour_jitter=0.5)(gray, mask, 2)
    np.testing.assert_array_equal(new_mask, mask)
    assert np.abs(new_image.astype(int) - gray).max() <= 1


def test_colour_jitter_of_gray_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"augmentation.colour_jitter: got 0.3 for images of 1 band, allowed: 0"):
        Augmentation(colour_jitter=0.3, bands=1)


def test_a_wrong_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scale: got \[2.0, 1.0\], allowed: \[smallest, largest\]"):
        Augmentation(scale=(2.0, 1.0))


@pytest.mark.parametrize("bad", [np.zeros((4, 5, 3), np.uint16), np.zeros((4, 6, 3), np.uint8)])
def test_wrong_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"got image \(4, ., 3\) uint.* and mask \(4, 5\) for 3 bands"):
        Augmentation()(bad, np.zeros((4, 5), np.uint8), 0)


# --- resizing as part of the warp ---
def test_resizing_alone_is_what_evaluation_does():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (36, 50, 3)).astype(np.uint8), rng.integers(0, 5, (36, 50)).astype(np.uint8)
    for size in ((18, 25), (18, 60), (40, 60)):
        small, labels = Augmentation(resize=size)(image, mask, seed=1)
        if size[0] <= 36 and size[1] <= 50:
            np.testing.assert_array_equal(small, resize_image(image, size))
            np.testing.assert_array_equal(labels, resize_mask(mask, size))
        assert small.shape == (*size, 3)
        assert labels.shape == size


def test_a_zoom_shows_the_files_detail_not_the_resized_images_blur():
    """A checkerboard of single pixels, resized to half and zoomed by 2, is the checkerboard again; resized first, it
    would be gray."""
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, axis=2)
    zoomed, _ = Augmentation(resize=(16, 16), scale=(2.0, 2.0))(image, np.zeros((32, 32), np.uint8), seed=0)
    assert zoomed.shape == (16, 16, 3)
    assert set(np.unique(zoomed)) == {0, 255}
    assert resize_image(image, (16, 16)).std() < 1


def test_a_crop_comes_from_the_resized_image():
    image = np.zeros((40, 40, 3), np.uint8)
    mask = np.repeat(np.arange(4, dtype=np.uint8), 10)[:, None] * np.ones((1, 40), np.uint8)
    _, labels = Augmentation(resize=(8, 8), crop=(8, 8))(image, mask.astype(np.uint8), seed=0)
    np.testing.assert_array_equal(labels[:, 0], [0, 0, 1, 1, 2, 2, 3, 3])


def test_shrinking_does_not_alias():
    """Zoomed out by 4, a board of single pixels is gray; sampling single pixels would keep black and white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, axis=2)
    small, labels = Augmentation(scale=(0.25, 0.25))(image, np.ones((64, 64), np.uint8), seed=0)
    inside = small[labels == 1]
    assert len(inside) == 16 * 16 * 1
    assert np.abs(inside.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("settings", [GEOMETRIC["all"] | GEOMETRIC["flips"], {"rotate": 30.0, "crop": (24, 24)}])
def test_more_bands_than_opencv_warps_at_once_move_as_few_do(settings: dict) -> None:
    image, mask = picture(bands=200)
    moved, _ = Augmentation(bands=200, **settings)(image, mask, 3)
    for some in (slice(0, 128), slice(128, 200)):
        few = np.ascontiguousarray(image[..., some])
        np.testing.assert_array_equal(moved[..., some], Augmentation(bands=few.shape[2], **settings)(few, mask, 3)[0])
