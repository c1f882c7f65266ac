"""COCO: one JSON file of images, categories and annotations with polygons or run lengths.

Categories count by name, so ids may begin anywhere; the file's own ids tie annotations to images and categories. An
annotation with `iscrowd: 1` is imported as any other: some writers mark masks with holes or of two parts so. Larger
ones are drawn first, so that a small one on a large one is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.annotations.shapes import (
    AnnotatedImage,
    Shape,
    area_polygon,
    coco_masks,
    expected,
    read_json,
    ring,
    run_lengths,
    whole_number,
)
from seg.errors import DataError

WHAT = "COCO file of images, categories and annotations"


def read_coco(path: Path) -> list[AnnotatedImage]:
    """The images of a file and their shapes.

    Raises:
        DataError: It is no COCO file, an id stands twice or nowhere, or an annotation has no segmentation.
    """
    content = read_json(path)
    images, categories = expected(path, WHAT, lambda: (_by_id(path, content["images"], "image"),
                                                       _by_id(path, content["categories"], "category")))  # fmt: skip
    shapes: dict[Any, list[tuple[float, Shape]]] = {key: [] for key in images}
    for annotation in expected(path, WHAT, lambda: list(content["annotations"])):
        image, category, fill, area = expected(path, WHAT, _annotation, path, annotation, images)
        if category not in categories:
            raise DataError(
                f"{path}: annotation {annotation.get('id')} has category {category}, which the file does not list; "
                f"allowed: {', '.join(map(str, categories))}"
            )
        shapes[image].append((area, Shape(expected(path, WHAT, _name, categories[category]), fill)))
    return [expected(path, WHAT, _image, path, one, shapes[key]) for key, one in images.items()]


def _name(category: Any) -> str:
    return str(category["name"])


def _by_id(path: Path, entries: Any, what: str) -> dict[Any, Any]:
    found = {entry["id"]: entry for entry in entries}
    if len(found) < len(entries):
        raise DataError(f"{path}: {len(entries) - len(found)} {what} id(s) stand twice, allowed: each once")
    return found


def _image(path: Path, entry: Any, shapes: list[tuple[float, Shape]]) -> AnnotatedImage:
    ordered = tuple(shape for _, shape in sorted(shapes, key=lambda pair: -pair[0]))
    return AnnotatedImage(
        path, str(entry["file_name"]), whole_number(entry["height"]), whole_number(entry["width"]), ordered
    )


def _annotation(
    path: Path, entry: Any, images: dict[Any, Any]
) -> tuple[Any, Any, Callable[[int, int], np.ndarray], float]:
    """Image id, category id, what fills, and pixels."""
    image = entry["image_id"]
    if image not in images:
        raise DataError(f"{path}: annotation {entry.get('id')} is of image {image}, which the file does not list")
    height, width = whole_number(images[image]["height"]), whole_number(images[image]["width"])
    segmentation = entry.get("segmentation")
    if not segmentation:
        raise DataError(
            f"{path}: annotation {entry.get('id')} has no segmentation, a box alone; allowed: polygons or run lengths"
        )
    if isinstance(segmentation, dict):
        fill = _runs(segmentation, height, width)
    else:
        fill = area_polygon([ring(zip(part[0::2], part[1::2], strict=True)) for part in segmentation])
    area = entry.get("area") or np.count_nonzero(fill(height, width))
    return image, entry["category_id"], fill, float(area)


def _runs(segmentation: dict[str, Any], height: int, width: int) -> Callable[[int, int], np.ndarray]:
    """Column by column, as lengths or in pycocotools' compressed text."""
    size, counts = [whole_number(side) for side in segmentation["size"]], segmentation["counts"]
    if size != [height, width]:
        raise ValueError(f"run lengths of size {size} in an image of [{height}, {width}]")
    if isinstance(counts, list):
        return lambda height, width: run_lengths(counts, height, width, "F")
    coded = {"size": size, "counts": counts.encode("ascii")}
    return lambda height, width: np.asarray(coco_masks().decode(coded), bool)
