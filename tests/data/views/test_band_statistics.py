"""NumPy's figures over the valid pixels, whatever the type and the order of counting."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg.data.views.band_statistics import (
    BandCounter,
    BandStatistics,
    bucket_values,
    float_buckets,
    merged,
)
from seg.data.views.clip import Clip
from seg.data.views.preprocessing import ValueRange
from seg.errors import DataError

DTYPES = ("uint8", "uint16", "int16", "float32")
BUCKET = 2**-12  # half a bucket's width, relative to its value


def drawn(dtype: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    low = -80 if dtype in ("int16", "float32") else 0
    return rng.normal(100, 60, (40, 50, 3)).clip(low, 250).astype(dtype), rng.random((40, 50, 3)) < 0.8


def count(dtype: str, clip: Clip | None = None) -> BandStatistics:
    """In four blocks of two files."""
    counter = BandCounter(3, clip)
    for index in range(2):
        values, valid = drawn(dtype, index)
        counter.add(index, f"{index}.tif", values[:13], valid[:13])
        counter.add(index, f"{index}.tif", values[13:], valid[13:])
    return counter.statistics("f")


def columns(dtype: str) -> list[np.ndarray]:
    """The valid values of each band of both files."""
    parts = [drawn(dtype, index) for index in range(2)]
    return [np.concatenate([values[..., b][valid[..., b]] for values, valid in parts]).astype(float) for b in range(3)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_and_deviation_are_numpys(dtype: str) -> None:
    statistics, expected = count(dtype), columns(dtype)
    np.testing.assert_allclose(statistics.mean, [band.mean() for band in expected], rtol=1e-12)
    np.testing.assert_allclose(statistics.std, [band.std() for band in expected], rtol=1e-12)
    assert statistics.pixels == tuple(len(band) for band in expected)
    assert statistics.minimum == tuple(band.min() for band in expected)
    assert statistics.maximum == tuple(band.max() for band in expected)
    assert (statistics.low, statistics.high, statistics.dtype) == (None, None, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_percentiles_are_numpys(dtype: str) -> None:
    statistics, expected = count(dtype, Clip(percentiles=(2, 98))), columns(dtype)
    ends = np.array([np.percentile(band, [2, 98], method="inverted_cdf") for band in expected]).T
    tolerance = BUCKET if dtype == "float32" else 0
    np.testing.assert_allclose([statistics.low, statistics.high], ends, rtol=tolerance)
    clipped = [np.clip(band, *pair) for band, pair in zip(expected, ends.T, strict=True)]
    exact = 1e-12 if dtype != "float32" else BUCKET
    np.testing.assert_allclose(statistics.mean, [band.mean() for band in clipped], rtol=exact)
    np.testing.assert_allclose(statistics.std, [band.std() for band in clipped], rtol=4 * exact)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fixed_ends(dtype: str) -> None:
    statistics = count(dtype, Clip(values=(60, 130)))
    clipped = [np.clip(band, 60, 130) for band in columns(dtype)]
    assert statistics.low == (60,) * 3 and statistics.high == (130,) * 3
    np.testing.assert_allclose(statistics.mean, [band.mean() for band in clipped], rtol=1e-12)
    np.testing.assert_allclose(statistics.std, [band.std() for band in clipped], rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_their_order_change_no_bit(dtype: str) -> None:
    def run(order: list[int], workers: int) -> BandStatistics:
        counter = BandCounter(3, Clip(percentiles=(1, 99)) if dtype != "float32" else None)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda k: counter.add(k, k, *drawn(dtype, k)), order))
        return counter.statistics("f")

    assert run(list(range(12)), 1) == run(list(range(12))[::-1], 4)


def test_the_extremes_of_each_type() -> None:
    for dtype in ("uint8", "uint16", "int16"):
        limits = np.iinfo(dtype)
        values = np.array([[[limits.min], [limits.max]]], dtype)
        counter = BandCounter(1, Clip(percentiles=(0, 100)))
        counter.add(0, "a", values, np.ones(values.shape, bool))
        statistics = counter.statistics("f")
        assert (statistics.low, statistics.high) == ((float(limits.min),), (float(limits.max),))
        assert statistics.mean == ((int(limits.min) + int(limits.max)) / 2,)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=50))
def test_buckets_keep_the_order_and_nearly_the_value(numbers: list[float]) -> None:
    values = np.sort(np.array(numbers, np.float32))
    buckets = float_buckets(values)
    assert (np.diff(buckets[values != 0]) >= 0).all()
    middle = bucket_values(buckets)
    normal = np.abs(values) > 1e-37
    assert (np.abs(middle - values)[normal] <= BUCKET * np.abs(values.astype(float))[normal]).all()


def test_merging_by_hand() -> None:
    """{1, 3} has mean 2 and squares 2; {6} has 6 and 0; together 10/3 and 1 + 1/9 ... = 114/9."""
    both = merged(np.array([[2, 2.0, 2.0]]), np.array([[1, 6.0, 0.0]]))
    np.testing.assert_allclose(both, [[3, 10 / 3, ((1 - 10 / 3) ** 2 + (3 - 10 / 3) ** 2 + (6 - 10 / 3) ** 2)]])
    np.testing.assert_array_equal(merged(np.zeros((1, 3)), np.zeros((1, 3))), np.zeros((1, 3)))


# --- what is made of them ---
def test_scaling_by_hand() -> None:
    base = count("uint16")
    span, mean, std = base.scaling()
    assert isinstance(span, ValueRange) and not span.clip
    np.testing.assert_allclose(span.low, np.array(base.mean) - 2 * np.array(base.std))
    np.testing.assert_allclose(mean, 0.5) and np.testing.assert_allclose(std, 0.25)
    eight = count("uint8")
    span, mean, std = eight.scaling()
    assert span is None
    np.testing.assert_allclose([mean, std], np.array([eight.mean, eight.std]) / 255)
    fixed = count("int16", Clip(values=(60, 130)))
    span, mean, std = fixed.scaling()
    assert span == ValueRange((60,) * 3, (130,) * 3, clip=True)
    np.testing.assert_allclose(mean, (np.array(fixed.mean) - 60) / 70)
    np.testing.assert_allclose(std, np.array(fixed.std) / 70)


# --- the file ---
@pytest.mark.parametrize("clip", [None, Clip(values=(60, 130)), Clip(percentiles=(2, 98))])
def test_a_file_is_read_back_equal(tmp_path: Path, clip: Clip | None) -> None:
    statistics = replace(count("float32", clip), bands=(4, 2, 1))
    statistics.save(tmp_path / "bands.json")
    assert BandStatistics.load(tmp_path / "bands.json") == statistics


def test_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "bands.json"
    with pytest.raises(DataError, match=r"bands\.json: cannot read the band statistics: No such file"):
        BandStatistics.load(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"bands\.json: cannot read the band statistics: broken JSON"):
        BandStatistics.load(path)
    path.write_text('{"format": "seg class counts", "version": 1}')
    with pytest.raises(DataError, match=r'bands\.json: not a band statistics file, allowed: "format": "seg band stat'):
        BandStatistics.load(path)
    count("uint8").save(path)
    content = json.loads(path.read_text())
    for key, value in (("mean", None), ("clip", {"cut": 1}), ("std", [0, 1, 1]), ("extra", 1)):
        path.write_text(json.dumps(content | {key: value}))
        with pytest.raises(DataError, match=r"bands\.json: not a valid band statistics file \("):
            BandStatistics.load(path)


def test_other_data_than_counted() -> None:
    statistics = count("uint8")
    statistics.check_matches(3, None, "f")
    with pytest.raises(DataError, match=r"do not match the data: bands: got 3, expected \(1, 2, 3\)"):
        statistics.check_matches((1, 2, 3), None, "f")
    with pytest.raises(
        DataError, match=r"clip: got None, expected Clip\(values=\(0.0, 1.0\), percentiles=None\); files"
    ):
        statistics.check_matches(3, Clip(values=(0, 1)), "g")


# --- refusals ---
def test_images_of_two_types() -> None:
    counter = BandCounter(3)
    counter.add(0, "a.tif", *drawn("uint8"))
    with pytest.raises(DataError, match=r"b\.tif holds uint16 values but a\.tif holds uint8; allowed with"):
        counter.add(1, "b.tif", *drawn("uint16"))


def test_a_band_that_tells_nothing() -> None:
    values, valid = drawn("uint16")
    values[..., 1] = 7
    counter = BandCounter((5, 6, 9))
    counter.add(0, "a", values, valid)
    with pytest.raises(DataError, match=r"band 6 has the one value 7 in all labelled training pixels, after clipping"):
        counter.statistics("f")
    counter = BandCounter(3, Clip(percentiles=(40, 60)))
    counter.add(0, "a", values, valid)
    with pytest.raises(
        DataError, match=r"input\.clip\.percentiles: both are 7 in band 2; allowed: percentiles farther"
    ):
        counter.statistics("f")
    for dtype in DTYPES:
        for clip in (None, Clip(percentiles=(1, 99))):
            counter = BandCounter(3, clip)
            counter.add(0, "a", drawn(dtype)[0], np.zeros((40, 50, 3), bool))
            with pytest.raises(DataError, match="no labelled training pixel has a value of band 1: all are missing or"):
                counter.statistics("f")
