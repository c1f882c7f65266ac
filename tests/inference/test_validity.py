"""Validity masks of images to predict: what they name, and that predictions are void outside."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.files.reading import read_values
from seg.data.files.windows import Window
from seg.data.views.preprocessing import Preprocessing
from seg.errors import ConfigError, DataError
from seg.inference.files import FilePredictor
from seg.inference.validity import Validity
from seg.labels import LabelSet

VALID = np.arange(6 * 8).reshape(6, 8) % 3 > 0
LABELS = LabelSet.from_names(["ground", "road"])


class Model:
    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        return np.concatenate([images[..., :1], -images[..., :1]], axis=-1)


def image(root: Path) -> Path:
    Image.fromarray(np.full((6, 8, 3), 200, np.uint8)).save(root / "a.png")
    Image.fromarray(VALID.astype(np.uint8)).save(root / "a_fov.png")
    return root / "a.png"


def test_a_prediction_is_void_outside(tmp_path: Path) -> None:
    path = image(tmp_path)
    validity = Validity.of_pattern(f"{tmp_path}/{{stem}}_fov.png", [path])
    preprocessing = Preprocessing(3, None, None, (0.5,) * 3, (0.25,) * 3)
    FilePredictor(Model(), preprocessing, LABELS, tmp_path / "out", 64, 8, valid=validity).predict(path)
    found = read_values(tmp_path / "out/masks/a.png", 1)[0][..., 0]
    assert (found == np.where(VALID, 0, 255)).all()


def test_windows_and_values(tmp_path: Path) -> None:
    validity = Validity.of_pattern(f"{tmp_path}/{{stem}}_fov.png", [image(tmp_path)], (0,))
    assert (validity(tmp_path / "a.png", Window(2, 1, 3, 4)) == ~VALID[2:5, 1:5]).all()


def test_messages(tmp_path: Path) -> None:
    path = image(tmp_path)
    with pytest.raises(ConfigError, match=r"--valid: got 'fov.png', allowed: a path with \{stem\}"):
        Validity.of_pattern("fov.png", [path])
    with pytest.raises(DataError, match=r"--valid: 1 of 1 validity masks do not exist: gone/a.png; allowed: one for"):
        Validity.of_pattern("gone/{stem}.png", [path])
    Image.fromarray(VALID[:3].astype(np.uint8)).save(tmp_path / "a_fov.png")
    with pytest.raises(DataError, match=r"a_fov.png: is 3 x 8 \(height x width\), but .*a.png, whose .* is 6 x 8"):
        Validity.of_pattern(f"{tmp_path}/{{stem}}_fov.png", [path])(path, None)
