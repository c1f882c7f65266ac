"""Writes samples into one HTML page: image, mask and overlay side by side, to look at in a browser.

python -m data_tools.browse --config configs/camvid.yaml data.root=DIR --out sheet.html --class bicyclist --top 20
python -m data_tools.browse --config configs/camvid.yaml data.root=DIR --out sheet.html --findings report.json
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.checks.contact_sheet import Card, coloured_png, image_jpeg, mask_png, page
from data_tools.checks.findings import KINDS
from seg.balance.counting import count_file
from seg.data.files.outputs import check_reports
from seg.data.files.reading import image_size, is_large, read_values, stored_blocks
from seg.data.files.storage import File, mask_file, relative_name, write_bytes
from seg.data.files.stored import Bands
from seg.data.files.threads import in_order
from seg.data.masks.counts import load_fast_counter, mask_pixels
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.data.samples.pairs import Sample
from seg.errors import ConfigError, DataError, run_command
from seg.labels import LabelSet
from seg.pictures.overlay import colourise
from seg.progress import progress

MOST_SAMPLES = 500  # a browser scrolls that many with ease
RANDOM = 24  # samples where nothing else is said
TOP = 20
SIDE = 512  # pixels of the longer side of a picture
MOST_MEGABYTES = 100
DECIMATED = 2  # pixels a side that are read of a large raster for each one shown, which is their mean


@dataclass(frozen=True)
class Source:
    """The samples to choose from, by split, and how to read them."""

    root: Path
    samples: list[tuple[str, Sample]]
    labels: LabelSet
    encoding: MaskEncoding
    bands: Bands
    name: str
    nodata: float | None = None

    def image_name(self, sample: Sample) -> str:
        return relative_name(sample.image, self.root)


@dataclass(frozen=True)
class Choice:
    """The samples to show, why each (a note), and how they were chosen."""

    samples: list[tuple[str, Sample]]
    notes: list[str]
    text: str
    highlight: int | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.browse",
        description="Writes samples into one self-contained HTML page: image, mask and overlay side by side, legend "
        "and class shares; a click enlarges.",
        epilog=f"At most {MOST_SAMPLES} samples and --megabytes a page.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the configuration")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="whose data to show")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="the page to write")
    parser.add_argument("--split", metavar="NAME", help="of this split only (default: all)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--class", dest="class_name", metavar="NAME", help="those with most pixels of this class")
    choice.add_argument("--samples", metavar="A,B,...", help="these: stems, file names or paths below data.root")
    choice.add_argument("--findings", type=Path, metavar="FILE", help="those that check_dataset --json FILE blames")
    choice.add_argument("--random", type=int, metavar="N", help=f"N at random (default: {RANDOM})")
    parser.add_argument("--top", type=int, metavar="N", help=f"with --class: how many (default: {TOP})")
    parser.add_argument("--kind", metavar="KIND", help="with --findings: of this kind only")
    parser.add_argument("--seed", type=int, metavar="S", help="of the random choice (default: 0)")
    parser.add_argument("--side", type=int, default=SIDE, metavar="PX", help="longer side of pictures (default: 512)")
    parser.add_argument(
        "--megabytes", type=float, default=MOST_MEGABYTES, help="a larger page is refused (default: %(default)s)"
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    _check(arguments)
    source = _source(arguments)
    sources = [file for _, sample in source.samples for file in sample.files]
    check_reports([("--out", arguments.out)], lambda: [*sources, *filter(None, [arguments.findings])])
    choice = _choose(source, arguments)
    if len(choice.samples) > MOST_SAMPLES:
        raise ConfigError(f"{len(choice.samples)} samples chosen, allowed: at most {MOST_SAMPLES} a page")
    if not choice.samples:
        raise DataError(f"no sample to show: {choice.text}")
    work = list(zip(choice.samples, choice.notes, strict=True))
    cards, size = [], 0
    with progress("drawing", len(work)) as advance:
        for card in in_order(lambda item: _card(source, item[0], item[1], arguments.side), work, os.cpu_count() or 1):
            cards.append(card)
            size += (len(card.image or b"") + len(card.mask or b"")) * 4 // 3
            if size > arguments.megabytes * 1e6:
                raise ConfigError(
                    f"the page grows beyond {arguments.megabytes:g} MB at sample {len(cards)} of {len(work)}; allowed: "
                    "fewer samples, a smaller --side, or more --megabytes"
                )
            advance()
    text = page(source.name, choice.text, source.labels, cards, choice.highlight)
    write_bytes(arguments.out, text.encode())
    print(f"wrote {arguments.out}: {len(cards)} samples, {len(text.encode()) / 1e6:.1f} MB; {choice.text}")


def _check(arguments: argparse.Namespace) -> None:
    for option, needs in (("top", "class_name"), ("kind", "findings")):
        if getattr(arguments, option) is not None and getattr(arguments, needs) is None:
            raise ConfigError(f"--{option}: has no effect without --{needs.removesuffix('_name')}")
    if arguments.seed is not None and (arguments.class_name or arguments.samples or arguments.findings):
        raise ConfigError("--seed: has no effect on samples that are not chosen at random")
    for option, least in (("top", 1), ("random", 1), ("side", 16)):
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise ConfigError(f"--{option}: got {value}, allowed: {least} or more")
    if not arguments.megabytes > 0:
        raise ConfigError(f"--megabytes: got {arguments.megabytes:g}, allowed: above 0")
    if arguments.kind is not None and arguments.kind not in KINDS:
        raise ConfigError(f"--kind: got '{arguments.kind}', allowed: {', '.join(KINDS)}")


def _source(arguments: argparse.Namespace) -> Source:
    from data_tools.checks.config_survey import survey
    from seg.config import load_config

    config = load_config(arguments.config, arguments.overrides, trains=False)
    found = survey(config)
    if arguments.split is not None and arguments.split not in found.splits:
        raise ConfigError(f"--split: got '{arguments.split}', allowed: {', '.join(found.splits)}")
    samples = [
        (split, sample) for split, some in found.splits.items() for sample in some if arguments.split in (None, split)
    ]
    read = (config.labels.label_set(), config.labels.mask_encoding(), config.input.bands)
    return Source(found.root, samples, *read, config.name, config.input.nodata)


def _choose(source: Source, arguments: argparse.Namespace) -> Choice:
    where = f"of {arguments.split}" if arguments.split else "of all splits"
    if arguments.class_name is not None:
        return _richest(source, arguments.class_name, arguments.top or TOP, where)
    if arguments.samples is not None:
        return _named(source, [name.strip() for name in arguments.samples.split(",")])
    if arguments.findings is not None:
        return _blamed(source, arguments.findings, arguments.kind)
    number, seed = arguments.random or RANDOM, arguments.seed or 0
    places = sorted(random.Random(seed).sample(range(len(source.samples)), min(number, len(source.samples))))
    text = f"{len(places)} at random (seed {seed}) of the {len(source.samples)} samples {where}"
    return Choice([source.samples[place] for place in places], [""] * len(places), text)


def _richest(source: Source, name: str, top: int, where: str) -> Choice:
    """The samples with most pixels of a class, then by name; masks that cannot be read have none."""
    names = source.labels.names
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"--class: got '{name}', allowed: {', '.join(names)}{hint}")
    index = names.index(name)
    load_fast_counter()

    def count(entry: tuple[str, Sample]) -> int:
        try:
            return int(count_file(entry[1].mask, source.labels, source.encoding)[0][index])
        except DataError:
            return 0

    pixels = []
    with progress("counting", len(source.samples)) as advance:
        for number in in_order(count, source.samples, os.cpu_count() or 1):
            pixels.append(number)
            advance()
    order = sorted(
        (place for place, number in enumerate(pixels) if number),
        key=lambda place: (-pixels[place], source.image_name(source.samples[place][1])),
    )
    chosen = order[:top]
    text = f"the {len(chosen)} samples {where} with most pixels of '{name}', of {len(order)} that have any"
    notes = [f"{pixels[place]:,} pixels of {name}" for place in chosen]
    return Choice([source.samples[place] for place in chosen], notes, text, index)


def _named(source: Source, names: list[str]) -> Choice:
    known: dict[str, list[int]] = {}
    for place, (_, sample) in enumerate(source.samples):
        image, mask = source.image_name(sample), relative_name(mask_file(sample.mask), source.root)
        for name in dict.fromkeys((image, mask, Path(image).name, Path(mask).name, Path(image).stem)):
            known.setdefault(name, []).append(place)
    chosen = []
    for name in names:
        places = known.get(name, [])
        if not places:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise ConfigError(f"--samples: no sample '{name}' among {len(source.samples)}{hint}")
        if len(places) > 1:
            listed = ", ".join(source.image_name(source.samples[place][1]) for place in places[:5])
            raise ConfigError(f"--samples: '{name}' names {len(places)} samples ({listed}); allowed: a name of one")
        chosen.append(source.samples[places[0]])
    return Choice(chosen, [""] * len(chosen), f"{len(chosen)} samples by name")


def _blamed(source: Source, path: Path, kind: str | None) -> Choice:
    """The samples of a report's findings in its order, each finding's next to each other."""
    try:
        findings = json.loads(path.read_text("utf-8"))["findings"]
        entries = [(one["kind"], one["grade"], list(one["files"]), one["text"]) for one in findings]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no report of data_tools.check_dataset --json ({error!r})") from None
    of_file: dict[str, tuple[str, Sample]] = {}
    for split, sample in source.samples:
        mask = relative_name(mask_file(sample.mask), source.root)
        of_file[source.image_name(sample)] = of_file[mask] = (split, sample)
    notes: dict[str, list[str]] = {}
    chosen: dict[str, tuple[str, Sample]] = {}
    for found, grade, files, text in entries:
        if kind in (None, found):
            for entry in [of_file[file] for file in files if file in of_file]:
                name = source.image_name(entry[1])
                chosen.setdefault(name, entry)
                notes.setdefault(name, []).append(f"{grade}: {found}: {text.partition('; most: ')[0]}")
    of_kind = f" of kind {kind}" if kind else ""
    text = f"{len(chosen)} samples that findings{of_kind} in {path.name} name"
    unique = ["; ".join(dict.fromkeys(notes[name])) for name in chosen]
    return Choice(list(chosen.values()), unique, text)


def _card(source: Source, entry: tuple[str, Sample], note: str, side: int) -> Card:
    split, sample = entry
    notes, sizes = [note] if note else [], []
    jpeg, png, pixels = None, None, None
    try:
        jpeg, size = _image_picture(source, sample, side)
        sizes.append(size)
    except DataError as error:
        notes.append(f"image: {str(error).removeprefix(f'{sample.image}: ')}")
    try:
        png, pixels, size = _mask_picture(source, sample, side)
        sizes.append(size)
    except DataError as error:
        notes.append(f"mask: {str(error).removeprefix(f'{mask_file(sample.mask)}: ')}")
    if len(set(sizes)) > 1:
        notes.append(f"image {sizes[0][0]} x {sizes[0][1]}, mask {sizes[1][0]} x {sizes[1][1]} (height x width)")
    name = source.image_name(sample)
    return Card(name, split, sizes[-1] if sizes else None, jpeg, png, pixels, "; ".join(notes))


def _image_picture(source: Source, sample: Sample, side: int) -> tuple[bytes, tuple[int, int]]:
    """A JPEG, of a large raster from a decimated read, and the (height, width) as stored."""
    file = sample.image
    longest = DECIMATED * side if is_large(file) else None
    values, missing = read_values(file, source.bands, None, source.nodata, longest)
    size = values.shape[:2] if longest is None else image_size(file)
    if missing is not None and not missing.all():  # a nodata value far from the others would take all the contrast
        values = np.where(missing, values[~missing].min(), values)
    return image_jpeg(values, side), size


def _mask_picture(source: Source, sample: Sample, side: int) -> tuple[bytes, np.ndarray, tuple[int, int]]:
    """A PNG, the pixels of each class, then void, and the (height, width) as stored."""
    file, labels = sample.mask, source.labels
    if labels.multi_label or not is_large(file):
        mask = read_mask(file, labels, source.encoding)
        return *_drawn(mask, labels, side), mask.shape[:2]
    return _large_mask(file, source, side)


def _large_mask(file: File, source: Source, side: int) -> tuple[bytes, np.ndarray, tuple[int, int]]:
    """Single pixels of it, all of its pixels counted: block by block, at full resolution. An overview holds classes
    that the file does not, where it was made by interpolation, as that of a COG is unless told otherwise."""
    stored, labels = source.encoding.reader(file), source.labels
    shape = stored.shape
    rows, columns = (_spread(length, max(1, round(length * side / max(shape)))) for length in shape)
    small = np.zeros((len(rows), len(columns)), np.uint8)
    pixels = np.zeros(labels.num_classes + 1, np.int64)
    for window in stored_blocks(stored):
        mask = read_mask(file, labels, source.encoding, window)
        pixels += mask_pixels(np.ascontiguousarray(mask), labels)
        top, left = (0, 0) if window is None else window[:2]
        inside = [(where >= start) & (where < start + length)
                  for where, start, length in zip((rows, columns), (top, left), mask.shape, strict=True)]  # fmt: skip
        small[np.ix_(*inside)] = mask[np.ix_(rows[inside[0]] - top, columns[inside[1]] - left)]
    return mask_png(small, labels, side), pixels, shape


def _spread(length: int, number: int) -> np.ndarray:
    """The pixels at the middles of `number` equal parts of an axis."""
    return (2 * np.arange(number) + 1) * length // (2 * number)


def _drawn(mask: np.ndarray, labels: LabelSet, side: int) -> tuple[bytes, np.ndarray]:
    """A mask's picture, and the pixels of each class, then void."""
    if not labels.multi_label:
        return mask_png(mask, labels, side), mask_pixels(mask, labels)
    present = mask == 1
    void = (mask == labels.ignore_index).all(axis=2).sum()
    picture = coloured_png(colourise(mask, labels), present.any(axis=2), side)
    return picture, np.array([*present.sum(axis=(0, 1)), void], np.int64)


if __name__ == "__main__":
    sys.exit(main())
