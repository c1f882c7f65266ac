"""Rare classes on purpose: the sampler, and the class counts that it makes the training see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from seg.balance import ClassCounts, fingerprint_files
from seg.config import Config
from seg.data.samples.pairs import Sample
from seg.data.sampling.draws import steps_per_epoch
from seg.data.sampling.effective_frequencies import EffectiveCounts, count_crops, count_image_draws
from seg.data.sampling.mask_index import MaskIndex, index_masks
from seg.data.sampling.sampler import Sampler
from seg.errors import DataError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """A run's sampler, and the counts of what the training draws."""

    sampler: Sampler
    effective: EffectiveCounts

    def counts(self, natural: ClassCounts) -> ClassCounts:
        """The counts that class weights come from: of an epoch's draws, each of which counts as an image."""
        scale = natural.num_images / self.effective.num_draws

        def scaled(numbers: np.ndarray) -> np.ndarray:
            return np.where(numbers > 0, np.maximum(1, np.rint(numbers * scale)), 0).astype(np.int64)

        images = scaled(self.effective.images)
        pixels = np.maximum(images, scaled(self.effective.pixels))
        return replace(
            natural,
            pixel_counts=pixels,
            image_counts=images,
            image_pixels=np.maximum(pixels, scaled(self.effective.image_pixels)),
            void_pixels=round(self.effective.void_pixels * scale),
        )

    def effective_texts(self) -> list[str]:
        """The effective frequency of each class, with its standard error where it is an estimate."""
        shares, errors = self.effective.frequencies, self.effective.standard_error
        if self.effective.exact:
            return [f"{share:.3%}" for share in shares]
        return [f"{share:.3%} ± {error * 100:.2g}" for share, error in zip(shares, errors, strict=True)]

    def told(self) -> str:
        """What 'drawn' means in the class table, a sentence."""
        drawn = self.effective
        if drawn.exact:
            return f"drawn: the share in what the sampler draws, over all {drawn.num_draws:,} draws of the run"
        return f"drawn: the share in the run's first {drawn.num_draws:,} draws and its standard error"

    def to_json(self, natural: ClassCounts) -> dict[str, object]:
        """Natural and effective frequencies by class name, and where the latter come from."""
        rows = zip(
            natural.names, natural.frequencies, self.effective.frequencies, self.effective.standard_error, strict=True
        )
        return {
            "basis": "every draw of the run" if self.effective.exact else "the first draws of the run",
            "draws": self.effective.num_draws,
            "classes": {
                name: {"natural": float(share), "effective": float(drawn), "standard_error": float(error)}
                for name, share, drawn, error in rows
            },
        }


def sampling(
    config: Config,
    samples: Sequence[Sample],
    stored_index: Path | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Sampling | None:
    """The configured sampler of the training samples; None without one.

    Args:
        config: The configuration.
        samples: The training samples.
        stored_index: A file that keeps the index of the masks, read if it is of just these; None: none.
        progress: From the name of a task to what is told its done and total; None: nothing is.

    Raises:
        DataError: A mask cannot be read, or a class has no pixel to sample.
        ConfigError: The image sampler would change nothing.
    """
    section = config.sampler
    if section is None:
        return None
    index = _index(config, samples, stored_index, progress)
    names = config.labels.class_names
    images = section.images.build(names) if section.images else None
    built = Sampler(index, images, section.crops.build(names) if section.crops else None)
    crops = config.input.crops_per_image
    draws = steps_per_epoch(len(samples), config.training.batch_size, crops) * config.training.batch_size
    if section.crops is None:
        effective = count_image_draws(
            built, seed=config.seed, epochs=config.training.epochs, draws_per_epoch=draws, crops_per_image=crops
        )
    else:
        effective = count_crops(
            [sample.mask for sample in samples],
            config.labels.label_set(),
            config.labels.mask_encoding(),
            config.build_augmentation(),
            built,
            seed=config.seed,
            draws_per_epoch=draws,
            crops_per_image=crops,
            workers=config.training.workers,
            progress=progress and progress("drawing crops to count"),
        )
    return Sampling(built, effective)


def sampling_warnings(config: Config) -> list[str]:
    """Where sampling and weighting correct for the same rareness twice, one sentence each."""
    if config.sampler is None or config.class_weights.scheme != "manual":
        return []
    return [
        "class_weights.manual is used as it is, although the sampler shows the rare classes more often already: if the "
        "weights were made for the masks as they are, rareness is corrected twice. The class table has the effective "
        "shares; any other scheme computes its weights from them"
    ]


def _index(
    config: Config,
    samples: Sequence[Sample],
    stored: Path | None,
    progress: Callable[[str], Progress] | None,
) -> MaskIndex:
    section = config.sampler
    assert section is not None
    masks = [sample.mask for sample in samples]
    locate = _classes(config, section.crops.classes if section.crops else {})
    fingerprint = fingerprint_files(masks, Path(config.data.root))
    if stored is not None and (known := MaskIndex.load(stored, fingerprint)) is not None:
        return known
    index = index_masks(
        masks,
        config.labels.label_set(),
        config.counted_encoding(),
        locate=locate,
        workers=config.training.workers,
        progress=progress and progress("locating classes"),
    )
    _require("sampler.crops.classes: no pixel", config, locate, index.pixels.sum(axis=0), len(masks))
    return index


def _require(what: str, config: Config, classes: Sequence[int], numbers: np.ndarray, masks: int) -> None:
    absent = [config.labels.class_names[label] for label in classes if not numbers[label]]
    if absent:
        raise DataError(f"{what} of {', '.join(absent)} in {masks} training masks; allowed: classes that have some")


def _classes(config: Config, given: Mapping[str, float]) -> list[int]:
    return [config.labels.class_names.index(name) for name in given]
