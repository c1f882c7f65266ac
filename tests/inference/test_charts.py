import cv2
import numpy as np
import pytest

from seg.inference.charts import confusion_matrix_png, reliability_png


def decode(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("num_classes", [2, 11, 40, 150])
def test_the_confusion_matrix_is_a_picture_of_sensible_size(num_classes):
    matrix = np.random.default_rng(0).integers(0, 50, (num_classes, num_classes)) + 300 * np.eye(num_classes, dtype=int)
    matrix[1] = 0  # a class without labelled pixels
    pixels = decode(confusion_matrix_png(matrix, [f"class number {index}" for index in range(num_classes)]))
    height, width = pixels.shape[:2]
    assert 300 <= height <= 3000
    assert 300 <= width <= 3000
    assert pixels.std() > 5  # something is drawn


def test_names_of_any_letters_are_drawn_as_they_are():
    # matplotlib would read the dollar signs as mathematics, and fail on the first.
    png = confusion_matrix_png(np.diag([3, 4, 0]), ["a$_{$b", "Straße", "x" * 40])
    assert decode(png) is not None


def rule(name, accuracy, pixels):
    confidence = [(index + 0.5) / len(pixels) if number else None for index, number in enumerate(pixels)]
    return {
        "rule": name,
        "expected_calibration_error": 0.1 if sum(pixels) else None,
        "reliability": {"pixels": pixels, "confidence": confidence, "accuracy": accuracy},
    }


def test_the_reliability_diagram_has_a_panel_a_rule():
    right, empty = rule("as trained", [None, 0.3, 0.8], [0, 10, 90]), rule("nothing", [None] * 3, [0, 0, 0])
    one, two = decode(reliability_png([right])), decode(reliability_png([right, empty]))
    assert one.shape[0] == two.shape[0] and one.shape[1] < two.shape[1] < 2500
    assert reliability_png([right]) == reliability_png([right])  # no date in it
