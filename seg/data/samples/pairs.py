"""Pairs of image and mask and their splits: which file belongs to which, and which to training. Reads no pixels.

A list that would quietly train on less, or test on what was trained on, is refused: orphans, a stem with two
extensions, the same file or group in two splits, empty splits.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seg.data.files.grids import check_grids
from seg.data.files.reading import MASK_SUFFIXES, SAMPLE_SUFFIXES, image_size
from seg.data.files.storage import LimitedMask, VolumeSlice, is_hidden
from seg.data.masks.encodings import MaskEncoding
from seg.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")
REQUIRED_SPLITS = ("train", "val")
Tell = Callable[[str], None]  # what is told a sentence for the user


@dataclass(frozen=True)
class Sample:
    """One image and its mask.

    Attributes:
        image: The image file, or a slice of one.
        mask: The mask file, or the same slice of one; limited where it has a validity mask.
        group: What must not be spread over two splits (a patient, a scene, a flight); "" for none.
    """

    image: Path | VolumeSlice
    mask: Path | VolumeSlice | LimitedMask
    group: str = ""

    @property
    def files(self) -> tuple[Path | VolumeSlice, ...]:
        """Image, mask and, if there is one, validity mask."""
        if isinstance(self.mask, LimitedMask):
            return self.image, self.mask.mask, *([] if self.mask.valid is None else [self.mask.valid])
        return self.image, self.mask


Splits = dict[str, list[Sample]]


def samples_from_folders(
    root: Path,
    images: str = "images/{split}",
    masks: str = "masks/{split}",
    mask_suffix: str = "",
    *,
    without_mask: str = "error",
    tell: Tell = lambda text: None,
) -> Splits:
    """Samples of a dataset that has a folder per split; `test` may be absent.

    Args:
        root: The dataset's folder.
        images: Folder of a split's images below `root`; `{split}` stands for train, val, test.
        masks: The same for masks.
        mask_suffix: What a mask's stem adds to its image's: "_mask" pairs a.jpg with a_mask.png.
        without_mask: "skip" leaves out images without a mask; "error" refuses them.
        tell: Is told which were left out.

    Returns:
        Samples of each split in natural order of their names.

    Raises:
        DataError: A folder is missing or empty, a file has no partner, a stem has two extensions, or a file is in two
            splits.
        ConfigError: A pattern lacks `{split}`.
    """
    for key, pattern in (("images", images), ("masks", masks)):
        if "{split}" not in pattern:
            raise ConfigError(f"{key}: got '{pattern}', allowed: a folder name with {{split}} in it")
    splits: Splits = {}
    for split in SPLITS:
        folders = (Path(root, images.replace("{split}", split)), Path(root, masks.replace("{split}", split)))
        if split in REQUIRED_SPLITS or any(folder.is_dir() for folder in folders):
            _refuse_flat(folders[0], Path(root, images.partition("{split}")[0]))
            splits[split] = paired_samples(*folders, mask_suffix, without_mask, tell)
    check_splits(splits, root)
    return splits


def samples_from_fractions(
    root: Path,
    images: str = "images",
    masks: str = "masks",
    mask_suffix: str = "",
    *,
    fractions: Mapping[str, float],
    seed: int,
    block_size: int = 1,
    without_mask: str = "error",
    tell: Tell = lambda text: None,
) -> Splits:
    """Splits one folder of images and masks by fractions, in blocks of consecutive names.

    Neighbouring tiles and consecutive frames look alike; drawn one by one they would leak from training into the test.
    `block_size=10` cuts the names, in natural order, into runs of ten that stay together. Blocks are ordered by a hash
    of (seed, block number), so a split depends on no library's random generator and stays the same for good.

    Args:
        root: The dataset's folder.
        images: Folder of the images below `root`.
        masks: Folder of the masks below `root`.
        mask_suffix: See `samples_from_folders`.
        fractions: Share of blocks of each split, e.g. {"train": 0.7, "val": 0.15, "test": 0.15}; `test` is optional.
        seed: Another seed gives another split.
        block_size: Samples a block, at least 1.
        without_mask: See `samples_from_folders`.
        tell: The same.

    Returns:
        Samples of each split in natural order of their names.

    Raises:
        DataError: As in `samples_from_folders`, or too few blocks for every split to get one.
        ConfigError: Unknown or missing splits, fractions that are not above 0 or do not sum to 1, a block size below 1.
    """
    _check_fractions(fractions, block_size)
    samples = paired_samples(Path(root, images), Path(root, masks), mask_suffix, without_mask, tell)
    splits = split_blocks(samples, fractions, seed, block_size)
    empty = [split for split in splits if not splits[split]]
    if empty:
        raise DataError(
            f"{root}: {len(samples)} samples in {-(-len(samples) // block_size)} blocks of {block_size} leave "
            f"{', '.join(empty)} empty; "
            "allowed: a smaller block_size or larger fractions"
        )
    check_splits(splits, root)
    return splits


def split_blocks(samples: Sequence[Sample], fractions: Mapping[str, float], seed: int, block_size: int) -> Splits:
    """The rule of `samples_from_fractions`, unchecked: a split may be left empty."""
    blocks = [list(samples[start : start + block_size]) for start in range(0, len(samples), block_size)]
    order = sorted(range(len(blocks)), key=lambda block: hashlib.sha256(f"{seed}:{block}".encode()).digest())
    splits: Splits = {}
    start, share, total = 0, 0.0, sum(fractions[split] for split in SPLITS if split in fractions)
    for split in (name for name in SPLITS if name in fractions):
        share += fractions[split]
        stop = int(share / total * len(blocks) + 0.5)  # cumulative: the last split ends with the last block
        splits[split] = [sample for block in sorted(order[start:stop]) for sample in blocks[block]]
        start = stop
    return splits


def check_sizes(splits: Splits, encoding: MaskEncoding) -> None:
    """Refuses pairs of different size, before any training.

    Args:
        splits: The samples.
        encoding: How the masks store classes.

    Raises:
        DataError: Naming the first such pair, both sizes and how many more there are.
    """
    unequal = []
    for sample in (sample for samples in splits.values() for sample in samples):
        image, mask = image_size(sample.image), encoding.reader(sample.mask).shape
        if image != mask:
            unequal.append(f"{sample.image} is {image[0]} x {image[1]}, {sample.mask} is {mask[0]} x {mask[1]}")
    if unequal:
        raise DataError(
            f"{unequal[0]} (height x width){_and_more(unequal, 1)}; allowed: a mask of the size of its image"
        )


def check_pairs(samples: Sequence[Sample]) -> None:
    """Compares the grids of images and masks that are rasters; volumes are compared when they are cut into slices.

    Raises:
        DataError: Naming the first pair that lies on two grids.
    """
    for sample in samples:
        for file in sample.files[1:]:
            check_grids(sample.image, file)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which tile_2 comes before tile_10: runs of digits compare as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), part) if part[:1].isdecimal() else (0, 0, part) for part in parts]


def paired_samples(
    images_folder: Path,
    masks_folder: Path,
    mask_suffix: str = "",
    without_mask: str = "error",
    tell: Tell = lambda text: None,
) -> list[Sample]:
    """All samples of one folder of images and one of masks, in natural order of their names.

    Raises:
        DataError: As in `samples_from_folders`, whose options these are.
    """
    images, masks = _files_by_stem(images_folder), _files_by_stem(masks_folder, MASK_SUFFIXES)
    if images_folder.resolve() == masks_folder.resolve():
        if not mask_suffix:
            raise ConfigError(f"images and masks: both are {images_folder}; allowed: two folders, or a mask_suffix")
        images = {stem: path for stem, path in images.items() if not stem.endswith(mask_suffix)}
        masks = {stem: path for stem, path in masks.items() if stem.endswith(mask_suffix)}
    unmasked = {stem: path.name for stem, path in images.items() if stem + mask_suffix not in masks}
    wanted = {stem + mask_suffix for stem in images}
    without_image = [path.name for stem, path in masks.items() if stem not in wanted]
    problems = []
    if unmasked and without_mask == "skip":
        names = list(unmasked.values())
        tell(f"{images_folder}: left out {len(names)} of {len(images)} images, without a mask: {few(names)}")
    elif unmasked:
        problems.append(f"{len(unmasked)} of {len(images)} images have no mask in it: {few(unmasked.values())}")
    if without_image:
        problems.append(
            f"{len(without_image)} of {len(masks)} masks have no image in {images_folder}: {few(without_image)}"
        )
    if problems:
        rule = f"a mask named as its image plus '{mask_suffix}'" if mask_suffix else "a mask named as its image"
        raise DataError(
            f"{masks_folder}: {'; '.join(problems)}; allowed: {rule}, with any of the suffixes "
            f"{' '.join(MASK_SUFFIXES)}{'; or without_mask: skip' if unmasked else ''}"
        )
    paired = sorted((stem for stem in images if stem not in unmasked), key=natural_key)
    if not paired:
        raise DataError(f"{masks_folder}: none of the {len(images)} images of {images_folder} has a mask in it")
    return [Sample(images[stem], masks[stem + mask_suffix]) for stem in paired]


def _files_by_stem(folder: Path, suffixes: Sequence[str] = SAMPLE_SUFFIXES) -> dict[str, Path]:
    """Stem in NFC -> image file, in natural order. Hidden files and other suffixes are not looked at."""
    if not folder.is_dir():
        raise DataError(f"{folder}: the folder does not exist")
    entries = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: natural_key(path.name))
    files = [path for path in entries if path.name.lower().endswith(tuple(suffixes)) and not is_hidden(path.name)]
    if not files:
        others = f" ({by_suffix(path.name for path in entries)})" if entries else ""
        raise DataError(f"{folder}: holds no file with a suffix of {' '.join(suffixes)}{others}")
    stems = Counter(map(composed_stem, files))
    twice = [path.name for path in files if stems[composed_stem(path)] > 1]
    if twice:
        raise DataError(f"{folder}: {len(twice)} files share a stem: {few(twice)}; allowed: one file a stem")
    return {composed_stem(path): path for path in files}


def _refuse_flat(folder: Path, parent: Path) -> None:
    """Where images lie in no folder of a split, says what is for them."""
    if folder.is_dir() or not parent.is_dir():
        return
    there = [path for path in parent.iterdir() if path.is_file() and path.name.lower().endswith(SAMPLE_SUFFIXES)]
    if there:
        raise DataError(
            f"{folder}: the folder does not exist, and {parent} holds {len(there)} images itself; allowed: a folder a "
            "split, or data: {name: fractions}, which splits one folder, or {name: table}, a CSV that lists pairs "
            "(data_tools.split_dataset writes one)"
        )


def composed_stem(path: Path) -> str:
    """`stem` in Unicode's composed form, NFC: a name of an umlaut from macOS is two characters, elsewhere one."""
    return unicodedata.normalize("NFC", stem(path))


def stem(path: Path) -> str:
    """A file's name without its suffix, of which .nii.gz is one."""
    return path.stem.removesuffix(".nii") if path.suffix.lower() == ".gz" else path.stem


def _check_fractions(fractions: Mapping[str, float], block_size: int) -> None:
    for name in fractions:
        if name not in SPLITS:
            raise ConfigError(f"fractions: split '{name}', allowed: {', '.join(SPLITS)}{nearest_split(name)}")
    absent = [name for name in REQUIRED_SPLITS if name not in fractions]
    if absent:
        raise ConfigError(f"fractions: {' and '.join(absent)} missing, allowed: train, val and optionally test")
    for name, fraction in fractions.items():
        if not fraction > 0:
            raise ConfigError(f"fractions.{name}: got {fraction}, allowed: above 0")
    if abs(sum(fractions.values()) - 1) > 1e-6:
        raise ConfigError(f"fractions: sum to {sum(fractions.values()):g}, allowed: 1")
    if block_size < 1:
        raise ConfigError(f"block_size: got {block_size}, allowed: 1 or more")


def check_splits(splits: Splits, where: Path) -> None:
    """Refuses missing splits, an image listed twice, and files or groups in two splits."""
    for split in REQUIRED_SPLITS:
        if not splits.get(split):
            raise DataError(f"{where}: split '{split}' has no samples, allowed: at least 1")
    for split, samples in splits.items():
        images = Counter(sample.image.resolve() for sample in samples)
        twice = [str(path) for path, count in images.items() if count > 1]
        if twice:
            raise DataError(f"{where}: {len(twice)} image(s) are listed twice in split '{split}': {few(twice)}")
    # Resolved, so that a link from one split into another is seen.
    _check_apart(splits, where, "image", lambda sample: str(sample.image.resolve()))
    _check_apart(splits, where, "mask", lambda sample: str(sample.mask.resolve()))
    _check_apart(splits, where, "group", lambda sample: sample.group)


def _check_apart(splits: Splits, where: Path, what: str, key: Callable[[Sample], str]) -> None:
    """Refuses a key (other than "") that samples of two splits have in common."""
    splits_of: dict[str, dict[str, None]] = {}
    for split, samples in splits.items():
        for sample in samples:
            splits_of.setdefault(key(sample), {})[split] = None
    shared = [f"{name} ({' and '.join(found)})" for name, found in splits_of.items() if name and len(found) > 1]
    if shared:
        raise DataError(f"{where}: {len(shared)} {what}(s) are in more than one split: {few(shared)}")


def nearest_split(name: str) -> str:
    """A question after the split that was meant; empty where none is like it."""
    close = difflib.get_close_matches(name, SPLITS, 1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else ""


def by_suffix(names: Iterable[str]) -> str:
    """How many files of each suffix there are, the most first: 118 files *.mat, 2 files *.txt."""
    suffixes = Counter(Path(name).suffix.lower() for name in names)
    return ", ".join(
        f"{number} file{'s' if number > 1 else ''} {f'*{suffix}' if suffix else 'without a suffix'}"
        for suffix, number in suffixes.most_common()
    )


def few(names: Iterable[str], limit: int = 5) -> str:
    """The first of them, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:limit]) + _and_more(listed, limit)


def _and_more(listed: Sequence[str], limit: int) -> str:
    return f" and {len(listed) - limit} more" if len(listed) > limit else ""
