"""How fast masks are counted: the common loops against seg.balance.count_masks, in one run.

python -m experiments.benchmarks.mask_counting [--masks 100] [--size 512]

Every round times every variant once, so that a busy moment of the machine hits all of them; medians of the rounds.
All variants must agree on every count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from seg.balance import count_masks
from seg.data.masks import IndexEncoding, write_mask
from seg.labels import LabelSet

NUM_CLASSES = 8
ROUNDS = 5
LABELS = LabelSet.from_names([f"class_{index}" for index in range(NUM_CLASSES)])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the comparison and prints one table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.mask_counting", description=__doc__)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        masks = _write_masks(Path(folder), arguments.masks, arguments.size)
        variants: dict[str, Callable[[], np.ndarray]] = {
            "PIL + np.unique": partial(_pil_unique, masks),
            "cv2 + np.bincount": partial(_cv2_bincount, masks),
            "count_masks, 1 thread": partial(_ours, masks, 1),
            "count_masks, 2 threads": partial(_ours, masks, 2),
        }
        _print_table(_time(variants), arguments.masks, arguments.size)
    return 0


def _write_masks(folder: Path, count: int, size: int) -> list[Path]:
    """Blobs with smooth borders and a void strip, which compress about as well as drawn masks do."""
    generator = np.random.default_rng(0)
    masks = []
    for index in range(count):
        noise = generator.random((16, 16, NUM_CLASSES), np.float32)
        mask = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC).argmax(axis=-1).astype(np.uint8)
        mask[:, :4] = LABELS.ignore_index
        masks.append(folder / f"{index:05}.png")
        write_mask(masks[-1], mask)
    return masks


def _pil_unique(masks: list[Path]) -> np.ndarray:
    counts = np.zeros(256, np.int64)
    for path in masks:
        values, occurrences = np.unique(np.array(Image.open(path)), return_counts=True)
        counts[values] += occurrences
    return counts[:NUM_CLASSES]


def _cv2_bincount(masks: list[Path]) -> np.ndarray:
    counts = np.zeros(256, np.int64)
    for path in masks:
        mask = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        counts += np.bincount(mask.ravel(), minlength=256)
    return counts[:NUM_CLASSES]


def _ours(masks: list[Path], workers: int) -> np.ndarray:
    return count_masks(masks, LABELS, IndexEncoding(), workers=workers).pixel_counts


def _time(variants: dict[str, Callable[[], np.ndarray]]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    expected = None
    for _ in range(ROUNDS):
        for name, variant in variants.items():
            start = time.perf_counter()
            counts = variant()
            seconds[name].append(time.perf_counter() - start)
            expected = counts if expected is None else expected
            if not np.array_equal(counts, expected):
                raise AssertionError(f"{name} counts {counts}, the others {expected}")
    return {name: statistics.median(times) for name, times in seconds.items()}


def _print_table(medians: dict[str, float], masks: int, size: int) -> None:
    first, second = list(medians.values())[:2]
    table = Table(title=f"{masks} masks of {size} x {size}, median of {ROUNDS}")
    table.add_column("variant")
    for heading in ("ms / mask", "Mpx/s", "x PIL + np.unique", "x cv2 + np.bincount"):
        table.add_column(heading, justify="right")
    for name, seconds in medians.items():
        table.add_row(
            name,
            f"{1000 * seconds / masks:.2f}",
            f"{masks * size * size / seconds / 1e6:.0f}",
            f"{first / seconds:.2f}",
            f"{second / seconds:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
