"""Label sets: colours and look-up table by hand and by law, every message by text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from seg.errors import ConfigError
from seg.labels import MAX_CLASSES, VOID_COLOUR, LabelSet, distinct_colours, numbered_names

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_the_colour_table_maps_classes_to_colours_and_all_else_to_black():
    table = LabelSet(("sky", "road"), (RED, GREEN), ignore_index=7).colour_table()
    assert (table.shape, table.dtype) == ((256, 3), np.uint8)
    np.testing.assert_array_equal(table[[0, 1]], [RED, GREEN])
    assert not table[2:].any()  # void (7) and the unused indices


def test_num_classes_does_not_count_void():
    assert LabelSet(("sky", "road"), (RED, GREEN), ignore_index=2).num_classes == 2


def test_from_names_chooses_colours():
    labels = LabelSet.from_names(["sky", "road"], ignore_index=9)
    assert labels == LabelSet(("sky", "road"), distinct_colours(2), 9)
    assert LabelSet.from_names(("sky", "road")).ignore_index == 255


def test_distinct_colours_differ_and_are_never_the_void_colour():
    # All prefixes of the longest list: a new class never changes the colours of the earlier ones.
    colours = distinct_colours(MAX_CLASSES)
    assert len({*colours, VOID_COLOUR}) == MAX_CLASSES + 1
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert all(distinct_colours(count) == colours[:count] for count in (0, 1, 2, 11, 100))


def test_neighbouring_classes_look_unlike():
    colours = np.array(distinct_colours(MAX_CLASSES), int)
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 100  # of 765


def test_255_classes_leave_one_value_for_void():
    assert LabelSet.from_names([f"class {index}" for index in range(255)]).num_classes == 255


def test_a_label_set_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LabelSet(("a", "b"), (RED, GREEN)).ignore_index = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("names", "colours", "ignore_index", "message"),
    [
        (("a",), (RED,), 255, "labels.names: got 1 classes, allowed: 2 to 255"),
        (("a", "b", "a"), (RED, GREEN, BLUE), 255, "labels.names: 'a' stands twice, allowed: each name once"),
        (("a", "b"), (RED,), 255, "labels.colours: got 1 colours for 2 names, allowed: one colour a class"),
        (("a", "b"), (RED, RED), 255, "labels.colours: [255, 0, 0] stands twice, allowed: each colour once"),
        (("a", "b"), (RED, (0, 0, 256)), 255, "labels.colours: a value is outside 0 to 255"),
        (("a", "b"), (RED, (0, -1, 0)), 255, "labels.colours: a value is outside 0 to 255"),
        (("a", "b"), (RED, GREEN), 256, "labels.ignore_index: got 256, allowed: 0 to 255"),
        (("a", "b"), (RED, GREEN), -1, "labels.ignore_index: got -1, allowed: 0 to 255"),
        (("a", "b"), (RED, GREEN), 1, "labels.ignore_index: got 1, which is class 'b'; allowed: 2 to 255"),
        (
            ("a", "a"),
            (RED,),
            0,
            "labels.names: 'a' stands twice, allowed: each name once; labels.colours: got 1 colours for 2 names, "
            "allowed: one colour a class; labels.ignore_index: got 0, which is class 'a'; allowed: 2 to 255",
        ),
    ],
)
def test_messages(names: tuple, colours: tuple, ignore_index: int, message: str):
    with pytest.raises(ConfigError) as error:
        LabelSet(names, colours, ignore_index)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("names", "ignore_index", "message"),
    [
        ([], 255, "labels.names: got 0 classes, allowed: 1 to 128"),
        ([f"class {index}" for index in range(129)], 255, "labels.names: got 129 classes, allowed: 1 to 128"),
        (["a"], 0, "labels.ignore_index: got 0, which means absent in every plane; allowed: 2 to 255"),
        (["a", "b", "c"], 1, "labels.ignore_index: got 1, which means present in every plane; allowed: 2 to 255"),
    ],
)
def test_messages_of_multi_label_sets(names: list, ignore_index: int, message: str):
    with pytest.raises(ConfigError) as error:
        LabelSet.from_names(names, ignore_index, multi_label=True)
    assert str(error.value) == message


def test_what_logits_mean():
    logits = np.array([[0.5, -1.0, 0.5], [-2.0, -1.0, 0.0]])
    single = LabelSet.from_names(["a", "b", "c"])
    assert single.predicted(logits).tolist() == [0, 2] and single.mask_axes == ()
    several = LabelSet.from_names(["a", "b", "c"], ignore_index=2, multi_label=True)  # 2 is no value of a plane
    assert several.predicted(logits).tolist() == [[1, 0, 1], [0, 0, 0]] and several.mask_axes == (3,)
    assert single.predicted(logits).dtype == several.predicted(logits).dtype == np.uint8


def test_256_classes_are_too_many():
    with pytest.raises(ConfigError, match="labels.names: got 256 classes, allowed: 2 to 255"):
        LabelSet.from_names([f"class {index}" for index in range(256)])


@pytest.mark.parametrize("void", [255, 2])
def test_a_class_s_plane_and_void_of_both_kinds_of_masks(void: int) -> None:
    one_class = LabelSet.from_names(["a", "b"], ignore_index=void)
    mask = np.array([[0, 1, void]], np.uint8)
    assert one_class.plane(mask, 1).tolist() == [[0, 1, void]] and one_class.plane(mask, 0).tolist() == [[1, 0, void]]
    assert one_class.plane(mask, 1).dtype == np.uint8 and one_class.void(mask).tolist() == [[False, False, True]]
    several = LabelSet.from_names(["a", "b"], ignore_index=void, multi_label=True)
    mask = np.array([[[0, 1], [void, 0], [void, void]]], np.uint8)
    assert several.plane(mask, 1).tolist() == [[1, 0, void]]
    assert several.void(mask).tolist() == [[False, False, True]]


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[31mred", "\ud800", "a\u2028b"])
def test_a_name_is_one_line_of_text(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        LabelSet.from_names([name, "b"])
    assert str(raised.value) == (
        f"labels.names: {name!r} has a line break or control character, allowed: one line of text"
    )
    assert LabelSet.from_names(["$x^2", "straße", "می\u200cخواهم", "a [b] {c}"]).num_classes == 4


@pytest.mark.parametrize("number", [0, 256, 999_999_999])
def test_more_classes_than_a_mask_can_hold_are_refused(number):
    with pytest.raises(ConfigError, match=f"--num-classes: got {number}, allowed: 1 to 255"):
        numbered_names(number)
