from __future__ import annotations

import numpy as np
import pytest

from data_tools.checks.perceptual_hash import correlation, perceptual_hash


def waves(seed: int, size: tuple[int, int] = (90, 120)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None]
    total = sum(np.sin(2 * np.pi * (rng.uniform(-4, 4) * x + rng.uniform(-4, 4) * y) + k) for k in range(12))
    return np.clip(128 + 15 * np.repeat(total[..., None], 3, 2), 0, 255).astype(np.uint8)


def bits(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_the_hash_by_hand():
    # Columns rise in the upper half and fall in the lower: 8 ones in each of the upper 4 rows, zeros below.
    rising = np.repeat(np.arange(9, dtype=np.uint8)[None] * 20, 4, 0)
    image = np.kron(np.vstack([rising, rising[:, ::-1]]), np.ones((16, 16), np.uint8))[..., None]
    found = perceptual_hash(image)
    assert found is not None
    assert found.hash == 0xFFFFFFFF00000000


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("bands", [1, 3, 4, 6])
def test_the_look_depends_on_no_scale_dtype_or_number_of_equal_bands(dtype, bands):
    image = waves(0)
    scaled = np.repeat(image[..., :1].astype(dtype) * dtype(3 if dtype != np.uint8 else 1), bands, 2)
    one, other = perceptual_hash(image), perceptual_hash(scaled)
    assert bits(one.hash, other.hash) <= 1  # ties are decided by rounding
    assert correlation(one.thumbnail, other.thumbnail) > 0.999


def test_brightness_and_size_change_little_and_another_image_much():
    one = perceptual_hash(waves(0))
    for other in (waves(0) // 2, waves(0)[::2, ::2], waves(0)[1:, 1:]):
        near = perceptual_hash(np.ascontiguousarray(other))
        assert bits(one.hash, near.hash) <= 8
        assert correlation(one.thumbnail, near.thumbnail) > 0.7
    for seed in range(1, 30):
        assert bits(one.hash, perceptual_hash(waves(seed)).hash) > 8


def test_an_image_without_contrast_has_no_look():
    flat = np.full((40, 50, 3), 200, np.uint8)
    assert perceptual_hash(flat) is None
    assert perceptual_hash(flat * 0) is None
    assert perceptual_hash(np.zeros((40, 50, 1), np.float32)) is None
    flat[::2] += 1  # half a per cent
    assert perceptual_hash(flat) is None


def test_correlation_is_numpys():
    rng = np.random.default_rng(0)
    one, other = rng.integers(-127, 128, (2, 5, 256)).astype(np.int8)
    centred = [array - array.astype(float).mean(axis=1, keepdims=True) for array in (one, other)]
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(*centred, strict=True)]
    # Thumbnails have zero mean by construction; these random ones nearly: a mean of 127 / sqrt(3 * 256) at most.
    np.testing.assert_allclose(correlation(one, other), expected, atol=0.02)
