import numpy as np
import pytest

from seg.labels import LabelSet
from seg.pictures.overlay import LEGEND_ROW, STRIPE, colourise, overlay
from seg.pictures.panels import GAP, Tile, panel

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LABELS = LabelSet(("a", "b", "c"), (RED, GREEN, BLUE), multi_label=True)


def mask(*present: tuple[int, slice, slice], size: tuple[int, int] = (24, 24)) -> np.ndarray:
    planes = np.zeros((*size, 3), np.uint8)
    for plane, rows, columns in present:
        planes[rows, columns, plane] = 1
    return planes


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 3).tolist()))


ALL = slice(None)


def test_a_class_alone_has_its_colour_and_nothing_is_black():
    picture = colourise(mask((1, ALL, slice(0, 12))), LABELS)
    assert colours(picture[:, :12]) == {GREEN} and colours(picture[:, 12:]) == {(0, 0, 0)}


@pytest.mark.parametrize("classes", [(0, 1), (0, 1, 2)])
def test_classes_that_overlap_share_the_stripes_evenly(classes):
    picture = colourise(mask(*((k, ALL, ALL) for k in classes)), LABELS)
    rows = picture[:, : STRIPE * len(classes)]
    assert colours(rows) == {LABELS.colours[k] for k in classes}
    for k in classes:  # each row has a whole turn of stripes
        assert ((rows == LABELS.colours[k]).all(axis=-1).sum(axis=1) == STRIPE).all()


def test_a_small_class_in_a_large_one_keeps_its_border():
    picture = colourise(mask((2, ALL, ALL), (0, slice(8, 14), slice(8, 14))), LABELS)
    for line in (picture[8, 8:14], picture[13, 8:14], picture[8:14, 8], picture[8:14, 13]):
        assert colours(line) == {RED}
    assert colours(picture[9:13, 9:13]) == {RED, BLUE}
    assert colours(picture[:8]) == {BLUE}


def test_void_is_no_class():
    planes = mask((0, ALL, ALL))
    planes[:12] = 255
    assert colours(colourise(planes, LABELS)[:12]) == {(0, 0, 0)}
    image = np.full((24, 24, 3), 100, np.uint8)
    assert colours(overlay(image, planes, LABELS)[:12]) == {(100, 100, 100)}


def test_the_overlay_blends_where_any_class_is():
    image = np.full((24, 24, 3), 100, np.uint8)
    picture = overlay(image, mask((1, ALL, slice(0, 12))), LABELS, opacity=0.5)
    assert colours(picture[:, 12:]) == {(100, 100, 100)} and colours(picture[:, :12]) == {(50, 178, 50)}


def test_the_panel_and_one_class():
    one = LabelSet(("a",), (RED,), multi_label=True)
    planes = mask((0, ALL, slice(0, 6)))[..., :1]
    picture = panel(Tile(np.zeros((24, 24, 1), np.uint8), planes, 1 - planes, "x"), one)[2 * LEGEND_ROW :][:24]
    assert picture.shape == (24, 4 * 24 + 3 * GAP, 3)
    np.testing.assert_array_equal(picture[:, 28:52], colourise(planes, one))
    with pytest.raises(ValueError, match="height and width must agree"):
        overlay(np.zeros((24, 23, 3), np.uint8), planes, one)
