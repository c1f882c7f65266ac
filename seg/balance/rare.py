"""Which classes are rare."""

from __future__ import annotations

import numpy as np

from seg.balance.counts import ClassCounts

RARE_SHARE = 0.01  # of the labelled pixels


def rare_classes(counts: ClassCounts, share: float = RARE_SHARE) -> list[int]:
    """The classes that are present with a share of the labelled pixels below `share`, rarest first; else the rarest
    present class."""
    pixels, labelled = counts.pixel_counts, counts.labelled_pixels
    order = [index for index in np.argsort(pixels, kind="stable").tolist() if pixels[index] > 0]
    return [index for index in order if pixels[index] < share * labelled[index]] or order[:1]


def classes_below(counts: ClassCounts, share: float) -> list[int]:
    """The classes with less than `share` of the labelled pixels, those without any too, rarest first; none where
    nothing was counted. What TensorBoard and `training.monitor` call rare."""
    if not counts.pixel_counts.any():
        return []
    order = np.argsort(counts.frequencies, kind="stable").tolist()
    return [index for index in order if counts.frequencies[index] < share]
