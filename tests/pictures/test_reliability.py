import cv2
import numpy as np

from seg.pictures.reliability import reliability_png


def decode(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


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
