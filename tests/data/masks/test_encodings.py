"""Values, ignored values, merges: by hand, messages, and the fast counter against np.unique of the read mask."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seg.balance import ClassCounts, count_masks, fingerprint_files
from seg.data.masks import counts as mask_counts
from seg.data.masks.counts import count_pixels, count_pixels_and_snapped, load_fast_counter
from seg.data.masks.encodings import UNKNOWN
from seg.data.masks.reading import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MaskEncoding,
    MergedEncoding,
    PaletteEncoding,
    ValueEncoding,
    read_mask,
    read_mask_and_snapped,
)
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

THREE = LabelSet(("background", "cell", "border"), ((0, 0, 0), (0, 255, 0), (255, 0, 0)), ignore_index=255)
TWO = LabelSet.from_names(("ground", "roof"))
VALUES = ValueEncoding(((0, 0), (128, 1), (255, 2)), ignore_values=(7,))
WIDE = ValueEncoding(((0, 0), (300, 1), (4095, 2), (301, 1)), ignore_values=(65535,))
# background and border become one class: file classes 0, 1, 2 -> 0, 1, 0
OUTER = LabelSet(("outside", "cell"), ((0, 0, 0), (0, 255, 0)), ignore_index=255)


def merged(stored: IndexEncoding | PaletteEncoding | ColourEncoding | ValueEncoding) -> MergedEncoding:
    return MergedEncoding(stored, THREE, (0, 1, 0))


def stored(path: Path, pixels: np.ndarray | list[list[int]], kind: str = "gray") -> Path:
    image = Image.fromarray(np.asarray(pixels, np.uint8) if not isinstance(pixels, np.ndarray) else pixels)
    if kind == "palette":
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([value * 37 % 256 for value in range(768)])
    image.save(path)
    return path


def test_values_by_hand(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", [[0, 128, 255], [7, 128, 0]])
    assert read_mask(path, THREE, VALUES).tolist() == [[0, 1, 2], [255, 1, 0]]
    assert read_mask(path, THREE, VALUES).dtype == np.uint8
    assert read_mask(path, OUTER, merged(VALUES)).tolist() == [[0, 1, 0], [255, 1, 0]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_values_by_hand(tmp_path: Path, suffix: str) -> None:
    path = stored(tmp_path / f"a{suffix}", np.array([[0, 300, 4095], [65535, 301, 0]], np.uint16))
    assert read_mask(path, THREE, WIDE).tolist() == [[0, 1, 2], [255, 1, 0]]


def test_values_of_a_gray_image_saved_as_rgb(tmp_path: Path) -> None:
    gray = np.array([[0, 128], [255, 7]], np.uint8)
    path = stored(tmp_path / "a.png", np.repeat(gray[..., None], 3, axis=2))
    assert read_mask(path, THREE, VALUES).tolist() == [[0, 1], [2, 255]]


def test_a_1_bit_file_has_the_values_that_it_stores(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[True, False, True]])).save(path)
    assert read_mask(path, TWO, ValueEncoding(((0, 0), (1, 1)))).tolist() == [[1, 0, 1]]


def test_ignored_values_by_hand(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", [[0, 1, 2], [254, 255, 253]])
    assert read_mask(path, THREE, IndexEncoding((254, 253))).tolist() == [[0, 1, 2], [255, 255, 255]]
    path = stored(tmp_path / "b.png", [[0, 1, 2], [254, 255, 253]], kind="palette")
    assert read_mask(path, THREE, PaletteEncoding((254, 253))).tolist() == [[0, 1, 2], [255, 255, 255]]
    path = stored(tmp_path / "c.png", [[0, 127, 128, 255]])
    assert read_mask(path, TWO, BinaryEncoding(ignore_values=(127, 255))).tolist() == [[0, 255, 1, 255]]


def test_16_bit_index_with_an_ignored_value(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.tif", np.array([[0, 2, 65535]], np.uint16))
    assert read_mask(path, THREE, IndexEncoding((65535,))).tolist() == [[0, 2, 255]]


def test_void_of_the_files_is_void_of_the_merged_classes(tmp_path: Path) -> None:
    file_labels = LabelSet(THREE.names, THREE.colours, ignore_index=9)
    path = stored(tmp_path / "a.png", [[0, 9, 2, 1]])
    encoding = MergedEncoding(IndexEncoding(), file_labels, (1, 0, 1))
    assert read_mask(path, LabelSet.from_names(("a", "b"), 9), encoding).tolist() == [[1, 9, 1, 0]]
    assert (encoding.name, merged(VALUES).name) == ("index", "values")


def test_merged_colours(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", np.array([[(0, 0, 0), (0, 255, 0), (255, 0, 0), (9, 9, 9)]], np.uint8))
    assert read_mask(path, OUTER, merged(ColourEncoding(((9, 9, 9),)))).tolist() == [[0, 1, 0, 255]]


# --- messages ---


def test_unknown_values_are_named_with_the_nearest(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", [[0, 127, 127, 3]])
    with pytest.raises(DataError) as caught:
        read_mask(path, THREE, VALUES)
    assert str(caught.value) == (
        f"{path}: label value 3 in 1 pixels, 127 in 2 pixels; nearest to 127: 128 'cell'; "
        "allowed: 0 'background', 128 'cell', 255 'border' and 7 (void)"
    )
    with pytest.raises(DataError, match=r"label value 8 in 1 pixels; nearest to 8: 7 \(void\); allowed"):
        read_mask(stored(tmp_path / "a.png", [[8]]), THREE, VALUES)


def test_a_long_list_of_allowed_values_is_cut(tmp_path: Path) -> None:
    labels = LabelSet.from_names([f"c{index}" for index in range(9)])
    with pytest.raises(DataError, match="30 'c3', 40 'c4' and 4 more$"):
        read_mask(stored(tmp_path / "a.png", [[5]]), labels, ValueEncoding(tuple((10 * k, k) for k in range(9))))


def test_unknown_values_beside_ignored_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"allowed: 0 to 2 \('background' to 'border'\) and 255, 254 \(void\)$"):
        read_mask(stored(tmp_path / "a.png", [[5]]), THREE, IndexEncoding((254,)))


@pytest.mark.parametrize(("encoding", "value", "name"), [(IndexEncoding((1,)), 1, "cell"), (VALUES, 7, "")])
def test_an_ignored_value_that_is_a_class(encoding: MaskEncoding, value: int, name: str, tmp_path: Path) -> None:
    if isinstance(encoding, ValueEncoding):
        encoding, name = ValueEncoding(((7, 1), (0, 0)), (7,)), "cell"
    path = stored(tmp_path / "a.png", [[0]])
    with pytest.raises(ConfigError, match=f"ignore_values: {value} is the value of class '{name}', allowed: other"):
        read_mask(path, THREE, encoding)


@pytest.mark.parametrize(
    ("encoding", "labels", "allowed"),
    [
        (VALUES, THREE, r"PNG, TIFF, or a tolerance above 0 \(labels.encoding.tolerance\)"),
        (BinaryEncoding(ignore_values=(9,)), TWO, "PNG, TIFF"),
        (PaletteEncoding(), THREE, "PNG, GIF"),
        (ColourEncoding(), THREE, r"PNG, TIFF, GIF, or a tolerance above 0 \(labels.encoding.tolerance\)"),
    ],
)
def test_jpeg_masks_are_refused_with_what_would_do(
    tmp_path: Path, encoding: MaskEncoding, labels: LabelSet, allowed: str
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    with pytest.raises(DataError, match=f"a.jpg: is a JPEG, .* allowed for '{encoding.name}': {allowed}$"):
        read_mask(path, labels, encoding)


@pytest.mark.parametrize(
    ("kind", "fitting"), [("palette", "use the encoding 'palette' .or 'colour'."), ("rgb", "use the encoding 'colour'")]
)
def test_values_reads_gray_files_only(tmp_path: Path, kind: str, fitting: str) -> None:
    pixels = np.array([[[0, 1, 2]]], np.uint8) if kind == "rgb" else np.zeros((1, 1), np.uint8)
    with pytest.raises(DataError, match=f"the mask encoding 'values' reads a gray image.*{fitting}"):
        read_mask(stored(tmp_path / "a.png", pixels, kind), THREE, VALUES)


# --- the fast counter gives what np.unique of the read mask does, for every encoding ---

ENCODINGS: dict[str, tuple[LabelSet, MaskEncoding, tuple[int, ...], str]] = {
    "index": (THREE, IndexEncoding(), (0, 1, 2, 255), "gray"),
    "index, ignored": (THREE, IndexEncoding((254, 7)), (0, 1, 2, 255, 254, 7), "gray"),
    "index, merged": (OUTER, merged(IndexEncoding((9,))), (0, 1, 2, 255, 9), "gray"),
    "palette": (THREE, PaletteEncoding(), (0, 1, 2, 255), "palette"),
    "palette, merged": (OUTER, merged(PaletteEncoding((9,))), (0, 1, 2, 255, 9), "palette"),
    "binary": (TWO, BinaryEncoding(), tuple(range(256)), "gray"),
    "binary, ignored": (TWO, BinaryEncoding(30, (200, 5)), tuple(range(256)), "gray"),
    "values": (THREE, VALUES, (0, 128, 255, 7), "gray"),
    "values, merged": (OUTER, merged(VALUES), (0, 128, 255, 7), "gray"),
    "values, 16 bits": (THREE, WIDE, (0, 300, 301, 4095, 65535), "16"),
    "colour": (THREE, ColourEncoding(((9, 9, 9),)), (0, 1, 2, 3), "rgb"),
    "colour, tolerance": (THREE, ColourEncoding(((9, 9, 9),), tolerance=40), (0, 1, 2, 3), "noisy"),
    "colour, merged": (OUTER, merged(ColourEncoding(((9, 9, 9),))), (0, 1, 2, 3), "rgb"),
}


@pytest.mark.parametrize("case", ENCODINGS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 90))
def test_counts_are_those_of_the_read_mask(
    tmp_path_factory: pytest.TempPathFactory, case: str, seed: int, height: int, width: int
) -> None:
    labels, encoding, values, kind = ENCODINGS[case]
    generator = np.random.default_rng(seed)
    drawn = generator.choice(np.array(values), (height, width)).repeat(2, axis=1)  # runs, as masks have
    if kind in ("rgb", "noisy"):
        pixels = np.array([*THREE.colours, (9, 9, 9)], np.uint8)[drawn]
        if kind == "noisy":
            noise = generator.integers(-9, 10, pixels.shape)
            pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    else:
        pixels = drawn.astype(np.uint16 if kind == "16" else np.uint8)
    path = stored(tmp_path_factory.getbasetemp() / "law.png", pixels, kind)
    load_fast_counter(wait=True)
    mask = read_mask(path, labels, encoding)
    expected = np.zeros(256, np.int64)
    found, counts = np.unique(mask, return_counts=True)
    expected[found] = counts
    expected = np.append(expected[: labels.num_classes], expected[labels.ignore_index])
    assert count_pixels(path, labels, encoding).tolist() == expected.tolist()


@pytest.mark.parametrize("case", [case for case, (_, _, _, kind) in ENCODINGS.items() if kind in ("gray", "palette")])
def test_the_fast_counter_serves_every_8_bit_encoding(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, encoding, values, kind = ENCODINGS[case]
    load_fast_counter(wait=True)
    path = stored(tmp_path / "a.png", np.array([values], np.uint8), kind)
    expected = count_pixels(path, labels, encoding).tolist()
    monkeypatch.setattr(mask_counts, "decode_stored", None)  # the ordinary reader would fail
    assert count_pixels(path, labels, encoding).tolist() == expected
    assert sum(expected) == len(values)


@pytest.mark.parametrize("case", ["index, ignored", "index, merged", "values", "values, merged"])
def test_the_fast_counter_leaves_unknown_values_to_the_reader(tmp_path: Path, case: str) -> None:
    labels, encoding, values, _ = ENCODINGS[case]
    load_fast_counter(wait=True)
    path = stored(tmp_path / "a.png", [[*values, 99, 99]])
    with pytest.raises(DataError, match="label value 99 in 2 pixels"):
        count_pixels(path, labels, encoding)


def test_merged_tables_leave_unknown_values_unknown() -> None:
    table = merged(VALUES).table(OUTER)
    assert {value: int(table[value]) for value in (0, 128, 255, 7)} == {0: 0, 128: 1, 255: 0, 7: 255}
    assert (table == UNKNOWN).sum() == 65536 - 4


# --- the artefact ---


@pytest.mark.parametrize(
    "changed",
    [
        ValueEncoding(((0, 0), (128, 2), (255, 1)), (7,)),
        ValueEncoding(((0, 0), (128, 1), (255, 2)), (7, 8)),
        ValueEncoding(((0, 0), (128, 1), (255, 2), (254, 2)), (7,)),
        IndexEncoding(),
        MergedEncoding(VALUES, THREE, (0, 1, 0)),
    ],
)
def test_the_artefact_notices_another_reading(tmp_path: Path, changed: MaskEncoding) -> None:
    masks = [stored(tmp_path / "a.png", [[0, 128, 255, 7]])]
    count_masks(masks, THREE, VALUES).save(tmp_path / "counts.json")
    counts = ClassCounts.load(tmp_path / "counts.json")
    fingerprint = fingerprint_files(masks)
    counts.check_matches(THREE.names, 255, VALUES.description, fingerprint)
    with pytest.raises(
        DataError, match="do not match the data: encoding: got values {0: 0, 128: 1, 255: 2}, ignore_va"
    ):
        counts.check_matches(THREE.names, 255, changed.description, fingerprint)


def test_descriptions_of_what_was_there_before_are_plain_names() -> None:
    # run folders made before have these in their counts.json
    plain = (IndexEncoding(), PaletteEncoding(), ColourEncoding(((1, 2, 3),)), BinaryEncoding(9))
    assert [encoding.description for encoding in plain] == ["index", "palette", "colour", "binary"]
    assert ColourEncoding((), 40.0).description == "colour, tolerance 40"
    assert ColourEncoding((), 40.0).description != ColourEncoding((), 41.0).description
    assert ColourEncoding(((1, 2, 3),), 40).description == "colour, tolerance 40, void_colours [[1, 2, 3]]"
    assert BinaryEncoding(ignore_values=(9, 3)).description == "binary, ignore_values [3, 9]"
    assert merged(PaletteEncoding()).description == "palette, merged {background: 0, cell: 1, border: 0}"


def test_snapped_pixels_are_counted_kept_and_added(tmp_path: Path) -> None:
    exact = stored(tmp_path / "a.png", np.array([[(0, 0, 0), (0, 255, 0)]], np.uint8))
    noisy = stored(tmp_path / "b.png", np.array([[(3, 0, 0), (0, 250, 0), (255, 0, 0)]], np.uint8))
    encoding = ColourEncoding(tolerance=5)
    assert [count_pixels_and_snapped(path, THREE, encoding)[1] for path in (exact, noisy)] == [0, 2]
    one, two = (count_masks([path], THREE, encoding, root=tmp_path) for path in (exact, noisy))
    both = count_masks([exact, noisy], THREE, encoding, root=tmp_path)
    assert (one.snapped_pixels, two.snapped_pixels, both.snapped_pixels) == (0, 2, 2)
    assert one + two == both
    both.save(tmp_path / "counts.json")
    assert ClassCounts.load(tmp_path / "counts.json").snapped_pixels == 2


def test_a_broken_png_is_named_under_every_encoding(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(buffer, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(buffer.getvalue()[:-20])
    for labels, encoding in ((THREE, VALUES), (OUTER, merged(IndexEncoding())), (THREE, IndexEncoding((9,)))):
        with pytest.raises(DataError, match="a.png: its PNG data are cut short or corrupt"):
            read_mask(path, labels, encoding)


def test_a_merged_mask_keeps_its_shape(tmp_path: Path) -> None:
    for shape in ((1, 1), (1, 7), (7, 1), (3, 5)):
        path = tmp_path / "a.png"
        assert cv2.imwrite(str(path), np.ones(shape, np.uint8))
        assert read_mask(path, OUTER, merged(IndexEncoding())).shape == shape


# --- tolerance and ranges of values ---
NEAR = ValueEncoding(((0, 0), (255, 2)), ignore_values=(7,), ranges=((120, 136, 1),), tolerance=4)


def test_ranges_and_the_nearest_value_by_hand(tmp_path: Path) -> None:
    #            exact    range      2 from 0, 3 from 7, 3 from 255, 4 from 120, 4 from 136
    path = stored(tmp_path / "a.png", [[0, 255, 7, 120, 130, 136, 2, 10, 252, 116, 140]])
    mask, snapped = read_mask_and_snapped(path, THREE, NEAR)
    assert mask.tolist() == [[0, 2, 255, 1, 1, 1, 0, 255, 2, 1, 1]] and snapped == 5
    assert count_pixels_and_snapped(path, THREE, NEAR)[0].tolist() == [2, 5, 2, 2]
    assert count_pixels_and_snapped(path, THREE, NEAR)[1] == 5
    exact = replace(NEAR, tolerance=0)
    message = (
        r"a\.png: label value 2 in 1 pixels, 10 in 1 pixels, 116 in 1 pixels, .*; nearest to 2: 0 'background'; "
        r"allowed: 0 'background', 120-136 'cell', 255 'border' and 7 \(void\)"
    )
    with pytest.raises(DataError, match=message):
        read_mask(path, THREE, exact)
    far = stored(tmp_path / "b.png", [[0, 60]])
    with pytest.raises(DataError, match=r"value 60 in 1 pixels; nearest to 60: 7 \(void\); .*, to a difference of 4"):
        read_mask(far, THREE, NEAR)


def test_equal_differences_go_to_the_class_that_comes_first_and_void_last() -> None:
    table = ValueEncoding(((0, 1), (4, 0), (10, 2)), ignore_values=(20,), tolerance=5).table(THREE)
    assert table[[2, 7, 15, 25, 26]].tolist() == [0, 0, 2, 255, UNKNOWN]  # between 1 and 0, 0 and 2, 2 and void


def test_the_nearest_value_whatever_the_distance(tmp_path: Path) -> None:
    nearest = ValueEncoding(((0, 0), (300, 1), (65535, 2)), tolerance=65535)
    path = stored(tmp_path / "a.png", np.array([[149, 150, 151, 40000]], np.uint16))
    assert read_mask(path, THREE, nearest).tolist() == [[0, 0, 1, 2]]


def test_a_jpeg_of_values_with_a_tolerance(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:, 16:] = 128
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=90)
    read = read_mask(tmp_path / "a.jpg", TWO, ValueEncoding(((0, 0), (128, 1)), tolerance=60))
    np.testing.assert_array_equal(read, pixels == 128)
    with pytest.raises(
        DataError, match=r"a\.jpg: is a JPEG, .* or a tolerance above 0 \(labels\.encoding\.tolerance\)"
    ):
        read_mask(tmp_path / "a.jpg", TWO, ValueEncoding(((0, 0), (128, 1))))


def test_ranges_are_written_and_described() -> None:
    encoding = ValueEncoding(((255, 2),), ignore_values=(7,), ranges=((0, 9, 0), (120, 136, 1)), tolerance=3)
    assert encoding.description == "values {0-9: 0, 120-136: 1, 255: 2}, ignore_values [7], tolerance 3"
    with pytest.raises(ConfigError, match=r"ignore_values: 7 is the value of class 'background', allowed: other"):
        encoding.table(THREE)
    encoded = replace(encoding, ignore_values=(50,)).encode(np.array([[0, 1, 2, 255]], np.uint8), THREE)
    with Image.open(io.BytesIO(encoded)) as image:
        assert np.asarray(image).tolist() == [[0, 120, 255, 50]]
