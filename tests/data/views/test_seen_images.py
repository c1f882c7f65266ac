"""seg.data.views.seen_images: type, bands and values of a training's images, and of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.data.views.seen_images import SeenImages, seen_images
from seg.errors import DataError

SEEN = SeenImages(("uint16",), (4,), (3000.0, 2000.0), (1000.0, 500.0))


def test_figures_by_hand(tmp_path: Path, write_raster: Callable) -> None:
    pixels = np.zeros((64, 64, 2), np.uint16)
    pixels[:, :32, 0], pixels[:, 32:, 0], pixels[..., 1] = 100, 300, 7
    pixels[:8] = 9999
    files = [write_raster(tmp_path / f"{k}.tif", pixels, nodata=9999) for k in range(3)]
    assert seen_images(files, 2) == SeenImages(("uint16",), (2,), (200.0, 7.0), (100.0, 0.0))
    gray, rgb = tmp_path / "gray.png", tmp_path / "rgb.png"
    cv2.imwrite(str(gray), np.full((8, 8), 9, np.uint8))
    cv2.imwrite(str(rgb), np.full((8, 8, 3), 9, np.uint8))
    assert seen_images([gray, rgb], 3) == SeenImages(("uint8",), (1, 3), (9.0,) * 3, (0.0,) * 3)


def test_another_type_and_another_number_of_bands(tmp_path: Path, write_raster: Callable) -> None:
    SEEN.check(write_raster(tmp_path / "a.tif", np.zeros((64, 64, 4), np.uint16)))
    floats = write_raster(tmp_path / "f.tif", np.zeros((64, 64, 4), np.float32))
    with pytest.raises(DataError, match=r"f\.tif: holds float32 values, but the model was trained on uint16"):
        SEEN.check(floats)
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"mask\.png: has 1 band\(s\), but the model was trained on images of 4"):
        SEEN.check(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ((3900.0, 2400.0), (600.0, 900.0), ""),  # another season
        ((3000.0, 4100.0), (1000.0, 500.0), "band 2 has mean 4100 and standard deviation 500, in training 2000"),
        ((100.0, 2000.0), (40.0, 500.0), "band 1 has mean 100 and standard deviation 40, in training 3000 and 1000"),
    ],
)
def test_values_far_from_the_trainings(mean: tuple, std: tuple, said: str) -> None:
    text = SEEN.unlike(SeenImages(("uint16",), (4,), mean, std))
    assert said in text and bool(text) == bool(said)
