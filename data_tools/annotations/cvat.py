"""CVAT for images 1.1: an XML file with masks of run lengths, polygons and boxes.

Shapes are drawn by `z_order`, then in their order. Polygons fill the area within their corners, as CVAT's own masks do.
CVAT's other export, 'Segmentation mask 1.1', holds pictures: convert them by `--from colour`, with the colours of its
labelmap.txt.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from data_tools.annotations.shapes import AnnotatedImage, Shape, area_polygon, expected, ring, run_lengths
from seg.errors import DataError

WHAT = "XML file of 'CVAT for images 1.1'"


def read_cvat(path: Path) -> list[AnnotatedImage]:
    """The images of a file and their shapes.

    Raises:
        DataError: It is no such file, holds tracks of a video, or a shape without an area.
    """
    try:
        text = path.read_bytes()
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:  # CVAT writes neither, and entities can expand without end
            raise DataError(f"{path}: declares entities, allowed: XML as CVAT writes it")
        root = ElementTree.fromstring(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: is no XML ({error})") from None
    if root.find("track") is not None:
        raise DataError(f"{path}: holds tracks of a video, allowed: an export as 'CVAT for images 1.1'")
    images = root.findall("image")
    if not images:
        raise DataError(f"{path}: is no {WHAT} (it holds no image)")
    return [expected(path, WHAT, _image, path, one) for one in images]


def _image(path: Path, image: ElementTree.Element) -> AnnotatedImage:
    shapes = sorted((shape for shape in image if shape.tag != "tag"), key=lambda shape: int(shape.get("z_order", 0)))
    found = tuple(Shape(shape.attrib["label"], _fill(shape)) for shape in shapes)
    return AnnotatedImage(path, image.attrib["name"], int(image.attrib["height"]), int(image.attrib["width"]), found)


def _fill(shape: ElementTree.Element) -> Callable[[int, int], np.ndarray]:
    given = shape.attrib
    if shape.tag == "polygon":
        return area_polygon([ring(corner.split(",") for corner in given["points"].split(";"))])
    if shape.tag == "box":
        left, top, right, bottom = (float(given[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        return area_polygon([[(left, top), (right, top), (right, bottom), (left, bottom)]])
    if shape.tag == "mask":
        counts = [int(count) for count in given["rle"].split(",")]
        left, top, width, height = (int(given[key]) for key in ("left", "top", "width", "height"))
        inside = run_lengths(counts, height, width, "C")
        return lambda rows, columns: _placed(inside, top, left, rows, columns)
    raise ValueError(f"a {shape.tag} has no area; allowed: mask, polygon, box")


def _placed(inside: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    bottom, right = top + inside.shape[0], left + inside.shape[1]
    if top < 0 or left < 0 or bottom > height or right > width:
        raise DataError(f"a mask of rows {top} to {bottom} and columns {left} to {right} is outside of its image")
    whole = np.zeros((height, width), bool)
    whole[top:bottom, left:right] = inside
    return whole
