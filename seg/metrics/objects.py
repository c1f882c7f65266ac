"""Object recall: how many of the connected components of a class are found, by their size."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

FOUND_SHARE = 0.5  # an object is found if at least this share of its pixels is predicted as its class
SIZE_EDGES = (16, 64, 256, 1024, 4096)  # pixels; factors of 4, so each bin doubles the objects' width


def object_counts(
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[int],
    *,
    found_share: float = FOUND_SHARE,
    edges: Sequence[int] = SIZE_EDGES,
) -> np.ndarray:
    """Labelled objects of one image and those found, by class and size.

    An object is a connected component (8 neighbours) of a class's labelled pixels. It is found if at least
    `found_share` of its pixels is predicted as its class: coverage, and not the IoU with a predicted object, since
    neighbours that the prediction joins are found nevertheless. It is a recall alone: predicting the class everywhere
    finds every object, and costs precision.

    Args:
        labels: (H, W) uint8 class indices or void.
        predictions: (H, W) uint8 class indices.
        classes: The K classes that are looked at.
        found_share: In (0, 1].
        edges: Rising areas in pixels that part the E + 1 sizes; an object of an edge's area is of the larger size.

    Returns:
        (K, E + 1, 2) int64: objects, objects found. Counts of images add up.
    """
    counts = np.zeros((len(classes), len(edges) + 1, 2), np.int64)
    for row, index in enumerate(classes):
        own = cv2.inRange(labels, index, index)
        left, top, width, height = cv2.boundingRect(own)
        if not width:
            continue
        part = np.s_[top : top + height, left : left + width]
        number, components = cv2.connectedComponents(own[part], connectivity=8, ltype=cv2.CV_32S)
        areas = np.bincount(components.ravel(), minlength=number)[1:]  # 0 is the background
        hits = np.bincount(components[predictions[part] == index], minlength=number)[1:]
        sizes = np.searchsorted(edges, areas, side="right")
        found = hits >= found_share * areas
        counts[row, :, 0] = np.bincount(sizes, minlength=len(edges) + 1)
        counts[row, :, 1] = np.bincount(sizes[found], minlength=len(edges) + 1)
    return counts


def size_names(edges: Sequence[int] = SIZE_EDGES) -> list[str]:
    """`1 to 15`, `16 to 63`, ... `4096 or more`: the sizes in pixels."""
    starts = [1, *edges]
    return [f"{start} to {end - 1}" for start, end in zip(starts, edges, strict=False)] + [f"{edges[-1]} or more"]
