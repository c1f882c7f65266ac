"""Counts of masks that were annotated for some classes only."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.balance import ClassCounts, count_masks
from seg.balance.partial import completed, shared_out
from seg.balance.weights import class_weights
from seg.data.files.storage import LimitedMask
from seg.data.masks.encodings import IndexEncoding
from seg.labels import LabelSet

LABELS = LabelSet(("background", "liver", "spleen"), ((0, 0, 0), (1, 0, 0), (2, 0, 0)), partial=((1,), (2,)))


def test_by_hand():
    """Half of the pixels say liver or not, half spleen or not: 2 % and 1 % of their halves, so 2 % and 1 % of all."""
    found = shared_out(np.array([0, 200, 100]), np.array([9_800, 9_900]), [(0, 2), (0, 1)])
    assert found.tolist() == [20_000 * 0.97, 400, 200]


def test_against_the_likelihood():
    """No shares near those found make the masks likelier."""
    known, sets, classes = np.array([50, 300, 80]), np.array([2_000, 700]), [(0, 2), (0, 1)]
    shares = shared_out(known, sets, classes) / 3_130

    def likelihood(p: np.ndarray) -> float:
        of_sets = [number * np.log(p[list(some)].sum()) for number, some in zip(sets, classes, strict=True)]
        return known @ np.log(p) + sum(of_sets)

    rng = np.random.default_rng(0)
    for _ in range(200):
        other = shares * np.exp(rng.normal(0, 0.05, 3))
        assert likelihood(other / other.sum()) <= likelihood(shares) + 0.05  # shares are of rounded pixels


def masks(root: Path) -> list[Path | LimitedMask]:
    full, liver, spleen = (np.zeros((10, 10), np.uint8) for _ in range(3))
    full[0, :2], full[1, :1] = 1, 2
    liver[0, :2], spleen[0, :1] = 1, 2
    liver[9] = 255
    for name, mask in (("full", full), ("liver", liver), ("spleen", spleen)):
        cv2.imwrite(str(root / f"{name}.png"), mask)
    return [
        root / "full.png",
        LimitedMask(root / "liver.png", annotated=("liver",)),
        LimitedMask(root / "spleen.png", annotated=("spleen",)),
    ]


def test_the_counts_of_masks(tmp_path):
    files = masks(tmp_path)
    raw = count_masks(files, LABELS, IndexEncoding(), root=tmp_path)
    assert raw.pixel_counts.tolist() == [97, 4, 2] and raw.void_pixels == 10 + 88 + 99
    found = completed(raw, files, LABELS, IndexEncoding())
    assert found.pixel_counts.sum() + found.void_pixels == 300 and found.void_pixels == 10
    assert found.frequencies == pytest.approx([1 - 4 / 190 - 2 / 200, 4 / 190, 2 / 200], abs=2e-3)
    assert found.image_counts.tolist() == [3, 3, 3]  # each class is in all masks that annotate it
    assert all(np.isfinite(class_weights(found, "inverse_sqrt")))
    found.save(tmp_path / "counts.json")
    assert ClassCounts.load(tmp_path / "counts.json") == found


def test_without_lists_nothing_changes(tmp_path):
    files = masks(tmp_path)[:1]
    labels = LabelSet.from_names(["background", "liver", "spleen"])
    raw = count_masks(files, labels, IndexEncoding(), root=tmp_path)
    assert completed(raw, files, labels, IndexEncoding()) is raw
