from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from data_tools.checks.contact_sheet import Card, coloured_png, image_jpeg, mask_png, page
from seg.labels import LabelSet

LABELS = LabelSet(("a <b>", 'c"d', "e&f"), ((250, 0, 0), (0, 250, 0), (0, 0, 250)), 255)
MASK = np.repeat(np.repeat(np.array([[0, 1], [2, 255]], np.uint8), 20, 0), 30, 1)  # (40, 60)


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


class Reader(HTMLParser):
    """Collects tags with attributes and the text of a page; a tag that is closed wrongly is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def card(**changes: object) -> Card:
    image = np.full((40, 60, 3), 90, np.uint8)
    values: dict[str, object] = {
        "name": "images/a.jpg", "split": "train", "size": (40, 60), "image": image_jpeg(image, 512),
        "mask": mask_png(MASK, LABELS, 512), "pixels": np.array([600, 600, 600, 600]),
    }  # fmt: skip
    return Card(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("side", "size"), [(512, (60, 40)), (30, (30, 20)), (3, (3, 2))])
def test_pictures_are_no_larger_than_asked(side, size):
    assert decoded(image_jpeg(np.zeros((40, 60, 3), np.uint8), side)).size == size
    assert decoded(mask_png(MASK, LABELS, side)).size == size


def test_a_narrow_image_keeps_a_pixel():
    assert decoded(image_jpeg(np.zeros((1000, 2, 1), np.uint8), 100)).size == (1, 100)


def test_an_8_bit_image_is_shown_as_it_is():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:] = (200, 40, 90)
    shown = np.array(decoded(image_jpeg(image, 512)))
    assert np.abs(shown.astype(int) - (200, 40, 90)).max() <= 3  # JPEG


@pytest.mark.parametrize(("dtype", "bands"), [(np.uint16, 1), (np.float32, 3), (np.uint16, 4), (np.float32, 2)])
def test_other_images_are_stretched(dtype, bands):
    ramp = np.linspace(1000, 3000, 64 * 64).reshape(64, 64, 1).repeat(bands, 2).astype(dtype)
    shown = np.array(decoded(image_jpeg(ramp, 512)))
    assert shown.ndim == (3 if bands >= 3 else 2)
    assert shown.min() <= 3 and shown.max() >= 252
    ramp[0] = np.inf if dtype == np.float32 else 65535
    assert image_jpeg(ramp, 512)


def test_a_mask_has_its_class_colours_and_no_void():
    shown = np.array(decoded(mask_png(MASK, LABELS, 512)).convert("RGBA"))
    assert shown[0, 0].tolist() == [250, 0, 0, 255]
    assert shown[0, 59].tolist() == [0, 250, 0, 255]
    assert shown[39, 0].tolist() == [0, 0, 250, 255]
    assert shown[39, 59, 3] == 0


def test_the_page_is_whole_and_loads_nothing():
    text = page("t", "s", LABELS, [card(), card(name="images/b.jpg")])
    reader = Reader(text)
    assert not re.search(r"https?:|//[a-z]|@import|<link|<iframe", text)
    assert [tag for tag, attributes in reader.tags if {"src", "href"} & set(attributes)] == []
    policy = [a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]
    assert text.count("data:image/jpeg;base64,") == text.count("data:image/png;base64,") == 2  # each picture once
    kinds = [attributes["data-kind"] for _, attributes in reader.tags if "data-kind" in attributes]
    assert kinds == ["image", "mask", "overlay"] * 2


def test_texts_are_shown_and_never_run():
    evil = "<script>alert(1)</script>'\"&"
    text = page(evil, evil, LABELS, [card(name=evil, split=evil, note=evil)])
    reader = Reader(text)
    assert sum(tag == "script" for tag, _ in reader.tags) == 1
    assert reader.words.count(evil) == 6  # title twice (of the page and its heading), subtitle, name, split, note
    assert "a <b> 25.00%" in reader.words
    assert [a["title"] for tag, a in reader.tags if tag == "i"] == ["a <b> 25.00%", 'c"d 25.00%', "e&f 25.00%"]


def test_shares_by_hand():
    shown = Reader(page("t", "s", LABELS, [card(pixels=np.array([1200, 720, 0, 480]))])).words
    assert "a <b> 50.00%" in shown and 'c"d 30.00%' in shown and "void 20.00%" in shown
    assert "e&f 0.00%" in shown  # in the legend only, where all classes stand
    assert shown.count("e&f") == 1


def test_the_class_that_was_asked_for_stands_first():
    shown = Reader(page("t", "s", LABELS, [card(pixels=np.array([1200, 720, 480, 0]))], highlight=2)).words
    assert shown.index("e&f 20.00%", shown.index("images/a.jpg")) < shown.index("a <b> 50.00%", shown.index("images/a"))


def test_of_many_classes_the_largest_are_written():
    labels = LabelSet.from_names([f"k{index}" for index in range(20)])
    shown = Reader(page("t", "s", labels, [card(pixels=np.arange(1, 22))])).words
    assert "and 14 more" in shown


def test_what_cannot_be_read_is_said():
    reader = Reader(page("t", "s", LABELS, [card(image=None, mask=None, pixels=None, size=None, note="cut short")]))
    assert "cut short" in reader.words and "not shown" in reader.words
    assert [a["class"] for _, a in reader.tags if "data-kind" in a] == ["pic none", "pic void", "pic none over"]


def test_a_drawn_mask_is_shown_where_it_is_labelled():
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[:, 3:] = (9, 8, 7)
    shown = np.array(decoded(coloured_png(colours, colours[..., 0] == 9, 512)))
    assert shown[0, 5].tolist() == [9, 8, 7, 255]
    assert shown[0, 0, 3] == 0
    assert decoded(coloured_png(colours, colours[..., 0] == 9, 3)).size == (3, 2)


def test_shares_of_classes_that_overlap_are_of_all_pixels():
    labels = LabelSet(("x", "y"), LABELS.colours[:2], 255, multi_label=True)
    text = page("t", "s", labels, [card(pixels=np.array([2400, 1800, 0]))])
    shown = Reader(text).words
    assert "x 100.00%" in shown and "y 75.00%" in shown
    assert "class=bar" not in text
