"""Shapes of annotations, and the masks that they make."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from seg.data.files.storage import is_hidden
from seg.data.masks.base import Decoded
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

MAX_PIXELS = 2**28  # of a mask: a size in a text file may be anything
Ring = Sequence[tuple[float, float]]  # corners (x, y) in pixels
Read = TypeVar("Read")


@dataclass(frozen=True)
class Shape:
    """A part of an image.

    Attributes:
        label: The name of its class.
        fill: From (height, width) to where it is, (H, W) bool.
    """

    label: str
    fill: Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class AnnotatedImage:
    """An image's annotations.

    Attributes:
        source: The file that holds them.
        name: The image's name, with folders.
        height: In pixels.
        width: In pixels.
        shapes: In the order in which they are drawn, the later over the earlier.
    """

    source: Path
    name: str
    height: int
    width: int
    shapes: tuple[Shape, ...]

    def __post_init__(self) -> None:
        if not (self.height > 0 and self.width > 0 and self.height * self.width <= MAX_PIXELS):
            raise DataError(
                f"{self}: got a size of {self.height} x {self.width} (height x width), allowed: 1 to 2^28 pixels"
            )

    def __str__(self) -> str:
        return f"{self.source} ({self.name})"

    def mask(self, labels: LabelSet, background: int, left_out: Collection[str] = ()) -> Decoded:
        """(H, W) uint8: the class of the last shape over each pixel, `background` where there is none."""
        mask = np.full((self.height, self.width), background, np.uint8)
        for shape in self.shapes:
            if shape.label not in left_out:
                mask[shape.fill(self.height, self.width)] = labels.names.index(shape.label)
        return Decoded(mask)


def check_labels(images: Sequence[AnnotatedImage], labels: LabelSet, left_out: Collection[str]) -> None:
    """Refuses labels that are no class.

    Raises:
        DataError: Names them, with the number of their shapes.
        ConfigError: One that shall be left out is a class, or nowhere.
    """
    found = Counter(shape.label for image in images for shape in image.shapes)
    for name in left_out:
        if name in labels.names or name not in found:
            what = "is a class" if name in labels.names else "is no label of these annotations"
            raise ConfigError(f"--leave-out: '{name}' {what}, allowed: {', '.join(sorted(found)) or 'none'}")
    unknown = [name for name in found if name not in labels.names and name not in left_out]
    if unknown:
        listed = ", ".join(f"'{name}' ({found[name]} shapes)" for name in unknown)
        raise DataError(
            f"{images[0].source}: {len(unknown)} label(s) are no class: {listed}; allowed: "
            f"{', '.join(labels.names)}, or --leave-out them"
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file; a DataError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error})") from None


def expected(path: Path, what: str, read: Callable[..., Read], *arguments: Any) -> Read:
    """What `read` makes of a part of a parsed file; a DataError where a key is missing or of another type."""
    try:
        return read(*arguments)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{path}: is no {what} ({type(error).__name__}: {error})") from None


def json_files(folder: Path, suffix: str) -> list[Path]:
    """The file itself, or those under a folder, sorted."""
    if folder.is_file():
        return [folder]
    found = sorted(path for path in folder.rglob(f"*{suffix}") if not is_hidden(path.name))
    if not found:
        raise DataError(f"{folder}: holds no file *{suffix}")
    return found


def whole_number(value: Any) -> int:
    """A size or a count; a ValueError of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"got {value!r}, allowed: a whole number")
    return int(value)


def ring(points: Any, least: int = 3) -> Ring:
    """Corners; a ValueError where they are too few or no numbers."""
    corners = [(float(x), float(y)) for x, y in points]
    if len(corners) < least or not np.isfinite(corners).all():
        raise ValueError(f"got a polygon of {len(corners)} corners, allowed: {least} or more finite ones")
    return corners


def drawn_polygon(corners: Ring) -> Callable[[int, int], np.ndarray]:
    """By PIL: the pixels of the outline belong to it, so corners 0 to 10 fill 11 x 11."""

    def fill(height: int, width: int) -> np.ndarray:
        picture = Image.new("L", (width, height))
        ImageDraw.Draw(picture).polygon(list(corners), fill=1, outline=1)
        return np.asarray(picture, bool)

    return fill


def area_polygon(rings: Sequence[Ring]) -> Callable[[int, int], np.ndarray]:
    """By pycocotools: the area within the corners, so corners 0 to 10 fill 10 x 10; of several rings all areas."""

    def fill(height: int, width: int) -> np.ndarray:
        coco = coco_masks()
        flat = [[number for corner in one for number in corner] for one in rings]
        return np.asarray(coco.decode(coco.merge(coco.frPyObjects(flat, height, width))), bool)

    return fill


def coco_masks() -> Any:
    """pycocotools' masks; a ConfigError where it is not installed."""
    try:
        from pycocotools import mask
    except ImportError:
        missing = "--from: needs pycocotools; to install it: pip install 'seg[annotations]'"
        raise ConfigError(missing) from None
    return mask


def run_lengths(counts: Sequence[int], height: int, width: int, order: str) -> np.ndarray:
    """(height, width) bool of lengths of runs, of which the first is outside.

    Raises:
        ValueError: They are negative or of another sum.
    """
    lengths = np.array([whole_number(count) for count in counts], np.int64)
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths sum to {lengths.sum()}, allowed: {height} x {width} = {height * width}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width, order=order)  # type: ignore[call-overload]
