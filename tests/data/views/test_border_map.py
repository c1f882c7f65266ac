"""The U-Net border map: distances by hand and by brute force, objects, the memory of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.data.views import border_map as module
from seg.data.views.border_map import BorderWeights, border_map, objects


def brute_force(instances: np.ndarray, strength: float, sigma: float) -> np.ndarray:
    """The formula, pixel by pixel, over the distances to all pixels of all objects."""
    found = np.zeros(instances.shape)
    pixels = {index: np.argwhere(instances == index) for index in np.unique(instances[instances > 0])}
    for place in np.argwhere(instances == 0):
        distances = sorted(np.sqrt(((each - place) ** 2).sum(1)).min() for each in pixels.values())
        if len(distances) > 1:
            found[tuple(place)] = strength * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return found


def test_by_hand() -> None:
    # Object 1 in column 0, object 2 in column 3: column 1 has d1 = 1, d2 = 2, column 2 the same, column 4 (1, 4).
    instances = np.array([[1, 0, 0, 2, 0]])
    gap, outside = 10 * np.exp(-(3**2) / 50), 10 * np.exp(-(5**2) / 50)
    # float32
    np.testing.assert_allclose(border_map(instances), [[0, gap, gap, 0, outside]], rtol=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.sampled_from([0.4, 1.0, 3.0]))
def test_equals_the_brute_force(seed: int, count: int, sigma: float) -> None:
    generator = np.random.default_rng(seed)
    instances = np.zeros((24, 17), np.int64)
    for index in generator.choice(1000, count, replace=False) + 1:  # ids far apart, boxes that may overlap
        top, left, height, width = generator.integers((0, 0, 1, 1), (23, 16, 6, 6))
        instances[top : top + height, left : left + width] = index
    # 1e-6: float32. 2e-7: what REACH leaves out of w0 = 10.
    found = border_map(instances, strength=10.0, sigma=sigma)
    np.testing.assert_allclose(found, brute_force(instances, 10.0, sigma), rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("instances", [np.zeros((4, 6), int), np.ones((4, 6), int), np.zeros((0, 5), int)])
def test_fewer_than_two_objects_have_no_border(instances: np.ndarray) -> None:
    found = border_map(instances)
    assert found.shape == instances.shape and found.dtype == np.float32
    assert not found.any()


def test_a_narrow_gap_weighs_more_than_a_wide_one_and_objects_nothing() -> None:
    instances = np.zeros((9, 60), int)
    instances[:, :10], instances[:, 11:25], instances[:, 33:] = 1, 2, 3
    found = border_map(instances)
    assert (found[:, 10] > 9).all()  # d1 + d2 = 2: 10 exp(-0.08) = 9.2
    assert 0 < found[:, 28].max() < 3
    assert not found[instances > 0].any()


def test_objects_touch_by_sides_not_by_corners_and_classes_part_them() -> None:
    mask = np.array([[1, 0, 2, 2], [0, 1, 1, 255], [3, 3, 0, 1]], np.uint8)
    found = objects(mask, (1, 2))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [[1, 0, 4, 4], [0, 2, 2, 0], [0, 0, 0, 3]])
    assert not objects(mask, (7,)).any()


def test_weights_are_one_plus_the_map() -> None:
    mask = np.array([[1, 0, 0, 1]], np.uint8)
    found = BorderWeights((1,), strength=4.0, sigma=2.0)(Path("a.png"), mask)
    expected = 1 + border_map(np.array([[1, 0, 0, 2]]), strength=4.0, sigma=2.0)
    np.testing.assert_array_equal(found, expected)
    assert found.min() == 1 and found.max() > 1


def test_a_mask_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "border_map", lambda *args, **options: calls.append(1) or border_map(*args, **options))
    weights = BorderWeights((1,), strength=10.0, sigma=5.0)
    mask = np.eye(4, dtype=np.uint8)
    first = weights(Path("a.png"), mask)
    assert weights(Path("a.png"), mask) is first and len(calls) == 1
    assert weights(Path("a.png"), mask[:2]).shape == (2, 4)  # the same file at another size
    weights(Path("b.png"), mask)
    assert len(calls) == 3


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * 4 * 4 * 4)  # two maps of 4 x 4 float32
    weights, mask = BorderWeights((1,), strength=10.0, sigma=5.0), np.eye(4, dtype=np.uint8)
    maps = {name: weights(Path(name), mask) for name in "abc"}
    assert [weights(Path(name), mask) is kept for name, kept in maps.items()] == [True, True, False]
    np.testing.assert_array_equal(weights(Path("c"), mask), maps["c"])


def test_messages() -> None:
    for wrong in (np.zeros((2, 2)), np.zeros((1, 2, 2), int), np.full((2, 2), -1)):
        with pytest.raises(ValueError, match=r"instances: got \w+ of shape .*, allowed: \(H, W\) integers, 0 or more"):
            border_map(wrong)
    with pytest.raises(ValueError, match="sigma: got 0.0, allowed: above 0, finite"):
        border_map(np.eye(2, dtype=int), sigma=0.0)
    with pytest.raises(ValueError, match="strength: got -1.0, allowed: above 0, finite"):
        border_map(np.eye(2, dtype=int), strength=-1.0)
