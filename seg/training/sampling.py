"""Rare classes on purpose: the sampler, the objects to copy, and the class counts that they make the training see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from seg.balance import ClassCounts, fingerprint_files
from seg.config import Config
from seg.config.sampler import by_class
from seg.data.samples.pairs import Sample
from seg.data.sampling.copy_paste import CopyPaste
from seg.data.sampling.draws import steps_per_epoch
from seg.data.sampling.mask_index import CLASS, MaskIndex, index_masks
from seg.data.sampling.realised import RealisedCounts, count_crops, count_image_draws
from seg.data.sampling.sampler import Sampler
from seg.errors import DataError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """A run's sampler, the objects that it copies (None: none), and the counts of what the training draws."""

    sampler: Sampler
    copy_paste: CopyPaste | None
    realised: RealisedCounts

    def counts(self, natural: ClassCounts) -> ClassCounts:
        """The counts that class weights come from: of an epoch's draws, each of which counts as an image."""
        scale = natural.num_images / self.realised.num_draws

        def scaled(numbers: np.ndarray) -> np.ndarray:
            return np.where(numbers > 0, np.maximum(1, np.rint(numbers * scale)), 0).astype(np.int64)

        images = scaled(self.realised.images)
        pixels = np.maximum(images, scaled(self.realised.pixels))
        return replace(
            natural,
            pixel_counts=pixels,
            image_counts=images,
            image_pixels=np.maximum(pixels, scaled(self.realised.image_pixels)),
            void_pixels=round(self.realised.void_pixels * scale),
        )

    @property
    def drawn_by(self) -> tuple[Sampler, CopyPaste | None]:
        """What `Config.training_data` takes."""
        return self.sampler, self.copy_paste

    def realised_texts(self) -> list[str]:
        """The realised frequency of each class, with its standard error where it is an estimate."""
        shares, errors = self.realised.frequencies, self.realised.standard_error
        if self.realised.exact:
            return [f"{share:.3%}" for share in shares]
        return [f"{share:.3%} ± {error * 100:.2g}" for share, error in zip(shares, errors, strict=True)]

    def told(self) -> str:
        """What 'drawn' means in the class table, a sentence."""
        drawn = self.realised
        if drawn.exact:
            return f"drawn: the share in what the sampler draws, over all {drawn.num_draws:,} draws of the run"
        pasted = f", {drawn.pasted} objects pasted into them" if self.copy_paste else ""
        return f"drawn: the share in the run's first {drawn.num_draws:,} draws and its standard error{pasted}"

    def to_json(self, natural: ClassCounts) -> dict[str, object]:
        """Natural and realised frequencies by class name, and where the latter come from."""
        rows = zip(
            natural.names, natural.frequencies, self.realised.frequencies, self.realised.standard_error, strict=True
        )
        return {
            "basis": "every draw of the run" if self.realised.exact else "the first draws of the run",
            "draws": self.realised.num_draws,
            "pasted_objects": self.realised.pasted,
            "classes": {
                name: {"natural": float(share), "realised": float(drawn), "standard_error": float(error)}
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
        DataError: A mask cannot be read, or a class has no pixel or object to sample.
        ConfigError: The image sampler would change nothing.
    """
    section = config.sampler
    if section is None:
        return None
    index = _index(config, samples, stored_index, progress)
    names = config.labels.class_names
    images = section.images.build(names) if section.images else None
    built = Sampler(index, images, section.crops.build(names) if section.crops else None)
    copied = _copy_paste(config, samples, index)
    crops = config.input.crops_per_image
    draws = steps_per_epoch(len(samples), config.training.batch_size, crops) * config.training.batch_size
    if section.crops is None and copied is None:
        realised = count_image_draws(
            built, seed=config.seed, epochs=config.training.epochs, draws_per_epoch=draws, crops_per_image=crops
        )
    else:
        realised = count_crops(
            [sample.mask for sample in samples],
            config.labels.label_set(),
            config.labels.mask_encoding(),
            config.build_augmentation(),
            built,
            copied,
            seed=config.seed,
            draws_per_epoch=draws,
            crops_per_image=crops,
            workers=config.training.workers,
            progress=progress and progress("drawing crops to count"),
        )
    return Sampling(built, copied, realised)


def sampling_warnings(config: Config) -> list[str]:
    """Where sampling and weighting correct for the same rareness twice, one sentence each."""
    if config.sampler is None or config.class_weights.scheme != "manual":
        return []
    return [
        "class_weights.manual is used as it is, although the sampler shows the rare classes more often already: if the "
        "weights were made for the masks as they are, rareness is corrected twice. The class table has the realised "
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
    copy = _classes(config, section.copy_paste.classes if section.copy_paste else {})
    fingerprint = fingerprint_files(masks, Path(config.data.root))
    if stored is not None and (known := MaskIndex.load(stored, fingerprint)) is not None:
        return known
    index = index_masks(
        masks,
        config.labels.label_set(),
        config.labels.mask_encoding(),
        locate=locate,
        copy=copy,
        min_area=section.copy_paste.min_area if section.copy_paste else 1,
        workers=config.training.workers,
        progress=progress and progress("locating classes"),
    )
    _require("sampler.crops.classes: no pixel", config, locate, index.pixels.sum(axis=0), len(masks))
    if section.copy_paste:
        objects = np.bincount(index.components[:, CLASS], minlength=len(config.labels.class_names))
        least = section.copy_paste.min_area
        what = f"sampler.copy_paste.classes: no object of {least} pixels or more, whole in its image,"
        _require(what, config, copy, objects, len(masks))
    return index


def _require(what: str, config: Config, classes: Sequence[int], numbers: np.ndarray, masks: int) -> None:
    absent = [config.labels.class_names[label] for label in classes if not numbers[label]]
    if absent:
        raise DataError(f"{what} of {', '.join(absent)} in {masks} training masks; allowed: classes that have some")


def _copy_paste(config: Config, samples: Sequence[Sample], index: MaskIndex) -> CopyPaste | None:
    section = config.sampler and config.sampler.copy_paste
    if not section:
        return None
    names = config.labels.class_names
    return CopyPaste(
        [sample.mask for sample in samples],
        index,
        by_class(section.classes, names),
        section.probability,
        section.objects,
        {names.index(name): tuple(map(names.index, covered)) for name, covered in section.onto.items()},
        config.labels.ignore_index,
        (config.augmentation.vertical_flip > 0, config.augmentation.horizontal_flip > 0),
    )


def _classes(config: Config, given: Mapping[str, float]) -> list[int]:
    return [config.labels.class_names.index(name) for name in given]
