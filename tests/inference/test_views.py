import itertools

import numpy as np
import pytest
from scipy.special import softmax

from seg.inference.views import VIEWS, apply, predict_views, undo


def pictures(height=5, width=7, bands=3):
    return np.random.default_rng(0).normal(size=(2, height, width, bands)).astype(np.float32)


@pytest.mark.parametrize("view", VIEWS["d4"])
@pytest.mark.parametrize("size", [(5, 7), (4, 4), (1, 6)])
def test_views_are_undone_exactly(view, size):
    images = pictures(*size)
    seen = apply(images, view)
    assert seen.shape[1:3] == (size if view[0] % 2 == 0 else size[::-1])
    assert seen.flags.c_contiguous
    np.testing.assert_array_equal(undo(seen, view), images)


def test_the_views_are_those_of_their_names():
    image = np.array([[1, 2], [3, 4]], np.float32)[None, :, :, None]
    seen = {tta: [apply(image, view)[0, :, :, 0].tolist() for view in views] for tta, views in VIEWS.items()}
    same, mirror, down, around = [[1, 2], [3, 4]], [[2, 1], [4, 3]], [[3, 4], [1, 2]], [[4, 3], [2, 1]]
    assert seen["none"] == [same] and seen["mirror"] == [same, mirror]
    assert sorted(seen["flips"]) == sorted([same, mirror, down, around])
    assert len(seen["d4"]) == 8
    assert all(first != second for first, second in itertools.combinations(seen["d4"], 2))


@pytest.mark.parametrize("tta", VIEWS)
def test_an_equivariant_model_gives_the_same_probabilities(tta):
    images = pictures()
    found = predict_views(lambda batch: batch * 2 - 1, images, tta)
    assert found.dtype == np.float32 and found.shape == images.shape
    # float32: the mean of eight equal probabilities and its logarithm round a few times
    np.testing.assert_allclose(softmax(found, axis=-1), softmax(images * 2 - 1, axis=-1), rtol=1e-5)


def position(batch):
    """A model that looks at where a pixel lies: logits (row, column, 0)."""
    rows, columns = np.indices(batch.shape[1:3])
    logits = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.float32)
    return np.broadcast_to(logits, (len(batch), *logits.shape))


def test_probabilities_are_averaged_and_not_logits():
    images = pictures(2, 3)
    rows, columns = np.indices((2, 3)).astype(float)
    expected = np.mean(
        [
            softmax(np.stack([row, column, 0 * row], axis=-1), axis=-1)
            for row in (rows, 1 - rows)
            for column in (columns, 2 - columns)
        ],
        axis=0,
    )
    found = np.exp(predict_views(position, images, "flips"))
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)


def test_d4_of_a_picture_that_is_not_square():
    images = pictures(2, 3)
    rows, columns = np.indices((2, 3)).astype(float)
    # A quarter turn makes rows of columns: (row, column) of a view is one of these four and their exchange.
    places = [(row, column) for row in (rows, 1 - rows) for column in (columns, 2 - columns)]
    places += [(column, row) for row, column in places]
    expected = np.mean([softmax(np.stack([r, c, 0 * r], axis=-1), axis=-1) for r, c in places], axis=0)
    np.testing.assert_allclose(np.exp(predict_views(position, images, "d4"))[0], expected, rtol=1e-5)


def test_no_view_but_the_image_leaves_the_logits():
    images = pictures()
    assert predict_views(lambda batch: batch, images, "none") is images


def test_certain_predictions_stay_finite():
    images = pictures(2, 2) * 1e4
    assert np.isfinite(predict_views(lambda batch: batch, images, "flips")).all()


def test_another_word():
    with pytest.raises(ValueError, match="tta: got 'flip', allowed: none, mirror, flips, d4"):
        predict_views(lambda batch: batch, pictures(), "flip")
