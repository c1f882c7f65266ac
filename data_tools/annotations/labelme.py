"""LabelMe: a JSON file an image, with polygons, rectangles and circles; filled as labelme itself does, by PIL."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_tools.annotations.shapes import (
    AnnotatedImage,
    Shape,
    drawn_polygon,
    expected,
    json_files,
    read_json,
    ring,
    whole_number,
)

WHAT = "LabelMe file of shapes, imageHeight and imageWidth"


def read_labelme(path: Path) -> list[AnnotatedImage]:
    """The images of a folder of JSON files, or of one, and their shapes.

    Raises:
        DataError: A file is none of LabelMe's, or a shape has no area.
    """
    found = []
    for file in json_files(path, ".json"):
        content = read_json(file)
        found.append(expected(file, WHAT, _image, path, file, content))
    return found


def _image(root: Path, file: Path, content: Any) -> AnnotatedImage:
    folder = Path() if root.is_file() else file.parent.relative_to(root)
    name = (folder / file.stem).as_posix()  # imagePath may lead anywhere, and have another stem
    suffix = PureWindowsPath(content.get("imagePath") or "").suffix
    shapes = tuple(Shape(str(shape["label"]), _fill(shape)) for shape in content["shapes"])
    return AnnotatedImage(
        file, f"{name}{suffix}", whole_number(content["imageHeight"]), whole_number(content["imageWidth"]), shapes
    )


def _fill(shape: Any) -> Callable[[int, int], np.ndarray]:
    kind = shape.get("shape_type") or "polygon"
    points = ring(shape["points"], 1)
    if kind == "polygon":
        return drawn_polygon(ring(points))
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        return _drawn("rectangle", [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)])
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points
        radius = math.hypot(edge_x - x, edge_y - y)
        return _drawn("ellipse", [x - radius, y - radius, x + radius, y + radius])
    if kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=("PNG",)) as picture:
            inside = np.asarray(picture) > 0
        return lambda height, width: _placed(inside, points[0], height, width)
    raise ValueError(f"shape_type {kind!r} has no area; allowed: polygon, rectangle, circle, mask")


def _drawn(what: str, box: list[float]) -> Callable[[int, int], np.ndarray]:
    def fill(height: int, width: int) -> np.ndarray:
        picture = Image.new("L", (width, height))
        getattr(ImageDraw.Draw(picture), what)(box, fill=1, outline=1)
        return np.asarray(picture, bool)

    return fill


def _placed(inside: np.ndarray, corner: tuple[float, float], height: int, width: int) -> np.ndarray:
    """A mask of its box, at its place; what lies outside of the image is cut off."""
    whole = np.zeros((height, width), bool)
    left, top = round(corner[0]), round(corner[1])
    part = whole[max(0, top) : max(0, top + inside.shape[0]), max(0, left) : max(0, left + inside.shape[1])]
    first = max(0, -top), max(0, -left)
    part[...] = inside[first[0] : first[0] + part.shape[0], first[1] : first[1] + part.shape[1]]
    return whole
