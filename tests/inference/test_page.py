import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from seg.inference.page import Picture, report_page
from seg.labels import LabelSet
from seg.metrics.posterior import Rule

VOID_TAGS = {"meta", "img", "br", "link"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed by another."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page(content, pictures=()):
    labels = LabelSet.from_names([f"class {index}" for index in range(len(content["classes"]))])
    text = report_page(content, labels, list(pictures), {"class_frequencies": b"png"}, "name: <x>\n")
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    return text, parser.seen


def picture(side=30):
    return Picture("class <2>", "worst", "IoU 0.1, a&b.png", np.full((side, 3 * side, 3), 90, np.uint8))


@pytest.mark.parametrize("num_classes", [2, 7, 150])
def test_a_self_contained_page_for_any_number_of_classes(made_up, num_classes):
    text, seen = page(made_up(num_classes, against=True, images=4), [picture()])
    sources = [attributes["src"] for _, attributes in seen if "src" in attributes]
    assert len(sources) == 2 and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?://", text)
    table = text[text.index('<table class="sortable">') : text.index("</table>")]
    assert table.count("<tr>") == num_classes + 1


def test_names_are_escaped_and_facts_stand_in_it(made_up):
    content = made_up()
    text, _ = page(content, [picture()])
    assert "runs/&lt;made up&gt;" in text and "class &lt;2&gt;, worst: IoU 0.1, a&amp;b.png" in text
    assert "name: &lt;x&gt;" in text and content["date"] in text
    assert f"mean IoU {content['mean_iou']:.3f} [" in text and content["interval_method"] in text
    assert "class 2 (rare)" in text and "class 1 (rare)" not in text
    assert '<h2>Class frequencies</h2><img alt="class frequencies" src="data:image/png;base64,cG5n">' in text
    assert "Against" not in text and "With and without" not in text


def test_cells_are_sorted_by_their_full_value(made_up):
    content = made_up()
    content["classes"]["class 1"]["precision"] = None
    text, _ = page(content)
    assert f'data-value="{content["classes"]["class 0"]["iou"]!r}"' in text
    assert '<td data-value="">-</td>' in text


def test_corrections_and_differences_have_their_sections(made_up):
    rules = (
        Rule.as_trained(3),
        Rule("temperature", np.ones(3), 2.0, np.zeros(3)),
        Rule("thresholds", np.ones(3), 2.0, np.array([0, 0, 1.5])),
    )
    text, _ = page(made_up(rules=rules, against=True))
    assert "With and without corrections" in text and f"{np.exp(-1.5):.3f}" in text
    assert "Against runs/other" in text
    headings = re.findall("<h3>(.*?)</h3>", text)
    assert headings == ["as trained", "thresholds"]  # the temperature changes no class


def test_no_rare_class_no_objects(made_up):
    assert "Objects of the rare classes" not in page(made_up(2))[0]
    assert "Objects of the rare classes" in page(made_up(3))[0]


def test_large_pictures_are_reduced(made_up):
    text, _ = page(made_up(), [picture(2000)])
    data = base64.b64decode(re.search(r'data:image/jpeg;base64,([^"]+)"', text)[1])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape == (480, 1440, 3)
