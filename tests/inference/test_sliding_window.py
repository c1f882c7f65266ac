import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.inference.sliding_window import axis_tiles, predict_logits


class Toy:
    """Stands in for a Keras model: `function` of an image, and how many forward passes there were."""

    def __init__(self, function):
        self.function, self.shapes = function, []

    def predict_on_batch(self, images):
        self.shapes.append(images.shape)
        return np.stack([self.function(image) for image in images])


def pointwise(image):
    return np.concatenate([image, image.sum(-1, keepdims=True) - 1], axis=-1)  # (H, W, 3) -> (H, W, 4)


def position(image):
    """Depends on where in the tile a pixel lies, as a model with padding does."""
    rows, columns = np.indices(image.shape[:2])
    return np.stack([image[..., 0] + rows, image[..., 0] * columns], axis=-1).astype(np.float32)


def picture(height, width):
    return np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [(37, 53), (16, 17), (17, 16), (1, 33), (64, 16)])
@pytest.mark.parametrize("overlap", [0, 1, 7, 15])
def test_a_pointwise_model_gives_what_it_gives_on_the_whole(size, overlap):
    image, model = picture(*size), Toy(pointwise)
    logits = predict_logits(model, image, tile=16, overlap=overlap)
    # Only the weights' float32 rounding: they sum to 1 within a few units in the last place.
    np.testing.assert_allclose(logits, pointwise(image), rtol=0, atol=1e-5)
    assert logits.dtype == np.float32
    assert all(height <= 16 and width <= 16 for _, height, width, _ in model.shapes)


def test_tiles_are_blended_as_a_double_loop_blends_them():
    image, tile = picture(19, 30), 8
    numerator, denominator = np.zeros((19, 30, 2)), np.zeros((19, 30, 1))
    # Overlap 3. 19: 1 + ceil((19 - 8) / 5) = 4 tiles evenly over 0..11; 30: 1 + ceil(22 / 5) = 6 tiles over 0..22.
    for top in (0, 4, 7, 11):
        for left in (0, 4, 9, 13, 18, 22):
            logits = position(image[top : top + tile, left : left + tile])
            for row in range(tile):
                for column in range(tile):
                    # Gaussian around the tile's middle (3.5, 3.5) with sigma = 8 / 8 = 1
                    weight = np.exp(-0.5 * ((row - 3.5) ** 2 + (column - 3.5) ** 2))
                    numerator[top + row, left + column] += weight * logits[row, column]
                    denominator[top + row, left + column] += weight
    expected = numerator / denominator
    np.testing.assert_allclose(predict_logits(Toy(position), image, tile=8, overlap=3), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(1, 50), st.data())
def test_weights_sum_to_one_at_every_pixel_and_neighbours_overlap_enough(size, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    tiles = axis_tiles(size, tile, overlap)
    total = np.zeros(size)
    for start, weights in tiles:
        assert len(weights) == min(tile, size)
        assert weights.min() > 0
        total[start : start + len(weights)] += weights
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-5)  # float32 rounding of up to 50 weights a pixel
    starts = [start for start, _ in tiles]
    assert starts[0] == 0 and starts[-1] + min(tile, size) == size
    assert all(before + tile - after >= overlap for before, after in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize("size", [(16, 16), (5, 16), (3, 2)])
def test_an_image_that_fits_a_tile_is_one_pass(size):
    image, model = picture(*size), Toy(position)
    np.testing.assert_array_equal(predict_logits(model, image, tile=16, overlap=4), position(image))
    assert model.shapes == [(1, *size, 3)]


def test_only_the_long_side_is_cut():
    model = Toy(pointwise)
    predict_logits(model, picture(10, 32), tile=16, overlap=0)
    assert model.shapes == [(1, 10, 16, 3), (1, 10, 16, 3)]


def test_half_precision_logits_become_float32():
    model = Toy(lambda image: pointwise(image).astype(np.float16))
    assert predict_logits(model, picture(8, 8), tile=16, overlap=0).dtype == np.float32
    assert predict_logits(model, picture(8, 24), tile=16, overlap=0).dtype == np.float32


@pytest.mark.parametrize("overlap", [-1, 16, 20])
def test_the_overlap_is_less_than_the_tile(overlap):
    with pytest.raises(ValueError, match=f"got overlap {overlap} and tile 16, allowed: 0 <= overlap < tile"):
        predict_logits(Toy(pointwise), picture(8, 8), tile=16, overlap=overlap)
