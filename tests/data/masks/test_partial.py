"""Masks of which only some classes were annotated: what is one of several classes, and in planes not known."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.data.files.storage import LimitedMask, relative_name
from seg.data.masks.encodings import IndexEncoding, MultiLabelEncoding
from seg.data.masks.planes import count_planes, write_planes
from seg.data.masks.reading import read_mask
from seg.data.samples.patterns import Pattern, pair_by_patterns
from seg.data.samples.tables import samples_from_table
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

NAMES = ("background", "liver", "spleen")
LABELS = LabelSet(NAMES, ((0, 0, 0), (1, 0, 0), (2, 0, 0)), 3, partial=((1,), (2,)))
MASK = np.array([[0, 1], [2, 3]], np.uint8)


def mask(root: Path, *annotated: str) -> LimitedMask:
    cv2.imwrite(str(root / "m.png"), MASK)
    return LimitedMask(root / "m.png", annotated=annotated)


def test_a_pixel_of_no_listed_class_is_one_of_the_others(tmp_path):
    assert LABELS.codes == (4, 5)  # 3 is void here
    assert LABELS.sets == ((4, (0, 2)), (5, (0, 1)))
    assert read_mask(mask(tmp_path, "liver"), LABELS, IndexEncoding()).tolist() == [[4, 1], [4, 3]]
    assert read_mask(mask(tmp_path, "spleen"), LABELS, IndexEncoding()).tolist() == [[5, 5], [2, 3]]


def test_all_classes_or_all_but_one_leave_nothing_open(tmp_path):
    for listed in (NAMES, ("liver", "spleen"), ("background", "liver")):
        assert (read_mask(mask(tmp_path, *listed), LABELS, IndexEncoding()) == MASK).all()


def test_known_and_planes():
    stored = np.array([[4, 1, 5, 3]], np.uint8)
    assert LABELS.known(stored).tolist() == [[3, 1, 3, 3]]
    assert LABELS.plane(stored, 1).tolist() == [[0, 1, 3, 3]]  # 4 is no liver, 5 may be
    assert LABELS.void(stored).tolist() == [[False, False, False, True]]


@pytest.mark.parametrize(
    ("listed", "got"),
    [(("liver", "kidney"), r"liver, kidney \(kidney\)"), (("background",), r"background \(background\)")],
)
def test_a_list_that_no_one_declared(tmp_path, listed, got):
    with pytest.raises(DataError, match=rf"m.png: got the annotated classes {got}.*allowed: classes .*labels.partial"):
        read_mask(mask(tmp_path, *listed), LABELS, IndexEncoding())


def test_planes_of_unlisted_classes_are_void(tmp_path):
    planes = np.ones((2, 2, 3), np.uint8)
    write_planes(tmp_path / "m.tif", planes)
    labels = LabelSet.from_names(NAMES, multi_label=True)
    file = LimitedMask(tmp_path / "m.tif", annotated=("liver",))
    assert read_mask(file, labels, MultiLabelEncoding())[0, 0].tolist() == [255, 1, 255]
    assert count_planes(file, labels).tolist() == [[0, 0, 4], [0, 4, 0], [0, 0, 4]]


def test_tables_and_patterns_list_them(tmp_path):
    for name in ("i/0.png", "i/1.png", "m/0.png", "m/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text(
        "image,mask,split,annotated\ni/0.png,m/0.png,train,liver; spleen\ni/1.png,m/1.png,val,\n"
    )
    splits = samples_from_table(tmp_path, tmp_path / "t.csv")
    assert splits["train"][0].mask == LimitedMask(tmp_path / "m/0.png", annotated=("liver", "spleen"))
    assert splits["val"][0].mask == tmp_path / "m/1.png"
    assert relative_name(splits["train"][0].mask, tmp_path) == "m/0.png (annotated: liver, spleen)"
    found = pair_by_patterns(tmp_path, {"train": [Pattern("i/{id}.png", "m/{id}.png", annotated=("liver",))]})
    assert found.splits["train"][1].mask == LimitedMask(tmp_path / "m/1.png", annotated=("liver",))


def test_too_many_lists():
    names = [f"c{index}" for index in range(254)]
    with pytest.raises(ConfigError, match="labels.partial: got 2 lists, allowed: at most 1 beside the classes"):
        LabelSet(tuple(names), LabelSet.from_names(names).colours, partial=((0,), (1,)))
