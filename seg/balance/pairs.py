"""Images and masks read together: the class counts of the masks and the band statistics of the images in one pass.

A pixel whose bands are all missing in the image is void, as it is in training; so these counts can be lower than those
of the masks alone (`seg.balance.counting`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg.balance.counting import Progress, count_masks
from seg.balance.counts import ClassCounts, fingerprint_files
from seg.balance.partial import completed
from seg.data.files.reading import read_values, reader, stored_blocks
from seg.data.files.storage import File
from seg.data.files.stored import Bands
from seg.data.files.windows import Window
from seg.data.masks.counts import mask_pixels
from seg.data.masks.reading import MaskEncoding, read_mask_and_snapped
from seg.data.samples.pairs import Sample
from seg.data.views.band_statistics import BandCounter, BandStatistics
from seg.data.views.clip import Clip
from seg.errors import DataError
from seg.labels import LabelSet


def count_pairs(
    samples: Sequence[Sample],
    labels: LabelSet,
    encoding: MaskEncoding,
    *,
    root: Path,
    bands: Bands,
    nodata: float | None = None,
    clip: Clip | None = None,
    with_statistics: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[ClassCounts, BandStatistics | None]:
    """Counts images and masks, by blocks of what is large.

    Args:
        samples: The pairs.
        labels: Class names and ignore_index.
        encoding: How the masks store classes.
        root: What the fingerprints' paths are relative to.
        bands: Number of bands, or the numbers of those to use.
        nodata: The value that means no data; None: the one that a raster names.
        clip: What the statistics clip, or None.
        with_statistics: False counts the classes only, and looks into images for missing pixels.
        workers: Threads; default: one per CPU.
        progress: As in `count_masks`.

    Returns:
        The class counts, without a pixel for multi-label classes, and the statistics of the labelled pixels or None.

    Raises:
        DataError: A file cannot be read, sizes differ, or there is nothing to compute a figure from.
    """
    bands_counter = BandCounter(bands, clip) if with_statistics else None
    waiting: dict[File, list[tuple[int, Sample]]] = {}
    for index, sample in reversed(list(enumerate(samples))):
        waiting.setdefault(sample.mask, []).append((index, sample))
    lock = threading.Lock()

    def count_pair(mask_file: File, labels: LabelSet, encoding: MaskEncoding) -> tuple[np.ndarray, int]:
        with lock:  # images may share a mask, which is then counted once for each
            index, sample = waiting[mask_file].pop()
        by_window = encoding.reader(mask_file).block is not None
        stored, snapped = (None, 0) if by_window else read_mask_and_snapped(mask_file, labels, encoding)
        counts = np.zeros(3 * labels.num_classes if labels.multi_label else labels.num_classes + 1, np.int64)
        for window in (None,) if encoding.whole else stored_blocks(reader(sample.image)):
            values, missing = read_values(sample.image, bands, window, nodata)
            if stored is not None:
                mask = _part(stored, window)
            else:
                mask, part_snapped = read_mask_and_snapped(mask_file, labels, encoding, window)
                snapped += part_snapped
            if mask.shape[:2] != values.shape[:2]:
                raise DataError(f"{sample.image} and its mask {mask_file} differ in size; allowed: the same size")
            valid = np.broadcast_to(~labels.void(mask)[..., None], values.shape)
            if missing is not None:
                valid = valid & ~missing
                mask = mask.copy()
                mask[missing.all(axis=2)] = labels.ignore_index
            if not labels.multi_label:  # whose classes are not counted here
                counts += mask_pixels(encoding.as_seen(np.ascontiguousarray(mask)), labels)
            if bands_counter is not None:
                bands_counter.add(index, sample.image, values, valid)
        return counts, snapped

    masks = [sample.mask for sample in samples]
    counts = count_masks(masks, labels, encoding, root=root, workers=workers, counter=count_pair, progress=progress)
    counts = completed(counts, masks, labels, encoding)
    if bands_counter is None:
        return counts, None
    return counts, bands_counter.statistics(fingerprint_pairs(samples, root))


def fingerprint_pairs(samples: Sequence[Sample], root: Path) -> str:
    """Of the images and the masks; see `fingerprint_files`."""
    return fingerprint_files([file for sample in samples for file in (sample.image, sample.mask)], root)


def _part(mask: np.ndarray, window: Window | None) -> np.ndarray:
    return mask if window is None else mask[window.slices]
