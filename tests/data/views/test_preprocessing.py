"""seg.data.views.preprocessing: value ranges, missing values, bands; what was there before is in test_dataset."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.data.files.reading import read_values
from seg.data.files.storage import VolumeSlice
from seg.data.views.preprocessing import Preprocessing, ValueRange
from seg.errors import DataError


def preprocessing(bands: int = 2, **settings: object) -> Preprocessing:
    return Preprocessing(bands, None, settings.pop("max_value", None), (0.5,) * bands, (0.25,) * bands, **settings)


def test_a_value_range_by_hand() -> None:
    """(-160 + 160) / 400 = 0, (40 + 160) / 400 = 0.5, 240 is 1; clipped beyond, or not."""
    values = np.array([[[-160], [40], [240], [1000], [-1000]]], np.int16)
    clipped = ValueRange((-160.0,), (240.0,), clip=True).unit(values)
    np.testing.assert_allclose(clipped.ravel(), [0, 0.5, 1, 1, 0])
    open_ = ValueRange((-160.0,), (240.0,), clip=False).unit(values)
    np.testing.assert_allclose(open_.ravel(), [0, 0.5, 1, 2.9, -2.1], rtol=1e-6)
    assert clipped.dtype == open_.dtype == np.float32


def test_a_range_a_band() -> None:
    unit = ValueRange((0.0, 100.0), (10.0, 300.0), clip=True).unit(np.array([[[5, 200], [10, 100]]], np.uint16))
    np.testing.assert_allclose(unit, [[[0.5, 0.5], [1, 0]]])
    with pytest.raises(ValueError, match=r"got low \(1\.0,\) and high \(1\.0,\), allowed: low < high in each band"):
        ValueRange((1.0,), (1.0,), clip=True)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_values_without_a_range_are_refused_and_with_max_value_read(dtype: type) -> None:
    values = np.array([[[-50, 0], [100, 400]]], dtype)
    with pytest.raises(
        DataError,
        match=rf"a\.tif: holds {np.dtype(dtype)} values, whose range nothing says; allowed: input\.normalize: counted, "
        r"input\.clip, or input\.max_value",
    ):
        preprocessing().unit(values, None, Path("a.tif"))
    unit, _ = preprocessing(max_value=200).unit(values, None, Path("a.tif"))
    np.testing.assert_allclose(unit, [[[0, 0], [0.5, 1]]])


def test_missing_values_become_the_mean_and_then_zero() -> None:
    values = np.array([[[10, 200], [30, 90]]], np.uint8)
    before = values.copy()
    missing = np.array([[[True, False], [False, True]]])
    unit, _ = preprocessing().unit(values, missing, Path("a.tif"))
    assert unit.tolist() == [[[128, 200], [30, 128]]] and unit.dtype == np.uint8
    np.testing.assert_array_equal(values, before)
    prepared = preprocessing().prepare(unit, missing)
    assert (prepared[missing] == 0).all() and (prepared[~missing] != 0).all()
    floats = np.array([[[np.nan, 2.0]]], np.float32)
    unit, _ = preprocessing(value_range=ValueRange((0.0,) * 2, (4.0,) * 2, clip=True)).unit(
        floats, ~np.isfinite(floats), Path("a.tif")
    )
    np.testing.assert_allclose(unit, [[[0.5, 0.5]]])


def test_what_is_shown() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 6)).astype(np.uint8)
    assert preprocessing(6).picture(image).shape == (4, 5, 3)
    assert preprocessing(2).picture(image[..., :2]).shape == (4, 5, 1)
    assert preprocessing(1).picture(image[..., :1]).shape == (4, 5, 1)


def test_what_is_read_plainly(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 5), np.uint8))
    assert preprocessing().reads_plainly(tmp_path / "a.png")
    assert not preprocessing().reads_plainly(VolumeSlice(tmp_path / "a.nii", 0, 0))
    for settings in ({"selection": (1, 2)}, {"nodata": 0.0}, {"value_range": ValueRange((0.0,), (1.0,), clip=True)}):
        assert not preprocessing(**settings).reads_plainly(tmp_path / "a.png")


def test_bands_and_nodata_of_pictures(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "rgb.png"), rgb[..., ::-1])
    cv2.imwrite(str(tmp_path / "gray.png"), rgb[..., 0])
    np.testing.assert_array_equal(read_values(tmp_path / "rgb.png", (3, 1))[0], rgb[..., [2, 0]])
    np.testing.assert_array_equal(read_values(tmp_path / "gray.png", (1,))[0], rgb[..., :1])
    values, missing = read_values(tmp_path / "rgb.png", 3, nodata=float(rgb[0, 0, 0]))
    np.testing.assert_array_equal(missing, values == rgb[0, 0, 0])
    with pytest.raises(DataError, match=r"rgb\.png: has no band 4 \(input\.bands\), allowed: 1 to 3"):
        read_values(tmp_path / "rgb.png", (4,))
    with pytest.raises(DataError, match=r"rgb\.png: has 1 or 3 bands where input\.bands is 4; allowed: 1 or 3, or a l"):
        read_values(tmp_path / "rgb.png", 4)
