"""The whole dataset: every pair opened by a few threads, then what only all of them together can tell."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from data_tools.checks.duplicates import near, same
from data_tools.checks.findings import KINDS, Finding, Grade
from data_tools.checks.pairs import PairFacts, Rules, check_pair
from data_tools.checks.perceptual_hash import PerceptualHash
from data_tools.checks.survey import Survey
from data_tools.checks.volumes import one_a_volume
from seg.data.files.storage import mask_file, relative_name
from seg.data.files.threads import in_order
from seg.data.masks.values import SetValues, set_values
from seg.data.samples.pairs import Sample

WORST = 5  # files named for the small components of a class
FEW = 0.2  # of the images: a form that fewer have is told
DARK = 1 / 8  # of the range: images that all stay below use three bits less than they could
_KIND_ORDER = {name: place for place, name in enumerate(KINDS)}
_GRADE_ORDER = {grade: place for place, grade in enumerate(Grade)}


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        findings: The worst first, then as `KINDS` and the list of pairs order them.
        pairs: Pairs of each split.
        pixels: For each split (C + 1,) int64: pixels of each class, then void, of the masks that could be read.
        rules: What was looked for.
        values: Of all masks, where some hold values that are no class.
    """

    findings: tuple[Finding, ...]
    pairs: dict[str, int]
    pixels: dict[str, np.ndarray]
    rules: Rules
    values: SetValues | None = None

    def number(self, grade: Grade) -> int:
        """How many findings have this grade."""
        return sum(finding.grade == grade for finding in self.findings)

    def by_kind(self) -> dict[str, list[Finding]]:
        """The findings of each kind that was found, the worst kind first."""
        kinds: dict[str, list[Finding]] = {}
        for finding in self.findings:
            kinds.setdefault(finding.kind, []).append(finding)
        return kinds


def check_dataset(
    survey: Survey, rules: Rules, *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> CheckReport:
    """Checks every pair of a dataset and the dataset as a whole.

    Memory grows by about 1 KB a pair (its perceptual hash and digests), not by the number of pixels: each thread holds
    one picture, or a few blocks of a large raster.

    Args:
        survey: The pairs, and what was found in listing them.
        rules: How to read them, and what to look for.
        workers: Threads; default: one per CPU.
        progress: Called from the calling thread after every pair with the pairs done so far.
    """
    total = _Totals(survey, rules)
    pairs = ((split, sample) for split, samples in survey.splits.items() for sample in samples)

    def check(pair: tuple[str, Sample]) -> tuple[str, Sample, PairFacts]:
        split, sample = pair
        return split, sample, check_pair(sample, split, survey.root, rules)

    with warnings.catch_warnings():  # for all threads: a reader's own filter in one of them ends in another
        warnings.filterwarnings("ignore", message="Dataset has no geotransform")
        for done, (split, sample, facts) in enumerate(in_order(check, pairs, workers or os.cpu_count() or 1), 1):
            total.add(split, sample, facts)
            if progress is not None:
                progress(done)
    findings = [*survey.findings, *one_a_volume(total.findings, survey.splits, survey.root), *total.whole()]
    findings.sort(key=lambda finding: (_GRADE_ORDER[finding.grade], _KIND_ORDER[finding.kind]))
    counts = {split: len(samples) for split, samples in survey.splits.items()}
    values = None
    if any(finding.kind == "unknown-labels" for finding in findings) and not rules.labels.multi_label:
        masks = [sample.mask for samples in survey.splits.values() for sample in samples]
        values = set_values(masks, rules.labels, rules.encoding)
    return CheckReport(tuple(findings), counts, {split: total.pixels[split] for split in counts}, rules, values)


@dataclass(slots=True)
class _Pair:
    """What is kept of a pair until all have been seen."""

    split: str
    image: str
    mask: str
    image_digest: bytes
    mask_digest: bytes
    form: str
    brightest: float
    perceptual_hash: PerceptualHash | None


@dataclass
class _Totals:
    """The running sums of a check."""

    survey: Survey
    rules: Rules
    findings: list[Finding] = field(default_factory=list)
    pairs: list[_Pair] = field(default_factory=list)

    def __post_init__(self) -> None:
        classes = self.rules.labels.num_classes
        self.pixels = {split: np.zeros(classes + 1, np.int64) for split in self.survey.splits}
        self.small_components = np.zeros((3, classes), np.int64)
        self.worst: list[list[tuple[int, str]]] = [[] for _ in range(classes)]
        self.palette: dict[int, dict[tuple[int, ...], list[str]]] = {}

    def add(self, split: str, sample: Sample, facts: PairFacts) -> None:
        self.findings += facts.findings
        image, mask = facts.image, facts.mask
        files = (sample.image, mask_file(sample.mask))
        names = (relative_name(files[0], self.survey.root), relative_name(files[1], self.survey.root))
        one_class = mask is not None and np.count_nonzero(mask.pixels[:-1]) < 2
        self.pairs.append(
            _Pair(
                split,
                *names,
                b"" if image is None or image.constant else image.digest,
                b"" if mask is None or one_class else mask.digest,  # tiles of field alone are alike and right
                "" if image is None else image.form,
                0.0 if image is None else image.brightest,
                None if image is None else image.perceptual_hash,
            )
        )
        if mask is not None:
            self.pixels[split] += mask.pixels
            self.small_components += mask.small_components
            for index, colour in mask.palette.items():
                self.palette.setdefault(index, {}).setdefault(colour, []).append(names[1])
            for index in np.flatnonzero(mask.small_components[1]).tolist():
                best = self.worst[index]
                best.append((-int(mask.small_components[1, index]), names[1]))
                best.sort()
                del best[WORST:]

    def whole(self) -> Iterator[Finding]:
        """What only all pairs together tell."""
        yield from self._encoding()
        yield from self._palettes()
        yield from self._missing_classes()
        yield from self._small_components()
        yield from self._forms()
        yield from self._same_images()
        yield from self._same_masks()
        yield from self._near()

    def _encoding(self) -> Iterator[Finding]:
        """0/255 masks under an index encoding: where 255 is void, class 1 silently vanishes."""
        total = sum(self.pixels.values(), start=np.zeros(self.rules.labels.num_classes + 1, np.int64))
        background_only = total[0] > 0 and not total[1:-1].any() and total[-1] > 0
        gray_indices = self.rules.encoding.stores_indices and self.rules.encoding.histogram == "gray"
        if gray_indices and self.rules.labels.ignore_index == 255 and background_only:
            text = f"all masks hold 0 ({total[0]} pixels) and 255 ({total[-1]}, read as void), never 1"
            yield Finding("wrong-encoding", (), f"{text}; 0/255 masks are for labels.encoding {{name: binary}}")

    def _palettes(self) -> Iterator[Finding]:
        """An index that is one colour here and another there: optimisers and GIF writers number palettes anew."""
        for index, colours in sorted(self.palette.items()):
            if len(colours) > 1:
                rarest_first = sorted(colours.items(), key=lambda item: len(item[1]))
                seen = ", ".join(f"{list(colour)} in {len(files)}" for colour, files in reversed(rarest_first))
                text = f"palette index {index}, read as one class, is of the colours {seen} masks"
                yield Finding("mixed-palettes", tuple(files[0] for _, files in rarest_first), text)

    def _missing_classes(self) -> Iterator[Finding]:
        read = {split: counts for split, counts in self.pixels.items() if counts.any()}
        for index, name in enumerate(self.rules.labels.names):
            without = [split for split, counts in read.items() if not counts[index]]
            if read and len(without) == len(read):
                yield Finding("missing-class", (), f"class '{name}' is in no mask that can be read")
            else:
                for split in without:
                    held = ", ".join(
                        f"{counts[index]} pixels in {other}" for other, counts in read.items() if counts[index]
                    )
                    yield Finding("missing-class", (), f"class '{name}' is in no mask of {split}; {held}", split)

    def _small_components(self) -> Iterator[Finding]:
        for index, (components, small, pixels) in enumerate(self.small_components.T.tolist()):
            if small:
                worst = ", ".join(f"{-count} in {name}" for count, name in self.worst[index])
                held = sum(int(counts[index]) for counts in self.pixels.values())
                text = (
                    f"class '{self.rules.labels.names[index]}': {small:,} of {components:,} components have fewer than "
                )
                text += f"{self.rules.small_pixels} pixels, {pixels / held:.3%} of its pixels; most: {worst}"
                yield Finding("small-components", tuple(name for _, name in self.worst[index]), text)

    def _forms(self) -> Iterator[Finding]:
        """The few images that are stored unlike the others, and 16 bits of which few are used."""
        forms = Counter(pair.form.rsplit(" ", 1)[0] for pair in self.pairs if pair.form)
        if len(forms) > 1:
            usual, number = forms.most_common(1)[0]
            for pair in self.pairs:
                form = pair.form.rsplit(" ", 1)[0]
                if form and form != usual and forms[form] < FEW * forms.total():
                    text = f"is {pair.form}, where {number} of {forms.total()} images are {usual}"
                    yield Finding("mixed-images", (pair.image,), text, pair.split)
        bright = [pair.brightest for pair in self.pairs if pair.form]
        if bright and max(bright) < DARK:
            text = f"the brightest value of all {len(bright)} images is {max(bright):.2%} of what their files can hold"
            yield Finding("dark-images", (), text)

    def _same_images(self) -> Iterator[Finding]:
        for group in same([pair.image_digest for pair in self.pairs]):
            pairs = [self.pairs[place] for place in group]
            files = tuple(dict.fromkeys(pair.image for pair in pairs))
            splits = list(dict.fromkeys(pair.split for pair in pairs))
            if len(files) < 2:  # one file listed twice, which the survey tells
                continue
            if len(splits) > 1:
                yield Finding("duplicate-in-two-splits", files, f"the same bytes, in {' and '.join(splits)}")
            else:
                yield Finding("duplicate-image", files, "the same bytes", splits[0])
            if len({pair.mask_digest for pair in pairs if pair.mask_digest}) > 1:
                masks = tuple(pair.mask for pair in pairs)
                yield Finding("contradicting-masks", masks, f"masks of the same image ({files[0]}) that differ")

    def _same_masks(self) -> Iterator[Finding]:
        for group in same([pair.mask_digest for pair in self.pairs]):
            pairs = [self.pairs[place] for place in group]
            files = tuple(dict.fromkeys(pair.mask for pair in pairs))
            if len(files) > 1 and len({pair.image_digest for pair in pairs}) == len(pairs):
                yield Finding("repeated-mask", files, f"the same bytes, of {len(pairs)} different images")

    def _near(self) -> Iterator[Finding]:
        """For each image of a later split the most alike one of an earlier split."""
        seen: dict[str, list[int]] = {}
        known: set[bytes] = set()
        for place, pair in enumerate(self.pairs):
            if (
                pair.perceptual_hash is not None and pair.image_digest not in known
            ):  # the same bytes are told once, above
                known.add(pair.image_digest)
                seen.setdefault(pair.split, []).append(place)
        earlier: list[int] = []
        for split, places in seen.items():
            hashes, others = ([self.pairs[place].perceptual_hash for place in some] for some in (places, earlier))
            for match in near(hashes, others, self.rules.near_bits, self.rules.near_correlation):  # type: ignore[arg-type]
                mine, theirs = self.pairs[places[match.query]], self.pairs[earlier[match.best]]
                text = f"nearly {theirs.image} of {theirs.split} ({match.bits} of 64 bits differ, correlation "
                text += f"{match.correlation:.2f})"
                text += f", and {match.number - 1} more of earlier splits" if match.number > 1 else ""
                yield Finding("near-duplicate", (mine.image, theirs.image), text, split)
            earlier += places
