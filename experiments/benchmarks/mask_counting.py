"""How fast masks are counted: what people write against seg.balance.count_masks, in one run.

python -m experiments.benchmarks.mask_counting [--threads 2] [--masks DIR]

Every round times every variant once, so that a busy moment of the machine hits all of them; medians of the rounds. All
variants must agree on every count. The page cache is warm: the files were written just before. Without --masks they are
generated (blobs with smooth borders and a void strip) and written by OpenCV and by Pillow, whose encoders filter rows
differently.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import deflate
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from seg.balance import count_masks
from seg.data.files.png_histogram import parse_png
from seg.data.masks.counts import load_fast_counter
from seg.data.masks.reading import ColourEncoding, IndexEncoding, MaskEncoding, write_mask
from seg.labels import LabelSet

NUM_CLASSES = 8
ROUNDS = 5
LABELS = LabelSet.from_names([f"class_{index}" for index in range(NUM_CLASSES)])
VOID_COLOUR = (0, 0, 0)
COLOURS = ColourEncoding((VOID_COLOUR,))
SIZES = {512: 500, 2048: 40}  # side: masks; enough that a variant runs for a tenth of a second and more
Variants = dict[str, Callable[[], object]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the comparisons and prints one table each."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.mask_counting", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--masks", type=Path, metavar="DIR", help="gray 8-bit PNG masks to count instead")
    arguments = parser.parse_args(argv)
    load_fast_counter(wait=True)
    if arguments.masks:
        _compare(str(arguments.masks), sorted(arguments.masks.rglob("*.png")), arguments.threads)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for size, number in SIZES.items():
            masks = [generated_mask(size, seed) for seed in range(number)]
            for writer, write in {"OpenCV": write_mask, "Pillow": _write_with_pillow}.items():
                _compare(
                    f"{size} x {size}, written by {writer}", _written(Path(folder), masks, write), arguments.threads
                )
        colours = [LABELS.colour_table()[mask] for mask in (generated_mask(512, seed) for seed in range(60))]
        _compare_colours(_written(Path(folder), colours, _write_with_pillow), arguments.threads)
    return 0


def generated_mask(size: int, seed: int) -> np.ndarray:
    """Blobs of `NUM_CLASSES` classes with smooth borders and a void strip: (size, size) uint8."""
    noise = np.random.default_rng(seed).random((16, 16, NUM_CLASSES), np.float32)
    mask = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC).argmax(axis=-1).astype(np.uint8)
    mask[:, :4] = LABELS.ignore_index
    return mask


def _write_with_pillow(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def _written(folder: Path, masks: list[np.ndarray], write: Callable[[Path, np.ndarray], None]) -> list[Path]:
    paths = [folder / f"{index:05}.png" for index in range(len(masks))]
    for path, mask in zip(paths, masks, strict=True):
        write(path, mask)
    return paths


def _compare(title: str, masks: list[Path], threads: int) -> None:
    labels = LabelSet.from_names([f"class_{value}" for value in range(255)])  # any value is a class
    _print_table(
        f"{title} ({len(masks)} masks), {threads} threads unless said",
        {
            "PIL + np.unique, a loop": partial(_in_threads, _pil_unique, masks, 1),
            "cv2 + np.bincount, a loop": partial(_in_threads, _cv2_bincount, masks, 1),
            "cv2 + np.bincount": partial(_in_threads, _cv2_bincount, masks, threads),
            "count_masks, 1 thread": partial(_ours, masks, labels, IndexEncoding(), 1),
            "count_masks": partial(_ours, masks, labels, IndexEncoding(), threads),
        },
        {"libdeflate's inflate alone": partial(_inflate, masks, threads)},
        masks,
    )


def _compare_colours(masks: list[Path], threads: int) -> None:
    _print_table(
        f"512 x 512 RGB masks ({len(masks)} masks), {threads} threads unless said",
        {
            "PIL + np.all a colour, a loop": partial(_in_threads, _np_all, masks, 1),
            "PIL + np.all a colour": partial(_in_threads, _np_all, masks, threads),
            "count_masks, 1 thread": partial(_ours, masks, LABELS, COLOURS, 1),
            "count_masks": partial(_ours, masks, LABELS, COLOURS, threads),
        },
        {},
        masks,
    )


def _in_threads(count: Callable[[Path], np.ndarray], masks: list[Path], threads: int) -> list[int]:
    if threads == 1:
        return np.sum([count(path) for path in masks], axis=0).tolist()
    with ThreadPoolExecutor(threads) as pool:
        return np.sum(list(pool.map(count, masks)), axis=0).tolist()


def _pil_unique(path: Path) -> np.ndarray:
    counts = np.zeros(256, np.int64)
    values, occurrences = np.unique(np.array(Image.open(path)), return_counts=True)
    counts[values] += occurrences
    return counts


def _cv2_bincount(path: Path) -> np.ndarray:
    mask = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return np.bincount(mask.ravel(), minlength=256)


def _np_all(path: Path) -> np.ndarray:
    mask = np.array(Image.open(path))
    return np.array([np.all(mask == colour, axis=-1).sum() for colour in (*LABELS.colours, VOID_COLOUR)])


def _ours(masks: list[Path], labels: LabelSet, encoding: MaskEncoding, threads: int) -> list[int]:
    counts = count_masks(masks, labels, encoding, workers=threads)
    return [*counts.pixel_counts, counts.void_pixels]


def _inflate(masks: list[Path], threads: int) -> None:
    def inflate(path: Path) -> None:
        parsed = parse_png(path.read_bytes())
        if parsed is None:
            raise SystemExit(f"{path}: not an 8-bit gray PNG, the comparison would mean nothing")
        height, width, compressed, _ = parsed
        deflate.zlib_decompress(compressed, height * (width + 1))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(inflate, masks))


def _print_table(title: str, counting: Variants, others: Variants, masks: list[Path]) -> None:
    seconds = _time(counting, others)
    sizes = [Image.open(path).size for path in masks]
    megapixels = sum(width * height for width, height in sizes) / 1e6
    ours = seconds["count_masks"]
    table = Table(title=f"{title}, median of {ROUNDS}")
    table.add_column("variant")
    for heading in ("ms / mask", "Mpx/s", "count_masks is"):
        table.add_column(heading, justify="right")
    for name, time_taken in seconds.items():
        ratio = f"{time_taken / ours:.1f} x as fast" if name in counting else f"at {time_taken / ours:.0%} of it"
        table.add_row(name, f"{1000 * time_taken / len(masks):.2f}", f"{megapixels / time_taken:.0f}", ratio)
    Console().print(table)


def _time(counting: Variants, others: Variants) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in (*counting, *others)}
    expected = None
    for _ in range(ROUNDS):
        for name, variant in (counting | others).items():
            start = time.perf_counter()
            counts = variant()
            seconds[name].append(time.perf_counter() - start)
            if name in counting:
                expected = counts if expected is None else expected
                if counts != expected:
                    raise AssertionError(f"{name} counts {counts}, the others {expected}")
    return {name: statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    raise SystemExit(main())
