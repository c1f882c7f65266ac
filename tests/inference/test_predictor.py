import numpy as np

from seg.inference import predictor as module
from seg.inference.predictor import Predictor
from seg.inference.sliding_window import predict_logits


class Toy:
    """Stands in for a Keras model: logits that depend on where in the picture a pixel lies."""

    def __init__(self):
        self.shapes = []

    def predict_on_batch(self, images):
        self.shapes.append(images.shape)
        rows, columns = np.indices(images.shape[1:3])
        return np.stack([images[..., 0] + rows, images[..., 0] * columns], axis=-1).astype(np.float16)


def batch(number=3, height=6, width=9):
    return np.random.default_rng(0).normal(size=(number, height, width, 1)).astype(np.float32)


def test_a_batch_is_one_forward_pass_in_float32():
    model, images = Toy(), batch()
    found = Predictor(model, 2)(images)
    assert model.shapes == [images.shape] and found.dtype == np.float32
    np.testing.assert_array_equal(found, model.predict_on_batch(images).astype(np.float32))


def test_images_larger_than_a_tile_are_blended_from_tiles():
    model, images = Toy(), batch()
    found = Predictor(model, 2, tile=8, overlap=4)(images)
    assert all(max(shape[1:3]) <= 8 for shape in model.shapes)
    for image, logits in zip(images, found, strict=True):
        np.testing.assert_array_equal(logits, predict_logits(Toy(), image, tile=8, overlap=4))


def test_views_are_tiled_too():
    model = Toy()
    Predictor(model, 2, tile=8, overlap=4, tta="d4")(batch(1))
    assert {shape[1:3] for shape in model.shapes} == {(6, 8), (8, 6)}


def test_images_come_one_by_one_with_their_labels(monkeypatch):
    model, images = Toy(), batch(5)
    labels = np.arange(5, dtype=np.uint8)[:, None, None] + np.zeros((5, 6, 9), np.uint8)
    monkeypatch.setattr(module, "MAX_NUMBERS", 6 * 9 * 2 * 2)  # two images at a time
    pairs = list(Predictor(model, 2).over([(images[:4], labels[:4]), (images[4:], labels[4:])]))
    assert [shape[0] for shape in model.shapes] == [2, 2, 1]
    assert [int(mask[0, 0]) for _, mask in pairs] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(pairs[3][0], Toy().predict_on_batch(images[3:4])[0].astype(np.float32))
