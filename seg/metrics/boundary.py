"""Boundary F1: how well predicted class boundaries lie on the labelled ones."""

from __future__ import annotations

import cv2
import numpy as np

from seg.metrics.iou import ratio

COUNTS = ("predicted_matched", "predicted", "labelled_matched", "labelled")


def boundary_counts(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int, *, ignore_index: int = 255, tolerance: int = 2
) -> np.ndarray:
    """Boundary pixels of one image and those that have a partner, per class.

    A pixel is on the boundary of its class if one of its 4 neighbours in the image is of another class (void is none,
    and the image's frame is no boundary). A predicted boundary pixel of class c is matched if a labelled boundary pixel
    of class c lies within a Euclidean distance of `tolerance` pixels, and the other way round: matching by dilation
    with a disc, as DAVIS does (Perazzi et al., CVPR 2016), not one to one.

    Near void pixels nobody knows where the boundary runs. So only boundary pixels farther than `tolerance` (and at
    least 1) from every void pixel are counted, in labels and predictions alike: everything that could match them is
    known. Boundaries nearer to void may still match others.

    Counts of images add up; `boundary_scores` makes F1 of the sums. The time does not depend on the number of classes:
    the boundary pixels of all classes are looked up together, one offset of the disc after another.

    Args:
        labels: (H, W) uint8 class indices or `ignore_index`.
        predictions: (H, W) uint8 class indices; those at void pixels form boundaries, too.
        num_classes: C, at most 255.
        ignore_index: The label of void pixels.
        tolerance: Pixels, 0 or more.

    Returns:
        (C, 4) int64, columns as in `COUNTS`.

    Raises:
        ValueError: `tolerance` is negative, or the arrays are not of one shape (H, W) and uint8.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance: got {tolerance}, allowed: 0 or more pixels")
    if labels.ndim != 2 or labels.shape != predictions.shape or not labels.dtype == predictions.dtype == np.uint8:
        raise ValueError(
            f"got labels {labels.dtype} of shape {labels.shape} and predictions {predictions.dtype} of "
            f"{predictions.shape}, allowed: uint8 of one shape (H, W)"
        )
    void = labels == ignore_index
    judged = ~_within(void, max(tolerance, 1))
    edges = {"labelled": _boundary(labels, ignore_index), "predicted": _boundary(predictions, None)}
    maps = {"labelled": labels, "predicted": predictions}
    counts = np.zeros((num_classes, len(COUNTS)), np.int64)
    for column, (own, other) in enumerate([("predicted", "labelled"), ("labelled", "predicted")]):
        places = np.flatnonzero(edges[own] & judged)
        classes = maps[own].ravel()[places]
        matched = _has_partner(places, classes, maps[other], edges[other], tolerance)
        counts[:, 2 * column] = np.bincount(classes[matched], minlength=num_classes)[:num_classes]
        counts[:, 2 * column + 1] = np.bincount(classes, minlength=num_classes)[:num_classes]
    return counts


def boundary_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Boundary precision, recall and F1 of summed counts.

    precision = matched / predicted boundary pixels, recall = matched / labelled boundary pixels, F1 = 2 P R / (P + R).
    G. Csurka, D. Larlus, F. Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013, which
    averages the F1 of images; here it is of the sums over a split, so that an image counts by its boundaries' length.

    Args:
        counts: (..., C, 4) integers, see `boundary_counts`.

    Returns:
        `boundary_precision`, `boundary_recall` and `boundary_f1`, each (..., C) float64. NaN where a class has no
        boundary pixel in labels and predictions; F1 is 0 where it has some on one side only.
    """
    predicted_matched, predicted, labelled_matched, labelled = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    precision, recall = ratio(predicted_matched, predicted), ratio(labelled_matched, labelled)
    both = np.nan_to_num(precision) + np.nan_to_num(recall)
    f1 = ratio(2 * np.nan_to_num(precision) * np.nan_to_num(recall), both)
    f1[(both == 0) & (predicted + labelled > 0)] = 0.0
    return {"boundary_precision": precision, "boundary_recall": recall, "boundary_f1": f1}


def _boundary(mask: np.ndarray, ignore_index: int | None) -> np.ndarray:
    """(H, W) bool: pixels with a 4-neighbour of another class; neither of the two may be void."""
    edge = np.zeros(mask.shape, bool)
    for here, there in ((np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = mask[here] != mask[there]
        if ignore_index is not None:
            differ &= (mask[here] != ignore_index) & (mask[there] != ignore_index)
        edge[here] |= differ
        edge[there] |= differ
    return edge


def _has_partner(
    places: np.ndarray, classes: np.ndarray, other: np.ndarray, other_edge: np.ndarray, tolerance: int
) -> np.ndarray:
    """(K,) bool: whether a boundary pixel of the same class lies within `tolerance` of each place in the other map."""
    height, width = other.shape
    padded_width = width + 2 * tolerance
    # 1 + class at the other map's boundary pixels, 0 elsewhere and in a frame that every offset stays in.
    padded = np.zeros((height + 2 * tolerance, padded_width), np.uint16)
    inner = padded[tolerance : tolerance + height, tolerance : tolerance + width]
    np.multiply(other, other_edge, out=inner, dtype=np.uint16)
    inner += other_edge
    flat = padded.ravel()
    rows, columns = np.divmod(places, width)
    centres = (rows + tolerance) * padded_width + columns + tolerance
    wanted = classes.astype(np.uint16) + 1
    matched = np.zeros(len(places), bool)
    open_ = np.arange(len(places))
    for row, column in _disc(tolerance):  # nearest first: most places are done after a few
        hit = flat[centres[open_] + row * padded_width + column] == wanted[open_]
        matched[open_[hit]] = True
        open_ = open_[~hit]
    return matched


def _disc(radius: int) -> list[tuple[int, int]]:
    """(row, column) offsets at most `radius` away, nearest first."""
    reach = range(-radius, radius + 1)
    offsets = [(row, column) for row in reach for column in reach if row * row + column * column <= radius * radius]
    return sorted(offsets, key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset))


def _within(pixels: np.ndarray, radius: int) -> np.ndarray:
    """(H, W) bool: pixels at most `radius` from one of `pixels`."""
    if not pixels.any():
        return pixels
    distance = cv2.distanceTransform((~pixels).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance < radius + 1e-3  # float32 roots of whole numbers: the next is at least 1 / (2 radius + 1) away
