"""Generated aerial scenes with rare classes: data that needs no download and whose answers are known.

Fields, forest, water, roads and buildings, and two rare small classes, boats and solar panels, which make up less than
a hundredth of what fields do. Colours overlap on purpose (green crops and trees, dirt tracks and bare soil, dark roofs
and solar panels, white cars and boats) and shift from scene to scene, so that a model has to look at shape and context.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from data_tools.scenes import textures
from data_tools.scenes.attributes import scene_attributes
from data_tools.scenes.objects import (
    BOAT,
    BUILDING,
    FIELD,
    FOREST,
    ROAD,
    SOLAR_PANEL,
    WATER,
    Canvas,
    crossing_path,
    draw_boats,
    draw_buildings,
    draw_roads,
    draw_solar_farms,
)
from seg.data.files.images import write_png
from seg.data.files.storage import write_bytes
from seg.data.masks.planes import write_planes
from seg.data.masks.reading import write_mask
from seg.errors import DataError
from seg.labels import LabelSet

SCENE_LABELS = LabelSet(
    names=("field", "forest", "water", "road", "building", "boat", "solar_panel"),
    colours=(
        (219, 205, 130),
        (46, 125, 62),
        (66, 135, 214),
        (132, 126, 134),
        (205, 84, 62),
        (255, 90, 200),
        (122, 44, 168),
    ),
)
SPLITS = ("train", "val", "test")  # a scene's seed holds its split's place in this list
MIN_SIZE, MAX_SIZE = 64, 2048
DRAWING_VERSION = 1  # raise it when the same seed draws other pictures, so that folders drawn before are refused
MANIFEST = "scenes.json"


def draw_scene(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one scene. The same arguments give the same pixels.

    Args:
        size: Height and width in pixels, 64 to 2048. A larger scene shows more land, not larger things.
        seed: 0 or more.

    Returns:
        The image (size, size, 3) uint8 RGB, and the mask (size, size) uint8 of `SCENE_LABELS`' indices, 255 where the
        image has no data.

    Raises:
        ValueError: `size` is out of range.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size: got {size}, allowed: {MIN_SIZE} to {MAX_SIZE}")
    rng = np.random.default_rng(seed)
    x, y = textures.pixel_grid(size)
    sun_angle = rng.uniform(0, 2 * np.pi)
    sun = np.array((np.cos(sun_angle), np.sin(sun_angle)), np.float32)

    image, borders = textures.fields(rng, x, y)
    canvas = Canvas(image, np.full((size, size), FIELD, np.uint8))
    canvas.mask[_water(rng, x, y)] = WATER
    textures.paint_water(rng, image, canvas.mask == WATER, x, y)
    open_water = canvas.mask == WATER
    roads = draw_roads(rng, canvas)
    bridges = open_water & (canvas.mask == ROAD)
    textures.cast_shadow(image, bridges, sun, 3)
    settled = textures.smooth_noise(rng, size, 90) + 0.1
    draw_buildings(rng, canvas, roads, settled, sun)
    draw_solar_farms(rng, canvas)
    textures.paint_yards(rng, image, canvas.mask == BUILDING, canvas.mask == FIELD)
    draw_boats(rng, canvas)
    forest = _forest(rng, canvas, borders, sun)
    canvas.mask[forest] = FOREST
    textures.cast_shadow(image, np.isin(canvas.mask, (BUILDING, SOLAR_PANEL)), sun, 6)
    textures.cast_shadow(image, forest, sun, 4)

    image = textures.expose(rng, image, x, y)
    void = textures.void_area(rng, x, y)
    image[void] = rng.choice((0, 0, 128))  # nodata is black in most mosaics, gray in some
    canvas.mask[void] = SCENE_LABELS.ignore_index
    return image, canvas.mask


def _water(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where water lies, (S, S) bool: perhaps a river, and lakes, about one in every other 256 x 256."""
    size = len(x)
    reach = np.full((size, size), -np.inf, np.float32)  # positive inside
    if rng.random() < 0.55:
        line = np.ones((size, size), np.uint8)
        path = crossing_path(rng, size, rng.uniform(10, 30), rng.uniform(180, 320))
        cv2.polylines(line, [np.round(path).astype(np.int32)], False, 0)
        reach = rng.uniform(11, 21) - cv2.distanceTransform(line, cv2.DIST_L2, 5)
    for _ in range(rng.poisson(0.5 * (size / 256) ** 2)):
        centre, radii, angle = rng.uniform(0, size, 2), rng.uniform(24, 70, 2), rng.uniform(0, np.pi)
        along = ((x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)) / radii[0]
        across = ((y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)) / radii[1]
        reach = np.maximum(reach, (1 - np.hypot(along, across)) * radii.min())
    shoreline = 3 * textures.smooth_noise(rng, size, 24) + 0.8 * textures.smooth_noise(rng, size, 6)
    return reach + shoreline > 0


def _forest(rng: np.random.Generator, canvas: Canvas, borders: np.ndarray, sun: np.ndarray) -> np.ndarray:
    """Grows woods, trees along some hedges, and single trees; returns the pixels under them."""
    size = canvas.size
    woods = textures.smooth_noise(rng, size, 75) + 0.25 * textures.smooth_noise(rng, size, 18)
    density = 0.97 / (1 + np.exp(-14 * (woods - rng.uniform(0.2, 0.7))))
    hedges = cv2.dilate(borders.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    density = np.maximum(density, 0.75 * (hedges & (textures.smooth_noise(rng, size, 60) > 0.5)))
    built = np.isin(canvas.mask, (BUILDING, SOLAR_PANEL)).astype(np.uint8)
    yards = cv2.dilate(built, np.ones((21, 21), np.uint8)).astype(bool)
    density[yards] = 0.16
    near_things = cv2.dilate((canvas.mask != FIELD).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    density[near_things] = 0
    density = np.maximum(density, 0.008 * ~near_things)
    keep_out = np.isin(canvas.mask, (BUILDING, SOLAR_PANEL, BOAT)) | (canvas.mask == ROAD)
    return textures.paint_crowns(rng, canvas.image, density, keep_out, sun)


def scene_seed(seed: int, split: str, index: int) -> int:
    """The seed of scene `index` of `split`: scenes keep their pictures when others are added."""
    return int(np.random.SeedSequence([seed, SPLITS.index(split), index]).generate_state(1)[0])


def write_scenes(
    root: Path,
    splits: dict[str, int],
    size: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    *,
    multi_label: bool = False,
) -> None:
    """Draws scenes into an ordinary dataset folder.

    `root` gets `images/<split>/0000.png` (RGB), `masks/<split>/0000.png` (class indices, 255 void) and `scenes.json`,
    which says what was asked for and whether all of it was written. The same request again writes nothing; one that
    was interrupted is drawn again in full.

    Args:
        root: New or empty, or filled by this function before.
        splits: Scenes per split, at least one each; splits are `train`, `val`, `test`.
        size: Height and width of the scenes in pixels, 64 to 2048.
        seed: 0 or more.
        progress: Called with 1 after each scene.
        multi_label: Writes masks/<split>/0000.tif instead, with the overlapping attributes of
            `data_tools.scenes.attributes`.

    Raises:
        DataError: The request is out of range, `root` holds something else, or scenes of another request.
    """
    _check_request(splits, size, seed)
    masks = "multi_label" if multi_label else "index"
    request = {"version": DRAWING_VERSION, "size": size, "seed": seed, "splits": splits, "masks": masks}
    names = [(split, index) for split, count in splits.items() for index in range(count)]
    if _is_complete(root, request) and all(path.exists() for name in names for path in _paths(root, masks, *name)):
        return
    _write_manifest(root, request, complete=False)
    for split, index in names:
        image, mask = draw_scene(size, scene_seed(seed, split, index))
        image_path, mask_path = _paths(root, masks, split, index)
        write_png(image_path, image)
        if multi_label:
            write_planes(mask_path, scene_attributes(mask))
        else:
            write_mask(mask_path, mask)
        if progress:
            progress(1)
    _write_manifest(root, request, complete=True)


def _check_request(splits: dict[str, int], size: int, seed: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"scenes: got size {size}, allowed: {MIN_SIZE} to {MAX_SIZE}")
    if seed < 0:
        raise DataError(f"scenes: got seed {seed}, allowed: 0 or more")
    for split, count in splits.items():
        if split not in SPLITS:
            raise DataError(f"scenes: got split '{split}', allowed: {', '.join(SPLITS)}")
        if count < 1:
            raise DataError(f"scenes: got {count} scenes for split '{split}', allowed: 1 or more")


def _is_complete(root: Path, request: dict[str, object]) -> bool:
    """Whether `root` says that it holds all of `request`; False for a new folder or an interrupted one."""
    manifest = root / MANIFEST
    if not manifest.exists():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(f"{root} is not empty and holds no {MANIFEST}; allowed: a new or empty folder, or scenes")
        return False
    try:
        held = {"masks": "index", **json.loads(manifest.read_text(encoding="utf-8"))}  # older ones name no masks
        differences = [f"{key} {held[key]}, got {value}" for key, value in request.items() if held[key] != value]
        complete = bool(held["complete"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest} is not a scene manifest ({error!r}); remove {root} and draw it again") from error
    if differences:
        raise DataError(f"{root} holds scenes of {'; '.join(differences)}; choose another folder or remove this one")
    return complete


def _paths(root: Path, masks: str, split: str, index: int) -> tuple[Path, Path]:
    suffix = "png" if masks == "index" else "tif"
    return root / "images" / split / f"{index:04d}.png", root / "masks" / split / f"{index:04d}.{suffix}"


def _write_manifest(root: Path, request: dict[str, object], complete: bool) -> None:
    write_bytes(root / MANIFEST, (json.dumps(request | {"complete": complete}, indent=2) + "\n").encode())
