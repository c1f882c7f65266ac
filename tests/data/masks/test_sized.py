"""seg.data.masks.sized: counted at the size that is trained, by any way that masks are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.balance import count_masks
from seg.balance.counting import collect_statistics
from seg.balance.pairs import count_pairs
from seg.data.files.images import resize_mask
from seg.data.masks.counts import count_pixels, load_fast_counter
from seg.data.masks.planes import MultiLabelEncoding, write_planes
from seg.data.masks.reading import IndexEncoding, read_mask, write_mask
from seg.data.masks.sized import SizedEncoding
from seg.data.samples.pairs import Sample
from seg.data.sampling.mask_index import index_masks
from seg.labels import LabelSet

LABELS = LabelSet.from_names(("ground", "road", "dot"))
EIGHTH = SizedEncoding(IndexEncoding(), (4, 6))


@pytest.fixture
def masks(tmp_path: Path) -> list[Path]:
    """32 x 48, the left half road, with a 2 x 2 dot: on a pixel that an eighth of the size keeps, or beside it."""
    files = []
    for place in (3, 5, 5):
        mask = np.zeros((32, 48), np.uint8)
        mask[:, :24] = 1
        mask[place : place + 2, place : place + 2] = 2
        files.append(tmp_path / f"m{len(files)}.png")
        write_mask(files[-1], mask)
    return files


def test_small_objects_by_hand(masks: list[Path]) -> None:
    load_fast_counter(wait=True)
    counted = [count_pixels(mask, LABELS, EIGHTH).tolist() for mask in masks]
    assert counted == [[12, 11, 1, 0], [12, 12, 0, 0], [12, 12, 0, 0]]
    for mask, pixels in zip(masks, counted, strict=True):
        seen = resize_mask(read_mask(mask, LABELS, EIGHTH), (4, 6))  # what validation is scored on
        assert np.bincount(seen.ravel(), minlength=3).tolist() == pixels[:3]
    counts = count_masks(masks, LABELS, EIGHTH)
    assert counts.image_counts.tolist() == [3, 3, 1] and counts.encoding == "index, resized to 4 x 6"
    assert count_masks(masks, LABELS, IndexEncoding()).image_counts.tolist() == [3, 3, 3]


def test_every_way_to_count_agrees(masks: list[Path], tmp_path: Path, write_raster: Callable) -> None:
    expected = count_masks(masks, LABELS, EIGHTH)
    with_areas = collect_statistics(masks, LABELS, EIGHTH, with_components=True)
    assert with_areas.counts == expected and with_areas.areas is not None and with_areas.areas[2] == {1: 1}
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8))
    pairs = [Sample(image, mask) for mask in masks]
    counts, statistics = count_pairs(pairs, LABELS, EIGHTH, root=tmp_path, bands=3)
    assert counts.pixel_counts.tolist() == expected.pixel_counts.tolist()
    assert statistics is not None and statistics.pixels == (3 * 32 * 48,) * 3  # of the images as they are
    assert index_masks(masks, LABELS, EIGHTH, locate=[2]).pixels[:, 2].tolist() == [1, 0, 0]
    raster = write_raster(
        tmp_path / "m.tif", read_mask(masks[0], LABELS, IndexEncoding()), blockxsize=16, blockysize=16
    )
    assert count_pixels(raster, LABELS, EIGHTH).tolist() == [12, 11, 1, 0]


def test_overlapping_classes(tmp_path: Path) -> None:
    labels = LabelSet.from_names(("wet", "dot"), multi_label=True)
    mask = np.zeros((32, 48, 2), np.uint8)
    mask[:, :24, 0] = 1
    mask[5:7, 5:7, 1] = 1
    write_planes(tmp_path / "m.tif", mask)
    counts = count_masks([tmp_path / "m.tif"], labels, SizedEncoding(MultiLabelEncoding(), (4, 6)))
    assert counts.pixel_counts.tolist() == [12, 0] and counts.absent.pixel_counts.tolist() == [12, 24]
