"""Listing a dataset whatever is wrong with it: all pairs that can be made, and a finding for all that cannot.

`seg.data.samples.pairs` refuses a list at its first problem, because a training needs a whole one. A check wants the
list of all of them. Both agree on a dataset without problems (tests/data_tools/checks/test_survey.py).
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_tools.checks.findings import Finding
from seg.data.files.reading import MASK_SUFFIXES, SAMPLE_SUFFIXES
from seg.data.files.storage import File, is_hidden, relative_name
from seg.data.samples.pairs import (
    REQUIRED_SPLITS,
    SPLITS,
    Sample,
    Splits,
    by_suffix,
    composed_stem,
    natural_key,
    split_blocks,
)
from seg.data.samples.patterns import Pattern, pair_by_patterns, with_val_share
from seg.data.samples.tables import row_sample, table_rows
from seg.errors import DataError

CLOSE_NAMES = 200  # orphans; of more no similar names are looked for, which takes their number squared
NAMED = 8  # ignored files named in a finding


@dataclass(frozen=True)
class Survey:
    """A dataset's pairs, and what kept others from being made.

    Attributes:
        root: What names are relative to.
        splits: The pairs of each split.
        findings: What is wrong with the list.
    """

    root: Path
    splits: Splits
    findings: tuple[Finding, ...] = ()


def survey_folders(
    root: Path,
    images: str = "images/{split}",
    masks: str = "masks/{split}",
    mask_suffix: str = "",
    *,
    without_mask: str = "error",
) -> Survey:
    """As `samples_from_folders`, of any folder tree.

    Raises:
        DataError: No split has a folder of images or of masks.
    """
    splits: Splits = {}
    findings: list[Finding] = []
    for split in SPLITS:
        folders = (Path(root, images.replace("{split}", split)), Path(root, masks.replace("{split}", split)))
        if any(folder.is_dir() for folder in folders):
            splits[split], found = _pairs(root, *folders, mask_suffix, split, without_mask)
            findings += found
    if not splits:
        tried = ", ".join(Path(root, images.replace("{split}", split)).as_posix() for split in SPLITS)
        raise DataError(f"{root}: holds no folder of images, looked for {tried}")
    return Survey(root, splits, (*findings, *list_findings(splits, root)))


def survey_pair(
    root: Path, images: str, masks: str, mask_suffix: str = "", split: str = "all", without_mask: str = "error"
) -> Survey:
    """One folder of images and one of masks as one split, which needs not be `train`.

    Raises:
        DataError: Neither is a folder.
    """
    folders = (Path(root, images), Path(root, masks))
    if not any(folder.is_dir() for folder in folders):
        raise DataError(f"{root}: holds no folder {images} and no folder {masks}")
    samples, findings = _pairs(root, *folders, mask_suffix, split, without_mask)
    return Survey(root, {split: samples}, (*findings, *list_findings({split: samples}, root, required=(split,))))


def survey_fractions(
    root: Path,
    images: str,
    masks: str,
    mask_suffix: str,
    *,
    fractions: Mapping[str, float],
    seed: int,
    block_size: int,
    without_mask: str = "error",
) -> Survey:
    """As `samples_from_fractions`: the pairs that can be made are split by its rule.

    Raises:
        DataError: Neither `images` nor `masks` is a folder.
    """
    whole = survey_pair(root, images, masks, mask_suffix, split="", without_mask=without_mask)
    splits = split_blocks(whole.splits[""], fractions, seed, block_size)
    findings = [finding for finding in whole.findings if finding.kind != "empty-split"]
    return Survey(root, splits, (*findings, *list_findings(splits, root)))


def survey_patterns(
    root: Path,
    patterns: Mapping[str, Sequence[Pattern]],
    *,
    valid_values: tuple[int, ...] | None,
    val_share: float | None,
    seed: int,
    block_size: int,
    without_mask: str,
) -> Survey:
    """As `seg.data.samples.patterns.samples_from_patterns`.

    Raises:
        DataError: Two files have one name, or several fit where one is wanted.
    """
    found = pair_by_patterns(root, patterns, valid_values)
    kind = "orphan-image" if without_mask == "error" else "skipped-image"
    findings = [Finding("empty-split", (), f"no image fits '{text}'", split) for split, text in found.empty]
    findings += [Finding(kind, (name,), f"no mask {wanted}{found.hint}") for name, wanted in found.without_mask.items()]
    findings += [
        Finding("missing-file", (name,), f"no validity mask {wanted}") for name, wanted in found.without_valid.items()
    ]
    findings += [Finding("orphan-mask", (name,), "fits a pattern of masks, no image's") for name in found.without_image]
    if found.left_over:
        text = f"{len(found.left_over)} file(s) fit no pattern: {by_suffix(found.left_over)}"
        findings.append(Finding("ignored-files", tuple(found.left_over[:NAMED]), text))
    splits = with_val_share(found.splits, val_share, seed, block_size)
    named = {finding.split for finding in findings if finding.kind == "empty-split"}
    more = [one for one in list_findings(splits, root) if one.kind != "empty-split" or one.split not in named]
    return Survey(root, splits, (*findings, *more))


def survey_table(root: Path, table: Path, valid_values: tuple[int, ...] | None = None) -> Survey:
    """As `samples_from_table`.

    Raises:
        DataError: The table itself is broken: its columns or cells.
    """
    splits: Splits = {}
    findings = []
    for line, row in table_rows(table):
        sample = row_sample(root, row, valid_values)
        names = tuple(relative_name(path, root) for path in sample.files)
        if row["split"] not in SPLITS:
            text = f"{table.name}, line {line}: got the split '{row['split']}', allowed: {', '.join(SPLITS)}"
            findings.append(Finding("unknown-split", names, text))
            continue
        missing = tuple(name for name, path in zip(names, sample.files, strict=True) if not Path(str(path)).is_file())
        if missing:
            text = f"{table.name}, line {line}: {' and '.join(missing)} not found"
            findings.append(Finding("missing-file", missing, text, row["split"]))
        else:
            splits.setdefault(row["split"], []).append(sample)
    ordered = {split: splits[split] for split in SPLITS if split in splits}
    return Survey(root, ordered, (*findings, *list_findings(ordered, root)))


def list_findings(splits: Splits, root: Path, required: tuple[str, ...] = REQUIRED_SPLITS) -> Iterator[Finding]:
    """What is wrong between the splits of a list: empty ones, files listed twice, files and groups in two splits."""
    for split in sorted({*required, *splits}, key=[*SPLITS, *splits].index):
        if not splits.get(split):
            yield Finding("empty-split", (), f"split '{split}' has no pair, allowed: at least 1", split)
    yield from _repeated(splits, root)
    # Resolved, so that a link from one split into another is seen.
    yield from _shared(splits, root, "file-in-two-splits", "image", lambda sample: str(sample.image.resolve()))
    yield from _shared(splits, root, "file-in-two-splits", "mask", lambda sample: str(sample.mask.resolve()))
    yield from _shared(splits, root, "group-in-two-splits", "group", lambda sample: sample.group)


def _repeated(splits: Splits, root: Path) -> Iterator[Finding]:
    for split, samples in splits.items():
        listed: dict[File, int] = defaultdict(int)
        for sample in samples:
            listed[sample.image.resolve()] += 1
        for path, count in listed.items():
            if count > 1:
                name = relative_name(path, root.resolve())
                yield Finding("listed-twice", (name,), f"listed {count} times, allowed: once", split)


def _shared(splits: Splits, root: Path, kind: str, what: str, key: Callable[[Sample], str]) -> Iterator[Finding]:
    """A finding for each key (other than "") that samples of two splits have in common."""
    holders: dict[str, dict[str, list[Sample]]] = defaultdict(dict)
    for split, samples in splits.items():
        for sample in samples:
            if found := key(sample):
                holders[found].setdefault(split, []).append(sample)
    for found, by_split in holders.items():
        if len(by_split) < 2:
            continue
        files = [sample.mask if what == "mask" else sample.image for samples in by_split.values() for sample in samples]
        numbers = ", ".join(f"{len(samples)} in {split}" for split, samples in by_split.items())
        subject = f"group '{found}'" if what == "group" else f"this {what}"
        text = f"{subject} is in more than one split ({numbers}), allowed: one"
        yield Finding(kind, tuple(dict.fromkeys(relative_name(file, root) for file in files)), text)


def _pairs(
    root: Path, images_folder: Path, masks_folder: Path, mask_suffix: str, split: str, without: str
) -> tuple[list[Sample], list[Finding]]:
    """The pairs of two folders, and a finding for each file that has no partner."""
    together = images_folder.resolve() == masks_folder.resolve()
    images, findings = _files_by_stem(images_folder, root, split, MASK_SUFFIXES if together else SAMPLE_SUFFIXES)
    if together:
        masks = {name: path for name, path in images.items() if name.endswith(mask_suffix)}
        images = {name: path for name, path in images.items() if not name.endswith(mask_suffix)}
    else:
        masks, more = _files_by_stem(masks_folder, root, split, MASK_SUFFIXES)
        findings += more
    wanted = {name + mask_suffix for name in images}
    without_mask = {name: path for name, path in images.items() if name + mask_suffix not in masks}
    without_image = {name: path for name, path in masks.items() if name not in wanted}
    for kind, orphans, others, folder, change in (
        ("orphan-image", without_mask, without_image, masks_folder, lambda name: name + mask_suffix),
        ("orphan-mask", without_image, without_mask, images_folder, lambda name: name.removesuffix(mask_suffix)),
    ):
        partner = "mask" if kind == "orphan-image" else "image"
        told = "skipped-image" if kind == "orphan-image" and without == "skip" else kind
        for name, path in orphans.items():
            close = []
            if len(orphans) <= CLOSE_NAMES and len(others) <= CLOSE_NAMES:
                close = difflib.get_close_matches(change(name), others, 1, cutoff=0.6)
            hint = f"; the most alike without a partner: {others[close[0]].name}" if close else ""
            text = f"no {partner} {change(name)}.* in {relative_name(folder, root)}{hint}"
            findings.append(Finding(told, (relative_name(path, root),), text, split))
    samples = [
        Sample(images[name], masks[name + mask_suffix])
        for name in sorted(images, key=natural_key)
        if name + mask_suffix in masks
    ]
    return samples, findings


def _files_by_stem(
    folder: Path, root: Path, split: str, suffixes: Sequence[str]
) -> tuple[dict[str, Path], list[Finding]]:
    """Stem -> image file, in natural order; of several with one stem the first. Hidden files are not looked at."""
    entries = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    shown = sorted((path for path in entries if not is_hidden(path.name)), key=lambda path: natural_key(path.name))
    by_stem: dict[str, list[Path]] = defaultdict(list)
    ignored = []
    for path in shown:
        if path.name.lower().endswith(tuple(suffixes)):
            by_stem[composed_stem(path)].append(path)
        else:
            ignored.append(relative_name(path, root))
    findings = [
        Finding(
            "ambiguous-stem",
            tuple(relative_name(path, root) for path in paths),
            f"{len(paths)} files with the stem '{name}'; only the first was checked further; allowed: one",
            split,
        )
        for name, paths in by_stem.items()
        if len(paths) > 1
    ]
    if ignored:
        more = f" and {len(ignored) - NAMED} more" if len(ignored) > NAMED else ""
        text = f"{by_suffix(ignored)} in {relative_name(folder, root)}{more}; read: {' '.join(suffixes)}"
        findings.append(Finding("ignored-files", tuple(ignored[:NAMED]), text, split))
    return {name: paths[0] for name, paths in by_stem.items()}, findings
