"""The counting pass: threads, order, errors, skipped files, statistics by hand and their laws."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from seg.balance import counting
from seg.balance.counting import collect_statistics, count_masks
from seg.balance.statistics import area_counts, percentiles, richest
from seg.data.files import threads
from seg.data.masks.reading import IndexEncoding
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(["field", "road", "boat"], ignore_index=255)


def write(path: Path, mask: list[list[int]] | np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(mask, np.uint8))
    return path


# --- the pass ---


def test_progress_is_told_every_mask_in_order(three_masks: list[Path]) -> None:
    seen: list[int] = []
    count_masks(three_masks * 5, LABELS, IndexEncoding(), workers=2, progress=lambda done, _: seen.append(done))
    assert seen == list(range(1, 16))


def test_few_masks_wait_in_memory_and_an_error_stops_the_pass(tmp_path: Path) -> None:
    started: list[Path] = []
    lock = threading.Lock()

    def read(path: Path, *_: object) -> tuple[np.ndarray, int]:
        with lock:
            started.append(path)
        if path.name == "0020.png":
            raise DataError(f"{path}: broken")
        return np.array([4, 0, 0, 0]), 0

    masks = [tmp_path / f"{index:04}.png" for index in range(1000)]
    for mask in masks:
        mask.touch()
    ahead: list[int] = []
    with pytest.raises(DataError, match="0020.png: broken"):
        count_masks(
            masks,
            LABELS,
            IndexEncoding(),
            workers=2,
            counter=read,
            progress=lambda done, _: ahead.append(len(started) - done),
        )
    waiting = counting.BUNDLE * (2 * threads.QUEUED_PER_WORKER + 1)
    assert max(ahead) <= waiting
    assert len(started) <= 2 * counting.BUNDLE + waiting


@pytest.mark.parametrize(
    ("masks", "pixels", "components", "expected"),
    [
        (4, 2048 * 2048, False, True),  # few, but 17 million pixels
        (3, 2048 * 2048, False, False),
        (60, 128 * 128, False, False),  # many, but one million
        (60, 512 * 512, False, True),
        (4, 2048 * 2048, True, False),  # components need the image, which the fast counter makes none of
    ],
)
def test_the_fast_counter_is_loaded_for_many_pixels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, masks: int, pixels: int, components: bool, expected: bool
) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(counting, "load_fast_counter", lambda: loaded.append(True))
    monkeypatch.setattr(counting, "WORTH_LOADING", counting.WORTH_LOADING if not components else 1)
    paths = [write(tmp_path / f"{index}.png", [[0, 1]]) for index in range(masks)]
    collect_statistics(
        paths,
        LABELS,
        IndexEncoding(),
        with_components=components,
        counter=lambda mask, labels, encoding: (np.array([pixels, *[0] * labels.num_classes]), 0),
    )
    assert bool(loaded) is expected


def test_pythons_thread_switching_is_left_as_it_was(three_masks: list[Path], tmp_path: Path) -> None:
    before = sys.getswitchinterval()
    count_masks(three_masks, LABELS, IndexEncoding())
    assert sys.getswitchinterval() == before
    with pytest.raises(DataError, match="gone.png: cannot be read"):
        count_masks([tmp_path / "gone.png"], LABELS, IndexEncoding())
    assert sys.getswitchinterval() == before


def test_ctrl_c_stops_the_pass(three_masks: list[Path]) -> None:
    def interrupt(done: int, pixels: int) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_masks(three_masks * 50, LABELS, IndexEncoding(), workers=2, progress=interrupt)


def test_a_bad_mask_is_skipped_and_listed(three_masks: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(three_masks[0].read_bytes()[:-20])
    unknown = write(tmp_path / "unknown.png", [[7]])
    statistics = collect_statistics([bad, *three_masks, unknown], LABELS, IndexEncoding(), on_error="skip")
    assert statistics.counts == count_masks(three_masks, LABELS, IndexEncoding())
    assert [name for name, _ in statistics.skipped] == ["bad.png", "unknown.png"]
    assert f"{unknown}: label value 7 in 1 pixels" in statistics.skipped[1][1]
    with pytest.raises(DataError, match="bad.png: its PNG data are cut short or corrupt"):
        collect_statistics([*three_masks, bad], LABELS, IndexEncoding())


def test_only_bad_masks_are_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 masks could be read; the first: .*bad.png: is no image"):
        collect_statistics([bad], LABELS, IndexEncoding(), on_error="skip")


# --- statistics by hand ---


def test_co_occurrence_and_richest_by_hand(three_masks: list[Path]) -> None:
    statistics = collect_statistics(three_masks, LABELS, IndexEncoding())
    # field is in all three masks, road in a and b, boat nowhere
    assert statistics.co_occurrence.tolist() == [[3, 2, 0], [2, 2, 0], [0, 0, 0]]
    assert statistics.richest == (((4, "c.png"), (2, "a.png"), (1, "b.png")), ((3, "b.png"), (1, "a.png")), ())
    assert statistics.areas is None
    assert statistics.component_rows() is None


def test_the_richest_are_ten_and_ties_go_by_name(tmp_path: Path) -> None:
    masks = [write(tmp_path / f"{index:02}.png", [[1, 0 if index % 2 else 1]]) for index in range(24)]
    road = collect_statistics(masks, LABELS, IndexEncoding(), workers=2).richest[1]
    assert road == tuple((2, f"{index:02}.png") for index in range(0, 20, 2))
    assert richest([(1, "b"), (2, "c"), (1, "a")]) == ((2, "c"), (1, "a"), (1, "b"))


def test_components_by_hand(tmp_path: Path) -> None:
    # field: one component of 3 and, over the diagonal, still one of 2; road: 1 and 4
    mask = write(
        tmp_path / "a.png", [[0, 0, 1, 255, 1], [0, 255, 255, 1, 1], [255, 255, 0, 255, 1], [255, 0, 255, 255, 255]]
    )
    statistics = collect_statistics([mask], LABELS, IndexEncoding(), with_components=True)
    assert statistics.areas is not None
    assert [dict(areas) for areas in statistics.areas] == [{3: 1, 2: 1}, {5: 1}, {}]
    assert statistics.component_rows() == [
        {"components": 2, "area_5": 2, "area_50": 2, "area_95": 3},
        {"components": 1, "area_5": 5, "area_50": 5, "area_95": 5},
        {"components": 0, "area_5": 0, "area_50": 0, "area_95": 0},
    ]


# --- second opinions and laws ---


def test_components_against_scipy(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (60, 41)).astype(np.uint8)
    mask[20:30, 5:30] = 2
    statistics = collect_statistics([write(tmp_path / "a.png", mask)], LABELS, IndexEncoding(), with_components=True)
    assert statistics.areas is not None
    for index, areas in enumerate(statistics.areas):
        labelled, number = ndimage.label(mask == index, np.ones((3, 3)))
        expected = sorted(np.bincount(labelled.ravel())[1:].tolist())
        assert sorted(areas.elements()) == expected
        assert areas.total() == number


def test_with_components_the_counts_are_the_same(three_masks: list[Path]) -> None:
    plain = collect_statistics(three_masks, LABELS, IndexEncoding())
    measured = collect_statistics(three_masks, LABELS, IndexEncoding(), with_components=True)
    assert measured.counts == plain.counts
    assert (measured.co_occurrence == plain.co_occurrence).all()
    with pytest.raises(ValueError, match="with and without components"):
        plain + measured


@given(seed=st.integers(0, 2**32 - 1), cuts=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_statistics_add_up_in_any_grouping(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cuts: tuple[int, int]
) -> None:
    root = tmp_path_factory.getbasetemp() / "grouping"
    draw = np.random.default_rng(seed)
    masks = [
        write(root / f"{index}.png", draw.choice(np.array([0, 1, 2, 255], np.uint8), (2, 3), p=[0.6, 0.2, 0.1, 0.1]))
        for index in range(7)
    ]

    def collect(part: list[Path]):
        return collect_statistics(part, LABELS, IndexEncoding(), root=root, with_components=True, workers=1)

    first, second = min(cuts), 1 + max(cuts)
    a, b, c = collect(masks[:first]), collect(masks[first:second]), collect(masks[second:])
    whole = collect(masks)
    assert (a + b) + c == a + (b + c) == (c + a) + b == whole


@given(st.lists(st.integers(1, 999), min_size=1, max_size=60))
def test_percentiles_are_those_of_numpy(areas: list[int]) -> None:
    counted = area_counts(np.array(areas))
    expected = np.percentile(areas, (5, 50, 95), method="inverted_cdf").tolist()
    assert percentiles(counted, (5, 50, 95)) == expected


def test_large_areas_keep_three_digits() -> None:
    assert dict(area_counts(np.array([999, 1000, 1009, 1010, 123_456, 123_999]))) == {
        999: 1, 1000: 2, 1010: 1, 123_000: 2,
    }  # fmt: skip
