import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from seg.data.files.images import write_png
from seg.data.views.preprocessing import Preprocessing, ValueRange
from seg.errors import DataError
from seg.labels import LabelSet
from seg.runs.model_file import MEMBER, describe, read_description, save_model
from seg.training.segmenter import Segmenter, load_segmenter

LABELS = LabelSet(("water", "boat"), ((0, 90, 200), (250, 120, 160)), 254)
PLAIN = Preprocessing(bands=3, resize=(8, 6), max_value=None, mean=(0.1, 1 / 3, 0.5), std=(0.2, 0.25, 0.3))
RASTER = Preprocessing(
    bands=2,
    resize=None,
    max_value=None,
    mean=(0.5, 0.5),
    std=(0.25, 0.25),
    selection=(4, 1),
    nodata=-9999.0,
    value_range=ValueRange((0.0, 7.0), (3000.5, 9.0), clip=True),
)


def segmenter():
    images = keras.Input((None, None, 3))
    return Segmenter(images, keras.layers.Conv2D(2, 1)(images))


@pytest.mark.parametrize("preprocessing", [PLAIN, RASTER])
def test_what_was_described_is_read(tmp_path, preprocessing):
    path = tmp_path / "best.keras"
    save_model(segmenter(), path, describe(LABELS, preprocessing))
    assert read_description(path) == (LABELS, preprocessing)
    assert [file.name for file in tmp_path.iterdir()] == ["best.keras"]


def test_the_file_alone_predicts(tmp_path):
    model = segmenter()
    save_model(model, tmp_path / "best.keras", describe(LABELS, PLAIN))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    write_png(tmp_path / "tile.png", pixels)

    loaded = load_segmenter(tmp_path / "best.keras")
    labels, preprocessing = read_description(tmp_path / "best.keras")
    image = preprocessing.prepare(preprocessing.read(Path(tmp_path / "tile.png")))
    mask = labels.predicted(loaded.predict(image[None], verbose=0)[0])
    seen = (PLAIN.read(tmp_path / "tile.png") / 255 - PLAIN.mean) / PLAIN.std
    logits = model.predict(seen[None].astype(np.float32), verbose=0)[0]
    np.testing.assert_array_equal(mask, logits.argmax(-1))
    assert mask.shape == (8, 6)


def broken(content):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(MEMBER, content)

    return write


@pytest.mark.parametrize(
    "write",
    [
        lambda path: None,
        lambda path: path.write_bytes(b"no archive"),
        lambda path: save_model(segmenter(), path),  # a plain Keras file
        broken("{"),
        broken("[]"),
        broken("{}"),
        broken(json.dumps({"labels": {"names": ["a"]}, "preprocessing": {}})),
        broken(describe(LABELS, PLAIN).replace('"boat"', '"water"')),
        broken(describe(LABELS, PLAIN).replace('"bands": 3', '"bands": 4')),
    ],
)
def test_a_file_without_a_description_is_named(tmp_path, write):
    path = tmp_path / "x.keras"
    write(path)
    told = r"x\.keras: (has no readable seg\.json|cannot be read as a model) \(.+\); allowed: a checkpoint that seg"
    with pytest.raises(DataError, match=told):
        read_description(path)
