"""Counts the classes of a mask folder and shows the weights that every scheme would give them.

python -m data_tools.mask_frequencies --config configs/camvid.yaml data.root=DIR --out counts.json --plot classes.png
python -m data_tools.mask_frequencies masks/train --num-classes 11 --ignore-index 11
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from seg.balance import NORMALIZATIONS, ClassCounts, class_weights, count_masks, weight_warnings
from seg.balance.charts import save_frequency_chart
from seg.data.images import IMAGE_SUFFIXES
from seg.data.masks import BinaryEncoding, IndexEncoding, MaskEncoding, PaletteEncoding
from seg.errors import ConfigError, DataError, run_command
from seg.labels import LabelSet

ENCODINGS: dict[str, MaskEncoding] = {
    "index": IndexEncoding(),
    "palette": PaletteEncoding(),
    "binary": BinaryEncoding(),
}
# Column heading, scheme, unit. `uniform` is 1 everywhere and `manual` is the user's, so neither needs a column.
WEIGHT_COLUMNS = (
    ("inverse\nfrequency", "inverse_frequency", "images"),
    ("inverse\nsquare", "inverse_square", "images"),
    ("inverse\nsqrt", "inverse_sqrt", "images"),
    ("median\nfrequency", "median_frequency", "images"),
    ("log\nfrequency", "log_frequency", "images"),
    ("effective\nn. images", "effective_number", "images"),
    ("effective\nn. pixels", "effective_number", "pixels"),
)
PIPED_WIDTH = 400  # rich would squeeze tables into 80 columns where there is no terminal


@dataclass(frozen=True)
class Source:
    """The masks to count and how to read them."""

    masks: list[Path]
    root: Path
    labels: LabelSet
    encoding: MaskEncoding


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.mask_frequencies",
        description="Count the classes of a mask folder; show their shares and the weights of every scheme.",
        epilog="Give either MASKS_DIR with --num-classes or --class-names, or --config FILE with its overrides "
        "(key.sub=value), which counts the training masks.",
    )
    parser.add_argument("inputs", nargs="*", metavar="MASKS_DIR | key=value", help="folder of masks, or overrides")
    parser.add_argument("--config", type=Path, metavar="FILE", help="count the training masks of this configuration")
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes, void not counted")
    parser.add_argument("--class-names", metavar="A,B,...", help="their names, in the order of their indices")
    parser.add_argument("--ignore-index", type=int, metavar="I", help="the value that means void (default: 255)")
    parser.add_argument(
        "--encoding", choices=tuple(ENCODINGS), help="how masks store classes (default: index; colour: use --config)"
    )
    parser.add_argument("--normalize", choices=NORMALIZATIONS, default="mean_one", help="of the weights shown")
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: one per CPU)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the counts to this file")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write a bar chart to this file")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers: got {arguments.workers}, allowed: 1 or more")
    source = _config_source(arguments) if arguments.config is not None else _folder_source(arguments)
    console = _console()
    start = time.perf_counter()
    counts = _count(source, arguments.workers)
    seconds = time.perf_counter() - start
    if arguments.out is not None:
        counts.save(arguments.out)
    console.print(f"{counts.num_images:,} masks in {seconds:.2f} s ({counts.num_images / seconds:,.0f} files/s)\n")
    if counts.pixel_counts.any():
        _print_balance(console, counts, arguments.normalize)
    else:
        console.print(f"warning: all {counts.void_pixels:,} pixels are void, there is nothing to balance")
    if arguments.out is not None:
        console.print(f"\ncounts: {arguments.out}")
    if arguments.plot is not None:
        save_frequency_chart(counts, source.labels.colours, arguments.plot)
        console.print(f"chart: {arguments.plot}")


def _folder_source(arguments: argparse.Namespace) -> Source:
    if len(arguments.inputs) != 1:
        got = ", ".join(arguments.inputs) or "none"
        raise ConfigError(f"MASKS_DIR: got {got}, allowed: one folder of masks, or --config FILE")
    folder = Path(arguments.inputs[0])
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of masks")
    labels = LabelSet.from_names(
        _class_names(arguments), 255 if arguments.ignore_index is None else arguments.ignore_index
    )
    masks = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not masks:
        raise DataError(f"{folder}: no masks in it, looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return Source(masks, folder, labels, ENCODINGS[arguments.encoding or "index"])


def _class_names(arguments: argparse.Namespace) -> list[str]:
    if arguments.class_names is not None:
        names = [name.strip() for name in arguments.class_names.split(",")]
        if arguments.num_classes not in (None, len(names)):
            raise ConfigError(f"--class-names: got {len(names)} names, --num-classes says {arguments.num_classes}")
        return names
    if arguments.num_classes is None:
        raise ConfigError("--num-classes: missing, needed with MASKS_DIR (or --class-names, or --config FILE instead)")
    return [f"class_{index}" for index in range(arguments.num_classes)]


def _config_source(arguments: argparse.Namespace) -> Source:
    for option in ("num_classes", "class_names", "ignore_index", "encoding"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option.replace('_', '-')}: has no effect with --config, which says it")
    from seg.build import label_set, mask_encoding, samples
    from seg.config import load_config

    config = load_config(arguments.config, arguments.inputs)
    masks = [sample.mask for sample in samples(config)["train"]]
    return Source(masks, Path(config.data.root), label_set(config), mask_encoding(config))


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=PIPED_WIDTH)


class _FilesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} files/s")


def _count(source: Source, workers: int | None) -> ClassCounts:
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("counting"), BarColumn(), MofNCompleteColumn(), _FilesPerSecond(), TimeRemainingColumn(),
        console=console, transient=True,
    )  # fmt: skip
    with progress if console.is_terminal else nullcontext():
        task = progress.add_task("counting", total=len(source.masks))
        return count_masks(
            source.masks,
            source.labels,
            source.encoding,
            root=source.root,
            workers=workers,
            progress=lambda done: progress.update(task, completed=done),
        )


def _print_balance(console: Console, counts: ClassCounts, normalize: str) -> None:
    console.print(_counts_table(console, counts))
    all_pixels = int(counts.pixel_counts.sum()) + counts.void_pixels
    present = counts.pixel_counts[counts.pixel_counts > 0]
    console.print(f"void: {counts.void_pixels:,} of {all_pixels:,} pixels ({counts.void_pixels / all_pixels:.2%})")
    console.print(
        f"imbalance: the commonest class has {present.max() / present.min():,.1f} times the rarest's pixels\n"
    )
    console.print(f"class weights, normalised to {normalize}:")
    table, messages = _weights_table(console, counts, normalize)
    console.print(table)
    for message in messages:
        console.print(f"warning: {message}", style="yellow")


def _counts_table(console: Console, counts: ClassCounts) -> Table:
    table = _table(console, "class", "pixels", "share %", "images")
    for name, pixels, share, images in zip(
        counts.names, counts.pixel_counts, counts.frequencies, counts.image_counts, strict=True
    ):
        table.add_row(name, f"{pixels:,}", f"{100 * share:.3f}", f"{images:,}")
    return table


def _weights_table(console: Console, counts: ClassCounts, normalize: str) -> tuple[Table, list[str]]:
    table = _table(console, "class", *(heading for heading, _, _ in WEIGHT_COLUMNS))
    columns, messages = [], []
    for _, scheme, unit in WEIGHT_COLUMNS:
        weights = class_weights(counts, scheme, normalize=normalize, unit=unit)
        columns.append([f"{weight:.4g}" for weight in weights])
        messages += weight_warnings(counts, weights, scheme)
    for name, *row in zip(counts.names, *columns, strict=True):
        table.add_row(name, *row)
    return table, list(dict.fromkeys(messages))


def _table(console: Console, first: str, *others: str) -> Table:
    """An empty table: lines and colour in a terminal, plain columns in a pipe."""
    table = Table(header_style="bold") if console.is_terminal else Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


if __name__ == "__main__":
    sys.exit(main())
