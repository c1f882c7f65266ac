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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data_tools.annotations import READERS
from data_tools.annotations.shapes import AnnotatedImage, check_labels
from data_tools.datasets import arrays
from data_tools.datasets.label_options import (
    ENCODINGS,
    add_label_options,
    check_label_options,
    config_and_inputs,
    labels_from_options,
)
from data_tools.datasets.manifest import whole_file
from data_tools.datasets.mask_writing import Conversion, write_converted
from seg.config.labels import Labels
from seg.data.files import volumes
from seg.data.files.outputs import check_folder, check_reports, check_targets
from seg.data.files.reading import MASK_SUFFIXES
from seg.data.files.storage import File, list_files, relative_name, write_bytes
from seg.data.files.threads import in_order
from seg.data.masks.base import Decoded
from seg.data.masks.reading import (
    MaskEncoding,
    MergedEncoding,
    StoredEncoding,
    decode_stored,
    read_mask_and_snapped,
)
from seg.data.masks.values import telling_all_values
from seg.errors import ConfigError, DataError, OutputError, run_command
from seg.labels import LabelSet
from seg.progress import progress

ALLOWED = ", ".join(ENCODINGS)
SUFFIXES = (*(suffix for suffix in MASK_SUFFIXES if suffix not in volumes.SUFFIXES), *arrays.SUFFIXES)
Source = File | AnnotatedImage
BROKEN = 3  # exit code where broken masks were skipped


@dataclass(frozen=True)
class Plan:
    """Which masks become which files, and how both store the classes."""

    files: list[tuple[Source, str]]
    labels: LabelSet
    reading: MaskEncoding
    writing: StoredEncoding
    decode: Callable[[Source], Decoded]
    form: str  # of the files, in words


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 2 for an error, 3 where broken masks were skipped."""
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.convert_masks",
        description="Writes masks of any encoding, MATLAB and NumPy arrays and what annotation tools export as index "
        "PNG (or as --to says) into OUT, under the same relative "
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
    parser.add_argument(
        "--from", dest="source", choices=(*ENCODINGS, *READERS),
        help=f"an encoding (default: the configuration's, or index), or an annotation export: {', '.join(READERS)}",
    )  # fmt: skip
    parser.add_argument("--to", dest="target", choices=ENCODINGS, default="index", help="default: index")
    parser.add_argument("--merge", action="store_true", help="apply labels.merge, which cannot be undone")
    parser.add_argument("--overwrite", action="store_true", help="replace files in OUT")
    parser.add_argument("--skip-existing", action="store_true", help="leave files in OUT as they are, convert the rest")
    parser.add_argument("--on-error", choices=("stop", "skip"), default="stop", help="what a broken mask does")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers, and what became of each file")
    parser.add_argument("--variable", metavar="NAME", help="of .mat files that hold several, as GTcls.Segmentation")
    drawn = parser.add_argument_group("annotations")
    drawn.add_argument("--background", metavar="NAME", help="class of pixels in no shape, or void (default: the first)")
    drawn.add_argument("--leave-out", nargs="+", metavar="LABEL", help="labels that are no class")
    drawn.add_argument("--images", type=Path, metavar="DIR", help="the images of qupath, whose size they have")
    add_label_options(parser)
    arguments = parser.parse_intermixed_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"--threads: got {arguments.threads}, allowed: 1 or more")
    if arguments.overwrite and arguments.skip_existing:
        raise ConfigError("--overwrite and --skip-existing: got both, allowed: one of them")
    plan = _plan(arguments)
    check_folder(arguments.out)
    check_reports([("--json", arguments.json)], lambda: [])
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
    annotated = arguments.source in READERS
    source = labels_from_options(arguments, config, "index" if annotated else arguments.source)
    target = labels_from_options(arguments, config, arguments.target)
    check_label_options(arguments, source, target)
    for option, section in (("--from", source), ("--to", target)):
        if section.multi_label:
            raise ConfigError(
                f"{option}: got multi_label, whose masks hold several classes a pixel; allowed: {ALLOWED}"
            )
    if arguments.merge and not source.merge:
        raise ConfigError("--merge: has no effect, the configuration has no labels.merge")
    if annotated:
        return _annotated(arguments, folders, source, _writing(target))
    for option in ("background", "leave_out", "images"):
        if getattr(arguments, option) is not None:
            allowed = f"allowed: --from {', '.join(READERS)}"
            raise ConfigError(f"--{option.replace('_', '-')}: has no effect without annotations, {allowed}")
    files: list[tuple[Source, str]] = []
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

    def decode(mask: Source) -> Decoded:
        assert not isinstance(mask, AnnotatedImage)
        if isinstance(mask, Path) and mask.suffix.lower() in arrays.SUFFIXES:
            return decode_stored(arrays.read_array(mask, arguments.variable), labels, reading)
        return read_mask_and_snapped(mask, labels, reading)

    return Plan(_targets(files), labels, reading, _writing(target), decode, reading.description)


def _annotated(arguments: argparse.Namespace, paths: list[str], source: Labels, writing: StoredEncoding) -> Plan:
    """The masks of what an annotation tool exported."""
    labels, left_out = source.stored_label_set(), arguments.leave_out or ()
    if arguments.merge or arguments.variable is not None:
        raise ConfigError("--merge, --variable: have no effect on annotations, allowed: on masks")
    if arguments.images is not None and arguments.source != "qupath":
        raise ConfigError("--images: has no effect but with --from qupath, whose files do not say the size")
    if len(paths) != 1 or not Path(paths[0]).exists():
        raise DataError(f"MASKS: got {', '.join(paths) or 'none'}, allowed: one file or folder of annotations")
    background = arguments.background or labels.names[0]
    if background not in (*labels.names, "void"):
        raise ConfigError(f"--background: got '{background}', allowed: void, {', '.join(labels.names)}")
    void = background == "void" and "void" not in labels.names
    index = labels.ignore_index if void else labels.names.index(background)
    options = {"images": arguments.images} if arguments.images is not None else {}
    images = READERS[arguments.source](Path(paths[0]), **options)
    check_labels(images, labels, left_out)

    def decode(image: Source) -> Decoded:
        assert isinstance(image, AnnotatedImage)
        return image.mask(labels, index, left_out)

    files: list[tuple[Source, str]] = [(image, image.name) for image in images]
    return Plan(_targets(files), labels, source.encoding.build(source), writing, decode, arguments.source)


def _writing(target: Labels) -> StoredEncoding:
    """The encoding to write; ignore_values, void beside `ignore_index`, has no place in index and palette."""
    if target.encoding.name in ("index", "palette"):
        target = target.model_copy(update={"ignore_values": ()})
    return target.encoding.build(target)


def _targets(files: list[tuple[Source, str]]) -> list[tuple[Source, str]]:
    """(mask, name of the new file relative to OUT); refuses two masks that would get one name, and names outside."""
    sources: dict[str, Source] = {}
    for mask, name in files:
        path = PurePosixPath(name).with_suffix(".png")
        if ".." in path.parts or path.is_absolute() or "\\" in name:
            raise DataError(f"{mask}: lies outside of data.root; allowed: masks under it, or their folder as MASKS")
        if str(path) in sources:
            raise DataError(f"{sources[str(path)]} and {mask}: both would become {path}; convert them apart")
        sources[str(path)] = mask
    return [(mask, name) for name, mask in sources.items()]


def _without_existing(plan: Plan, arguments: argparse.Namespace) -> tuple[list[tuple[Source, str]], int]:
    """The files to convert, and how many are left as they are; refuses to replace what is there."""
    targets = [arguments.out / name for _, name in plan.files]
    check_targets(targets, lambda: [mask for mask, _ in plan.files if not isinstance(mask, AnnotatedImage)], True)
    there = {name for _, name in plan.files if (arguments.out / name).exists()}
    if there and not (arguments.overwrite or arguments.skip_existing):
        raise DataError(
            f"{arguments.out / min(there)}: exists, and {len(there) - 1} more; allowed: another --out, --overwrite or "
            "--skip-existing"
        )
    if arguments.overwrite:
        return plan.files, 0
    return [(mask, name) for mask, name in plan.files if name not in there], len(there)


def _convert(
    files: list[tuple[Source, str]], plan: Plan, arguments: argparse.Namespace
) -> list[Conversion | DataError]:
    def convert(file: tuple[Source, str]) -> Conversion | DataError:
        try:
            decoded = plan.decode(file[0])
            return write_converted(file[0], arguments.out / file[1], decoded, plan.labels, plan.writing)
        except OutputError:
            raise
        except DataError as error:
            if arguments.on_error == "stop":
                raise
            return error

    done = []
    masks = [mask for mask, _ in files if not isinstance(mask, AnnotatedImage)]
    with telling_all_values(masks, plan.labels, plan.reading), progress("converting", len(files)) as step:
        for one in in_order(convert, files, arguments.threads or os.cpu_count() or 1):
            done.append(one)
            step()
    return done


def _print_summary(plan: Plan, good: dict[str, Conversion], existing: int, arguments: argparse.Namespace) -> None:
    print(
        f"{len(good):,} masks from {plan.form} to {plan.writing.description} in {arguments.out}, "
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
            f"{snapped:,} pixels ({snapped / pixels.sum():.3%}) were snapped to the nearest class colour or value; "
            f"most of them in {most} ({good[most].snapped:,})"
        )
    if arguments.merge:
        print(f"classes were merged: {', '.join(plan.labels.names)}")


def _to_json(plan: Plan, good: dict[str, Conversion], broken: dict[str, str], existing: int) -> dict[str, Any]:
    pixels = np.sum([np.zeros(plan.labels.num_classes + 1, np.int64), *(one.pixels for one in good.values())], axis=0)
    return {
        "from": plan.form,
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
