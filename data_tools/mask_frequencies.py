"""Counts the classes of mask folders and says what every weighting scheme would make of them.

python -m data_tools.mask_frequencies --config configs/camvid.yaml data.root=DIR --out counts.json --html balance.html
python -m data_tools.mask_frequencies train=masks/train val=masks/val --num-classes 11 --ignore-index 11 --components
python -m data_tools.mask_frequencies s3://bucket/masks --num-classes 11 --workers 8 --on-error skip
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.text import Text

from data_tools.balance.multi_label_report import MultiLabelReport
from data_tools.balance.report import WEIGHTED_SPLIT, BalanceReport
from seg.balance import NORMALIZATIONS, MaskStatistics, collect_statistics
from seg.balance.cache import CountCache
from seg.balance.partial import completed
from seg.console import text_console
from seg.data.files.outputs import check_folder, check_reports
from seg.data.files.reading import MASK_SUFFIXES
from seg.data.files.storage import File, is_url, list_files, write_bytes
from seg.data.masks.planes import MultiLabelEncoding
from seg.data.masks.reading import BinaryEncoding, IndexEncoding, MaskEncoding, PaletteEncoding
from seg.data.masks.values import telling_all_values
from seg.errors import ConfigError, DataError, run_command
from seg.labels import LabelSet, numbered_names
from seg.progress import progress_bar
from seg.tables import Table

ENCODINGS: dict[str, MaskEncoding] = {
    "index": IndexEncoding(),
    "palette": PaletteEncoding(),
    "binary": BinaryEncoding(),
    "multi_label": MultiLabelEncoding(),
}
# What is of masks with one class a pixel, by the option's name and its default.
SINGLE_LABEL_OPTIONS = {"normalize": "mean_one", "components": False, "markdown": None, "html": None, "charts": None}
MOST_COLUMNS = 24  # a wider table (the co-occurrence of 150 classes) is for a file, not for a terminal
SKIPPED = 3  # exit code where masks were skipped


@dataclass(frozen=True)
class Source:
    """The masks of each split and how to read them; `root` is what their names are relative to."""

    splits: dict[str, list[File]]
    root: Path
    cache_name: str
    labels: LabelSet
    encoding: MaskEncoding


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 2 for an error, 3 where masks were skipped."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.mask_frequencies",
        description="Count the classes of masks; show shares, co-occurrence and what every weighting scheme would do.",
        epilog="Give either folders with --num-classes or --class-names, or --config FILE with its overrides "
        "(key.sub=value), which counts all its splits. Exit code 3: some masks were skipped.",
    )
    parser.add_argument(
        "inputs", nargs="*", metavar="MASKS | SPLIT=MASKS | key=value",
        help="folder or URL (s3://..., zip://...) of masks, one a split; with --config: overrides",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="count the masks of this configuration")
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes, void not counted")
    parser.add_argument("--class-names", metavar="A,B,...", help="their names, in the order of their indices")
    parser.add_argument("--ignore-index", type=int, metavar="I", help="the value that means void (default: 255)")
    parser.add_argument(
        "--encoding", choices=tuple(ENCODINGS), help="how masks store classes (default: index; colour: use --config)"
    )
    parser.add_argument("--normalize", choices=NORMALIZATIONS, default="mean_one", help="of the weights shown")
    parser.add_argument("--components", action="store_true", help="measure connected components, several times slower")
    parser.add_argument("--on-error", choices=("stop", "skip"), default="stop", help="what a broken mask does")
    work = parser.add_argument_group("work")
    work.add_argument("--threads", type=int, metavar="N", help="threads on this machine (default: one per CPU)")
    work.add_argument("--workers", type=int, metavar="N", help="worker processes on this machine, by Dask")
    work.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask cluster, such as tcp://10.0.0.1:8786")
    work.add_argument("--no-cache", action="store_true", help="read masks that were counted before, too")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="JSON", help="the counts that seg.train takes (of the train split)")
    output.add_argument("--json", type=Path, metavar="FILE", help="all numbers")
    output.add_argument("--csv", type=Path, metavar="FILE", help="one row a split and class")
    output.add_argument("--markdown", type=Path, metavar="FILE", help="all tables")
    output.add_argument("--html", type=Path, metavar="FILE", help="one page with tables and pictures")
    output.add_argument("--charts", type=Path, metavar="DIR", help="the pictures as PNG files")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    source = _config_source(arguments) if arguments.config is not None else _folder_source(arguments)
    reports = [(f"--{name}", getattr(arguments, name)) for name in ("out", "json", "csv", "markdown", "html")]
    check_reports(reports, lambda: [mask for some in source.splits.values() for mask in some])
    if arguments.charts is not None:
        check_folder(arguments.charts)
    console = text_console()
    if source.labels.multi_label:
        return _run_multi_label(source, arguments, console)
    start = time.perf_counter()
    masks = [mask for some in source.splits.values() for mask in some]
    with telling_all_values(masks, source.labels, source.encoding):
        splits, notes = _collect(source, arguments)
    seconds = time.perf_counter() - start
    report = BalanceReport(splits, source.labels, arguments.normalize)
    files = report.total.counts.num_images
    pixels = int(report.total.counts.pixel_counts.sum()) + report.total.counts.void_pixels
    console.print(
        f"{files:,} masks in {seconds:.2f} s ({files / seconds:,.0f} files/s, {pixels / seconds / 1e6:,.0f} Mpx/s)"
    )
    for note in notes:
        console.print(note)
    _print_report(console, report)
    for path in _write(report, splits, arguments):
        console.print(f"wrote {path}")
    return _skipped(splits.values())


def _skipped(splits: Iterable[MaskStatistics]) -> int:
    """Names the masks that could not be read; the exit code."""
    skipped = sorted(mask for statistics in splits for mask in statistics.skipped)
    for mask, error in skipped:
        print(f"skipped {mask}: {error}", file=sys.stderr)
    return SKIPPED if skipped else 0


def _run_multi_label(source: Source, arguments: argparse.Namespace, console: Console) -> int:
    """The same for classes that may overlap: of each the pixels where it is present, and its pos_weight."""
    for option, default in SINGLE_LABEL_OPTIONS.items():
        if getattr(arguments, option) != default:
            raise ConfigError(
                f"--{option.replace('_', '-')}: works with one class a pixel only; allowed with multi-label masks: "
                "--threads, --workers, --scheduler, --on-error, --no-cache, --out, --json, --csv"
            )
    splits, notes = _collect(source, arguments)
    report = MultiLabelReport({split: statistics.counts for split, statistics in splits.items()})
    for note in notes:
        console.print(note)
    _print_tables(console, report.tables())
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow")
    if arguments.out is not None:
        report.weighted.save(arguments.out)
    if arguments.json is not None:
        write_bytes(arguments.json, (json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n").encode())
    if arguments.csv is not None:
        write_bytes(arguments.csv, report.csv().encode())
    for path in (arguments.out, arguments.json, arguments.csv):
        if path is not None:
            console.print(f"wrote {path}")
    return _skipped(splits.values())


def _check(arguments: argparse.Namespace) -> None:
    for option in ("threads", "workers"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise ConfigError(f"--{option}: got {value}, allowed: 1 or more")
    chosen = [f"--{option}" for option in ("threads", "workers", "scheduler") if getattr(arguments, option) is not None]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)}: got together, allowed: one of them")


def _folder_source(arguments: argparse.Namespace) -> Source:
    if not arguments.inputs:
        raise ConfigError("MASKS: got none, allowed: folders or URLs of masks, or --config FILE")
    folders: dict[str, str] = {}
    for text in arguments.inputs:
        named = re.fullmatch(r"(\w+)=(.+)", text)
        split, folder = named.groups() if named else ("masks", text)
        if split in folders:
            raise ConfigError(f"MASKS: got two folders for split '{split}', allowed: one a split, as in val=DIR")
        folders[split] = folder
    labels = LabelSet.from_names(
        _class_names(arguments),
        255 if arguments.ignore_index is None else arguments.ignore_index,
        multi_label=arguments.encoding == "multi_label",
    )
    splits = {split: list_files(folder, MASK_SUFFIXES) for split, folder in folders.items()}
    for split, masks in splits.items():
        if not masks:
            raise DataError(f"{folders[split]}: no masks in it, looked for {', '.join(sorted(MASK_SUFFIXES))}")
    # One folder's masks are named from it, the masks of several from where they part.
    local = [Path(folder).absolute() for folder in folders.values() if not is_url(folder)]
    root = Path(os.path.commonpath(local)) if local else Path()
    cache_name = " ".join(folders[split] if is_url(folders[split]) else "" for split in folders) + str(root.resolve())
    return Source(splits, root, cache_name, labels, ENCODINGS[arguments.encoding or "index"])


def _class_names(arguments: argparse.Namespace) -> list[str]:
    if arguments.class_names is not None:
        names = [name.strip() for name in arguments.class_names.split(",")]
        if arguments.num_classes not in (None, len(names)):
            raise ConfigError(f"--class-names: got {len(names)} names, --num-classes says {arguments.num_classes}")
        return names
    if arguments.num_classes is None:
        raise ConfigError("--num-classes: missing, needed with MASKS (or --class-names, or --config FILE instead)")
    return numbered_names(arguments.num_classes)


def _config_source(arguments: argparse.Namespace) -> Source:
    for option in ("num_classes", "class_names", "ignore_index", "encoding"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option.replace('_', '-')}: has no effect with --config, which says it")
    from seg.config import load_config

    config = load_config(arguments.config, arguments.inputs, trains=False)
    splits: dict[str, list[File]] = {
        split: [sample.mask for sample in found] for split, found in config.samples().items()
    }
    root = Path(config.data.root)
    return Source(splits, root, str(root.resolve()), config.labels.label_set(), config.counted_encoding())


class _Rate(ProgressColumn):
    """Files and megapixels a second; on a cluster the pixels are known at the end only."""

    def render(self, task: Task) -> Text:
        pixels, elapsed = task.fields["pixels"], task.elapsed or 0
        megapixels = f", {pixels / elapsed / 1e6:,.0f} Mpx/s" if pixels and elapsed else ""
        return Text(f"{task.speed or 0:,.0f} files/s{megapixels}")


def _collect(source: Source, arguments: argparse.Namespace) -> tuple[dict[str, MaskStatistics], list[str]]:
    """The statistics of each split, and what to tell about the cache."""
    options: dict[str, Any] = {
        "root": source.root,
        "with_components": arguments.components,
        "on_error": arguments.on_error,
    }
    if arguments.workers is None and arguments.scheduler is None:
        cache = None
        if not arguments.no_cache:
            cache = CountCache(source.cache_name, source.labels, source.encoding)
        with _progress(source) as advance:
            splits = {
                split: collect_statistics(
                    masks, source.labels, source.encoding,
                    workers=arguments.threads, cache=cache, progress=advance, **options,
                )
                for split, masks in source.splits.items()
            }  # fmt: skip
        return _completed(splits, source), _cache_notes(cache)
    from data_tools.balance.cluster import collect_on_cluster, connect

    with connect(arguments.scheduler, arguments.workers) as client, _progress(source) as advance:
        splits = {
            split: collect_on_cluster(client, masks, source.labels, source.encoding, progress=advance, **options)
            for split, masks in source.splits.items()
        }
    return _completed(splits, source), []


def _completed(splits: dict[str, MaskStatistics], source: Source) -> dict[str, MaskStatistics]:
    """The counts with the pixels shared out of classes that were annotated in some masks only."""
    return {
        split: replace(one, counts=completed(one.counts, source.splits[split], source.labels, source.encoding))
        for split, one in splits.items()
    }


def _cache_notes(cache: CountCache | None) -> list[str]:
    if cache is not None and cache.problem:
        return [f"warning: {cache.problem}"]
    if cache is not None and cache.hits:
        return [f"{cache.hits:,} of them were counted before and are unchanged (--no-cache reads them too)"]
    return []


@contextmanager
def _progress(source: Source) -> Iterator[Any]:
    """A function to call with the masks and pixels of the current split, behind a bar on a terminal."""
    before, last = [0, 0], [0, 0]

    def advance(files: int, pixels: int) -> None:
        if files <= last[0]:  # the next split began
            before[0] += last[0]
            before[1] += last[1]
        last[:] = files, pixels
        bar.update(task, completed=before[0] + files, pixels=before[1] + pixels)

    with progress_bar(None, _Rate()) as bar:
        task = bar.add_task("counting", total=sum(map(len, source.splits.values())), pixels=0)
        yield advance


def _print_report(console: Console, report: BalanceReport) -> None:
    _print_tables(console, report.tables())
    console.print()
    for line in report.summary():
        console.print(line)
    if report.recommendation is not None:
        console.print(f"\n{report.recommendation.yaml()}")
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow")


def _print_tables(console: Console, tables: Sequence[Table]) -> None:
    for table in tables:
        if len(table.headings) <= MOST_COLUMNS:
            console.print(f"\n{table.title}", style="italic")
            console.print(table.rich(plain=not console.is_terminal))


def _write(report: BalanceReport, splits: dict[str, MaskStatistics], arguments: argparse.Namespace) -> Iterator[Path]:
    """Writes what was asked for; yields each path."""
    if arguments.charts is not None and not report.effects:
        raise DataError(f"--charts: nothing to draw, the {report.total.counts.num_images} masks have no labelled pixel")
    if arguments.out is not None:
        splits.get(WEIGHTED_SPLIT, report.total).counts.save(arguments.out)
        yield arguments.out
    texts = {
        "json": lambda: json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n",
        "csv": report.csv,
        "markdown": report.markdown,
        "html": report.html,
    }
    for option, text in texts.items():
        path = getattr(arguments, option)
        if path is not None:
            write_bytes(path, text().encode())
            yield path
    if arguments.charts is not None:
        for name, picture in report.charts().items():
            write_bytes(arguments.charts / f"{name}.png", picture)
            yield arguments.charts / f"{name}.png"


if __name__ == "__main__":
    sys.exit(main())
