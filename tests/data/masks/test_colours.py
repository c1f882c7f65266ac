"""Nearest colours within a tolerance: by hand, a NumPy loop, JPEG files, messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seg.data.masks.colours import labels_of_colours
from seg.data.masks.reading import ColourEncoding, read_mask, read_mask_and_snapped
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet(("black", "red", "white"), ((0, 0, 0), (200, 0, 0), (255, 255, 255)), ignore_index=255)
AERIAL = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "aerial_city" / "masks"


def decoded(pixels: list[tuple[int, int, int]], encoding: ColourEncoding) -> tuple[list[int], int]:
    mask, snapped = labels_of_colours(np.array([pixels], np.uint8), Path("m.png"), LABELS, encoding)
    return mask[0].tolist(), snapped


def test_the_nearest_colour_by_hand() -> None:
    # (3, 4, 0) is 5 from black; (190, 0, 0) is 10 from red; (255, 255, 255) is white itself
    pixels = [(3, 4, 0), (190, 0, 0), (255, 255, 255), (0, 0, 0)]
    assert decoded(pixels, ColourEncoding(tolerance=10)) == ([0, 1, 2, 0], 2)


def test_the_tolerance_is_a_distance_and_is_reached() -> None:
    assert decoded([(3, 4, 0)], ColourEncoding(tolerance=5)) == ([0], 1)
    with pytest.raises(DataError):
        decoded([(3, 4, 0)], ColourEncoding(tolerance=4.99))


def test_a_void_colour_takes_its_neighbours_too() -> None:
    encoding = ColourEncoding(((0, 90, 0),), tolerance=60)
    assert decoded([(0, 50, 0), (0, 40, 0), (0, 90, 0)], encoding) == ([255, 0, 255], 2)


def test_of_equal_distances_the_first_class_wins() -> None:
    # (100, 0, 0) is 100 from black and from red; (0, 45, 0) is 45 from black and from the void colour
    assert decoded([(100, 0, 0)], ColourEncoding(tolerance=100)) == ([0], 1)
    assert decoded([(0, 45, 0)], ColourEncoding(((0, 90, 0),), tolerance=45)) == ([0], 1)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_against_a_loop_over_pixels_and_colours(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = LabelSet.from_names([f"c{index}" for index in range(5)], ignore_index=9)
    voids = ((1, 1, 1),)
    rgb = generator.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    rgb[0, :2] = labels.colours[:2]
    mask, snapped = labels_of_colours(rgb, Path("m.png"), labels, ColourEncoding(voids, tolerance=442))
    expected_moved = 0
    for position in np.ndindex(4, 5):
        distances = [np.linalg.norm(rgb[position] - np.array(colour, float)) for colour in (*labels.colours, *voids)]
        nearest = int(np.argmin(distances))
        assert mask[position] == (9 if nearest == 5 else nearest)
        expected_moved += min(distances) > 0
    assert snapped == expected_moved


def test_messages_say_what_is_nearest_and_how_far() -> None:
    with pytest.raises(DataError) as caught:
        decoded([(0, 30, 0), (0, 40, 0), (0, 40, 0), (5, 0, 0)], ColourEncoding(tolerance=20))
    assert str(caught.value) == (
        "m.png: colour [0, 40, 0] in 2 pixels is no class (1 other unmapped colours in 1 pixels); "
        "nearest: [0, 0, 0] 'black' at distance 40.0; allowed: the 3 class colours and void_colours "
        "to a distance of 20; the farthest pixel is at 40.0"
    )
    with pytest.raises(DataError, match=r"nearest: \[0, 90, 0\] \(void\); allowed: the 3 class colours and void_col"):
        decoded([(0, 91, 0)], ColourEncoding(((0, 90, 0),)))


def blobs(labels: LabelSet) -> np.ndarray:
    rows, columns = np.mgrid[:96, :96]
    mask = ((rows // 32 + columns // 24) % labels.num_classes).astype(np.uint8)
    mask[:8] = labels.ignore_index
    return mask


def test_a_jpeg_mask_reads_back_but_for_its_borders(tmp_path: Path) -> None:
    mask = blobs(LABELS)
    table = LABELS.colour_table()
    table[255] = (0, 0, 255)
    Image.fromarray(table[mask]).save(tmp_path / "a.jpg", quality=90)
    encoding = ColourEncoding(((0, 0, 255),), tolerance=200)
    read, snapped = read_mask_and_snapped(tmp_path / "a.jpg", LABELS, encoding)
    assert snapped > 0
    assert (read == mask).mean() > 0.95
    np.testing.assert_array_equal(read[12:20, 4:20], mask[12:20, 4:20])  # inside a region nothing changes
    with pytest.raises(DataError, match="a.jpg: colour .* the farthest pixel is at"):
        read_mask(tmp_path / "a.jpg", LABELS, ColourEncoding(((0, 0, 255),), tolerance=10))


@pytest.mark.skipif(not AERIAL.is_dir(), reason="needs the masks in ../shared/data/aerial_city")
def test_a_real_mask_survives_jpeg(tmp_path: Path) -> None:
    labels = LabelSet(
        ("built-up", "vegetation", "road", "open ground", "pavement"),
        ((132, 41, 246), (110, 193, 228), (254, 221, 58), (155, 155, 155), (60, 16, 152)),
    )
    path = sorted(AERIAL.iterdir())[0]
    Image.open(path).convert("RGB").save(tmp_path / "a.jpg", quality=90)
    read = read_mask(tmp_path / "a.jpg", labels, ColourEncoding(tolerance=160))
    assert (read == read_mask(path, labels, ColourEncoding())).mean() > 0.97
