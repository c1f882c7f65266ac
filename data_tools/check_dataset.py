"""Opens every pair of a dataset and says what is wrong with it, before training.

python -m data_tools.check_dataset --config configs/camvid.yaml data.root=DIR --json report.json
python -m data_tools.check_dataset DIR --class-names field,road,boat --strict
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import TaskProgressColumn

from data_tools.checks import CheckReport, Grade, Rules, Survey, check_dataset
from data_tools.checks.duplicates import MOST_BITS
from data_tools.checks.report import finding_line, kinds_table, markdown, summary, to_json
from data_tools.checks.survey import survey_folders, survey_pair
from data_tools.datasets.label_options import LABEL_OPTIONS, add_label_options, labels_from_options
from seg.config.masks import KINDS
from seg.console import text_console
from seg.data.files.outputs import check_reports
from seg.data.files.storage import write_bytes
from seg.data.samples.pairs import SPLITS
from seg.errors import ConfigError, DataError, run_command
from seg.progress import progress_bar

PROBLEMS = 1  # exit code
STYLES = {Grade.ERROR: "red", Grade.WARNING: "yellow", Grade.HINT: "cyan"}
FOLDER_OPTIONS = ("encoding", "bands", "mask_suffix", *LABEL_OPTIONS)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 1 with problems, 2 for an error, 130 after Ctrl-C."""
    arguments = _parser().parse_intermixed_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.check_dataset",
        description="Opens every image and mask of a dataset and says what is wrong with files, masks and splits. "
        "docs/checking.md explains every finding.",
        epilog="Exit code: 0 without errors (hints and warnings may be there), 1 with errors, with --strict also with "
        "warnings, 2 for wrong usage.",
    )
    parser.add_argument(
        "inputs", nargs="*", metavar="DIR | key=value",
        help="a folder with images/ and masks/, each with a folder a split (train, val, test) or none; "
        "with --config: overrides",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="check the data of this configuration")
    folder = parser.add_argument_group("without --config")
    folder.add_argument("--encoding", choices=tuple(KINDS), help="of the masks (default: index)")
    folder.add_argument("--bands", type=int, choices=(1, 3), help="of an image for the model (default: 3)")
    folder.add_argument("--mask-suffix", metavar="TEXT", help="what a mask's stem has behind its image's")
    add_label_options(parser, "classes, without --config")
    rules = parser.add_argument_group("what is found")
    rules.add_argument(
        "--small-pixels", type=int, default=Rules.small_pixels, metavar="K",
        help="components of fewer than K pixels are small (default: %(default)s; 0: none is)",
    )  # fmt: skip
    rules.add_argument(
        "--near-bits", type=int, default=Rules.near_bits, metavar="D",
        help=f"near duplicates differ in at most D of 64 bits of their hash, 0 to {MOST_BITS} (default: %(default)s)",
    )  # fmt: skip
    rules.add_argument(
        "--near-correlation", type=float, default=Rules.near_correlation, metavar="R",
        help="and their thumbnails correlate at least R (default: %(default)s)",
    )  # fmt: skip
    rules.add_argument("--strict", action="store_true", help="exit code 1 with warnings, too")
    output = parser.add_argument_group("output")
    output.add_argument("--show", type=int, default=5, metavar="N", help="findings printed of a kind (default: 5)")
    output.add_argument("--json", type=Path, metavar="FILE", help="all findings")
    output.add_argument("--markdown", type=Path, metavar="FILE", help="the table, and --show findings of each kind")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per CPU")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    survey, labelled = _config_source(arguments) if arguments.config is not None else _folder_source(arguments)
    reports = [("--json", arguments.json), ("--markdown", arguments.markdown)]
    check_reports(reports, lambda: [file for some in survey.splits.values() for one in some for file in one.files])
    rules = Rules(
        **labelled,
        small_pixels=arguments.small_pixels,
        near_bits=arguments.near_bits,
        near_correlation=arguments.near_correlation,
    )
    console = text_console()
    start = time.perf_counter()
    with _progress(sum(map(len, survey.splits.values()))) as advance:
        report = check_dataset(survey, rules, workers=arguments.threads, progress=advance)
    seconds = time.perf_counter() - start
    _print(console, report, arguments.show)
    console.print(f"{summary(report)}; {seconds:.1f} s, {sum(report.pairs.values()) / seconds:,.0f} pairs/s")
    texts: dict[Path | None, Callable[[], str]] = {
        arguments.json: lambda: json.dumps(to_json(report), indent=1, ensure_ascii=False) + "\n",
        arguments.markdown: lambda: markdown(report, arguments.show),
    }
    for path, text in texts.items():
        if path is not None:
            write_bytes(path, text().encode())
            console.print(f"wrote {path}")
    bad = report.number(Grade.ERROR) + (report.number(Grade.WARNING) if arguments.strict else 0)
    return PROBLEMS if bad else 0


def _check(arguments: argparse.Namespace) -> None:
    for option, least, most in (
        ("threads", 1, None), ("small_pixels", 0, None), ("show", 0, None), ("near_bits", 0, MOST_BITS),
        ("near_correlation", -1, 1),
    ):  # fmt: skip
        value = getattr(arguments, option)
        if value is not None and not (least <= value and (most is None or value <= most)):
            allowed = f"{least} or more" if most is None else f"{least} to {most}"
            raise ConfigError(f"--{option.replace('_', '-')}: got {value}, allowed: {allowed}")
    if arguments.json is not None and arguments.json == arguments.markdown:
        raise ConfigError(f"--json and --markdown: both are {arguments.json}, allowed: two files")


def _config_source(arguments: argparse.Namespace) -> tuple[Survey, dict[str, Any]]:
    for option in FOLDER_OPTIONS:
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option.replace('_', '-')}: has no effect with --config, which says it")
    from data_tools.checks.config_survey import survey
    from seg.config import load_config

    config = load_config(arguments.config, arguments.inputs, trains=False)
    read: dict[str, Any] = {"labels": config.labels.label_set(), "encoding": config.labels.mask_encoding()}
    read |= {"bands": config.input.bands, "nodata": config.input.nodata}
    return survey(config), read


def _folder_source(arguments: argparse.Namespace) -> tuple[Survey, dict[str, Any]]:
    if len(arguments.inputs) != 1:
        got = f"{len(arguments.inputs)} folders" if arguments.inputs else "none"
        raise ConfigError(f"DIR: got {got}, allowed: one folder with images/ and masks/, or --config FILE")
    if arguments.num_classes is None and arguments.class_names is None:
        raise ConfigError("--num-classes: missing, needed with DIR (or --class-names, or --config FILE instead)")
    names = (arguments.class_names or "").split(",")
    if arguments.class_names is not None and arguments.num_classes not in (None, len(names)):
        raise ConfigError(f"--class-names: got {len(names)} names, --num-classes says {arguments.num_classes}")
    section = labels_from_options(arguments, None, arguments.encoding)
    root, suffix = Path(arguments.inputs[0]), arguments.mask_suffix or ""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    split = any((root / kind / split).is_dir() for kind in ("images", "masks") for split in SPLITS)
    survey = survey_folders(root, mask_suffix=suffix) if split else survey_pair(root, "images", "masks", suffix)
    read = {"labels": section.label_set(), "encoding": section.mask_encoding(), "bands": arguments.bands or 3}
    return survey, read


@contextmanager
def _progress(pairs: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the pairs done so far, behind a bar on a terminal."""
    with progress_bar(None, TaskProgressColumn(show_speed=True)) as bar:
        task = bar.add_task("checking", total=pairs)
        yield lambda done: bar.update(task, completed=done)


def _print(console: Console, report: CheckReport, shown: int) -> None:
    if report.values is not None:
        console.print(f"{report.values.text()}\n", markup=False, soft_wrap=True)
    if not report.findings:
        return
    table = kinds_table(report)
    styles = {number: STYLES[Grade(row[0])] for number, row in enumerate(table.rows)}
    console.print(table.rich(styles, plain=not console.is_terminal))
    for kind, findings in report.by_kind().items():
        if shown:
            console.print(f"\n{findings[0].grade}: {kind}", style=STYLES[findings[0].grade])
        for finding in findings[:shown]:
            console.print(f"  {finding_line(finding)}", soft_wrap=True)
        if len(findings) > shown > 0:
            console.print(f"  and {len(findings) - shown:,} more (--json has all of them)")
    console.print()


if __name__ == "__main__":
    sys.exit(main())
