"""Masks of any encoding to index PNG, or to any other encoding; every file is read back and compared.

python -m data_tools.convert_masks --config configs/aerial_city.yaml data.root=DIR --out index
python -m data_tools.convert_masks index/masks --config configs/aerial_city.yaml --from index --to colour --out back
python -m data_tools.convert_masks masks --class-names ground,cell --from values --values 0=ground 128=cell --out index
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data_tools.datasets.label_options import ENCODINGS, add_label_options, config_and_inputs, labels_from_options
from data_tools.datasets.manifest import whole_file
from data_tools.datasets.mask_writing import Conversion, convert_mask
from seg.config.labels import Labels
from seg.data.files import volumes
from seg.data.files.reading import MASK_SUFFIXES
from seg.data.files.storage import File, list_files, relative_name, write_bytes
from seg.data.files.threads import in_order
from seg.data.masks.reading import MaskEncoding, MergedEncoding, StoredEncoding
from seg.data.masks.values import telling_all_values
from seg.errors import ConfigError, DataError, run_command
from seg.labels import LabelSet
from seg.progress import progress

ALLOWED = ", ".join(ENCODINGS)
SUFFIXES = tuple(suffix for suffix in MASK_SUFFIXES if suffix not in volumes.SUFFIXES)
BROKEN = 3  # exit code where broken masks were skipped


@dataclass(frozen=True)
class Plan:
    """Which masks become which files, and how both store the classes."""

    files: list[tuple[File, str]]
    labels: LabelSet
    reading: MaskEncoding
    writing: StoredEncoding


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 2 for an error, 3 where broken masks were skipped."""
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.convert_masks",
        description="Writes masks of any encoding as index PNG (or as --to says) into OUT, under the same relative "
        "names. Each file is read back and compared before it gets its name; a broken mask is named, and nothing is "
        "written for it.",
        epilog="example: python -m data_tools.convert_masks --config configs/aerial_city.yaml data.root=DIR --out new",
    )
    parser.add_argument(
        "inputs", nargs="*", metavar="MASKS | key=value",
        help="folder or URL of masks (default: those of the configuration's data); overrides of the configuration",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="says the classes, the encoding and the masks")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the new masks go")
    parser.add_argument("--from", dest="source", choices=ENCODINGS, help="default: the configuration's, or index")
    parser.add_argument("--to", dest="target", choices=ENCODINGS, default="index", help="default: index")
    parser.add_argument("--merge", action="store_true", help="apply labels.merge, which cannot be undone")
    parser.add_argument("--overwrite", action="store_true", help="replace files in OUT")
    parser.add_argument("--skip-existing", action="store_true", help="leave files in OUT as they are, convert the rest")
    parser.add_argument("--on-error", choices=("stop", "skip"), default="stop", help="what a broken mask does")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers, and what became of each file")
    add_label_options(parser)
    arguments = parser.parse_intermixed_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"--threads: got {arguments.threads}, allowed: 1 or more")
    if arguments.overwrite and arguments.skip_existing:
        raise ConfigError("--overwrite and --skip-existing: got both, allowed: one of them")
    plan = _plan(arguments)
    files, existing = _without_existing(plan, arguments)
    done = _convert(files, plan, arguments)
    broken = {name: str(one) for (_, name), one in zip(files, done, strict=True) if isinstance(one, DataError)}
    good = {name: one for (_, name), one in zip(files, done, strict=True) if isinstance(one, Conversion)}
    _print_summary(plan, good, existing, arguments)
    if arguments.json is not None:
        content = json.dumps(_to_json(plan, good, broken, existing), indent=1, ensure_ascii=False) + "\n"
        write_bytes(arguments.json, content.encode())
        print(f"wrote {arguments.json}")
    for error in broken.values():
        print(f"skipped {error}", file=sys.stderr)
    return BROKEN if broken else 0


def _plan(arguments: argparse.Namespace) -> Plan:
    config, folders = config_and_inputs(arguments, arguments.inputs)
    source = labels_from_options(arguments, config, arguments.source)
    target = labels_from_options(arguments, config, arguments.target)
    for option, section in (("--from", source), ("--to", target)):
        if section.multi_label:
            raise ConfigError(
                f"{option}: got multi_label, whose masks hold several classes a pixel; allowed: {ALLOWED}"
            )
    if arguments.merge and not source.merge:
        raise ConfigError("--merge: has no effect, the configuration has no labels.merge")
    files: list[tuple[File, str]] = []
    if folders:
        for folder in folders:
            masks = list_files(folder, SUFFIXES)
            if not masks:
                raise DataError(f"{folder}: no masks in it, looked for {', '.join(sorted(SUFFIXES))}")
            files += [(mask, relative_name(mask, Path(folder))) for mask in masks]
    elif config is not None:
        root = Path(config.data.root)
        found = [whole_file(one.mask) for split in config.samples().values() for one in split]
        files = [(mask, relative_name(mask, root)) for mask in found]
    else:
        raise ConfigError("MASKS: got none, allowed: a folder or URL of masks, or --config FILE")
    reading: MaskEncoding = source.encoding.build(source)
    labels = source.stored_label_set()
    if arguments.merge:
        reading = MergedEncoding(source.encoding.build(source), labels, source.merged_indices())
        labels = source.label_set()
    return Plan(_targets(files), labels, reading, _writing(target))


def _writing(target: Labels) -> StoredEncoding:
    """The encoding to write; ignore_values, void beside `ignore_index`, has no place in index and palette."""
    if target.encoding.name in ("index", "palette"):
        target = target.model_copy(update={"ignore_values": ()})
    return target.encoding.build(target)


def _targets(files: list[tuple[File, str]]) -> list[tuple[File, str]]:
    """(mask, name of the new file relative to OUT); refuses two masks that would get one name, and names outside."""
    sources: dict[str, File] = {}
    for mask, name in files:
        path = PurePosixPath(name).with_suffix(".png")
        if ".." in path.parts:
            raise DataError(f"{mask}: lies outside of data.root; allowed: masks under it, or their folder as MASKS")
        if str(path) in sources:
            raise DataError(f"{sources[str(path)]} and {mask}: both would become {path}; convert them apart")
        sources[str(path)] = mask
    return [(mask, name) for name, mask in sources.items()]


def _without_existing(plan: Plan, arguments: argparse.Namespace) -> tuple[list[tuple[File, str]], int]:
    """The files to convert, and how many are left as they are; refuses to replace what is there."""
    for mask, name in plan.files:
        target = arguments.out / name
        if isinstance(mask, Path) and target.exists() and target.samefile(mask):
            raise DataError(f"--out: {target} is one of the masks to convert; allowed: another folder")
    there = {name for _, name in plan.files if (arguments.out / name).exists()}
    if there and not (arguments.overwrite or arguments.skip_existing):
        raise DataError(
            f"{arguments.out / min(there)}: exists, and {len(there) - 1} more; allowed: another --out, --overwrite or "
            "--skip-existing"
        )
    if arguments.overwrite:
        return plan.files, 0
    return [(mask, name) for mask, name in plan.files if name not in there], len(there)


def _convert(files: list[tuple[File, str]], plan: Plan, arguments: argparse.Namespace) -> list[Conversion | DataError]:
    def convert(file: tuple[File, str]) -> Conversion | DataError:
        try:
            return convert_mask(file[0], arguments.out / file[1], plan.labels, plan.reading, plan.writing)
        except DataError as error:
            if arguments.on_error == "stop":
                raise
            return error

    done = []
    masks = [mask for mask, _ in files]
    with telling_all_values(masks, plan.labels, plan.reading), progress("converting", len(files)) as step:
        for one in in_order(convert, files, arguments.threads or os.cpu_count() or 1):
            done.append(one)
            step()
    return done


def _print_summary(plan: Plan, good: dict[str, Conversion], existing: int, arguments: argparse.Namespace) -> None:
    print(
        f"{len(good):,} masks from {plan.reading.description} to {plan.writing.description} in {arguments.out}, "
        "each read back and equal"
    )
    if existing:
        print(f"{existing:,} masks were there already and were left as they are")
    if not good:
        return
    pixels = np.sum([one.pixels for one in good.values()], axis=0)
    for name, count in zip([*plan.labels.names, "(void)"], pixels.tolist(), strict=True):
        print(f"  {name:<20} {count:>14,} pixels {count / pixels.sum():>8.3%}")
    snapped = sum(one.snapped for one in good.values())
    if snapped:
        most = max(good, key=lambda name: good[name].snapped)
        print(
            f"{snapped:,} pixels ({snapped / pixels.sum():.3%}) were snapped to the nearest class colour; "
            f"most of them in {most} ({good[most].snapped:,})"
        )
    if arguments.merge:
        print(f"classes were merged: {', '.join(plan.labels.names)}")


def _to_json(plan: Plan, good: dict[str, Conversion], broken: dict[str, str], existing: int) -> dict[str, Any]:
    pixels = np.sum([np.zeros(plan.labels.num_classes + 1, np.int64), *(one.pixels for one in good.values())], axis=0)
    return {
        "from": plan.reading.description,
        "to": plan.writing.description,
        "converted": len(good),
        "left_as_they_were": existing,
        "pixels": dict(zip(plan.labels.names, pixels[:-1].tolist(), strict=True)),
        "void_pixels": int(pixels[-1]),
        "snapped_pixels": sum(one.snapped for one in good.values()),
        "files": [{"mask": name, "snapped": one.snapped} for name, one in good.items()],
        "broken": [{"mask": name, "error": error} for name, error in broken.items()],
    }


if __name__ == "__main__":
    sys.exit(main())
