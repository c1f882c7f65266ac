"""seg.data.sampling.mask_index: what a pass keeps of masks, beside loops over their pixels; bounds, storage, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from seg.data.masks.reading import IndexEncoding, write_mask
from seg.data.sampling import mask_index
from seg.data.sampling.mask_index import (
    POSITIONS,
    MaskIndex,
    index_masks,
)
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(("ground", "road", "boat"), ignore_index=255)


def write(folder: Path, *masks: np.ndarray) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(masks))]
    for path, mask in zip(paths, masks, strict=True):
        write_mask(path, mask)
    return paths


def index(paths: list[Path], **settings: object) -> MaskIndex:
    return index_masks(paths, LABELS, IndexEncoding(), **({"locate": [1, 2]} | settings))


def noise(seed: int, shape: tuple[int, int] = (40, 52)) -> np.ndarray:
    """Blobs of every class and void."""
    smooth = ndimage.uniform_filter(np.random.default_rng(seed).random((*shape, 4)), (7, 7, 0))
    return np.array([0, 1, 2, 255], np.uint8)[smooth.argmax(axis=-1)]


def test_by_hand(tmp_path: Path) -> None:
    mask = np.array([[0, 0, 0, 0, 2],
                     [0, 2, 0, 1, 1],
                     [0, 0, 2, 0, 255],
                     [0, 0, 0, 0, 0]], np.uint8)  # fmt: skip
    found = index(write(tmp_path, mask, np.zeros((3, 2), np.uint8)))
    assert found.shapes.tolist() == [[4, 5], [3, 2]]
    assert found.pixels.tolist() == [[14, 2, 3, 1], [6, 0, 0, 0]]
    assert found.presence.tolist() == [[True, True, True], [True, False, False]]
    assert found.places(0, 1).tolist() == [[1, 3], [1, 4]]
    assert found.places(0, 2).tolist() == [[0, 4], [1, 1], [2, 2]]
    assert found.places(1, 2).tolist() == []


def test_places_and_counts_are_those_of_the_masks(tmp_path: Path) -> None:
    masks = [noise(seed) for seed in range(5)] + [np.full((9, 9), 255, np.uint8)]
    found = index(write(tmp_path, *masks))
    for number, mask in enumerate(masks):
        for label in (0, 1, 2):
            assert found.pixels[number, label] == (mask == label).sum()
        assert found.pixels[number, 3] == (mask == 255).sum()
        for label in (1, 2):
            places = found.places(number, label)
            assert len(places) == min(POSITIONS, (mask == label).sum())
            assert (mask[places[:, 0], places[:, 1]] == label).all()
            assert len({tuple(place) for place in places.tolist()}) == len(places)


def test_each_pixel_of_a_large_class_is_as_likely_to_be_kept() -> None:
    """Masks of n = 512 to 1535 pixels of a class: pixel k of n is kept with probability 256 / n. Of 1024 masks the
    first and the last quarter of the pixels are kept as often."""
    kept = np.zeros(4)
    for number in range(2 * POSITIONS, 6 * POSITIONS):
        mask = np.full((1, number), 2, np.uint8)
        positions = mask_index._positions(mask, 2).astype(np.int64)
        assert len(set(positions.tolist())) == POSITIONS
        gaps = np.diff(positions)
        assert gaps.min() >= number // POSITIONS and gaps.max() <= -(-number // POSITIONS)  # evenly spread
        kept += np.bincount(positions * 4 // number, minlength=4)
    np.testing.assert_allclose(kept / kept.sum(), 0.25, atol=1e-3)  # 64 a quarter in each mask, but for rounding


def test_threads_change_nothing(tmp_path: Path) -> None:
    paths = write(tmp_path, *[noise(seed) for seed in range(8)])
    one, four = index(paths, workers=1), index(paths, workers=4)
    for name in mask_index._ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(four, name))


def test_memory_is_bounded_whatever_the_masks_hold(tmp_path: Path) -> None:
    speckles = np.random.default_rng(0).choice(np.array([0, 1, 2], np.uint8), (300, 300))
    found = index(write(tmp_path, speckles, speckles, speckles))
    bound = 3 * (2 * 4 * POSITIONS + 8 * (2 + 4 + 2)) + 100
    assert found.nbytes <= bound


def test_stored_and_read_back(tmp_path: Path) -> None:
    found = index(write(tmp_path, noise(1), noise(2)))
    file = tmp_path / "kept" / "index.npz"
    found.save(file, "ab12")
    again = MaskIndex.load(file, "ab12")
    assert again is not None
    for name in mask_index._ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
        assert getattr(found, name).dtype == getattr(again, name).dtype
    assert [path.name for path in file.parent.iterdir()] == ["index.npz"]


def test_an_index_of_other_masks_or_a_broken_one_is_not_taken(tmp_path: Path) -> None:
    found = index(write(tmp_path, noise(1)))
    file = tmp_path / "index.npz"
    assert MaskIndex.load(file, "ab12") is None
    found.save(file, "ab12")
    assert MaskIndex.load(file, "ff") is None
    content = file.read_bytes()
    for broken in (b"", b"no zip", content[: len(content) // 2], content[:-30]):
        file.write_bytes(broken)
        assert MaskIndex.load(file, "ab12") is None
    np.savez(file, fingerprint=np.array("ab12"), shapes=np.array([object()], object))
    assert MaskIndex.load(file, "ab12") is None  # nothing is unpickled


def test_a_broken_mask_is_named(tmp_path: Path) -> None:
    paths = write(tmp_path, noise(1), np.full((4, 4), 9, np.uint8), noise(2))
    with pytest.raises(DataError, match=r"1\.png: label value 9 in 16 pixels"):
        index(paths)


def test_a_mask_of_too_many_pixels_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = np.broadcast_to(np.zeros(1, np.uint8), (2**16, 2**16))
    monkeypatch.setattr(mask_index, "read_mask", lambda *_: huge)
    with pytest.raises(DataError, match=r"a\.png: has 4294967296 pixels, allowed for a sampler: fewer than 2\^32"):
        index([Path("a.png")])


def test_progress_counts_the_masks(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    index(write(tmp_path, noise(1), noise(2)), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
