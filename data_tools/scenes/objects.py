"""Things drawn on the land of a generated scene: roads with cars, buildings, solar panels, boats.

Positions are (x, y) in pixels. Each function paints the image and the mask with the same polygons, so that the two
agree to the pixel. The mask is also the map of what is free: things are only put where it still says `FIELD` (boats:
`WATER`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FIELD, FOREST, WATER, ROAD, BUILDING, BOAT, SOLAR_PANEL = range(7)

ROOFS = (
    (164, 92, 68),
    (146, 84, 66),
    (122, 88, 72),
    (92, 96, 104),
    (112, 112, 112),
    (178, 174, 168),
    (206, 202, 194),
    (84, 100, 122),
    (70, 76, 90),
    (104, 112, 90),
)
HULLS = ((238, 238, 232), (230, 226, 210), (236, 236, 236), (196, 72, 56), (210, 170, 90))
DECKS = ((120, 84, 58), (70, 86, 120), (150, 150, 150), (180, 120, 80))
CARS = ((232, 232, 232), (40, 42, 46), (150, 40, 36), (52, 72, 120), (170, 172, 176))
PANEL, PANEL_FRAME = (34, 44, 78), (98, 108, 130)
SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Canvas:
    """A scene while it is drawn: image (S, S, 3) float32 RGB in 0 to 255, mask (S, S) uint8."""

    image: np.ndarray
    mask: np.ndarray

    @property
    def size(self) -> int:
        return len(self.mask)

    def fill(self, polygon: np.ndarray, colour: np.ndarray | tuple[float, ...], label: int | None = None) -> None:
        """Fills a convex (n, 2) polygon; without `label` the mask stays."""
        points = _fixed_point(polygon)
        cv2.fillConvexPoly(self.image, points, _scalar(colour), shift=SUBPIXEL_BITS)
        if label is not None:
            cv2.fillConvexPoly(self.mask, points, label, shift=SUBPIXEL_BITS)

    def stroke(
        self, path: np.ndarray, width: int, colour: np.ndarray | tuple[float, ...], label: int | None = None
    ) -> None:
        """Draws an open (n, 2) path."""
        points = _fixed_point(path)
        cv2.polylines(self.image, [points], False, _scalar(colour), width, shift=SUBPIXEL_BITS)
        if label is not None:
            cv2.polylines(self.mask, [points], False, label, width, shift=SUBPIXEL_BITS)

    def labels_at(self, points: np.ndarray) -> np.ndarray:
        """Mask values under (n, 2) points; a point outside the scene gets no value, so fewer than n may come back."""
        columns, rows = np.round(points).astype(int).T
        inside = (columns >= 0) & (rows >= 0) & (columns < self.size) & (rows < self.size)
        return self.mask[rows[inside], columns[inside]]


@dataclass(frozen=True)
class Road:
    """A drawn road: its centre line, (n, 2), a point every 2 pixels, and its width."""

    path: np.ndarray
    width: int


def winding_path(
    rng: np.random.Generator, start: np.ndarray, heading: float, length: float, bend: float, wave_length: float
) -> np.ndarray:
    """(n, 2) points 2 pixels apart from `start`: a straight line with two sines across it, about `bend` pixels high."""
    run = np.arange(0, length, 2.0)
    phases, stretch = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.8, 1.3)
    waves = np.sin(2 * np.pi * run / wave_length + phases[0])
    waves += 0.4 * np.sin(2 * np.pi * run * 2.3 * stretch / wave_length + phases[1])
    lateral = bend * (waves - waves[0])
    along, across = _unit(heading), _unit(heading + np.pi / 2)
    return start + run[:, None] * along + lateral[:, None] * across


def crossing_path(rng: np.random.Generator, size: int, bend: float, wave_length: float) -> np.ndarray:
    """A winding path that enters the scene on one side and leaves it on another."""
    heading = rng.uniform(0, 2 * np.pi)
    middle = rng.uniform(0.25, 0.75, 2) * size
    return winding_path(rng, middle - 1.2 * size * _unit(heading), heading, 2.4 * size, bend, wave_length)


def draw_roads(rng: np.random.Generator, canvas: Canvas) -> list[Road]:
    """Main roads across the scene, bridges included, then lanes and dirt tracks that branch off them."""
    extent = canvas.size / 256
    roads = []
    for _ in range(1 + rng.poisson(0.5 * extent)):
        for _ in range(6):
            path = crossing_path(rng, canvas.size, rng.uniform(6, 26), rng.uniform(240, 480))
            in_the_way = canvas.labels_at(path) != FIELD
            if in_the_way.size and in_the_way.mean() < 0.2:  # cross a river or another road, do not follow it
                roads.append(Road(path, int(rng.integers(8, 12))))
                break
    branches = []
    for _ in range(rng.poisson(2.2 * extent) if roads else 0):
        trunk = roads[rng.integers(len(roads))]
        at = int(rng.integers(1, len(trunk.path)))
        heading = _heading(trunk.path, at - 1) + rng.choice((-1, 1)) * rng.normal(1.57, 0.2)
        path = winding_path(rng, trunk.path[at], heading, rng.uniform(0.4, 1.2) * canvas.size, 8, 260)
        branches.append(Road(_until_water(canvas, path), int(rng.integers(4, 8))))
    asphalt = np.array(rng.uniform(92, 146)) + rng.normal(0, 3, 3)
    for branch in branches:
        dirt = np.array((156, 134, 104)) * rng.uniform(0.75, 1.1)
        _draw_road(rng, canvas, branch, dirt if branch.width < 6 else asphalt * 1.06, marked=False)
    for road in roads:
        _draw_road(rng, canvas, road, asphalt, marked=True)
    return roads + branches


def _draw_road(rng: np.random.Generator, canvas: Canvas, road: Road, colour: np.ndarray, marked: bool) -> None:
    """Paints one road; a marked one gets pale shoulders, a dashed centre line and a few cars."""
    canvas.stroke(road.path, road.width, colour * 1.22 if marked else colour, ROAD)
    if road.width > 4:
        canvas.stroke(road.path, road.width - 3 if marked else road.width - 2, colour * (1 if marked else 1.08))
    if not marked:
        return
    for at in range(0, len(road.path) - 4, 9):
        canvas.stroke(road.path[at : at + 4], 1, (214, 212, 204))
    for at in rng.choice(len(road.path) - 1, size=len(road.path) // 60, replace=False):
        heading = _heading(road.path, at)
        lane = road.path[at] + _unit(heading + np.pi / 2) * rng.choice((-1, 1)) * road.width / 4
        canvas.fill(rectangle(lane, heading, rng.uniform(5, 7), 2), CARS[rng.integers(len(CARS))])


def _until_water(canvas: Canvas, path: np.ndarray) -> np.ndarray:
    """The path up to where it first meets the scene's edge or water: lanes have no bridges."""
    columns, rows = np.round(path).astype(int).T
    inside = (columns >= 0) & (rows >= 0) & (columns < canvas.size) & (rows < canvas.size)
    blocked = ~inside
    blocked[inside] = canvas.mask[rows[inside], columns[inside]] == WATER
    return path[: max(2, int(np.argmax(blocked)))] if blocked.any() else path


def draw_buildings(
    rng: np.random.Generator, canvas: Canvas, roads: list[Road], settled: np.ndarray, sun: np.ndarray
) -> None:
    """Houses and halls on both sides of the roads where `settled` (S, S) is positive; some carry solar panels."""
    for road in roads:
        for at in np.cumsum(rng.integers(8, 16, size=len(road.path) // 8)):
            if at + 1 >= len(road.path):
                break
            column, row = np.round(road.path[at]).astype(int)
            if not (0 <= column < canvas.size and 0 <= row < canvas.size) or settled[row, column] < 0:
                continue
            heading = _heading(road.path, at)
            for side in (-1, 1):
                hall = rng.random() < 0.12
                extent = rng.uniform((24, 16), (36, 22)) if hall else rng.uniform((14, 11), (23, 15))
                gap = (road.width + extent[1]) / 2 + rng.uniform(3, 9)
                centre = road.path[at] + side * gap * _unit(heading + np.pi / 2)
                angle = heading + rng.normal(0, 0.06)
                if _is_free(canvas, centre, angle, *(extent + 5)):
                    _draw_building(rng, canvas, centre, angle, extent, sun)


def _draw_building(
    rng: np.random.Generator, canvas: Canvas, centre: np.ndarray, angle: float, extent: np.ndarray, sun: np.ndarray
) -> None:
    """One building: a flat roof with a parapet, or a pitched one whose sunny half is brighter."""
    length, width = extent
    colour = np.array(ROOFS[rng.integers(len(ROOFS))]) * rng.uniform(0.85, 1.12)
    along, across = _unit(angle), _unit(angle + np.pi / 2)
    across = across * (1 if across @ sun > 0 else -1)  # towards the sunny half
    if rng.random() < 0.3:  # an L: one more wing
        corner = centre + along * rng.choice((-1, 1)) * (length - width) / 2
        wing = rectangle(corner + across * width / 2, angle + np.pi / 2, width, 0.5 * width)
        if np.isin(canvas.labels_at(wing), (FIELD, BUILDING)).all():
            canvas.fill(wing, colour * 0.92, BUILDING)
    sunny = centre + across * width / 4
    canvas.fill(rectangle(centre, angle, length, width), colour * 0.8, BUILDING)
    if rng.random() < 0.25:
        canvas.fill(rectangle(centre, angle, length - 3, width - 3), colour * 1.02)
        for _ in range(rng.integers(0, 4)):  # air conditioning
            spot = centre + along * rng.uniform(-0.35, 0.35) * length + across * rng.uniform(-0.3, 0.3) * width
            canvas.fill(rectangle(spot, angle, 2, 2), (205, 205, 205))
    else:
        canvas.fill(rectangle(sunny, angle, length, width / 2), colour * rng.uniform(1.08, 1.3))
        canvas.stroke(np.stack([centre - along * length / 2, centre + along * length / 2]), 1, colour * 1.3)
    if rng.random() < 0.3:
        _draw_panel(canvas, sunny, angle, rng.uniform(0.6, 0.85) * length, 0.36 * width)


def draw_solar_farms(rng: np.random.Generator, canvas: Canvas) -> None:
    """Rows of long panels on pale bare ground, in every sixth 256 x 256 or so."""
    for _ in range(rng.poisson(0.16 * (canvas.size / 256) ** 2)):
        angle = rng.normal(0, 0.25)  # rows face the sun at noon, so they run more or less east to west
        rows, length, pitch = int(rng.integers(3, 6)), rng.uniform(22, 40), rng.uniform(9, 11)
        for _ in range(12):
            centre = rng.uniform(0.1, 0.9, 2) * canvas.size
            if _is_free(canvas, centre, angle, length + 12, rows * pitch + 8):
                break
        else:
            continue
        canvas.fill(rectangle(centre, angle, length + 8, rows * pitch + 4), np.array((150, 142, 112)))
        for row in range(rows):
            middle = centre + (row - (rows - 1) / 2) * pitch * _unit(angle + np.pi / 2)
            _draw_panel(canvas, middle, angle, length, 4.5)


def _draw_panel(canvas: Canvas, centre: np.ndarray, angle: float, length: float, width: float) -> None:
    """A dark blue panel with pale frames across it every 4 pixels."""
    canvas.fill(rectangle(centre, angle, length, width), PANEL, SOLAR_PANEL)
    along, across = _unit(angle) / 2, _unit(angle + np.pi / 2) / 2
    for at in np.arange(4 - length / 2, length / 2 - 1, 4):
        middle = centre + 2 * at * along
        canvas.stroke(np.stack([middle - across * width, middle + across * width]), 1, PANEL_FRAME)


def draw_boats(rng: np.random.Generator, canvas: Canvas) -> None:
    """Boats where the water is wide enough, about one in 1800 pixels of it; two in three under way, with a wake."""
    water = (canvas.mask == WATER).astype(np.uint8)
    depth = cv2.distanceTransform(water, cv2.DIST_L2, 3)
    rows, columns = np.nonzero(depth > 6)
    if not len(rows):
        return
    placed = np.zeros((0, 2))
    for _ in range(2 + rng.poisson(len(rows) / 900)):
        at = rng.integers(len(rows))
        centre = np.array((columns[at], rows[at]), float)
        if (np.hypot(*(placed - centre).T) < 22).any():
            continue
        placed = np.vstack([placed, centre])
        headings = rng.uniform(0, 2 * np.pi, 6)  # keep the one with the most water ahead and behind
        room = [canvas.labels_at(centre + np.outer((-24, -14, 12), _unit(heading))) for heading in headings]
        heading = headings[int(np.argmax([(labels == WATER).sum() for labels in room]))]
        _draw_boat(rng, canvas, centre, heading)


def _draw_boat(rng: np.random.Generator, canvas: Canvas, centre: np.ndarray, heading: float) -> None:
    """A pointed hull with a deck and a cabin, and foam behind it, which is still water."""
    along, across = _unit(heading), _unit(heading + np.pi / 2)
    length, beam = rng.uniform(10, 16), rng.uniform(3.6, 5)
    stern = centre - along * length / 2
    if rng.random() < 0.67:
        _draw_wake(canvas, stern, along, across, beam, rng.uniform(12, 24))
    hull = np.array([(-0.5, -0.42), (0.15, -0.5), (0.5, 0), (0.15, 0.5), (-0.5, 0.42)])
    outline = centre + hull[:, :1] * length * along + hull[:, 1:] * beam * across
    canvas.fill(outline, HULLS[rng.integers(len(HULLS))], BOAT)
    deck = DECKS[rng.integers(len(DECKS))]
    canvas.fill(rectangle(centre - along * length * 0.12, heading, length * 0.4, beam * 0.45), deck)


def _draw_wake(
    canvas: Canvas, stern: np.ndarray, along: np.ndarray, across: np.ndarray, beam: float, reach: float
) -> None:
    """Two foam lines that spread from the stern and a churned trail between them, on water only."""
    foam = np.zeros(canvas.mask.shape, np.float32)
    end = stern - along * reach
    trail = np.stack([stern + across * beam / 2, stern - across * beam / 2, end])
    cv2.fillConvexPoly(foam, _fixed_point(trail), 0.35, shift=SUBPIXEL_BITS)
    for side in (-1, 1):
        arm = np.stack([stern + side * across * beam / 2, end + side * across * reach * 0.35])
        cv2.polylines(foam, [_fixed_point(arm)], False, 0.45, 1, shift=SUBPIXEL_BITS)
    wet = (foam > 0) & (canvas.mask == WATER)
    share = foam[wet][:, None]
    canvas.image[wet] = (1 - share) * canvas.image[wet] + share * np.float32(215)


def rectangle(centre: np.ndarray, angle: float, length: float, width: float) -> np.ndarray:
    """(4, 2) corners of a rectangle whose `length` runs along `angle`."""
    along, across = _unit(angle) * length / 2, _unit(angle + np.pi / 2) * width / 2
    return centre + np.stack([along + across, along - across, -along - across, -along + across])


def _is_free(canvas: Canvas, centre: np.ndarray, angle: float, length: float, width: float) -> bool:
    """Whether the whole rectangle is unused field inside the scene, probed on a grid finer than any road is wide."""
    runs, sides = np.linspace(-0.5, 0.5, 2 + int(length / 3)), np.linspace(-0.5, 0.5, 2 + int(width / 3))
    grid = np.stack(np.meshgrid(runs * length, sides * width), axis=-1).reshape(-1, 2)
    labels = canvas.labels_at(centre + grid @ np.stack([_unit(angle), _unit(angle + np.pi / 2)]))
    return len(labels) == len(grid) and bool((labels == FIELD).all())


def _heading(path: np.ndarray, at: int) -> float:
    step = path[at + 1] - path[at]
    return float(np.arctan2(step[1], step[0]))


def _unit(angle: float) -> np.ndarray:
    return np.array((np.cos(angle), np.sin(angle)))


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _scalar(colour: np.ndarray | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(value) for value in colour)
