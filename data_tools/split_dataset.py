r"""Train, val and test from one pool of pairs: stratified by class presence, whole groups, or blocks with a buffer.

python -m data_tools.split_dataset --config configs/aerial_city.yaml data.root=DIR --out pairs.csv --block 10
python -m data_tools.split_dataset images masks --class-names ground,roof --group '^(patient\d+)' --out pairs.csv
python -m data_tools.split_dataset --tiles out/tiles.csv --num-classes 5 --block 4 --buffer 1 --out pairs.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.datasets.dealing import consecutive_positions, groups_from_pattern, positions_from_pattern
from data_tools.datasets.label_options import (
    ENCODINGS,
    add_label_options,
    check_label_options,
    config_and_inputs,
    labels_from_options,
)
from data_tools.datasets.manifest import (
    Assignment,
    Pool,
    assign_splits,
    count_samples,
    left_out_file,
    read_tiles,
    whole_file,
    write_manifest,
)
from seg.config import Config
from seg.console import text_console
from seg.data.files.outputs import check_reports
from seg.data.files.storage import LimitedMask, write_bytes
from seg.data.samples.pairs import SPLITS, paired_samples
from seg.data.samples.tables import samples_from_table
from seg.errors import ConfigError, DataError, run_command
from seg.labels import LabelSet
from seg.progress import progress
from seg.tables import Table

LEVELS = (
    4  # a fifth to two fifths less deviation of the splits' class shares on aerial tiles than random (docs/masks.md)
)
LISTED = 10  # left-out tiles on the screen; the CSV has all


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 for an error."""
    arguments = _parser().parse_intermixed_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.split_dataset",
        description="Deals image/mask pairs out to train, val and test and writes a CSV that `data: {name: table}` "
        "reads. Classes that are in few images are dealt out first (iterative stratification, Sechidis et al. 2011).",
        epilog="example: python -m data_tools.split_dataset --config configs/aerial_city.yaml data.root=DIR "
        "--block 10 --buffer 1 --out pairs.csv",
    )
    parser.add_argument(
        "inputs", nargs="*", metavar="IMAGES MASKS | key=value",
        help="two folders (default: all pairs of the configuration, whatever its splits); overrides",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="says the classes, the encoding and the pairs")
    parser.add_argument("--tiles", type=Path, metavar="CSV", help="pairs and places from data_tools.tile_rasters")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the manifest")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.add_argument("--mask-suffix", default="", help="what a mask's stem has behind its image's")
    parser.add_argument(
        "--without-mask", choices=("error", "skip"),
        help="what an image without a mask does; skipped ones are counted and named (default: error)",
    )  # fmt: skip
    parser.add_argument("--encoding", choices=ENCODINGS, help="of the masks (default: the configuration's, or index)")
    for split, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        parser.add_argument(f"--{split}", type=float, default=share, metavar="F", help="share (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another split (default: 0)")
    parser.add_argument("--assign", choices=("stratified", "random"), default="stratified", help="default: stratified")
    parser.add_argument(
        "--levels", type=int, metavar="N",
        help="1: stratify by presence of each class; N: also by how much of it, in N parts (default: 4)",
    )  # fmt: skip
    together = parser.add_argument_group("what stays together")
    together.add_argument("--group", metavar="REGEX", help="what it captures in an image's name is the group")
    together.add_argument("--groups", type=Path, metavar="CSV", help="columns image and group")
    together.add_argument(
        "--block",
        type=int,
        metavar="K",
        help="blocks of K x K tiles; without --position or --tiles, of K names in a row",
    )
    together.add_argument("--position", metavar="REGEX", help="captures row, col and perhaps source in a name")
    together.add_argument(
        "--buffer", type=int, default=0, metavar="B", help="tiles within B tiles of a later split are left out"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers and what was left out")
    add_label_options(parser)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    _check(arguments)
    config, folders = config_and_inputs(arguments, arguments.inputs)
    section = labels_from_options(arguments, config, arguments.encoding)
    check_label_options(arguments, section)
    labels, encoding = section.label_set(), section.mask_encoding()
    pool = _placed(_grouped(_pool(arguments, config, folders), arguments), arguments)
    tables = [path for path in (arguments.tiles, arguments.groups) if path is not None]
    reports = [("--out", arguments.out), ("--json", arguments.json)]
    check_reports(reports, lambda: [*tables, *(file for sample in pool.samples for file in sample.files)])
    with progress("counting", len(pool.samples)) as step:
        counts = count_samples(pool.samples, labels, encoding, threads=arguments.threads, progress=step)
    assignment = assign_splits(
        pool, counts, labels, {split: getattr(arguments, split) for split in SPLITS},
        seed=arguments.seed, stratified=arguments.assign == "stratified", levels=arguments.levels or LEVELS,
        block=arguments.block, buffer=arguments.buffer,
    )  # fmt: skip
    left_out = write_manifest(arguments.out, pool, assignment)
    samples_from_table(pool.root, arguments.out)  # training will read it
    _print_table(assignment, labels)
    if left_out:
        more = f" and {len(left_out) - LISTED} more" if len(left_out) > LISTED else ""
        print(f"left out, {len(left_out)} within the buffer: {', '.join(left_out[:LISTED])}{more}")
    for warning in assignment.warnings:
        print(f"warning: {warning}")
    table = Path(os.path.relpath(arguments.out, pool.root)).as_posix()
    values = {sample.mask.values for sample in pool.samples if isinstance(sample.mask, LimitedMask)} - {None}
    more = "".join(f", valid_values: {list(some)}" for some in values if some)
    print(f"wrote {arguments.out}; to train on it: data: {{name: table, root: {pool.root}, table: {table}{more}}}")
    if arguments.json is not None:
        content = _to_json(assignment, labels, left_out)
        write_bytes(arguments.json, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        print(f"wrote {arguments.json}")


def _check(arguments: argparse.Namespace) -> None:
    shares = {split: getattr(arguments, split) for split in SPLITS}
    for split, share in shares.items():
        if not (share > 0 or (share == 0 and split == "test")):
            raise ConfigError(f"--{split}: got {share:g}, allowed: above 0" + " (or 0)" * (split == "test"))
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError(f"--train + --val + --test: got {sum(shares.values()):g}, allowed: 1")
    for option, least in (("levels", 1), ("block", 1), ("buffer", 0), ("threads", 1), ("seed", 0)):
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise ConfigError(f"--{option}: got {value}, allowed: {least} or more")
    together = [f"--{name}" for name in ("group", "groups", "block") if getattr(arguments, name) is not None]
    if len(together) > 1:
        raise ConfigError(f"{' and '.join(together)}: got together, allowed: one of them")
    for option in ("position", "buffer"):
        if getattr(arguments, option) and arguments.block is None:
            raise ConfigError(f"--{option}: has no effect without --block")
    if arguments.position and arguments.tiles:
        raise ConfigError("--position: has no effect with --tiles, which says the places")
    if arguments.assign == "random" and arguments.levels is not None:
        raise ConfigError("--levels: has no effect with --assign random")
    for path in (arguments.out, left_out_file(arguments.out)):
        if path.exists() and not arguments.overwrite:
            raise DataError(f"{path}: exists, allowed: another --out, or --overwrite")


def _pool(arguments: argparse.Namespace, config: Config | None, folders: list[str]) -> Pool:
    if arguments.tiles is not None:
        if folders:
            raise ConfigError(f"{folders[0]}: got folders with --tiles, allowed: one of them")
        return read_tiles(arguments.tiles)
    if folders:
        if len(folders) != 2:
            raise ConfigError(f"IMAGES MASKS: got {len(folders)} folder(s), allowed: 2")
        images, masks = map(Path, folders)
        root = Path(os.path.commonpath([images.absolute(), masks.absolute()]))
        rule = arguments.without_mask or "error"
        return Pool(paired_samples(images.absolute(), masks.absolute(), arguments.mask_suffix, rule, print), root)
    if arguments.without_mask is not None:
        raise ConfigError("--without-mask: has no effect without folders; with --config: data.without_mask=skip")
    if config is None:
        raise ConfigError("IMAGES MASKS: got none, allowed: two folders, --tiles CSV or --config FILE")
    return Pool([sample for split in config.samples(print).values() for sample in split], Path(config.data.root))


def _grouped(pool: Pool, arguments: argparse.Namespace) -> Pool:
    if arguments.group is not None:
        groups = groups_from_pattern(pool.names, arguments.group)
    elif arguments.groups is not None:
        groups = _groups_from_csv(arguments.groups, pool)
    else:
        return pool  # a table's groups; of tiles, their sources
    return replace(pool, samples=[replace(one, group=group) for one, group in zip(pool.samples, groups, strict=True)])


def _groups_from_csv(path: Path, pool: Pool) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if not rows or not {"image", "group"} <= set(rows[0]):
        raise DataError(f"{path}: got no rows with the columns image and group, allowed: both, separated by commas")
    group_of = {(row["image"] or "").strip(): (row["group"] or "").strip() for row in rows}
    groups = []
    for name, sample in zip(pool.names, pool.samples, strict=True):
        image = whole_file(sample.image)
        keys = [name + image.suffix, image.name, name, image.stem]
        found = next((group_of[key] for key in keys if key in group_of), None)
        if not found:
            raise DataError(f"{path}: has no group for {keys[0]}, allowed: a row with its path, name or stem")
        groups.append(found)
    return groups


def _placed(pool: Pool, arguments: argparse.Namespace) -> Pool:
    if arguments.block is None or pool.positions is not None:
        return pool
    if arguments.position is None:
        return replace(pool, positions=consecutive_positions(pool.names), sources=("",) * len(pool.samples))
    sources, positions = positions_from_pattern(pool.names, arguments.position)
    return replace(pool, positions=positions, sources=tuple(sources))


def _print_table(assignment: Assignment, labels: LabelSet) -> None:
    console = text_console()
    headings, rows = ["class"], []
    for name, number in zip(assignment.names, _numbers(assignment), strict=True):
        headings += [f"{name}: {number} images", "share %"]
    for index, label in enumerate(labels.names):
        cells = []
        for images, shares in zip(assignment.images(), assignment.shares(), strict=True):
            cells += [f"{images[index]}", f"{100 * shares[index]:.3f}"]
        rows.append([label, *cells])
    console.print(Table(headings, rows).rich(plain=not console.is_terminal))


def _numbers(assignment: Assignment) -> list[int]:
    return [int((assignment.splits == split).sum()) for split in range(len(assignment.names))]


def _to_json(assignment: Assignment, labels: LabelSet, left_out: list[str]) -> dict[str, Any]:
    shares = [[None if np.isnan(one) else float(one) for one in row] for row in assignment.shares()]
    return {
        "splits": {
            name: {
                "samples": number,
                "groups": len({group for group, chosen in zip(assignment.groups, assignment.splits, strict=True)
                               if chosen == split and group}),
                "images": dict(zip(labels.names, images.tolist(), strict=True)),
                "shares": dict(zip(labels.names, share, strict=True)),
            }
            for split, (name, number, images, share) in enumerate(
                zip(assignment.names, _numbers(assignment), assignment.images(), shares, strict=True)
            )
        },
        "left_out": left_out,
        "warnings": list(assignment.warnings),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
