"""Annotation exports to masks: small files in the form that each tool writes, and what each of them gets wrong."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from data_tools.annotations import READERS
from data_tools.annotations.label_studio import unpacked
from data_tools.annotations.shapes import AnnotatedImage, check_labels
from data_tools.convert_masks import main
from seg.data.files.reading import read_values
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(["background", "cell", "nucleus"])
SQUARE = [[2, 2], [12, 2], [12, 12], [2, 12]]  # 11 x 11 by PIL, 10 x 10 by area
FLAT = [number for corner in SQUARE for number in corner]


def annotation(segmentation, category=0, key=0, **more) -> dict:
    return {"id": key, "image_id": 0, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def coco(path: Path, *annotations: dict, **more) -> Path:
    """As Label Studio numbers them: images, categories and annotations from 0."""
    content = {
        "images": [{"id": 0, "file_name": "sub/a.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 0, "name": "cell"}, {"id": 1, "name": "nucleus"}],
        "annotations": list(annotations),
    }
    path.write_text(json.dumps(content | more))
    return path


def labelme(path: Path, *shapes: dict) -> Path:
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "..\\images\\a.jpg",
               "imageData": None, "imageHeight": 20, "imageWidth": 30}  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def cvat(path: Path, shapes: str) -> Path:
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta/>'
        f'<image id="0" name="a.jpg" width="30" height="20">{shapes}</image></annotations>'
    )
    return path


def label_studio(path: Path, *results: dict) -> Path:
    task = {"id": 7, "data": {"image": "/data/upload/1/1a2b3c4d-a%20b.jpg"}, "annotations": [{"result": list(results)}]}
    path.write_text(json.dumps([task]))
    return path


def region(kind: str, **value) -> dict:
    return {"id": "r", "type": kind, "original_width": 30, "original_height": 20, "image_rotation": 0,
            "value": {kind: ["cell"], **value}}  # fmt: skip


def geojson(path: Path, geometry: dict, name: str | None = "cell") -> Path:
    Image.new("RGB", (30, 20)).save(path.with_suffix(".png"))
    properties = {"objectType": "annotation"} | ({"classification": {"name": name, "color": [1, 2, 3]}} if name else {})
    feature = {"type": "Feature", "id": "f1", "geometry": geometry, "properties": properties}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def mask_of(kind: str, path: Path) -> np.ndarray:
    return READERS[kind](path)[0].mask(LABELS, 0).mask


def square(rows: slice, columns: slice, label: int = 1) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[rows, columns] = label
    return mask


POLYGONS = {
    "coco": lambda root: coco(root / "a.json", annotation([FLAT])),
    "labelme": lambda root: labelme(root / "a.json", {"label": "cell", "points": SQUARE, "shape_type": "polygon"}),
    "cvat": lambda root: cvat(root / "a.xml", '<polygon label="cell" points="2,2;12,2;12,12;2,12" z_order="0"/>'),
    "label_studio": lambda root: label_studio(
        root / "a.json", region("polygonlabels", points=[[x / 0.3, y / 0.2] for x, y in SQUARE])
    ),
    "qupath": lambda root: geojson(root / "a.geojson", {"type": "Polygon", "coordinates": [[*SQUARE, SQUARE[0]]]}),
}


@pytest.mark.parametrize("kind", POLYGONS)
def test_a_polygon_is_filled_by_the_rule_of_its_format(tmp_path, kind):
    side = 11 if kind == "labelme" else 10
    expected = square(slice(2, 2 + side), slice(2, 2 + side))
    assert (mask_of(kind, POLYGONS[kind](tmp_path)) == expected).all()


@pytest.mark.parametrize("kind", POLYGONS)
def test_a_broken_file_is_one_error_that_names_it(tmp_path, kind):
    path = POLYGONS[kind](tmp_path)
    for text in ("{", '{"a": 1}', '[{"b": 2}]', "[1, 2]", "<a/>", '<annotations><image name="a"/></annotations>'):
        path.write_text(text)
        with pytest.raises(DataError, match=path.name):
            READERS[kind](path)


# --- COCO ---
@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize("form", ["lengths", "compressed"])
def test_run_lengths_with_holes_and_two_parts(tmp_path, form, crowd):
    """iscrowd 1 is how some writers mark masks with holes or of two parts."""
    mask = square(slice(2, 12), slice(2, 12)).astype(bool)
    mask[5:7, 5:7] = False
    mask[15:18, 20:25] = True
    coded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = coded["counts"].decode()
    if form == "lengths":
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int)))
        counts = np.diff([0, *edges, flat.size]).tolist()
    path = coco(tmp_path / "a.json", annotation({"size": [20, 30], "counts": counts}) | {"iscrowd": crowd})
    assert (mask_of("coco", path) == mask).all()


def test_categories_count_by_name_whatever_their_ids(tmp_path):
    categories = [{"id": 90, "name": "nucleus"}, {"id": 3, "name": "cell"}]
    path = coco(tmp_path / "a.json", annotation([FLAT], 90), categories=categories)
    assert (mask_of("coco", path) == square(slice(2, 12), slice(2, 12), 2)).all()


def test_ids_from_0_are_ids(tmp_path):
    path = coco(tmp_path / "a.json", annotation([FLAT], 0, 0), annotation([[20, 2, 25, 2, 25, 6, 20, 6]], 1, 1))
    mask = mask_of("coco", path)
    assert np.bincount(mask.ravel()).tolist() == [600 - 120, 100, 20]


def test_the_smaller_lies_above(tmp_path):
    small = [4, 4, 8, 4, 8, 8, 4, 8]
    path = coco(tmp_path / "a.json", annotation([small], 1, 0), annotation([FLAT], 0, 1))
    assert np.bincount(mask_of("coco", path).ravel()).tolist() == [500, 84, 16]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (annotation([]), "annotation 0 has no segmentation, a box alone"),
        (annotation([FLAT], 9), "annotation 0 has category 9, which the file does not list; allowed: 0, 1"),
        (annotation([FLAT]) | {"image_id": 4}, "annotation 0 is of image 4, which the file does not list"),
        (annotation([[1, 2, 3]]), "is no COCO file"),
        (annotation([[1, 2, 3, 4]]), "a polygon of 2 corners, allowed: 3 or more"),
        (annotation({"size": [30, 20], "counts": [600]}), r"run lengths of size \[30, 20\] in an image of \[20, 30\]"),
        (annotation({"size": [20, 30], "counts": [599]}), "run lengths sum to 599, allowed: 20 x 30 = 600"),
        (annotation({"size": [20, 30], "counts": [601, -1]}), "run lengths sum to 600"),
    ],
)
def test_what_coco_must_hold(tmp_path, entry, message):
    with pytest.raises(DataError, match=message):
        READERS["coco"](coco(tmp_path / "a.json", entry))[0].mask(LABELS, 0)


def test_an_id_that_stands_twice(tmp_path):
    path = coco(tmp_path / "a.json", categories=[{"id": 1, "name": "cell"}, {"id": 1, "name": "nucleus"}])
    with pytest.raises(DataError, match=r"1 category id\(s\) stand twice"):
        READERS["coco"](path)


# --- LabelMe ---
def test_labelme_shapes(tmp_path):
    inside = np.array([[1, 0], [1, 1]], bool)
    buffer = io.BytesIO()
    Image.fromarray(inside).save(buffer, "PNG")
    path = labelme(
        tmp_path / "a.json",
        {"label": "cell", "points": [[12, 2], [2, 6]], "shape_type": "rectangle"},
        {"label": "nucleus", "points": [[20, 10], [22, 10]], "shape_type": "circle"},
        {"label": "nucleus", "points": [[28, 17], [29, 18]], "shape_type": "mask",
         "mask": base64.b64encode(buffer.getvalue()).decode()},
    )  # fmt: skip
    mask = mask_of("labelme", path)
    assert (mask[2:7, 2:13] == 1).all() and mask[10, 20] == mask[10, 22] == 2 and mask[10, 24] == 0
    assert (mask[17:19, 28:30] == np.where(inside, 2, 0)).all()
    assert READERS["labelme"](tmp_path)[0].name == "a.jpg"  # the stem of the file, whatever imagePath says


def test_a_line_has_no_area(tmp_path):
    path = labelme(tmp_path / "a.json", {"label": "cell", "points": SQUARE[:2], "shape_type": "line"})
    with pytest.raises(DataError, match="shape_type 'line' has no area; allowed: polygon, rectangle, circle, mask"):
        READERS["labelme"](path)


# --- CVAT ---
def test_cvat_masks_boxes_and_their_order(tmp_path):
    shapes = (
        '<box label="nucleus" xtl="4" ytl="3" xbr="6" ybr="5" z_order="1"/>'
        '<mask label="cell" rle="1, 5, 6" left="4" top="3" width="4" height="3" z_order="0"/><tag label="x"/>'
    )
    mask = mask_of("cvat", cvat(tmp_path / "a.xml", shapes))
    assert mask[3:6, 4:8].tolist() == [[2, 2, 1, 1], [2, 2, 0, 0], [0, 0, 0, 0]] and mask.sum() == 4 * 2 + 2


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            '<mask label="cell" rle="1, 5" left="4" top="3" width="4" height="3"/>',
            "run lengths sum to 6, allowed: 3 x 4",
        ),
        ('<mask label="cell" rle="0, 12" left="28" top="3" width="4" height="3"/>', "columns 28 to 32 is outside"),
        ('<polyline label="cell" points="1,1;2,2"/>', "a polyline has no area; allowed: mask, polygon, box"),
        ('</image><track id="0"/><image id="1" name="b" width="3" height="3">', "holds tracks of a video"),
    ],
)
def test_what_cvat_must_hold(tmp_path, shapes, message):
    with pytest.raises(DataError, match=message):
        READERS["cvat"](cvat(tmp_path / "a.xml", shapes))[0].mask(LABELS, 0)


def test_entities_are_refused(tmp_path):
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>')
    with pytest.raises(DataError, match="a.xml: declares entities"):
        READERS["cvat"](tmp_path / "a.xml")


# --- Label Studio ---
def packed(values: list[tuple[bool, list[int]]], total: int) -> bytes:
    """A stream as @thi.ng/rle-pack writes it, with sizes of 3, 4, 8 and 16 bits, of which 8 are used here."""
    bits = f"{total:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for repeated, words in values:
        length = words[0] if repeated else len(words)
        bits += f"{int(repeated)}{2:02b}{length - 1:08b}" + "".join(f"{word:08b}" for word in words[repeated:])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_a_brush_by_hand():
    stream = packed([(True, [3, 0]), (False, [255, 1, 2]), (True, [2, 9])], 8)
    assert unpacked(stream).tolist() == [0, 0, 0, 255, 1, 2, 9, 9]
    with pytest.raises(ValueError, match="a brush ends early"):
        unpacked(stream[:-2])


def test_label_studio_brushes_rectangles_and_ellipses(tmp_path):
    words = [(True, [4 * 50, 0]), (True, [4 * 2, 255]), (True, [4 * 8, 0]), (True, [4 * 60, 0])]
    words += [(True, [4 * 60, 0])] * 8  # 600 pixels
    path = label_studio(
        tmp_path / "a.json",
        region("rectanglelabels", x=10, y=10, width=50, height=50, rotation=0),
        region("ellipselabels", x=80, y=50, radiusX=10, radiusY=20, rotation=0),
        region("brushlabels", format="rle", rle=list(packed(words, 2400))),
    )
    mask = mask_of("label_studio", path)
    assert (mask[2:12, 3:18] == 1).all() and mask[1, 20:22].tolist() == [1, 1] and mask[10, 24] == 1
    assert abs(int(mask.sum()) - (150 + 2 + np.pi * 3 * 4)) < 8  # an ellipse of 3 x 4 pixels, on a grid
    assert READERS["label_studio"](path)[0].name == "a b.jpg"


def test_a_task_that_was_cancelled_is_none(tmp_path):
    path = label_studio(tmp_path / "a.json", region("rectanglelabels", x=0, y=0, width=10, height=10))
    content = json.loads(path.read_text())
    content[0]["annotations"][0]["was_cancelled"] = True
    path.write_text(json.dumps(content))
    assert READERS["label_studio"](path) == []


# --- QuPath ---
def test_holes_stay_holes(tmp_path):
    hole = [[5, 5], [8, 5], [8, 8], [5, 8], [5, 5]]
    path = geojson(tmp_path / "a.geojson", {"type": "Polygon", "coordinates": [[*SQUARE, SQUARE[0]], hole]})
    expected = square(slice(2, 12), slice(2, 12))
    expected[5:8, 5:8] = 0
    assert (mask_of("qupath", path) == expected).all()
    several = geojson(tmp_path / "b.geojson", {"type": "MultiPolygon", "coordinates": [[hole], [[*SQUARE, SQUARE[0]]]]})
    assert mask_of("qupath", several).sum() == 100


def test_qupath_needs_a_class_and_an_image(tmp_path):
    polygon = {"type": "Polygon", "coordinates": [[*SQUARE, SQUARE[0]]]}
    with pytest.raises(DataError, match="a.geojson: f1 has no classification, allowed: a class for each"):
        READERS["qupath"](geojson(tmp_path / "a.geojson", polygon, None))
    path = geojson(tmp_path / "a.geojson", polygon)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a.geojson: no image a\.\* in .*, which says the size"):
        READERS["qupath"](path)


# --- all of them ---
def test_labels_are_classes_by_name(tmp_path):
    images = READERS["coco"](coco(tmp_path / "a.json", annotation([FLAT]), annotation([FLAT], 1, 1)))
    with pytest.raises(
        DataError, match=r"1 label\(s\) are no class: 'nucleus' \(1 shapes\); allowed: a, cell, or --leave"
    ):
        check_labels(images, LabelSet.from_names(["a", "cell"]), ())
    check_labels(images, LabelSet.from_names(["a", "cell"]), ("nucleus",))
    with pytest.raises(ConfigError, match="--leave-out: 'x' is no label of these annotations"):
        check_labels(images, LABELS, ("x",))


def test_a_size_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match="got a size of 100000 x 100000"):
        AnnotatedImage(tmp_path, "a", 100_000, 100_000, ())


def test_the_command_writes_masks_and_reads_them_back(tmp_path, capsys):
    path = coco(tmp_path / "a.json", annotation([FLAT], 1))
    options = ["--from", "coco", "--class-names", "cell,nucleus", "--out", str(tmp_path / "out")]
    assert main([str(path), *options, "--background", "void"]) == 0
    assert "1 masks from coco to index" in capsys.readouterr().out
    mask = read_values(tmp_path / "out/sub/a.png", 1)[0][..., 0]
    assert (mask == np.where(square(slice(2, 12), slice(2, 12)), 1, 255)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--background", "sky"], "--background: got 'sky', allowed: void, cell, nucleus"),
        (["--images", "x"], "--images: has no effect but with --from qupath"),
        (["--variable", "x"], "--merge, --variable: have no effect on annotations"),
    ],
)
def test_messages_of_the_command(tmp_path, capsys, options, message):
    path = coco(tmp_path / "a.json", annotation([FLAT], 1))
    command = [str(path), "--from", "coco", "--class-names", "cell,nucleus", "--out", str(tmp_path / "out"), *options]
    assert main(command) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_name_that_leads_outside_is_refused(tmp_path, capsys):
    images = [{"id": 0, "file_name": "../a.jpg", "height": 20, "width": 30}]
    path = coco(tmp_path / "a.json", images=images)
    assert main([str(path), "--from", "coco", "--class-names", "a,b", "--out", str(tmp_path / "out")]) == 2
    assert "lies outside" in capsys.readouterr().err
