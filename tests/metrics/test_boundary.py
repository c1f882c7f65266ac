import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from seg.metrics.boundary import boundary_counts, boundary_scores


def mask(text, void=255):
    return np.array([[void if letter == "v" else int(letter) for letter in row] for row in text.split()], np.uint8)


def test_by_hand():
    # A vertical border between columns 1 and 2 in the labels, 2 and 3 in the predictions, of 2 rows and 6 columns.
    labels, predictions = mask("001111 001111"), mask("000111 000111")
    # Boundary pixels: labels class 0 column 1, class 1 column 2; predictions class 0 column 2, class 1 column 3; two
    # rows each. All are one column from their partner.
    assert boundary_counts(labels, predictions, 2, tolerance=0).tolist() == [[0, 2, 0, 2]] * 2
    counts = boundary_counts(labels, predictions, 2, tolerance=1)
    assert counts.tolist() == [[2, 2, 2, 2]] * 2 and counts.dtype == np.int64
    assert boundary_scores(counts)["boundary_f1"].tolist() == [1.0, 1.0]


def test_f1_by_hand():
    # class 0: 3 of 4 predicted boundary pixels matched, 1 of 2 labelled: P = 3/4, R = 1/2, F1 = 2 (3/8) / (5/4) = 3/5
    # class 1: nothing on either side; class 2: labelled only; class 3: both, and nothing matched
    scores = boundary_scores(np.array([[3, 4, 1, 2], [0, 0, 0, 0], [0, 0, 0, 5], [0, 1, 0, 1]]))
    np.testing.assert_allclose(scores["boundary_f1"], [0.6, np.nan, 0, 0])
    np.testing.assert_array_equal(scores["boundary_precision"], [0.75, np.nan, np.nan, 0])
    np.testing.assert_array_equal(scores["boundary_recall"], [0.5, np.nan, 0, 0])


def test_the_tolerance_is_a_disc():
    # One pixel of class 1, predicted 2 rows and 1 column away: at distance sqrt(5), in a square of 2 but not in a disc.
    labels, predictions = np.zeros((7, 7), np.uint8), np.zeros((7, 7), np.uint8)
    labels[2, 3], predictions[4, 4] = 1, 1
    assert boundary_counts(labels, predictions, 2, tolerance=2)[1].tolist() == [0, 1, 0, 1]
    assert boundary_counts(labels, predictions, 2, tolerance=3)[1].tolist() == [1, 1, 1, 1]


def test_the_frame_and_void_are_no_boundary():
    assert boundary_counts(mask("000 000"), mask("000 000"), 2).tolist() == [[0] * 4] * 2
    labels = mask("0v1 0v1")
    assert boundary_counts(labels, mask("001 011"), 2, tolerance=1).sum() == 0  # every pixel is next to void


def test_boundaries_nearer_to_void_than_the_tolerance_are_not_counted():
    labels = mask("v000000110")  # void at column 0; boundaries at columns 6, 7, 8 and 9
    predictions = mask("0110000110")  # and at 0, 1, 2, 3
    assert boundary_counts(labels, predictions, 2, tolerance=1).tolist() == [[2, 3, 2, 2], [2, 3, 2, 2]]
    assert boundary_counts(labels, predictions, 2, tolerance=2).tolist() == [[2, 3, 2, 2], [2, 2, 2, 2]]
    assert boundary_counts(labels, predictions, 2, tolerance=3).tolist() == [[2, 2, 2, 2], [2, 2, 2, 2]]


def reference(labels, predictions, num_classes, tolerance):
    """One class after another, by scipy's distance transform."""

    def edge(pixels, known):
        out = np.zeros(pixels.shape, bool)
        for row, column in np.argwhere(pixels & known):
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= near[0] < pixels.shape[0] and 0 <= near[1] < pixels.shape[1]
                out[row, column] |= inside and bool(known[near]) and not pixels[near]
        return out

    def distance(pixels):
        return distance_transform_edt(~pixels) if pixels.any() else np.full(pixels.shape, np.inf)

    known = labels != 255
    judged = distance(~known) > max(tolerance, 1)
    rows = []
    for index in range(num_classes):
        theirs, ours = edge(labels == index, known), edge(predictions == index, np.ones_like(known))
        near_labelled, near_predicted = distance(theirs) <= tolerance, distance(ours) <= tolerance
        rows.append([
            (ours & judged & near_labelled).sum(), (ours & judged).sum(),
            (theirs & judged & near_predicted).sum(), (theirs & judged).sum(),
        ])  # fmt: skip
    return rows


@settings(max_examples=60)
@given(st.integers(0, 4), st.integers(1, 14), st.integers(1, 14), st.data())
def test_scipys_distance_transform_agrees(tolerance, height, width, data):
    labels = data.draw(arrays(np.uint8, (height, width), elements=st.sampled_from([0, 0, 0, 1, 1, 2, 255])))
    predictions = data.draw(arrays(np.uint8, (height, width), elements=st.integers(0, 2)))
    found = boundary_counts(labels, predictions, 3, tolerance=tolerance)
    assert found.tolist() == reference(labels, predictions, 3, tolerance)


def test_large_areas_with_little_void():
    generator = np.random.default_rng(0)
    labels = np.kron(generator.integers(0, 150, (8, 9)), np.ones((9, 7))).astype(np.uint8)
    predictions = np.roll(labels, (1, 2), (0, 1))
    labels[generator.random(labels.shape) < 0.004] = 255
    found = boundary_counts(labels, predictions, 150, tolerance=2)
    assert found.tolist() == reference(labels, predictions, 150, 2)
    assert found[:, 1].sum() > 500


@settings(max_examples=20)
@given(arrays(np.uint8, (9, 8), elements=st.sampled_from([0, 1, 2, 255])), st.permutations(range(3)))
def test_a_perfect_prediction_matches_all_and_classes_permute(labels, order):
    predictions = np.where(labels == 255, 0, labels).astype(np.uint8)
    counts = boundary_counts(labels, predictions, 3, tolerance=2)
    np.testing.assert_array_equal(counts[:, 2], counts[:, 3])  # every labelled boundary pixel is found
    table = np.arange(256, dtype=np.uint8)
    table[:3] = order
    permuted = boundary_counts(table[labels], table[predictions], 3, tolerance=2)
    np.testing.assert_array_equal(permuted[list(order)], counts)


@pytest.mark.parametrize(
    ("labels", "predictions", "tolerance", "message"),
    [
        (mask("01"), mask("01"), -1, "tolerance: got -1, allowed: 0 or more pixels"),
        (mask("01"), mask("011"), 2, r"got labels uint8 of shape \(1, 2\) and predictions uint8 of \(1, 3\), allowed"),
        (mask("01"), mask("01").astype(int), 2, "predictions int64 of .* allowed: uint8 of one shape"),
    ],
)
def test_messages(labels, predictions, tolerance, message):
    with pytest.raises(ValueError, match=message):
        boundary_counts(labels, predictions, 2, tolerance=tolerance)
