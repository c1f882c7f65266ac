"""The generated scenes as multi-label data: attributes of a place that overlap, made from the scenes' classes.

`near_water` is of a place and not of a thing: it lies over fields and roads as well, and where the scene's nodata area
is so near that water may lie in it, it is void while the other attributes are not.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_tools.scenes.objects import BOAT, BUILDING, FIELD, FOREST, ROAD, SOLAR_PANEL, WATER
from seg.labels import LabelSet

NEAR = 16  # pixels; wider than a boat, narrower than a field

# An attribute is present where the scene has one of its classes.
CLASSES = {
    "vegetation": (FIELD, FOREST),
    "trees": (FOREST,),
    "built": (ROAD, BUILDING, SOLAR_PANEL),
    "water_surface": (WATER, BOAT),
    "small_object": (BOAT, SOLAR_PANEL),
}
ATTRIBUTE_LABELS = LabelSet(
    names=(*CLASSES, "near_water"),
    colours=((170, 200, 90), (30, 110, 50), (205, 84, 62), (66, 135, 214), (255, 90, 200), (90, 220, 220)),
    multi_label=True,
)


def scene_attributes(mask: np.ndarray) -> np.ndarray:
    """The attributes of a scene.

    Args:
        mask: (H, W) uint8 of `data_tools.scenes.scene.SCENE_LABELS`' indices, 255 where the image has no data.

    Returns:
        (H, W, 6) uint8 of `ATTRIBUTE_LABELS`: 0, 1, and 255 where an attribute is not known. `near_water` is present at
        most `NEAR` pixels from the water's surface, on land.
    """
    void = mask == ATTRIBUTE_LABELS.ignore_index
    planes = [np.isin(mask, classes).astype(np.uint8) for classes in CLASSES.values()]
    water = planes[list(CLASSES).index("water_surface")] == 1
    near = (_distance(water) <= NEAR) & ~water
    planes.append(near.astype(np.uint8))
    attributes = np.stack(planes, axis=-1)
    attributes[void] = ATTRIBUTE_LABELS.ignore_index
    perhaps = ~near & ~water & (_distance(void) <= NEAR)
    attributes[perhaps, -1] = ATTRIBUTE_LABELS.ignore_index
    return attributes


def _distance(region: np.ndarray) -> np.ndarray:
    """(H, W) float32: pixels to the nearest pixel of `region`, (H, W) bool; infinite where it is empty."""
    if not region.any():
        return np.full(region.shape, np.inf, np.float32)
    return cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
