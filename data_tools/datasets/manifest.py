"""A pool of samples to a manifest of splits: what `data_tools.split_dataset` does, without its command line."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.datasets.dealing import (
    LEFT_OUT,
    blocks_of,
    check_feasible,
    grouped,
    presence_labels,
    random_split,
    shared_pixels,
    stratified_split,
    within_buffer,
)
from seg.data.files.storage import File, LimitedMask, holder, mask_file, write_bytes
from seg.data.files.threads import in_order
from seg.data.masks.counts import count_pixels, load_fast_counter
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.data.masks.values import telling_all_values
from seg.data.samples.pairs import SPLITS, Sample
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet
from seg.tables import Table

TILE_COLUMNS = ("image", "mask", "group", "tile_row", "tile_col", "row", "col", "height", "width")


@dataclass(frozen=True)
class Pool:
    """Samples without a split.

    Attributes:
        samples: Each with its group, "" for none.
        root: What a manifest's paths are relative to.
        positions: (n, 2) rows and columns in tiles, for blocks; None: not known.
        sources: What each tile was cut from; tiles of two sources are no neighbours.
        rectangles: (n, 4) first row and column, height and width in pixels of the source; None: not known.
    """

    samples: list[Sample]
    root: Path
    positions: np.ndarray | None = None
    sources: tuple[str, ...] = ()
    rectangles: np.ndarray | None = None

    @property
    def names(self) -> list[str]:
        """Each image's path relative to `root`, without its suffix, with forward slashes."""
        return [
            Path(os.path.relpath(whole_file(one.image), self.root)).with_suffix("").as_posix() for one in self.samples
        ]


def whole_file(file: File) -> Path:
    """The file of an image or mask.

    Raises:
        DataError: It is a slice of a volume, which no manifest can name.
    """
    path, file = holder(file), mask_file(file)
    if path is not file or not isinstance(path, Path):
        raise DataError(
            f"{path}: is a volume, allowed: images and masks in files of their own; "
            "data: {name: fractions} splits volumes, each kept whole"
        )
    return path


@dataclass(frozen=True)
class Assignment:
    """Where each sample goes.

    Attributes:
        splits: (n,) int64: an index of `names`, or `LEFT_OUT`.
        names: The splits.
        groups: The group of each sample; "" for none.
        counts: (n, C + 1) pixels of each class in each mask, then void.
        warnings: Sentences for the user.
    """

    splits: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...]
    counts: np.ndarray
    warnings: tuple[str, ...]

    def shares(self) -> np.ndarray:
        """(S, C) each class's share of the labelled pixels of each split; NaN where none is labelled."""
        sums = np.array([self.counts[self.splits == split, :-1].sum(axis=0) for split in range(len(self.names))])
        with np.errstate(invalid="ignore"):
            return sums / sums.sum(axis=1, keepdims=True)

    def images(self) -> np.ndarray:
        """(S, C) images of each split that have each class."""
        present = self.counts[:, :-1] > 0
        return np.array([present[self.splits == split].sum(axis=0) for split in range(len(self.names))])


def count_samples(
    samples: Sequence[Sample],
    labels: LabelSet,
    encoding: MaskEncoding,
    *,
    threads: int | None = None,
    progress: Callable[[], None] | None = None,
) -> np.ndarray:
    """(n, C + 1) int64: the pixels of each class in each mask, then void; 0 void where classes may overlap.

    Raises:
        DataError: A mask cannot be read.
    """
    load_fast_counter()

    def count(sample: Sample) -> np.ndarray:
        if labels.multi_label:
            return np.append((read_mask(sample.mask, labels, encoding) == 1).sum(axis=(0, 1)), 0)
        return count_pixels(sample.mask, labels, encoding)

    counts = []
    with telling_all_values([sample.mask for sample in samples], labels, encoding):
        for one in in_order(count, samples, threads or os.cpu_count() or 1):
            counts.append(one)
            if progress is not None:
                progress()
    return np.array(counts)


def assign_splits(
    pool: Pool,
    counts: np.ndarray,
    labels: LabelSet,
    fractions: dict[str, float],
    *,
    seed: int,
    stratified: bool = True,
    levels: int = 4,
    block: int | None = None,
    buffer: int = 0,
) -> Assignment:
    """Deals the samples out.

    Args:
        pool: The samples; their groups stay together, or their blocks if `block` is given.
        counts: (n, C + 1) from `count_samples`.
        labels: The classes.
        fractions: The share of samples of each split, summing to 1; those of 0 get none.
        seed: Fixes the draws.
        stratified: By class presence; else at random.
        levels: See `data_tools.datasets.dealing.presence_labels`.
        block: Side of a block in tiles; None: no blocks.
        buffer: See `data_tools.datasets.dealing.within_buffer`.

    Raises:
        DataError: Fewer groups than splits, tiles of two splits share pixels, or a split is left without samples.
        ConfigError: `block` without positions.
    """
    names = tuple(split for split in SPLITS if fractions.get(split))
    groups = [sample.group for sample in pool.samples]
    if block is not None:
        if pool.positions is None:
            raise ConfigError("--block: the tiles' places are not known, allowed: with --position or --tiles")
        groups = blocks_of(pool.sources, pool.positions, block)
    units, unit_names = grouped(groups)
    check_feasible(len(unit_names), len(names))
    sizes = np.bincount(units)
    shares = [fractions[split] for split in names]
    if stratified:
        found = presence_labels(counts[:, :-1], levels)
        presence = np.zeros((len(sizes), found.shape[1]), np.int64)
        np.add.at(presence, units, found)
        of_unit = stratified_split(presence, sizes, shares, seed)
    else:
        of_unit = random_split(sizes, shares, seed)
    splits = of_unit[units]
    if buffer and pool.positions is not None:
        splits = np.where(within_buffer(pool.sources, pool.positions, splits, buffer), LEFT_OUT, splits)
    _check(pool, splits, names)
    assignment = Assignment(splits, names, tuple(groups), counts, ())
    warnings = _warnings(assignment, units, labels)
    return Assignment(splits, names, tuple(groups), counts, tuple(warnings))


def write_manifest(path: Path, pool: Pool, assignment: Assignment) -> list[str]:
    """Writes the CSV that `data: {name: table}` reads; returns the names of what was left out, which also go to a CSV
    beside it, NAME.left_out.csv."""
    rows, left_out = [], []
    limited = any(isinstance(sample.mask, LimitedMask) for sample in pool.samples)
    for name, sample, split, group in zip(pool.names, pool.samples, assignment.splits, assignment.groups, strict=True):
        image, mask, *valid = (Path(os.path.relpath(whole_file(file), pool.root)).as_posix() for file in sample.files)
        if split == LEFT_OUT:
            left_out.append((name, image, mask, group))
        else:
            rows.append((image, mask, assignment.names[split], group, *([*valid, ""][:1] if limited else [])))
    columns = ("image", "mask", "split", "group", *(["valid"] if limited else []))
    write_bytes(path, Table(columns, rows).csv().encode())
    beside = left_out_file(path)
    if left_out:
        write_bytes(beside, Table(("image", "mask", "group"), [row[1:] for row in left_out]).csv().encode())
    else:
        beside.unlink(missing_ok=True)  # of a manifest that is replaced
    return [row[0] for row in left_out]


def left_out_file(path: Path) -> Path:
    """Beside a manifest: the samples that are in no split."""
    return path.with_suffix(".left_out.csv")


def read_tiles(path: Path) -> Pool:
    """The pool of a manifest that `data_tools.tile_rasters` wrote; paths in it are relative to its folder.

    Raises:
        DataError: It cannot be read, or lacks a column or a cell.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    missing = [name for name in TILE_COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise DataError(
            f"{path}: has no {', '.join(missing)}; allowed: a manifest of data_tools.tile_rasters with masks"
        )
    try:
        numbers = np.array([[int(row[name]) for name in TILE_COLUMNS[3:]] for row in rows], np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: a place is no whole number ({error})") from None
    if not all(row["mask"] for row in rows):
        raise DataError(f"{path}: a tile has no mask, allowed: tiles of pairs")
    samples = [Sample(path.parent / row["image"], path.parent / row["mask"], row["group"]) for row in rows]
    return Pool(samples, path.parent, numbers[:, :2], tuple(row["group"] for row in rows), numbers[:, 2:])


def _check(pool: Pool, splits: np.ndarray, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if not (splits == index).any():
            raise DataError(f"split '{name}' is left without samples, allowed: smaller blocks, groups or buffer")
    if pool.rectangles is None or pool.positions is None:
        return
    shared = shared_pixels(pool.sources, pool.positions, pool.rectangles, splits)
    if shared:
        one, other = (pool.names[index] for index in shared[0])
        raise DataError(
            f"{len(shared)} pair(s) of tiles in different splits have pixels in common, as {one} and {other}; "
            "allowed: --block with --buffer 1 (2 where tiles overlap by more than half), or --group by source"
        )


def _warnings(assignment: Assignment, units: np.ndarray, labels: LabelSet) -> list[str]:
    warnings = []
    present = assignment.counts[:, :-1] > 0
    images = assignment.images()
    for index, label in enumerate(labels.names):
        missing = [name for name, count in zip(assignment.names, images[:, index].tolist(), strict=True) if not count]
        if not present[:, index].any():
            warnings.append(f"class '{label}' is in no mask")
        elif missing:
            holders = len(np.unique(units[present[:, index]]))
            why = ""
            if holders < len(assignment.names):
                what = "image" if len(np.unique(units)) == len(units) else "group"
                several = "s" if holders > 1 else ""
                why = f": it is in {holders} {what}{several}, fewer than the {len(assignment.names)} splits"
            warnings.append(f"class '{label}' is missing from {' and '.join(missing)}{why}")
    return warnings
