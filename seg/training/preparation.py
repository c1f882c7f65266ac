"""What a training knows of its samples before it starts: class counts, band statistics, the sampler, class weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from seg.balance import ClassCounts, count_masks, fingerprint_files
from seg.balance.counts import RECOUNT
from seg.balance.pairs import count_pairs, fingerprint_pairs
from seg.balance.partial import completed
from seg.config import Config
from seg.data.samples.pairs import Sample
from seg.data.views.band_statistics import BandStatistics
from seg.data.views.seen_images import SeenImages, seen_images
from seg.errors import DataError
from seg.progress import progress_bar
from seg.runs.run_dir import RunDir
from seg.training.sampling import Sampling, sampling, sampling_warnings

KEPT_SHARE = 0.9  # of the images that hold a class; a resize that leaves more is not worth a warning


# No file of the run can be mended where its data has changed: its epochs, counts and weights are of the data before.
CHANGED = "bring back the files that the run was begun with, or train a new run (--config with its config.yaml)"


@dataclass(frozen=True)
class Preparation:
    """What was counted and what follows from it.

    Attributes:
        counts: Of the classes of the training masks.
        statistics: Of the bands of the training images, where values are normalised by them.
        sampling: The configured sampler, and what it makes the training see.
        weights: (C,) float64 class weights, or pos_weight of classes that may overlap.
        stored_images: (C,) int64: masks that hold each class before `input.resize`; None where nothing is resized, or
            a resumed run has the counts.
        images: What the training images are like.
    """

    counts: ClassCounts
    statistics: BandStatistics | None
    sampling: Sampling | None
    weights: np.ndarray
    stored_images: np.ndarray | None = None
    images: SeenImages | None = None

    @property
    def shown_counts(self) -> ClassCounts:
        """What the training sees: the masks' counts, or what a sampler makes of them."""
        return _shown(self.counts, self.sampling)

    def save(self, run: RunDir) -> None:
        """Writes what the run's folder lacks of it: all of a new one, the rest where the making was interrupted."""
        if not run.counts.exists():
            self.counts.save(run.counts)
        run.write_json("class_weights.json", dict(zip(self.counts.names, self.weights.tolist(), strict=True)))
        if self.sampling:
            run.write_json("effective_frequencies.json", self.sampling.to_json(self.counts))
            if not run.mask_index.exists():
                self.sampling.sampler.index.save(run.mask_index, self.counts.fingerprint)
        if self.statistics is not None and not run.bands.exists():
            self.statistics.save(run.bands)

    def rows(self) -> list[tuple[str, ...]]:
        """A head, then pixels, share, images that contain it and weight of each class, as text; with a sampler the
        share of what the training draws, too."""
        counts, weight = self.counts, "weight" if self.counts.absent is None else "pos_weight"
        head = ("class", "pixels", "share", "images", weight)
        rows = [
            (name, f"{pixels:,}", f"{share:.3%}", f"{images}/{counts.num_images}", f"{weight:.3f}")
            for name, pixels, share, images, weight in zip(
                counts.names, counts.pixel_counts, counts.frequencies, counts.image_counts, self.weights, strict=True
            )
        ]
        if self.sampling is None:
            return [head, *rows]
        drawn = self.sampling.effective_texts()
        return [(*row[:3], text, *row[3:]) for row, text in zip([head, *rows], ["drawn", *drawn], strict=True)]

    def remarks(self, config: Config) -> list[str]:
        """Lines to print under the rows."""
        lines, counts = [], self.counts
        if config.labels.partial and not config.labels.multi_label:
            lines.append(
                "labels.partial: pixels of classes that were not annotated are shared out by the likeliest shares"
                + ("; the weights are of the masks, not of what the sampler draws" if self.sampling else "")
            )
        if counts.snapped_pixels:
            share = counts.snapped_pixels / (counts.pixel_counts.sum() + counts.void_pixels)
            snapped = f"{counts.snapped_pixels:,} pixels ({share:.2%})"
            lines.append(f"{snapped} took the nearest class colour or value: {counts.encoding}")
        if self.sampling:
            lines.append(self.sampling.told())
        if config.class_weights.online is not None:
            lines.append("the loss's class weights follow the batches; the table's are those of all masks")
        warnings = config.class_weights.warnings(self.shown_counts, self.weights)
        return lines + [
            f"warning: {warning}" for warning in [*self._resize_warnings(config), *warnings, *sampling_warnings(config)]
        ]

    def _resize_warnings(self, config: Config) -> list[str]:
        """A sentence on the classes that `input.resize` takes from images."""
        if self.stored_images is None or config.input.resize is None:
            return []
        found = zip(self.counts.names, self.stored_images.tolist(), self.counts.image_counts.tolist(), strict=True)
        lost = [f"'{name}' is in {before} images, in {now} after it" for name, before, now in found
                if now <= KEPT_SHARE * before and now < before]  # fmt: skip
        size = " x ".join(map(str, config.input.resize))
        told = f"input.resize to {size} (height x width) leaves nothing of small objects"
        return [f"{told}: {'; '.join(lost)}"] if lost else []


def prepare(config: Config, run: RunDir, samples: Sequence[Sample], console: Console) -> Preparation:
    """Counts the training samples, or reads what a resumed run has of them; writes nothing.

    Raises:
        DataError: A file or a stored artefact is at fault.
    """
    known = run.counts.exists()
    _drop_torn(run, console)
    counts, statistics = count_training(config, run, samples, console)
    stored = None if known or config.input.resize is None else _images_as_stored(config, samples)
    drawn = sample_rare_classes(config, run, samples, console)
    # What a sampler draws of classes that were annotated in some samples only is not known: all masks' shares hold.
    weights = config.class_weights.build(counts if config.labels.partial else _shown(counts, drawn))
    images = seen_images([sample.image for sample in samples], config.input.bands, config.input.nodata)
    return Preparation(counts, statistics, drawn, weights, stored, images)


def _images_as_stored(config: Config, samples: Sequence[Sample]) -> np.ndarray:
    """(C,) int64: training masks that hold each class as the files are."""
    masks = [sample.mask for sample in samples]
    read = (config.labels.label_set(), config.labels.mask_encoding())
    return count_masks(masks, *read, root=Path(config.data.root)).image_counts


def _shown(counts: ClassCounts, sampling: Sampling | None) -> ClassCounts:
    return sampling.counts(counts) if sampling else counts


def _drop_torn(run: RunDir, console: Console) -> None:
    """Of a resumed run, whose counts a crash may have torn: they are made anew from the files."""
    for path, load in ((run.counts, ClassCounts.load), (run.bands, BandStatistics.load)):
        if path.exists():
            try:
                load(path)
            except DataError:
                console.print(f"warning: {path}: is torn; what it said is counted anew")
                path.unlink()


def count_training(
    config: Config, run: RunDir, samples: Sequence[Sample], console: Console
) -> tuple[ClassCounts, BandStatistics | None]:
    """The class counts of the training masks and, where values are normalised by them, the images' band statistics.

    Images are read beside their masks, in one pass, for their statistics, and where pixels may be missing in them,
    which are void then. A resumed run has both in its folder.
    """
    root, wanted = Path(config.data.root), config.input.needs_statistics
    # Counts of classes that overlap are of masks alone.
    counted = run.counts.exists() or config.class_weights.counts is not None or config.labels.multi_label
    if wanted and run.bands.exists():
        kept = BandStatistics.load(run.bands)
        try:
            kept.check_matches(config.input.bands, config.input.clip, fingerprint_pairs(samples, root))
        except DataError as error:
            raise DataError(f"{run.bands}: {error}") from None
        return count_classes(config, run, samples, console), kept
    if not wanted and (counted or not config.input.may_miss_pixels(samples)):
        return count_classes(config, run, samples, console), None
    with progress_bar(console) as bar:
        task = bar.add_task("counting classes and bands", total=len(samples))
        counts, statistics = count_pairs(
            samples,
            config.labels.label_set(),
            config.counted_encoding(),
            root=root,
            bands=config.input.bands,
            nodata=config.input.nodata,
            clip=config.input.clip,
            with_statistics=wanted,
            progress=lambda done, _: bar.update(task, completed=done),
        )
    return (count_classes(config, run, samples, console) if counted else counts), statistics


def count_classes(config: Config, run: RunDir, samples: Sequence[Sample], console: Console) -> ClassCounts:
    """The class counts of the training masks: read from an artefact (the config's, or a resumed run's) if it is of
    just these masks, else counted."""
    labels, encoding, root = config.labels.label_set(), config.counted_encoding(), Path(config.data.root)
    masks = [sample.mask for sample in samples]
    resumed = run.counts.exists()
    artefact = run.counts if resumed else config.class_weights.counts
    if artefact is not None:
        mend = CHANGED if resumed else RECOUNT
        counts = ClassCounts.load(Path(artefact), mend)
        try:
            counts.check_matches(
                labels.names, labels.ignore_index, encoding.description, fingerprint_files(masks, root), mend
            )
        except DataError as error:
            raise DataError(f"{artefact}: {error}") from None
        return counts
    with progress_bar(console) as bar:
        task = bar.add_task("counting classes", total=len(masks))
        counts = count_masks(
            masks, labels, encoding, root=root, progress=lambda done, _: bar.update(task, completed=done)
        )
    return completed(counts, masks, labels, encoding)


def sample_rare_classes(config: Config, run: RunDir, samples: Sequence[Sample], console: Console) -> Sampling | None:
    """The configured sampler and what it makes the training see; None without one."""
    with progress_bar(console) as bar:

        def progress(name: str) -> Callable[[int, int], None]:
            task = bar.add_task(name, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        return sampling(config, samples, run.mask_index, progress)
