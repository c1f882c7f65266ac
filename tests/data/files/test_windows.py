"""seg.data.files.windows: parts of an image are those that the whole image would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg.data.files.images import resize_image, resize_mask
from seg.data.files.windows import (
    Window,
    before_shrinking,
    blocks,
    shrink_image,
    shrink_mask,
    warp_window,
    whole,
)


def test_a_window_of_a_flipped_image_by_hand() -> None:
    """Of 10 x 20, rows 1 to 3 and columns 2 to 6; upside down, rows 1 to 3 are 6 to 8."""
    window = Window(1, 2, 3, 5)
    assert window.slices == (slice(1, 4), slice(2, 7))
    assert window.flipped((10, 20), vertical=True, horizontal=False) == (6, 2, 3, 5)
    assert window.flipped((10, 20), vertical=False, horizontal=True) == (1, 13, 3, 5)
    assert window.flipped((10, 20), True, True).flipped((10, 20), True, True) == window
    pixels = np.arange(200).reshape(10, 20)
    there = window.flipped((10, 20), True, True)
    np.testing.assert_array_equal(pixels[::-1, ::-1][window.slices], pixels[there.slices][::-1, ::-1])


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(1, 80), st.integers(1, 400)),
    st.integers(1, 5000),
)
def test_blocks_cover_each_pixel_once(shape: tuple[int, int], block: tuple[int, int], pixels: int) -> None:
    seen = np.zeros(shape, int)
    for window in blocks(shape, block, pixels):
        assert window.top % block[0] == 0 and window.left % block[1] == 0  # no stored block is decoded twice
        assert window.height * window.width <= max(pixels, block[0] * block[1])
        seen[window.slices] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shrunk", [(100, 150), (203, 111), (51, 305), (180, 290), (203, 305), (1, 1)])
def test_a_part_of_a_shrunk_image_is_the_shrunk_images_part(dtype: type, shrunk: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = (rng.random((203, 305, 5)) * 255).astype(dtype)
    mask = rng.integers(0, 256, (203, 305)).astype(np.uint8)
    small, small_mask = resize_image(image, shrunk), resize_mask(mask, shrunk)
    corner = (min(10, shrunk[0] - 1), min(20, shrunk[1] - 1))
    for window in (whole(shrunk), Window(*corner, min(30, shrunk[0] - corner[0]), min(40, shrunk[1] - corner[1]))):
        part = before_shrinking(window, (203, 305), shrunk)
        got = shrink_image(image[part.slices], window, (203, 305), shrunk)
        assert got.dtype == dtype and got.shape == (window.height, window.width, 5)
        # float32 sums in another order; of uint8 a value at one half may be rounded the other way
        assert np.abs(got.astype(float) - small[window.slices]).max() <= (1 if dtype is np.uint8 else 1e-4 * 255)
        chosen = shrink_mask(mask[part.slices], window, (203, 305), shrunk)
        # where a centre lies between two pixels OpenCV takes either; odd sizes have few such
        assert (chosen != small_mask[window.slices]).mean() <= 0.02


def test_shrinking_by_hand() -> None:
    """Six pixels to four: the second covers 1.5 to 3, that is half of pixel 1 and all of pixel 2."""
    row = np.array([[0, 30, 60, 90, 120, 150]], np.float32)[..., None]
    window = Window(0, 1, 1, 1)
    assert before_shrinking(window, (1, 6), (1, 4)) == (0, 1, 1, 2)
    got = shrink_image(row[:, 1:3], window, (1, 6), (1, 4))
    np.testing.assert_allclose(got.ravel(), [(0.5 * 30 + 60) / 1.5])
    assert shrink_mask(row[:, 1:3, 0], window, (1, 6), (1, 4)).tolist() == [[60]]  # its centre, 2.25, is in pixel 2


def test_what_a_warp_samples() -> None:
    matrix = np.array([[1.0, 0, 10.5], [0, 1.0, 4.0]])  # x + 10.5, y + 4
    assert warp_window((100, 100), (8, 6), matrix, None) == (3, 9, 10, 9)  # rows 4 to 11, columns 10.5 to 15.5, and 1
    away = np.array([[1.0, 0, 500], [0, 1.0, -90]])
    window = warp_window((100, 80), (8, 6), away, None)
    assert (window.top, window.left) == (0, 79) and min(window[2:]) >= 1
    bend = np.zeros((8, 6, 2), np.float32)
    bend[3, 3] = (5, -2)
    assert warp_window((100, 100), (8, 6), matrix, bend) == (1, 9, 12, 14)
