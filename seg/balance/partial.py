"""Class counts where some masks were annotated for a part of the classes: how the rest is shared out.

A pixel of a set S is one of the set's classes. The shares p_c of all classes that make the masks most likely maximise
sum_c n_c log p_c + sum_S m_S log sum_{c in S} p_c, n_c the pixels known to be of class c and m_S those of set S. They
are the fixed point of sharing out each set by the shares themselves, p_c = (n_c + sum_S m_S p_c / p_S) / N.

A. Dempster, N. Laird, D. Rubin, "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 39, 1977.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from seg.balance.counts import ClassCounts
from seg.data.files.storage import File, LimitedMask
from seg.data.files.threads import in_order
from seg.data.masks.counts import value_counts
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.labels import LabelSet

ROUNDS = 10_000
SETTLED = 1e-9  # of all pixels: what a round moves at most, once it is the last


def completed(counts: ClassCounts, masks: Sequence[File], labels: LabelSet, encoding: MaskEncoding) -> ClassCounts:
    """The counts with the pixels of sets shared out, which counted as void; the same counts without `labels.partial`.

    Images that hold a class are scaled from those in which it was annotated to all; a class that was annotated nowhere
    is taken to be in every image.

    Raises:
        DataError: A mask cannot be read.
    """
    if not labels.partial:
        return counts
    partly = [mask for mask in masks if isinstance(mask, LimitedMask) and mask.annotated is not None]

    def of_sets(mask: File) -> np.ndarray:
        return value_counts(encoding.as_seen(read_mask(mask, labels, encoding)))[list(labels.codes)]

    sets = sum(in_order(of_sets, partly, os.cpu_count() or 1), np.zeros(len(labels.codes), np.int64))
    pixels = shared_out(counts.pixel_counts, sets, [classes for _, classes in labels.sets])
    listed = np.array([
        len(masks) - len(partly) + sum(name in (mask.annotated or ()) for mask in partly
                                       if isinstance(mask, LimitedMask))
        for name in labels.names
    ])  # fmt: skip
    images = np.where(listed > 0, counts.image_counts * counts.num_images / np.maximum(listed, 1), counts.num_images)
    images = np.clip(np.rint(images), 1, np.minimum(pixels, counts.num_images))
    images = np.where(pixels > 0, images, 0).astype(np.int64)
    of_image = pixels.sum() / max(counts.num_images, 1)
    image_pixels = np.where(pixels > 0, np.maximum(pixels, np.rint(images * of_image)), 0).astype(np.int64)
    void = counts.void_pixels - int(sets.sum())
    return replace(counts, pixel_counts=pixels, image_counts=images, image_pixels=image_pixels, void_pixels=void)


def shared_out(known: np.ndarray, sets: np.ndarray, classes: Sequence[Sequence[int]]) -> np.ndarray:
    """(C,) int64: the expected pixels of each class, rounded.

    Args:
        known: (C,) pixels of each class.
        sets: (K,) pixels of each set.
        classes: The classes of each set.
    """
    member = np.zeros((len(classes), len(known)))
    for row, some in zip(member, classes, strict=True):
        row[list(some)] = 1
    total = known.sum() + sets.sum()
    expected = known + sets @ (member / member.sum(axis=1, keepdims=True))
    for _ in range(ROUNDS):
        of_set = member * expected  # (K, C)
        sums = of_set.sum(axis=1, keepdims=True)
        shares = np.divide(of_set, sums, out=np.zeros_like(of_set), where=sums > 0)
        before, expected = expected, known + sets @ shares
        if np.abs(expected - before).max() <= SETTLED * total:
            break
    return np.rint(expected).astype(np.int64)
