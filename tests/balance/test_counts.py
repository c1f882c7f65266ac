"""Class counts: by hand, laws, np.unique as a second opinion, the JSON file, edges, messages."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.balance.counting import count_masks
from seg.balance.counts import ClassCounts, fingerprint_files
from seg.data.masks.reading import BinaryEncoding, IndexEncoding
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(["field", "road", "boat"], ignore_index=255)
CAMVID = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "camvid" / "masks"


def write(path: Path, mask: list[list[int]] | np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(mask, np.uint8))
    return path


# --- by hand ---


def test_counts_by_hand(three_masks: list[Path]) -> None:
    counts = count_masks(three_masks, LABELS, IndexEncoding())
    # field: 2 + 1 + 4, in three masks, which have 3 + 4 + 4 labelled pixels. road: 1 + 3, in a and b: 3 + 4.
    assert counts.pixel_counts.tolist() == [7, 4, 0]
    assert counts.image_counts.tolist() == [3, 2, 0]
    assert counts.image_pixels.tolist() == [11, 7, 0]
    assert counts.void_pixels == 3
    assert counts.num_images == 3
    assert counts.names == ("field", "road", "boat")
    assert counts.encoding == "index"
    assert counts.ignore_index == 255
    for array in (counts.pixel_counts, counts.image_counts, counts.image_pixels):
        assert array.dtype == np.int64
    np.testing.assert_array_equal(counts.frequencies, [7 / 11, 4 / 11, 0])


def test_the_encoding_is_applied(tmp_path: Path) -> None:
    mask = write(tmp_path / "a.png", [[0, 127], [128, 255]])
    labels = LabelSet.from_names(["background", "cell"], ignore_index=255)
    counts = count_masks([mask], labels, BinaryEncoding(threshold=127))
    assert counts.pixel_counts.tolist() == [2, 2]
    assert counts.encoding == "binary"


def test_fingerprint_by_hand(tmp_path: Path) -> None:
    first = tmp_path / "town" / "a.png"
    second = tmp_path / "b.png"
    first.parent.mkdir()
    first.write_bytes(b"123")
    second.write_bytes(b"4567")
    hashes = [hashlib.sha256(text).hexdigest() for text in (b"town/a.png\x003", b"b.png\x004")]
    expected = sum(int(value, 16) for value in hashes) % 2**256
    assert fingerprint_files([first, second], tmp_path) == f"{expected:064x}"


# --- second opinions ---


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs the CamVid masks in ../shared/data/camvid")
def test_real_masks_against_np_unique() -> None:
    masks = sorted((CAMVID / "train").glob("*.png"))[:20]
    labels = LabelSet.from_names([f"class_{index}" for index in range(11)], ignore_index=11)
    counts = count_masks(masks, labels, IndexEncoding())
    expected = np.zeros(12, np.int64)
    for mask in masks:
        values, occurrences = np.unique(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), return_counts=True)
        expected[values] += occurrences
    np.testing.assert_array_equal([*counts.pixel_counts, counts.void_pixels], expected)


# --- laws ---


@functools.cache
def random_masks(folder: Path) -> list[Path]:
    generator = np.random.default_rng(1)
    values = np.array([0, 1, 2, 255], np.uint8)
    return [write(folder / f"{index}.png", values[generator.integers(0, 4, (5, 1 + index))]) for index in range(6)]


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(6)), cut=st.tuples(st.integers(1, 2), st.integers(3, 5)))
def test_counts_of_a_union_are_the_sum_in_any_grouping_and_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cut: tuple[int, int]
) -> None:
    root = tmp_path_factory.getbasetemp() / "union"
    masks = random_masks(root)
    count = functools.partial(count_masks, labels=LABELS, encoding=IndexEncoding(), root=root, workers=2)
    shuffled = [masks[index] for index in order]
    a, b, c = (count(part) for part in (shuffled[: cut[0]], shuffled[cut[0] : cut[1]], shuffled[cut[1] :]))
    assert count(masks) == (a + b) + c == a + (b + c) == c + b + a


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_number_of_workers_changes_nothing(three_masks: list[Path], workers: int) -> None:
    alone = count_masks(three_masks * 9, LABELS, IndexEncoding(), workers=1)
    assert count_masks(three_masks * 9, LABELS, IndexEncoding(), workers=workers) == alone


def test_the_fingerprint_of_a_pass_is_that_of_the_file_list(three_masks: list[Path]) -> None:
    for root in (None, three_masks[0].parent, three_masks[0].parent.parent):
        counts = count_masks(three_masks, LABELS, IndexEncoding(), root=root)
        assert counts.fingerprint == fingerprint_files(three_masks[::-1], root)


def test_the_fingerprint_sees_names_sizes_and_repeats_but_not_where_the_data_lies(tmp_path: Path) -> None:
    def fingerprint(folder: str, files: dict[str, bytes], repeat: int = 1) -> str:
        for name, content in files.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_bytes(content)
        return fingerprint_files([tmp_path / folder / name for name in files] * repeat)

    original = fingerprint("one", {"a.png": b"1", "b.png": b"22"})
    assert fingerprint("two", {"a.png": b"1", "b.png": b"22"}) == original
    assert fingerprint("three", {"a.png": b"1", "c.png": b"22"}) != original
    assert fingerprint("four", {"a.png": b"1", "b.png": b"2"}) != original
    assert fingerprint("five", {"a.png": b"11", "b.png": b"2"}) != original
    assert fingerprint("six", {"a.png": b"1"}) != original
    assert fingerprint("seven", {"a.png": b"1", "b.png": b"22"}, repeat=2) != original


# --- streaming ---


# --- the JSON file ---


def test_save_and_load_are_inverse(three_masks: list[Path], tmp_path: Path) -> None:
    counts = count_masks(three_masks, LABELS, IndexEncoding())
    path = tmp_path / "new" / "counts.json"
    counts.save(path)
    loaded = ClassCounts.load(path)
    assert loaded == counts
    assert loaded.pixel_counts.dtype == np.int64
    assert [file.name for file in path.parent.iterdir()] == ["counts.json"]  # no temporary file left
    content = json.loads(path.read_text())
    assert (content["version"], content["class_names"], content["num_images"]) == (1, ["field", "road", "boat"], 3)


def test_counts_beyond_float_precision_survive_the_file(tmp_path: Path) -> None:
    big = np.array([2**62 + 1, 2**53 + 1, 0])
    counts = ClassCounts(LABELS.names, 255, "index", big, np.array([1, 1, 0]), big * [1, 2, 0], 0, 1, "f" * 64)
    counts.save(tmp_path / "counts.json")
    assert ClassCounts.load(tmp_path / "counts.json").pixel_counts.tolist() == [2**62 + 1, 2**53 + 1, 0]


def change(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.__setitem__(key, value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.pop("format"), 'it has no "format": "seg class counts"'),
        (change("version", 2), "version: got 2, allowed: 1"),
        (lambda content: content.pop("class_names"), "class_names: got None, allowed: a list of names"),
        (change("class_names", ["field", 1, "boat"]), "class_names: got ['field', 1, 'boat']"),
        (lambda content: content.pop("void_pixels"), "void_pixels: got None, allowed: an integer of 0 or more"),
        (change("num_images", -1), "num_images: got -1, allowed: an integer of 0 or more"),
        (change("ignore_index", True), "ignore_index: got True, allowed: an integer"),
        (change("pixel_counts", [7, 4]), "pixel_counts: got [7, 4], allowed: 3 integers of 0 or more, one a class"),
        (change("pixel_counts", [7, -4, 0]), "pixel_counts: got [7, -4, 0], allowed: 3 integers of 0 or more"),
        (change("image_pixels", [7.0, 4, 0]), "image_pixels: got [7.0, 4, 0], allowed: 3 integers"),
        (change("image_counts", [2**70, 2, 0]), "image_counts: got [1180591620717411303424, 2, 0]"),
        (change("encoding", None), "encoding: got None, allowed: a name"),
        (change("fingerprint", "abc"), "fingerprint: got 'abc', allowed: 64 hexadecimal digits"),
        (change("image_counts", [4, 2, 0]), "image_counts: 'field' is in 4 of 3 masks"),
        (change("image_counts", [3, 2, 1]), "'boat': 0 pixels, in 1 masks with 0 labelled pixels, contradict"),
    ],
)
def test_messages_for_a_wrong_file(
    three_masks: list[Path], tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = tmp_path / "counts.json"
    count_masks(three_masks, LABELS, IndexEncoding()).save(path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        ClassCounts.load(path)
    assert str(caught.value).startswith(f"{path}: not a valid class counts file: ")
    assert message in str(caught.value)
    assert "count again: python -m data_tools.mask_frequencies" in str(caught.value)


def test_messages_for_a_missing_and_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    with pytest.raises(DataError, match="counts.json: cannot read the class counts: No such file or directory"):
        ClassCounts.load(path)
    path.write_text('{"format": ')
    with pytest.raises(DataError, match=r"counts.json: not a class counts file, broken JSON: .* line 1 column 12"):
        ClassCounts.load(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=r"counts.json: not a class counts file, broken JSON: .*utf-8"):
        ClassCounts.load(path)


# --- matching ---


def test_counts_match_their_own_data(three_masks: list[Path]) -> None:
    counts = count_masks(three_masks, LABELS, IndexEncoding())
    counts.check_matches(LABELS.names, 255, "index", fingerprint_files(three_masks))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ["field", "road", "ship"]}, "class names: got field, road, boat; expected field, road, ship"),
        ({"ignore_index": 254}, "ignore_index: got 255, expected 254"),
        ({"encoding": "palette"}, "encoding: got index, expected palette"),
        ({"fingerprint": "0" * 64}, r"files \(paths and sizes\): got fingerprint [0-9a-f]{12} of 3 masks, expected 0"),
    ],
)
def test_messages_for_counts_of_other_data(three_masks: list[Path], changed: dict[str, Any], message: str) -> None:
    counts = count_masks(three_masks, LABELS, IndexEncoding())
    expected = {
        "names": LABELS.names,
        "ignore_index": 255,
        "encoding": "index",
        "fingerprint": counts.fingerprint,
        **changed,
    }
    with pytest.raises(DataError, match=message) as caught:
        counts.check_matches(**expected)
    assert "these class counts do not match the data" in str(caught.value)
    assert "count again: python -m data_tools.mask_frequencies --config FILE --out COUNTS.json" in str(caught.value)
    assert str(caught.value).count("expected") == 1  # only what differs


def test_counts_of_different_label_sets_do_not_add(three_masks: list[Path]) -> None:
    counts = count_masks(three_masks, LABELS, IndexEncoding())
    other = count_masks(three_masks, LabelSet.from_names(["a", "b"], 255), IndexEncoding())
    message = "class counts cannot be added: class names: got field, road, boat; expected a, b"
    with pytest.raises(DataError, match=message):
        counts + other
    other = dataclasses.replace(counts, encoding="palette")
    with pytest.raises(DataError, match="class counts cannot be added: encoding: got index, expected palette"):
        counts + other


# --- edges and messages of a pass ---


def test_all_void(tmp_path: Path) -> None:
    counts = count_masks([write(tmp_path / "a.png", [[255, 255]])], LABELS, IndexEncoding())
    assert counts.pixel_counts.tolist() == [0, 0, 0]
    assert counts.void_pixels == 2
    with pytest.raises(DataError, match="no class frequencies: the 1 counted masks have no labelled pixel"):
        counts.frequencies  # noqa: B018


def test_no_masks() -> None:
    with pytest.raises(DataError, match="no masks to count: the list is empty"):
        count_masks([], LABELS, IndexEncoding())


def test_a_wrong_value_names_its_file(three_masks: list[Path], tmp_path: Path) -> None:
    wrong = write(tmp_path / "wrong.png", [[0, 9]])
    with pytest.raises(DataError, match=re.escape(str(wrong))):
        count_masks([*three_masks, wrong], LABELS, IndexEncoding())


def test_a_missing_mask_names_its_file(three_masks: list[Path], tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"
    with pytest.raises(DataError, match="gone.png"):
        count_masks([*three_masks, gone], LABELS, IndexEncoding())
    with pytest.raises(DataError, match=r"gone.png: cannot be read \(No such file or directory\)"):
        fingerprint_files([*three_masks, gone])
