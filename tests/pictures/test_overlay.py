import numpy as np
import pytest

from seg.labels import LabelSet
from seg.pictures.overlay import LEGEND_ROW, colourise, displayable, legend, overlay

RED, BLUE = (255, 0, 0), (0, 0, 255)
LABELS = LabelSet(("a", "b"), (RED, BLUE))
MASK = np.array([[0, 1], [255, 0]], np.uint8)  # a b / void a
IMAGE = np.full((2, 2, 3), 100, np.uint8)


def test_colourise_by_hand():
    assert colourise(MASK, LABELS).tolist() == [[[255, 0, 0], [0, 0, 255]], [[0, 0, 0], [255, 0, 0]]]


def test_overlay_by_hand():
    # A quarter of the colour: red 75 + 63.75 = 138.75 -> 139, other channels 75; void keeps the image.
    red, blue, image = [139, 75, 75], [75, 75, 139], [100, 100, 100]
    assert overlay(IMAGE, MASK, LABELS, opacity=0.25).tolist() == [[red, blue], [image, red]]


def test_opacity_0_is_the_image_and_1_the_classes():
    np.testing.assert_array_equal(overlay(IMAGE, MASK, LABELS, opacity=0), IMAGE)
    np.testing.assert_array_equal(overlay(IMAGE, MASK, LABELS, opacity=1)[0], colourise(MASK, LABELS)[0])


def test_gray_and_float_images_become_rgb_bytes():
    gray = np.array([[0.0, 1.0], [0.5, 2.0]], np.float32)[..., None]
    # 0.5 * 255 = 127.5 rounds to the even 128; 2 is clipped.
    assert displayable(gray)[..., 2].tolist() == [[0, 255], [128, 255]]
    assert displayable(IMAGE[..., :1]).tolist() == IMAGE.tolist()


def test_displayable_is_a_copy():
    displayable(IMAGE)[:] = 0
    assert IMAGE[0, 0, 0] == 100


def test_a_legend_breaks_into_rows_and_shows_each_colour():
    wide, narrow = legend(LABELS, 400), legend(LABELS, 40)
    assert wide.shape == (LEGEND_ROW, 400, 3)
    assert narrow.shape == (2 * LEGEND_ROW, 40, 3)
    for strip in (wide, narrow):
        assert all((strip == colour).all(-1).any() for colour in (RED, BLUE))


def test_messages():
    with pytest.raises(ValueError, match=r"opacity is 1.5, allowed: 0 to 1"):
        overlay(IMAGE, MASK, LABELS, opacity=1.5)
    with pytest.raises(ValueError, match=r"image has shape \(2, 2, 3\) and mask \(1, 2\); height and width must agree"):
        overlay(IMAGE, MASK[:1], LABELS)
    with pytest.raises(ValueError, match=r"image has shape \(2, 2\), allowed: \(H, W, 1\) or \(H, W, 3\)"):
        displayable(IMAGE[..., 0])
    with pytest.raises(ValueError, match="image is uint16, allowed: uint8 or float in"):
        displayable(IMAGE.astype(np.uint16))
