"""QuPath's GeoJSON: a file an image, polygons with holes; a pixel counts where its centre is inside, by rasterio.

The file has no size: the image of the same stem beside it or in `images` has.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.annotations.shapes import AnnotatedImage, Shape, expected, json_files, read_json, ring
from seg.data.files.reading import SAMPLE_SUFFIXES, image_size
from seg.data.samples.pairs import stem
from seg.errors import DataError

WHAT = "GeoJSON of QuPath (a FeatureCollection, a list of features, or a feature)"
KINDS = ("Polygon", "MultiPolygon", "GeometryCollection")


def read_qupath(path: Path, images: Path | None = None) -> list[AnnotatedImage]:
    """The images of a folder of GeoJSON files, or of one, and their shapes.

    Args:
        path: A folder or file.
        images: The folder of the images; None: where the file is.

    Raises:
        DataError: A file is no such file, has no image, or holds a shape without a class or an area.
    """
    found = []
    for file in json_files(path, "json"):  # .geojson and .json
        content = read_json(file)
        folder = Path() if path.is_file() else file.parent.relative_to(path)
        image = _image_of(file, file.parent if images is None else images / folder)
        height, width = image_size(image)
        shapes = expected(file, WHAT, _shapes, file, content)
        found.append(AnnotatedImage(file, (folder / image.name).as_posix(), height, width, shapes))
    return found


def _image_of(file: Path, folder: Path) -> Path:
    names = [name for name in (file.stem, Path(file.stem).stem) if name]
    here = sorted(folder.iterdir()) if folder.is_dir() else []
    for name in names:  # a.geojson, and a.tif.geojson
        for path in here:
            fits = path.name == name or stem(path) == name
            if fits and path != file and path.name.lower().endswith(tuple(SAMPLE_SUFFIXES)):
                return path
    raise DataError(
        f"{file}: no image {file.stem}.* in {folder}, which says the size; allowed: images beside the files, or "
        "--images"
    )


def _shapes(file: Path, content: Any) -> tuple[Shape, ...]:
    features = content if isinstance(content, list) else content.get("features", [content])
    shapes = []
    for feature in features:
        properties = feature.get("properties") or {}
        name = (properties.get("classification") or {}).get("name")
        if not name:
            raise DataError(
                f"{file}: {feature.get('id') or 'a feature'} has no classification, allowed: a class for each; in "
                "QuPath: Set classification, or remove it"
            )
        shapes.append(Shape(str(name), _fill(feature["geometry"])))
    return tuple(shapes)


def _fill(geometry: dict[str, Any]) -> Callable[[int, int], np.ndarray]:
    if geometry["type"] not in KINDS:
        raise ValueError(f"a {geometry['type']} has no area; allowed: {', '.join(KINDS)}")
    parts = geometry.get("geometries") or [geometry]
    for part in parts:
        polygons = part["coordinates"] if part["type"] == "MultiPolygon" else [part["coordinates"]]
        for corners in (corners for polygon in polygons for corners in polygon):
            ring([point[:2] for point in corners], 4)

    def fill(height: int, width: int) -> np.ndarray:
        from rasterio.features import rasterize
        from rasterio.transform import IDENTITY

        return np.asarray(rasterize(parts, (height, width), transform=IDENTITY, dtype=np.uint8), bool)

    return fill
