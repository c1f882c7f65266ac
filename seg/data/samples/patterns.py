"""Pairs by patterns: `training/images/{id}_training.tif` with `training/1st_manual/{id}_manual1.gif`. Reads no pixels.

In a pattern `{name}` stands for one or more characters without a slash, the same in image, mask and validity mask, and
`*` for any such characters, which need not be the same; the rest stands for itself. Names are compared in Unicode's
composed form, NFC. A file that fits several patterns belongs to the one with most characters of its own, so `{id}.png`
and `{id}_mask.png` may lie in one folder.
"""

from __future__ import annotations

import bisect
import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seg.data.files.storage import LimitedMask, is_hidden
from seg.data.samples.pairs import (
    SPLITS,
    Sample,
    Splits,
    Tell,
    by_suffix,
    check_splits,
    few,
    natural_key,
    split_blocks,
)
from seg.errors import DataError

_FIELD = re.compile(r"(\{\w*\}|\*)")
LOOKED_AT = 20_000  # files that a better pattern is looked for in


@dataclass(frozen=True)
class Pattern:
    """Where the files of some samples lie, below the data's root.

    Attributes:
        image: Pattern of the images, with at least one {field}.
        mask: Of their masks, with fields of `image` alone.
        valid: Of their validity masks, the same, or no field for one that all share; None: there are none.
        annotated: The classes that were annotated in these samples, by name; None: all.
    """

    image: str
    mask: str
    valid: str | None = None
    annotated: tuple[str, ...] | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong) of its parts."""
        known = fields(self.image)
        if not known:
            yield "image", f"got '{self.image}', allowed: a path with a {{field}} in it, as in images/{{id}}.png"
        for key, text in self.parts():
            path = PurePosixPath(text)
            if path.is_absolute() or ".." in path.parts or "{" in (rest := _FIELD.sub("", text)) or "}" in rest:
                yield key, f"got '{text}', allowed: a path below root, with {{field}} and * for what changes"
            for name in sorted(fields(text)):
                if not name.isidentifier():
                    yield key, f"got the field {{{name}}}, allowed: a name of letters, digits and _, no digit first"
                elif known and name not in known:
                    yield key, f"got the field {{{name}}}, allowed: those of image: {', '.join(sorted(known))}"
        if _plain(self.image) == _plain(self.mask):
            yield "mask", "got the pattern of the images, allowed: another"

    def parts(self) -> list[tuple[str, str]]:
        """(key, pattern) of those there are."""
        return [("image", self.image), ("mask", self.mask), *([("valid", self.valid)] if self.valid else [])]


@dataclass(frozen=True)
class Pairing:
    """What patterns find.

    Attributes:
        splits: The samples, in natural order of their images' names.
        without_mask: Image -> the mask that it should have, of images that no pattern gives one.
        without_valid: Image -> the validity mask that it should have.
        without_image: Masks that fit a pattern and are no image's.
        left_over: Files of the folders looked at that fit no pattern.
        empty: (split, pattern) of images, of patterns that no file fits.
        hint: A pattern of masks that would find more; or empty.
    """

    splits: Splits
    without_mask: dict[str, str]
    without_valid: dict[str, str]
    without_image: list[str]
    left_over: list[str]
    empty: list[tuple[str, str]]
    hint: str


def samples_from_patterns(
    root: Path,
    patterns: Mapping[str, Sequence[Pattern]],
    *,
    valid_values: tuple[int, ...] | None = None,
    val_share: float | None = None,
    seed: int = 0,
    block_size: int = 1,
    without_mask: str = "error",
    tell: Tell = lambda text: None,
) -> Splits:
    """Samples of the files that fit patterns.

    Args:
        root: The dataset's folder.
        patterns: Of each split.
        valid_values: What validity masks hold where masks count; None: all but 0.
        val_share: The share of train that becomes val, in blocks as of `samples_from_fractions`; None: none does.
        seed: Another seed gives another share.
        block_size: Samples of a block.
        without_mask: "skip" leaves out images without a mask, and tells which; "error" refuses them.
        tell: Is told which files fit no pattern.

    Raises:
        DataError: A pattern fits nothing, an image or mask has no partner, or a file is in two splits.
    """
    found = pair_by_patterns(root, patterns, valid_values)
    for split, pattern in found.empty:
        raise DataError(f"{root}: no image of {split} fits '{pattern}'{_nearest(root, pattern)}")
    if found.without_mask and without_mask == "skip":
        tell(skipped_images(list(found.without_mask)))
    else:
        _refuse(root, "image(s) have no mask", found.without_mask, found.hint)
    _refuse(root, "image(s) have no validity mask", found.without_valid, "")
    if found.without_image:
        raise DataError(
            f"{root}: {len(found.without_image)} mask(s) have no image: {few(found.without_image)}; allowed: an image "
            "for each, or patterns that leave them out"
        )
    if found.left_over:
        tell(f"{len(found.left_over)} file(s) fit no pattern: {by_suffix(found.left_over)}")
    splits = with_val_share(found.splits, val_share, seed, block_size)
    check_splits(splits, root)
    return splits


def with_val_share(splits: Splits, val_share: float | None, seed: int, block_size: int) -> Splits:
    """The splits, of which a share of train became val."""
    if val_share is None:
        return splits
    dealt = split_blocks(splits["train"], {"train": 1 - val_share, "val": val_share}, seed, block_size)
    return {split: members for split in SPLITS if (members := {**splits, **dealt}.get(split)) is not None}


def skipped_images(names: Sequence[str]) -> str:
    """What is told of images that are left out."""
    return f"left out: {len(names)} image(s) without a mask: {few(names)}"


def pair_by_patterns(
    root: Path, patterns: Mapping[str, Sequence[Pattern]], valid_values: tuple[int, ...] | None = None
) -> Pairing:
    """Every pair that can be made, and every file that cannot be paired.

    Raises:
        DataError: Two files have one name in NFC, or several files fit where a pattern with * wants one.
    """
    every = [pattern for some in patterns.values() for pattern in some]
    files = _Files(root, [text for pattern in every for _, text in pattern.parts()])
    roles = _roles(files.names, {text: key for pattern in every for key, text in pattern.parts()})
    splits: Splits = {}
    used: set[str] = set()
    masked: dict[str, str] = {}
    without: dict[str, dict[str, str]] = {"mask": {}, "valid": {}}
    empty, fields_without = [], []
    for split, pattern in ((split, pattern) for split, some in patterns.items() for pattern in some):
        images = _matches(pattern.image, [name for name in files.names if roles.get(name) == pattern.image])
        if not images:
            empty.append((split, pattern.image))
        splits.setdefault(split, [])
        for name in sorted(images, key=natural_key):
            mask = files.only(_filled(pattern.mask, images[name]))
            if mask is None:
                without["mask"].setdefault(name, _filled(pattern.mask, images[name]))
                fields_without.append((pattern.mask, images[name]))
                continue
            masked[name] = mask
            used |= {name, mask}
            valid = files.only(_filled(pattern.valid, images[name])) if pattern.valid else None
            if pattern.valid and valid is None:
                without["valid"][name] = _filled(pattern.valid, images[name])
                continue
            limited: Path | LimitedMask = files.paths[mask]
            if valid is not None or pattern.annotated is not None:
                used |= {valid} if valid else set()
                file, values = (files.paths[valid], valid_values) if valid else (None, None)
                limited = LimitedMask(files.paths[mask], file, values, pattern.annotated)
            splits[split].append(Sample(files.paths[name], limited))
    without_mask = {name: wanted for name, wanted in without["mask"].items() if name not in masked}
    texts = {pattern.mask for pattern in every}
    orphans = [name for name in files.names if roles.get(name) in texts and name not in used]
    left_over = [name for name in files.names if name not in roles]
    hint = _better(root, fields_without) if without_mask else ""
    return Pairing(splits, without_mask, without["valid"], orphans, left_over, empty, hint)


class _Files:
    """The files under the folders that patterns name, by their path below `root` in NFC, in natural order."""

    def __init__(self, root: Path, patterns: Iterable[str]) -> None:
        self.paths: dict[str, Path] = {}
        folders = sorted({_folder(pattern) for pattern in patterns}, key=len)
        for folder in folders:
            if not any(folder == other or f"{folder}/".startswith(f"{other}/".lstrip("/")) for other in folders
                       if len(other) < len(folder)):  # fmt: skip
                self._add(root, folder)
        self.names = sorted(self.paths, key=natural_key)
        self._sorted = sorted(self.paths)

    def _add(self, root: Path, folder: str) -> None:
        for parent, folders, names in os.walk(root / folder, followlinks=True):
            folders[:] = [name for name in folders if not is_hidden(name)]
            below = Path(os.path.relpath(parent, root))
            for name in names:
                if is_hidden(name):
                    continue
                key = unicodedata.normalize("NFC", (below / name).as_posix())
                if key in self.paths:
                    raise DataError(f"{Path(parent, name)}: another file beside it has the same name in Unicode's NFC")
                self.paths[key] = Path(parent, name)

    def only(self, wanted: str) -> str | None:
        """The one file that fits a pattern without fields; None where none does."""
        wanted = unicodedata.normalize("NFC", wanted)
        if "*" not in wanted:
            return wanted if wanted in self.paths else None
        start = wanted.partition("*")[0]
        first = bisect.bisect_left(self._sorted, start)
        last = bisect.bisect_left(self._sorted, start + chr(0x10FFFF))
        found = list(_matches(wanted, self._sorted[first:last]))
        if len(found) > 1:
            raise DataError(f"'{wanted}' fits {len(found)} files: {few(found)}; allowed: one a sample")
        return found[0] if found else None


def fields(pattern: str) -> set[str]:
    """The names of the fields of a pattern."""
    return {part[1:-1] for part in _FIELD.findall(pattern) if part != "*"}


def _plain(pattern: str) -> str:
    return _FIELD.sub("*", pattern)


def _folder(pattern: str) -> str:
    """The folder that all files lie in that fit."""
    return _FIELD.split(pattern)[0].rpartition("/")[0]


def _matches(pattern: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Name -> field -> text, of the names that fit."""
    regex, seen = "", set()
    for part in _FIELD.split(unicodedata.normalize("NFC", pattern)):
        if part == "*":
            regex += "[^/]*"
        elif _FIELD.fullmatch(part):
            regex += f"(?P={part[1:-1]})" if part in seen else f"(?P<{part[1:-1]}>[^/]+?)"
            seen.add(part)
        else:
            regex += re.escape(part)
    found = ((name, re.fullmatch(regex, name)) for name in names)
    return {name: match.groupdict() for name, match in found if match}


def _filled(pattern: str, texts: Mapping[str, str]) -> str:
    return "".join(texts.get(part[1:-1], part) if part.startswith("{") else part for part in _FIELD.split(pattern))


def _roles(names: Sequence[str], patterns: Mapping[str, str]) -> dict[str, str]:
    """Name -> the pattern that it belongs to, of the names that fit any."""
    roles: dict[str, str] = {}
    for pattern in sorted(patterns, key=lambda text: len(_FIELD.sub("", text))):  # the later ones say more
        roles |= dict.fromkeys(_matches(pattern, names), pattern)
    return roles


def _refuse(root: Path, what: str, missing: Mapping[str, str], hint: str) -> None:
    if missing:
        listed = few(f"{name} (looked for {wanted})" for name, wanted in missing.items())
        raise DataError(f"{root}: {len(missing)} {what}: {listed}; allowed: a file for each{hint}")


def _better(root: Path, missing: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """The pattern that finds most of the files that are missing, in words; empty where none finds any."""
    names = _Files(root, [""]).names[:LOOKED_AT]
    pattern, texts = missing[0]
    longest = max(texts.values(), key=len)
    candidates = []
    for name in names:
        if longest in name:
            for field, text in sorted(texts.items(), key=lambda item: -len(item[1])):
                name = name.replace(text, f"{{{field}}}")
            candidates.append(name)
    there = set(names)
    scores = Counter({
        one: sum(_filled(one, some) in there for wanted, some in missing if wanted == pattern)
        for one in dict.fromkeys(candidates)
    })  # fmt: skip
    alike = sorted(scores, key=lambda one: (-scores[one], -difflib.SequenceMatcher(None, one, pattern).ratio()))
    if not alike or not scores[alike[0]]:
        return ""
    best = max(
        (one for one in alike if scores[one] == scores[alike[0]]),
        key=lambda one: difflib.SequenceMatcher(None, one, pattern).ratio(),
    )
    number = sum(wanted == pattern for wanted, _ in missing)
    return f", or the pattern '{best}', which fits files of {scores[best]} of {number}"


def _nearest(root: Path, pattern: str) -> str:
    """The file most like a pattern that no file fits."""
    names = _Files(root, [""]).names[:LOOKED_AT]
    close = difflib.get_close_matches(pattern, names, 1, cutoff=0.3)
    there = f"the nearest file is {close[0]}" if close else f"{len(names)} file(s) are there"
    return f"; {there}; allowed: a pattern of paths below root"
