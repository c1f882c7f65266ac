"""Writing masks: what is written reads back, for every encoding; nothing is written that does not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_tools.datasets.mask_writing import convert_mask
from seg.data.masks import gray
from seg.data.masks.reading import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MergedEncoding,
    PaletteEncoding,
    StoredEncoding,
    ValueEncoding,
    read_mask,
)
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet(("water", "road", "roof"), ((10, 20, 30), (40, 50, 60), (200, 0, 0)), ignore_index=9)
TWO = LabelSet.from_names(("a", "b"), ignore_index=9)
ENCODINGS: list[tuple[LabelSet, StoredEncoding]] = [
    (LABELS, IndexEncoding()),
    (LABELS, PaletteEncoding()),
    (LABELS, ColourEncoding(((1, 1, 1), (2, 2, 2)))),
    (LABELS, ValueEncoding(((5, 0), (128, 1), (6, 1), (255, 2)), (7, 8))),
    (LABELS, ValueEncoding(((5, 0), (4095, 1), (0, 2)), (65535,))),
    (LABELS, ValueEncoding(((5, 0), (4, 1), (0, 2)), (65535,))),
    (TWO, BinaryEncoding(ignore_values=(127,))),
    (TWO, BinaryEncoding(threshold=0, ignore_values=(255, 254))),
    (TWO, BinaryEncoding(threshold=254, ignore_values=(0, 1))),
]


@pytest.mark.parametrize(("labels", "encoding"), ENCODINGS)
@settings(max_examples=15)
@given(height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    labels: LabelSet,
    encoding: StoredEncoding,
    height: int,
    width: int,
    seed: int,
) -> None:
    values = np.array([*range(labels.num_classes), 9], np.uint8)
    mask = np.random.default_rng(seed).choice(values, (height, width))
    path = tmp_path_factory.getbasetemp() / "m.png"
    path.write_bytes(encoding.encode(mask, labels))
    np.testing.assert_array_equal(read_mask(path, labels, encoding), mask)


def test_the_stored_values_by_hand() -> None:
    mask = np.array([[0, 1, 2, 9]], np.uint8)

    def stored(encoding: StoredEncoding) -> list[int]:
        content = np.frombuffer(encoding.encode(mask % (9 + 1), LABELS), np.uint8)
        return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)[0].tolist()

    assert stored(IndexEncoding()) == [0, 1, 2, 9]
    assert stored(ValueEncoding(((5, 0), (128, 1), (6, 1), (255, 2)), (7, 8))) == [5, 128, 255, 7]
    assert stored(ValueEncoding(((5, 0), (300, 1), (0, 2)), (65535,))) == [5, 300, 0, 65535]
    assert stored(ColourEncoding(((1, 2, 3),))) == [[30, 20, 10], [60, 50, 40], [0, 0, 200], [3, 2, 1]]  # BGR


def test_a_palette_mask_shows_the_class_colours(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(PaletteEncoding().encode(np.array([[2, 9]], np.uint8), LABELS))
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        assert np.asarray(image.convert("RGB")).tolist() == [[[200, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("encoding", "key"),
    [
        (ColourEncoding(), "'colour' has no value; allowed: with void_colours"),
        (ValueEncoding(((0, 0), (1, 1), (2, 2))), "'values' has no value; allowed: with ignore_values"),
    ],
)
def test_void_pixels_need_something_that_means_void(tmp_path: Path, encoding: StoredEncoding, key: str) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(IndexEncoding().encode(np.array([[0, 9, 9]], np.uint8), LABELS))
    with pytest.raises(DataError, match=f"a.png: 2 pixels are void, for which {key}"):
        convert_mask(source, tmp_path / "out" / "a.png", LABELS, IndexEncoding(), encoding)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_conversion_counts_and_leaves_one_file(tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "out" / "a.png"
    Image.fromarray(np.array([[(10, 20, 31), (40, 50, 60), (1, 1, 1)]], np.uint8)).save(source)
    reading = ColourEncoding(((1, 1, 1),), tolerance=3)
    conversion = convert_mask(source, target, LABELS, reading, IndexEncoding())
    assert (conversion.pixels.tolist(), conversion.snapped) == ([1, 1, 0, 1], 1)
    assert read_mask(target, LABELS, IndexEncoding()).tolist() == [[0, 1, 9]]
    assert [path.name for path in target.parent.iterdir()] == ["a.png"]


def test_merged_masks_are_written_as_the_merged_classes(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 1, 2, 9]], np.uint8)).save(source)
    convert_mask(source, tmp_path / "b.png", TWO, MergedEncoding(IndexEncoding(), LABELS, (0, 1, 0)), IndexEncoding())
    assert read_mask(tmp_path / "b.png", TWO, IndexEncoding()).tolist() == [[0, 1, 0, 9]]


def test_a_file_that_does_not_read_back_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(source)
    target.write_bytes(b"before")
    monkeypatch.setattr(gray, "png", lambda pixels: cv2.imencode(".png", pixels * 0)[1].tobytes())
    with pytest.raises(DataError, match="a.png: as 'index' it does not read back to the same classes; nothing written"):
        convert_mask(source, target, LABELS, IndexEncoding(), IndexEncoding())
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
