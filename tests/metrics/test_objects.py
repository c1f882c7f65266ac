import numpy as np
import pytest
from scipy import ndimage

from seg.metrics.objects import object_counts, size_names


def test_by_hand():
    # Class 1 has three objects: A of 4 pixels (2 x 2), B of 2 pixels that touch at a corner only, C of 1 pixel.
    labels = np.array(
        [
            [1, 1, 0, 0, 1, 0],
            [1, 1, 0, 1, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 255, 1],
        ],
        np.uint8,
    )
    labels[3, 5] = 0
    predictions = np.zeros_like(labels)
    predictions[0, 0] = predictions[0, 1] = 1  # half of A: found
    predictions[0, 4] = 1  # half of B: found
    predictions[3, 2] = 1  # beside C: not found
    counts = object_counts(labels, predictions, [1], edges=(2, 4))
    # sizes: 1 pixel (C), 2 to 3 (B), 4 or more (A)
    assert counts.tolist() == [[[1, 0], [1, 1], [1, 1]]] and counts.dtype == np.int64
    assert object_counts(labels, predictions, [1], edges=(2, 4), found_share=0.6).tolist() == [[[1, 0], [1, 0], [1, 0]]]


def test_void_belongs_to_no_object_and_parts_objects():
    labels = np.array([[1, 255, 1]], np.uint8)
    assert object_counts(labels, np.ones_like(labels), [1], edges=(2,)).tolist() == [[[2, 2], [0, 0]]]


def test_absent_classes_have_no_objects():
    nothing = np.zeros((3, 3), np.uint8)
    assert object_counts(nothing, nothing + 1, [1, 2]).sum() == 0
    assert object_counts(nothing, nothing, []).shape == (0, 6, 2)


def test_scipy_agrees():
    generator = np.random.default_rng(0)
    labels = (generator.random((60, 70)) > 0.7).astype(np.uint8) + (generator.random((60, 70)) > 0.9).astype(np.uint8)
    predictions = np.where(generator.random((60, 70)) > 0.4, labels, 0).astype(np.uint8)
    edges = (2, 4, 8)
    expected = np.zeros((2, 4, 2), int)
    for row, index in enumerate((1, 2)):
        components, number = ndimage.label(labels == index, np.ones((3, 3)))
        for component in range(1, number + 1):
            inside = components == component
            size = sum(inside.sum() >= edge for edge in edges)
            expected[row, size] += [1, (predictions[inside] == index).mean() >= 0.5]
    assert object_counts(labels, predictions, [1, 2], edges=edges).tolist() == expected.tolist()
    assert (expected[..., 0] > 0).sum() >= 6 and (expected[..., 1] < expected[..., 0]).any()


def test_the_names_of_the_sizes():
    assert size_names((16, 64)) == ["1 to 15", "16 to 63", "64 or more"]
    assert len(size_names()) == object_counts(*(np.zeros((1, 1), np.uint8),) * 2, [0]).shape[1]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_an_object_at_the_threshold_is_found(share):
    labels, predictions = np.ones((1, 4), np.uint8), np.zeros((1, 4), np.uint8)
    predictions[0, : int(4 * share)] = 1
    assert object_counts(labels, predictions, [1], found_share=share)[0, 0].tolist() == [1, 1]
