"""Label Studio's JSON export: brushes, polygons, rectangles and ellipses, in percent of the image.

Its COCO export is read by `--from coco`, whose ids may begin at 0. Of a task with several annotations the first that
was not cancelled counts. Polygons fill the area within their corners, as in its COCO export.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np

from data_tools.annotations.shapes import (
    AnnotatedImage,
    Ring,
    Shape,
    area_polygon,
    expected,
    read_json,
    ring,
    whole_number,
)
from seg.errors import DataError

WHAT = "JSON export of Label Studio (a list of tasks)"
CORNERS = 128  # of an ellipse
UPLOAD_MARK = 8  # hexadecimal digits and a dash, which Label Studio puts before the name of an uploaded file


def read_label_studio(path: Path) -> list[AnnotatedImage]:
    """The images of a file and their shapes; tasks without an annotation are left out.

    Raises:
        DataError: It is no such file, or a region has no area or no label.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: is no {WHAT}")
    found = [expected(path, WHAT, _task, path, task) for task in content]
    return [image for image in found if image is not None]


def _task(path: Path, task: Any) -> AnnotatedImage | None:
    done = [one for one in task["annotations"] if not one.get("was_cancelled")]
    if not done:
        return None
    regions = [region for region in done[0]["result"] if "value" in region and "original_width" in region]
    if not regions:  # its size is nowhere
        raise DataError(f"{path}: task {task.get('id')} has no region, so that its image's size is not known")
    height, width = (whole_number(regions[0][f"original_{side}"]) for side in ("height", "width"))
    shapes = []
    for region in regions:
        if region.get("image_rotation"):
            raise DataError(f"{path}: task {task.get('id')}: the image was rotated, allowed: upright images")
        shapes.append(Shape(_label(region), _fill(region["type"], region["value"], height, width)))
    return AnnotatedImage(path, _name(task["data"]), height, width, tuple(shapes))


def _name(data: dict[str, Any]) -> str:
    """The image's file name, without the mark of an upload and without a folder."""
    text = str(data.get("image") or next(value for value in data.values() if isinstance(value, str)))
    name = PurePosixPath(unquote(urlparse(text).path)).name
    mark, dash, rest = name.partition("-")
    marked = dash and len(mark) == UPLOAD_MARK and all(letter in "0123456789abcdef" for letter in mark)
    return rest if marked else name


def _label(region: Any) -> str:
    labels = region["value"].get(region["type"]) or region["value"].get("labels") or []
    if len(labels) != 1:
        raise ValueError(f"region {region.get('id')} has {len(labels)} labels, allowed: 1")
    return str(labels[0])


def _fill(kind: str, value: Any, height: int, width: int) -> Callable[[int, int], np.ndarray]:
    if "rle" in value:
        alpha = unpacked(bytes(value["rle"]))[3::4]
        if alpha.size != height * width:
            raise ValueError(f"a brush of {alpha.size} pixels in an image of {height} x {width}")
        inside = alpha.reshape(height, width) > 0
        return lambda height, width: inside
    scale = np.array([width, height]) / 100
    if "points" in value:
        return area_polygon([ring(np.array(value["points"], float) * scale)])
    if value.get("rotation"):
        raise ValueError(f"a {kind} is rotated, allowed: upright ones, polygons, brushes")
    x, y = value["x"], value["y"]
    if "radiusX" in value:
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        corners = np.stack([x + value["radiusX"] * np.cos(angles), y + value["radiusY"] * np.sin(angles)], axis=1)
    else:
        right, bottom = x + value["width"], y + value["height"]
        corners = np.array([(x, y), (right, y), (right, bottom), (x, bottom)], float)
    scaled: Ring = ring(corners * scale)
    return area_polygon([scaled])


def unpacked(data: bytes) -> np.ndarray:
    """The bytes of a brush: RGBA, row by row.

    The stream of bits is that of @thi.ng/rle-pack: 32 bits for the number of words, 5 for a word's bits less 1, four
    times 4 for the bits of a length less 1; then runs, each of a bit (1: one word repeated, 0: words that differ), 2
    bits for which of the four sizes its length has, the length less 1, and the word or words.

    Raises:
        ValueError: The stream ends early.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    place = 0

    def number(size: int) -> int:
        nonlocal place
        if place + size > bits.size:
            raise ValueError("a brush ends early")
        place += size
        return int(bits[place - size : place] @ (1 << np.arange(size - 1, -1, -1, dtype=np.int64)))

    total, word = number(32), number(5) + 1
    if total > 4 * 2**28 or word != 8:
        raise ValueError(f"a brush of {total} words of {word} bits")
    sizes = [number(4) + 1 for _ in range(4)]
    words = np.zeros(total, np.uint8)
    start = 0
    while start < total:
        repeated = number(1)
        stop = start + number(sizes[number(2)]) + 1
        if stop > total:
            raise ValueError("a brush has more words than it says")
        words[start:stop] = number(word) if repeated else [number(word) for _ in range(stop - start)]
        start = stop
    return words
