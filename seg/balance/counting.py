"""Mask files -> class counts and statistics, in one streaming pass.

A thread pool reads and counts (both release the GIL) and hands back a few hundred numbers a file, so memory does not
grow with the number of masks.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from seg.balance.cache import CountCache
from seg.balance.counts import AbsentCounts, ClassCounts, file_hash, fingerprint_digits
from seg.balance.statistics import RICHEST, FileCounts, MaskStatistics, area_counts, richest
from seg.data.files.storage import File, common_folder, file_state, relative_name
from seg.data.files.threads import in_order
from seg.data.masks.counts import components, count_pixels_and_snapped, load_fast_counter, mask_pixels
from seg.data.masks.planes import count_planes
from seg.data.masks.reading import MaskEncoding, read_mask_and_snapped
from seg.errors import DataError
from seg.labels import LabelSet

BUNDLE = 16  # masks a task, at most: handing over a task costs as much as counting a small mask
SWITCH_SECONDS = 2e-4
WORTH_LOADING = 50 * 512 * 512  # pixels in all masks; fewer are counted before the fast counter is there
OnError = Literal["stop", "skip"]
Progress = Callable[[int, int], None]
# A mask to its pixels as `FileCounts` has them and the pixels that its encoding snapped, as `count_file` does.
PixelCounter = Callable[[File, LabelSet, MaskEncoding], tuple[np.ndarray, int]]


def count_file(mask: File, labels: LabelSet, encoding: MaskEncoding) -> tuple[np.ndarray, int]:
    """The pixels of one mask as `FileCounts` has them, and those that the encoding snapped to a class.

    Raises:
        DataError: The mask cannot be read or holds a value that is no class.
    """
    if not labels.multi_label:
        return count_pixels_and_snapped(mask, labels, encoding)
    absent, present, void = count_planes(mask, labels, encoding).T
    return np.concatenate([present, absent, void]), 0


def count_masks(
    masks: Sequence[File],
    labels: LabelSet,
    encoding: MaskEncoding,
    *,
    root: Path | None = None,
    workers: int | None = None,
    counter: PixelCounter = count_file,
    progress: Progress | None = None,
) -> ClassCounts:
    """Counts masks in one streaming pass.

    Args:
        masks: Mask files; one listed twice counts twice.
        labels: Class names and ignore_index.
        encoding: How the files store classes.
        root: What the fingerprint's paths are relative to; default: the masks' common folder.
        workers: Threads; default: one per CPU.
        counter: Counts one mask, in any of the threads.
        progress: Called from the calling thread after every few masks with the masks and the pixels done so far.

    Raises:
        DataError: No masks, or a mask cannot be read or holds a value that is no class; names the file.

    Example:
        >>> from pathlib import Path
        >>> from seg.balance import class_weights, count_masks
        >>> from seg.data.masks.reading import IndexEncoding
        >>> from seg.labels import LabelSet
        >>> labels = LabelSet.from_names(["field", "road", "boat"], ignore_index=255)
        >>> masks = sorted(Path("masks/train").glob("*.png"))
        >>> counts = count_masks(masks, labels, IndexEncoding())  # doctest: +SKIP
        >>> class_weights(counts, "inverse_sqrt", cap=10)  # doctest: +SKIP
    """
    return collect_statistics(
        masks, labels, encoding, root=root, workers=workers, counter=counter, progress=progress
    ).counts


def collect_statistics(
    masks: Sequence[File],
    labels: LabelSet,
    encoding: MaskEncoding,
    *,
    root: Path | None = None,
    workers: int | None = None,
    with_components: bool = False,
    on_error: OnError = "stop",
    cache: CountCache | None = None,
    counter: PixelCounter = count_file,
    progress: Progress | None = None,
) -> MaskStatistics:
    """As `count_masks`, with everything else that the same pass can tell.

    Args:
        masks: Mask files; one listed twice counts twice.
        labels: Class names and ignore_index.
        encoding: How the files store classes.
        root: What the fingerprint's paths and the names of masks are relative to; default: their common folder.
        workers: Threads; default: one per CPU.
        with_components: Also measure connected components, which needs the image and costs several times as much.
        on_error: `skip` lists a mask that cannot be read under `skipped` and goes on; `stop` raises.
        cache: Where counts of files seen before are kept; None reads every file.
        counter: Counts one mask, in any of the threads, where components are not asked for.
        progress: Called from the calling thread after every few masks with the masks and the pixels done so far.

    Raises:
        DataError: No masks; with `stop`, a mask cannot be read or holds a value that is no class; names the file.
    """
    if not masks:
        raise DataError("no masks to count: the list is empty")
    return require_some(
        collect_part(
            masks,
            labels,
            encoding,
            root=root or common_folder(masks),
            workers=workers or os.cpu_count() or 1,
            with_components=with_components,
            on_error=on_error,
            cache=cache,
            counter=counter,
            progress=progress,
        )
    )


def require_some(statistics: MaskStatistics) -> MaskStatistics:
    """The statistics, unless every mask was skipped.

    Raises:
        DataError: Names the first.
    """
    if statistics.counts.num_images == 0 and statistics.skipped:
        bad = statistics.skipped
        raise DataError(f"none of the {len(bad)} masks could be read; the first: {bad[0][1]}")
    return statistics


def collect_part(
    masks: Sequence[File],
    labels: LabelSet,
    encoding: MaskEncoding,
    *,
    root: Path,
    workers: int,
    with_components: bool,
    on_error: OnError,
    cache: CountCache | None = None,
    counter: PixelCounter = count_file,
    progress: Progress | None = None,
) -> MaskStatistics:
    """`collect_statistics` of one part of the masks, all of which may be skipped."""
    total = _Accumulator(labels, encoding.description, with_components)

    def count_one(mask: File, name: str) -> FileCounts | DataError:
        try:
            return _count_file(mask, name, labels, encoding, with_components, cache, counter)
        except DataError as error:
            if on_error == "stop":
                raise
            return error

    def count_some(some: Sequence[File]) -> tuple[list[str], list[FileCounts | DataError]]:
        names = [relative_name(mask, root) for mask in some]
        return names, [count_one(mask, name) for mask, name in zip(some, names, strict=True)]

    size = min(BUNDLE, -(-len(masks) // (8 * workers)))  # of few masks every thread shall have some
    bundles = [masks[begin : begin + size] for begin in range(0, len(masks), size)]
    with _short_turns():
        for names, counted in in_order(count_some, bundles, workers):
            total.add(names, counted)
            # The masks done so far tell how large the others are.
            if not with_components and total.all_pixels * len(masks) >= WORTH_LOADING * total.files:
                load_fast_counter()
            if progress is not None:
                progress(total.files, total.all_pixels)
    if cache is not None:
        cache.flush()
    return total.statistics()


def _count_file(
    mask: File,
    name: str,
    labels: LabelSet,
    encoding: MaskEncoding,
    with_components: bool,
    cache: CountCache | None,
    counter: PixelCounter,
) -> FileCounts:
    """From the cache if it knows this very file, else from the file."""
    state = file_state(mask)
    known = cache.get(name, state, with_components) if cache else None
    if known is not None:
        return known
    if with_components:
        decoded, snapped = read_mask_and_snapped(mask, labels, encoding)
        decoded = encoding.as_seen(decoded)
        areas = tuple(area_counts(areas) for areas in components(decoded, labels.num_classes))
        counted = FileCounts(state.size, mask_pixels(decoded, labels), areas, snapped)
    else:
        pixels, snapped = counter(mask, labels, encoding)
        counted = FileCounts(state.size, pixels, snapped=snapped)
    if cache is not None and file_state(mask) == state:  # else it was written to meanwhile
        cache.put(name, state, counted)
    return counted


class _Accumulator:
    """The running sums of a pass; mutable, because a new `MaskStatistics` a file would cost more than the counting."""

    def __init__(self, labels: LabelSet, encoding: str, with_components: bool) -> None:
        classes = labels.num_classes
        self.labels, self.encoding = labels, encoding
        if labels.multi_label:
            classes *= 2  # first the present ones, then the absent ones
        self.totals = np.zeros((3, classes), np.int64)  # rows: pixels, images, labelled pixels of those images
        self.co_occurrence = np.zeros((classes, classes), np.int64)
        self.richest: list[list[tuple[int, str]]] = [[] for _ in range(classes)]
        self.areas = tuple(Counter[int]() for _ in range(classes)) if with_components else None
        self.void_pixels = np.zeros(labels.num_classes if labels.multi_label else 1, np.int64)
        self.snapped_pixels = self.fingerprint = self.files = self.all_pixels = 0
        self.skipped: list[tuple[str, str]] = []

    def add(self, names: Sequence[str], counted: Sequence[FileCounts | DataError]) -> None:
        """Takes in a few files at once: one NumPy call for all of them instead of one each."""
        self.files += len(names)
        good = []
        for name, one in zip(names, counted, strict=True):
            if isinstance(one, DataError):
                self.skipped.append((name, str(one)))
            else:
                good.append((name, one))
        if not good:
            return
        pixels = np.stack([one.pixels for _, one in good])  # (files, C + 1) or (files, 3 K)
        pixels, void = np.split(pixels, [self.totals.shape[1]], axis=1)
        self.void_pixels += void.sum(axis=0)
        self.all_pixels += int(pixels.sum() + void.sum()) // void.shape[1]
        shown = np.flatnonzero(pixels.any(axis=0))  # of many classes few are in a file
        labelled = pixels.sum(axis=1, keepdims=True)
        if self.labels.multi_label:
            labelled = (pixels + np.roll(pixels, self.labels.num_classes, axis=1))[:, shown]
        pixels = pixels[:, shown]
        present = (pixels > 0).astype(np.int64)
        self.totals[0, shown] += pixels.sum(axis=0)
        self.totals[1, shown] += present.sum(axis=0)
        self.totals[2, shown] += (labelled * present).sum(axis=0)
        self.co_occurrence[np.ix_(shown, shown)] += present.T @ present
        for column, index in enumerate(shown.tolist()):
            self._enrich(self.richest[index], pixels[:, column], [name for name, _ in good])
        for name, one in good:
            self.fingerprint += file_hash(name, one.size)
            self.snapped_pixels += one.snapped
            if self.areas is not None and one.areas is not None:
                for mine, theirs in zip(self.areas, one.areas, strict=True):
                    mine.update(theirs)

    def _enrich(self, best: list[tuple[int, str]], pixels: np.ndarray, names: Sequence[str]) -> None:
        if len(best) < RICHEST or pixels.max() >= best[-1][0]:
            best[:] = richest(
                [*best, *((count, name) for count, name in zip(pixels.tolist(), names, strict=True) if count)]
            )

    def statistics(self) -> MaskStatistics:
        classes = self.labels.num_classes
        pixel_counts, image_counts, image_pixels = self.totals[:, :classes]
        absent = None
        if self.labels.multi_label:
            pixels, images, pixels_of_images = self.totals[:, classes:]
            absent = AbsentCounts(pixels, images, pixels_of_images, self.void_pixels)
        counts = ClassCounts(
            self.labels.names,
            self.labels.ignore_index,
            self.encoding,
            pixel_counts,
            image_counts,
            image_pixels,
            int(self.void_pixels.sum()),
            self.files - len(self.skipped),
            fingerprint_digits(self.fingerprint),
            self.snapped_pixels,
            absent,
        )
        together = self.co_occurrence[:classes, :classes]
        kept = tuple(tuple(best) for best in self.richest[:classes])
        return MaskStatistics(counts, together, kept, self.areas, tuple(sorted(self.skipped)))


@contextmanager
def _short_turns() -> Iterator[None]:
    """Lets a thread that waits for Python's lock ask for it sooner: a small mask is counted in a tenth of the 5 ms that
    one waits otherwise, which would leave threads idle. Worth 10 to 25 % with two threads."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
