import cv2
import numpy as np
import pytest

from seg.pictures.confusion import confusion_matrix_png, confusion_picture

DARK_BLUE, EMPTY_ROW = (8, 48, 107), (232, 232, 232)


def cells(picture, count):
    """The colours of a matrix's cells, each read in its upper left corner, where no number stands."""
    gray = (picture == 128).all(-1)  # the frame
    rows, columns = np.flatnonzero(gray.any(1)), np.flatnonzero(gray.sum(0) > 50)
    top, left, right = rows[0] + 1, columns[0] + 1, columns[-1]
    cell = (right - left) // count
    return [
        [tuple(picture[top + r * cell + 2, left + c * cell + 2].tolist()) for c in range(count)] for r in range(count)
    ]


def test_cells_by_hand():
    # Rows: all right; half and half; no labelled pixel. A half is half way from white to dark blue.
    shown = cells(confusion_picture(np.array([[7, 0, 0], [2, 2, 0], [0, 0, 0]]), ["a", "b", "c"]), 3)
    white, half = (255, 255, 255), (131, 151, 181)
    assert shown == [[DARK_BLUE, white, white], [half, half, white], [EMPTY_ROW] * 3]


def test_numbers_are_drawn_up_to_30_classes():
    def colours(count):
        picture = confusion_picture(np.eye(count, dtype=int), [str(index) for index in range(count)])
        return len(np.unique(picture.reshape(-1, 3), axis=0))

    # Light digits on dark blue have shades between the two; without digits there are the frame and gray text alone.
    assert colours(30) > colours(31) + 20


@pytest.mark.parametrize("num_classes", [2, 30, 31, 150])
def test_sizes_stay_readable(num_classes):
    height, width, _ = confusion_picture(
        np.ones((num_classes, num_classes), int), [f"class number {index}" for index in range(num_classes)]
    ).shape
    assert 300 <= height <= 3000
    assert 300 <= width <= 3000


def test_long_names_are_cut():
    matrix = np.eye(2, dtype=int)
    assert confusion_picture(matrix, ["x" * 200, "b"]).shape[1] < 600


def test_the_png_is_the_picture():
    matrix, names = np.array([[3, 1], [0, 5]]), ["Straße", "ЖΩ$x$"]
    decoded = cv2.imdecode(np.frombuffer(confusion_matrix_png(matrix, names), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[..., ::-1], confusion_picture(matrix, names))
