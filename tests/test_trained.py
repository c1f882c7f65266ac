"""`seg.load` in Python: the same answers as the command, of files and of arrays."""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.special import expit, softmax

import seg
from seg import predict
from seg.data.views.preprocessing import ValueRange
from seg.errors import DataError
from seg.labels import LabelSet
from seg.trained import Prediction, TrainedModel


class Linear:
    """A network whose logits are 0 and its bands."""

    def predict_on_batch(self, images):
        return np.concatenate([np.zeros_like(images[..., :1]), images], axis=-1)


@pytest.fixture(scope="module")
def model(trained_run):
    return seg.load(trained_run)


def small_model(**changes):
    labels = LabelSet.from_names(["ground", "one", "two"])
    plain = seg.data.views.preprocessing.Preprocessing(2, None, None, (0.5, 0.5), (0.25, 0.25))
    return TrainedModel(Linear(), labels, replace(plain, **changes))


def test_the_same_masks_as_the_command_of_files_and_of_arrays(trained_run, model, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "odd.png"), pixels[..., ::-1])

    def by_command(out, *options):
        assert predict.main([str(trained_run), str(tmp_path / "odd.png"), "--out", str(tmp_path / out), *options]) == 0
        return cv2.imread(str(tmp_path / out / "masks/odd.png"), cv2.IMREAD_UNCHANGED)

    tiled = by_command("tiled", "--tile", "32", "--overlap", "16")
    np.testing.assert_array_equal(model.predict(pixels, tile=32, overlap=16).classes, tiled)
    written = by_command("whole")
    for image in (tmp_path / "odd.png", str(tmp_path / "odd.png"), pixels):
        found = model.predict(image)
        np.testing.assert_array_equal(found.classes, written)
    np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1, rtol=1e-5)  # float32
    assert (found.probabilities.argmax(axis=-1) == found.classes).all()
    name = found.labels.names[1]
    np.testing.assert_array_equal(found.probability(name), found.probabilities[..., 1])
    np.testing.assert_array_equal(found.colours()[5, 7], found.labels.colours[found.classes[5, 7]])
    assert (model.predict(pixels, tta="mirror").probabilities != found.probabilities).any()


def test_a_file_alone_is_enough(trained_run, model):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    alone = seg.load(trained_run / "checkpoints/last.keras")
    last = seg.load(trained_run, "last")
    np.testing.assert_array_equal(alone.predict(pixels).probabilities, last.predict(pixels).probabilities)
    assert alone.labels == model.labels


def test_by_hand():
    # uint8 (51, 204) is (.2, .8), normalised (-1.2, 1.2): logits 0, -1.2, 1.2.
    image = np.array([[[51, 204]]], np.uint8)
    found = small_model().predict(image)
    np.testing.assert_allclose(found.probabilities[0, 0], softmax([0, -1.2, 1.2]), rtol=1e-5)  # float32
    assert found.classes.tolist() == [[2]] and found.classes.dtype == np.uint8


def test_bands_are_selected_and_missing_values_are_void():
    low_high = ValueRange((0.0, 0.0), (1.0, 1.0), clip=False)
    chosen = small_model(selection=(3, 1), value_range=low_high, nodata=-9.0)
    image = np.array([[[0.9, 7, 0.1], [np.nan, 7, -9], [0.9, 7, -9]]], np.float32)
    found = chosen.predict(image)
    # Pixel 0 is (.1, .9): logits -1.6, 1.6. Pixel 1 has neither band. Pixel 2 lacks the first, which becomes the mean.
    assert found.classes.tolist() == [[2, 255, 2]]
    np.testing.assert_allclose(found.probabilities[0, 2], softmax([0, 0, 1.6]), rtol=1e-5)  # float32
    assert found.colours()[0, 1].tolist() == [0, 0, 0]


def test_a_resize_is_undone():
    image = np.full((6, 10, 2), 255, np.uint8)
    found = small_model(resize=(3, 5)).predict(image)
    assert found.classes.shape == (6, 10) and found.probabilities.shape == (6, 10, 3)


def test_classes_that_overlap():
    labels = replace(LabelSet.from_names(["none", "one", "two"]), multi_label=True)
    found = replace(small_model(), labels=labels).predict(np.array([[[51, 204]]], np.uint8))
    assert found.classes.tolist() == [[[0, 0, 1]]]
    np.testing.assert_allclose(found.probabilities[0, 0], expit([0, -1.2, 1.2]), rtol=1e-5)  # float32
    with pytest.raises(ValueError, match="may overlap"):
        found.colours()


@pytest.mark.parametrize(
    ("image", "changes", "message"),
    [
        (
            np.zeros((4, 4), np.uint8),
            {},
            r"shape \(4, 4\) and dtype uint8; allowed: \(H, W, bands\) with 2 bands, of dtype",
        ),
        (np.zeros((4, 4, 3), np.uint8), {}, "with 2 bands"),
        (np.zeros((1, 4, 4, 2), np.uint8), {}, "with 2 bands"),
        (np.zeros((4, 4, 2), np.float64), {}, "dtype float64; allowed"),
        (np.zeros((0, 4, 2), np.uint8), {}, "with 2 bands"),
        (np.zeros((4, 4, 2), np.uint8), {"selection": (3, 1)}, "with the bands of a file, of which 3, 1 are taken"),
        (np.zeros((4, 4, 2), np.int16), {}, "holds int16 values, whose range nothing says"),
    ],
)
def test_arrays_of_another_form(image, changes, message):
    with pytest.raises(DataError, match=message):
        small_model(**changes).predict(image)


def test_messages(tmp_path):
    with pytest.raises(DataError, match="no run there"):
        seg.load(tmp_path)
    with pytest.raises(KeyError, match="class 'tree', allowed: ground, one, two"):
        Prediction(np.zeros((1, 1)), np.zeros((1, 1, 3)), small_model().labels).probability("tree")


def test_importing_starts_no_tensorflow():
    script = "import sys, seg; seg.load; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
