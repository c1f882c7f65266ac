"""Layers of a generated scene that cover its whole area: fields, water, tree crowns, shadows, light, sensor, void.

Everything is sized in pixels, not in shares of the image: a larger scene shows more land at the same ground
resolution. Images are (S, S, 3) float32 RGB in 0 to 255 and unclipped until `expose`.
"""

from __future__ import annotations

import cv2
import numpy as np

CROPS = np.array(
    [
        (92, 122, 58),
        (74, 100, 52),
        (64, 88, 46),
        (132, 148, 84),
        (150, 156, 98),
        (190, 170, 112),
        (170, 148, 98),
        (128, 100, 74),
        (104, 84, 66),
        (112, 106, 96),
        (186, 176, 72),
        (146, 138, 112),
    ],
    np.float32,
)  # greens that forests have too, soils that tracks and roofs have too
WATERS = np.array([(40, 66, 82), (58, 74, 62), (34, 46, 52), (66, 84, 88), (74, 76, 58)], np.float32)
LEAVES = np.array([(58, 82, 42), (72, 92, 48), (50, 72, 46), (86, 92, 50)], np.float32)
SAND, HEDGE = np.array((172, 156, 120), np.float32), np.array((66, 80, 46), np.float32)
SHADOW = np.array((0.46, 0.49, 0.56), np.float32)  # bluish: only the sky lights it


def pixel_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel, each (S, S) float32."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return x, y


def smooth_noise(rng: np.random.Generator, size: int, scale: int) -> np.ndarray:
    """(S, S) float32 noise around 0, of about unit variance at its nodes, with features about `scale` pixels wide."""
    cells = -(-size // scale) + 1
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    fine = cv2.resize(coarse, (cells * scale, cells * scale), interpolation=cv2.INTER_CUBIC)
    top, left = rng.integers(0, cells * scale - size + 1, size=2)
    return fine[top : top + size, left : left + size]


def fields(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A patchwork of parcels with crops, plough rows and hedges.

    Returns:
        The image (S, S, 3) and where the parcels' borders are, (S, S) bool.
    """
    size = len(x)
    angle = rng.uniform(0, np.pi)
    parcels = _parcels(rng, x, y, angle)
    count = int(parcels.max()) + 1
    crops = CROPS[rng.choice(len(CROPS), size=5, replace=False)]  # one region grows a few crops
    colours = crops[rng.integers(len(crops), size=count)] * rng.normal(1, 0.07, (count, 1))
    colours += rng.normal(0, 5, (count, 3))
    row_angle = angle + np.pi / 2 * rng.integers(0, 2, count) + rng.normal(0, 0.08, count)
    frequency = 2 * np.pi / rng.uniform(3.5, 8, count)
    strength = rng.uniform(0.01, 0.11, count) * (rng.random(count) < 0.75)
    row_x, row_y, row_strength = (
        table.astype(np.float32)[parcels]
        for table in (frequency * np.cos(row_angle), frequency * np.sin(row_angle), strength)
    )
    brightness = 1 + row_strength * np.sin(row_x * x + row_y * y)
    for scale, share in ((60, 0.06), (14, 0.045), (5, 0.035), (2, 0.03)):
        brightness += share * smooth_noise(rng, size, scale)
    image = colours.astype(np.float32)[parcels] * brightness[..., None]
    borders = np.zeros((size, size), bool)
    borders[1:] |= parcels[1:] != parcels[:-1]
    borders[:, 1:] |= parcels[:, 1:] != parcels[:, :-1]
    hedges = borders & (smooth_noise(rng, size, 50) > -0.3)
    image[hedges] = 0.35 * image[hedges] + 0.65 * HEDGE
    return image, borders


def _parcels(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, angle: float) -> np.ndarray:
    """Parcel numbers (S, S): irregular columns along `angle`, each cut into its own irregular rows, slightly warped."""
    size = len(x)
    length = 3 * size + 64  # rotated coordinates run from -size to 1.5 size
    across, along = (
        np.clip(rotated + 4 * smooth_noise(rng, size, 70) + size + 32, 0, length - 1).astype(np.intp)
        for rotated in (x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle))
    )
    column_at = _irregular_steps(rng, length, 45, 100)
    row_at = np.stack([_irregular_steps(rng, length, 60, 150) for _ in range(column_at[-1] + 1)])
    column = column_at[across]
    return column * (int(row_at.max()) + 1) + row_at[column, along]


def _irregular_steps(rng: np.random.Generator, length: int, shortest: int, longest: int) -> np.ndarray:
    """0 0 0 1 1 1 1 2 2 ...: `length` values whose runs are `shortest` to `longest` long."""
    runs = rng.integers(shortest, longest, length // shortest + 1)
    return np.repeat(np.arange(len(runs)), runs)[:length]


def paint_water(rng: np.random.Generator, image: np.ndarray, water: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Fills `water` (S, S) bool: lighter and sandier by the shore, darker where deep, waves, a sand or reed bank."""
    if not water.any():
        return
    size = len(water)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    bank = cv2.dilate(water.astype(np.uint8), disc).astype(bool) & ~water
    sandy = np.clip(0.5 + 0.6 * smooth_noise(rng, size, 40), 0, 1)[bank][:, None]
    image[bank] = 0.4 * image[bank] + 0.6 * (sandy * SAND + (1 - sandy) * HEDGE)
    depth = cv2.distanceTransform(water.astype(np.uint8), cv2.DIST_L2, 3)
    deep = WATERS[rng.integers(len(WATERS))] + rng.normal(0, 5, 3).astype(np.float32)
    shallow = 0.72 * deep + 0.28 * SAND
    share = np.exp(-depth / rng.uniform(3, 8)).astype(np.float32)
    angle, wave_length = rng.uniform(0, np.pi), rng.uniform(5, 9)
    along = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / wave_length
    waves = 2.2 * np.sin(along + 2.5 * smooth_noise(rng, size, 16)) + 1.5 * smooth_noise(rng, size, 3)
    waves += 5 * smooth_noise(rng, size, 45)
    surface = share[..., None] * shallow + (1 - share[..., None]) * deep + waves[..., None]
    image[water] = surface[water]


def paint_yards(rng: np.random.Generator, image: np.ndarray, buildings: np.ndarray, free: np.ndarray) -> None:
    """Lawn or trodden earth around `buildings`, where the land is `free`; both (S, S) bool."""
    near = cv2.dilate(buildings.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool) & free
    lawn = np.clip(0.6 + smooth_noise(rng, len(image), 22), 0, 1)[near][:, None]
    ground = lawn * np.array((104, 124, 68), np.float32) + (1 - lawn) * np.array((150, 136, 112), np.float32)
    texture = 1 + 0.05 * smooth_noise(rng, len(image), 3)[near][:, None]
    image[near] = 0.25 * image[near] + 0.75 * ground * texture


def paint_crowns(
    rng: np.random.Generator, image: np.ndarray, density: np.ndarray, keep_out: np.ndarray, sun: np.ndarray
) -> np.ndarray:
    """Grows trees seen from above: round crowns, lit from the sun's side, dark gaps between them.

    Args:
        rng: Source of all randomness.
        image: (S, S, 3), painted in place.
        density: (S, S) chance that a tree stands here.
        keep_out: (S, S) bool; crowns never cover these pixels.
        sun: (2,) unit vector in the image towards the sun.

    Returns:
        (S, S) bool, the pixels under trees.
    """
    size = len(image)
    spacing = int(rng.integers(6, 9))
    steps = np.arange(-(-size // spacing))
    jitter = rng.uniform(0, spacing, (2, len(steps), len(steps)))
    rows, columns = (
        np.minimum(steps[:, None] * spacing + jitter[0], size - 1).astype(int),
        np.minimum(steps * spacing + jitter[1], size - 1).astype(int),
    )
    seeds = np.ones((size, size), np.uint8)
    seeds[rows, columns] = 0
    distance, tree = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    count = int(tree.max()) + 1
    grows = np.zeros(count, bool)
    grows[tree[rows, columns]] = rng.random(rows.shape) < density[rows, columns]
    radius = rng.uniform(0.5, 0.85, count).astype(np.float32) * spacing
    crown = grows[tree] & (distance < radius[tree])
    forest = cv2.morphologyEx(crown.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).astype(bool)
    forest &= ~keep_out

    height = np.sqrt(np.clip(1 - (distance / radius[tree]) ** 2, 0, 1)) * crown
    slope = sun[0] * cv2.Sobel(height, cv2.CV_32F, 1, 0) + sun[1] * cv2.Sobel(height, cv2.CV_32F, 0, 1)
    light = 0.5 + 0.5 * height - 0.09 * slope + 0.06 * smooth_noise(rng, size, 2)
    kinds = LEAVES[rng.integers(len(LEAVES), size=2)]
    leaves = kinds[rng.integers(2, size=count)] * rng.normal(1.1, 0.12, (count, 1)).astype(np.float32)
    image[forest] = leaves[tree[forest]] * light[forest][:, None]
    return forest


def cast_shadow(image: np.ndarray, tall: np.ndarray, sun: np.ndarray, length: int) -> None:
    """Darkens the `length` pixels behind everything `tall` (S, S) bool, as seen from the sun."""
    towards_sun = np.zeros((2 * length + 1, 2 * length + 1), np.uint8)
    tip = np.round(length + length * sun).astype(int)
    cv2.line(towards_sun, (length, length), (int(tip[0]), int(tip[1])), 1)
    shaded = cv2.dilate(tall.astype(np.uint8), towards_sun).astype(bool) & ~tall
    image[shaded] *= SHADOW


def expose(rng: np.random.Generator, image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What the camera makes of the land: uneven light, perhaps a cloud's shadow, colour cast, haze, blur, noise.

    Returns:
        (S, S, 3) uint8.
    """
    size = len(image)
    angle = rng.uniform(0, 2 * np.pi)
    gain = 1 + rng.uniform(0.05, 0.22) * ((x * np.cos(angle) + y * np.sin(angle)) / size - 0.3)
    gain += 0.05 * smooth_noise(rng, size, 120)
    if rng.random() < 0.3:
        cloud = 1 / (1 + np.exp(-4 * (smooth_noise(rng, size, 110) - 0.8)))
        gain *= 1 - 0.45 * cloud
    colour_cast = rng.normal(1, 0.05, 3) * rng.uniform(0.85, 1.2)
    image = image * (gain[..., None] * colour_cast).astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.75))
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2.5, 6))
    haze = np.float32(rng.uniform(0, 0.16))
    image = image * (1 - haze) + haze * np.array((178, 188, 200), np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def void_area(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a mosaic has no data, (S, S) bool: often a wedge along an edge, now and then a narrow seam."""
    size = len(x)
    void = np.zeros((size, size), bool)
    if rng.random() < 0.55:
        side = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.13)  # nearly parallel to an edge
        outwards = (x - size / 2) * np.cos(side) + (y - size / 2) * np.sin(side)
        void |= outwards > size * rng.uniform(0.44, 0.5)
    if rng.random() < 0.2:
        across = rng.uniform(0, np.pi)
        offset = (x - size / 2) * np.cos(across) + (y - size / 2) * np.sin(across) - rng.uniform(-0.4, 0.4) * size
        void |= np.abs(offset + 1.5 * smooth_noise(rng, size, 30)) < rng.uniform(0.8, 1.8)
    return void
