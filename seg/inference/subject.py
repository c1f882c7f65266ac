"""A trained run as something to evaluate: its data, its weights, its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seg.balance import ClassCounts, count_masks, fingerprint_files
from seg.balance.partial import completed
from seg.balance.rare import rare_classes
from seg.config import Config
from seg.data.files.storage import holder, relative_name
from seg.data.samples.pairs import Sample
from seg.data.views.preprocessing import Preprocessing
from seg.data.views.seen_images import seen_images
from seg.data.views.sources import evaluation_views, middle_view
from seg.errors import ConfigError, DataError
from seg.inference.page import Picture
from seg.inference.predictor import Predictor
from seg.inference.prior import posterior_weights
from seg.inference.results import differences, split_results, telling_images
from seg.inference.scoring import RuleScores, Scoring, fit_rules, score_split
from seg.inference.settings import Settings
from seg.metrics.bootstrap import group_sums
from seg.metrics.iou import score_sums
from seg.pictures.panels import Tile, panel
from seg.runs.model_file import read_images

RARE_SHOWN = 10  # rare classes with pictures, of 150 perhaps


@dataclass(frozen=True, eq=False)
class Subject:
    """A run to evaluate, or a model file by itself: all that can be checked before the model is loaded.

    Attributes:
        path: The run's folder, or the model's file.
        checkpoint: The file of the model.
        config: The run's configuration, or the one that was given for the file.
        preprocessing: What the model was trained to see.
        counts: Of the training masks; of a file, which does not know them, of the split's own.
        samples: Of the split.
        val: Of the val split, which temperature and thresholds are fitted on.
        weights: (C,) that the loss had; of classes that may overlap its pos_weight; None of a file.
        posterior_weights: (C,) that the prior correction takes out; None without it.
        settings: How it is evaluated.
    """

    path: Path
    checkpoint: Path
    config: Config
    preprocessing: Preprocessing
    counts: ClassCounts
    samples: Sequence[Sample]
    val: Sequence[Sample]
    weights: np.ndarray | None
    posterior_weights: np.ndarray | None
    settings: Settings

    @classmethod
    def of_run(
        cls,
        path: Path,
        checkpoint: Path,
        config: Config,
        preprocessing: Preprocessing,
        counts: ClassCounts | None,
        weights: Mapping[str, float] | None,
        settings: Settings,
    ) -> Subject:
        """The subject, its samples found; `counts` and `weights` are None of a file by itself.

        Raises:
            DataError: The data has no such split, or is at fault.
            ConfigError: The settings do not go with the run's loss, or need to know it.
        """
        splits = config.samples()
        if settings.split not in splits:
            raise DataError(
                f"--split: got '{settings.split}', which {path}'s data does not have; allowed: {', '.join(splits)}"
            )
        samples, val = splits[settings.split], splits.get("val", [])
        if counts is None:
            masks = [sample.mask for sample in samples]
            labels, encoding = config.labels.label_set(), config.counted_encoding()
            counts = count_masks(masks, labels, encoding, root=Path(config.data.root))
            counts = completed(counts, masks, labels, encoding)
        by_class = None if weights is None else np.array([weights[name] for name in config.labels.class_names])
        posterior = None
        if settings.prior_correction:
            if by_class is None:
                raise ConfigError(f"--prior-correction: {path} says no class weights; allowed: with a run folder")
            try:
                posterior = posterior_weights(config, counts, by_class)
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
        return cls(path, checkpoint, config, preprocessing, counts, samples, val, by_class, posterior, settings)

    @property
    def names(self) -> tuple[str, ...]:
        return self.config.labels.class_names

    def rare(self) -> list[int]:
        """The rare classes, rarest first."""
        return rare_classes(self.counts, self.settings.rare_share)

    def image_names(self) -> list[str]:
        """The images of the split relative to the data's folder."""
        return [relative_name(sample.image, self._root) for sample in self.samples]

    def unlike_images(self) -> str:
        """How the values of the split's images differ from those of the training, a sentence, or "".

        Raises:
            DataError: An image is of another type or number of bands than the training's.
        """
        try:
            seen = read_images(self.checkpoint)
        except DataError:  # what is wrong with the file is told where the model is loaded
            seen = None
        if seen is None:
            return ""
        images = [sample.image for sample in self.samples]
        for image in {holder(image): image for image in images}.values():
            seen.check(image)
        return seen.unlike(seen_images(images, self.preprocessing.wanted, self.preprocessing.nodata))

    def fingerprint(self) -> str:
        """Of the split's masks: their names and sizes."""
        return fingerprint_files([sample.mask for sample in self.samples], self._root)

    def groups(self) -> list[str]:
        """One an image: what the bootstrap draws as one; "" for the image alone."""
        return [sample.group for sample in self.samples]

    def predictor(self, model: Any) -> Predictor:
        """The run's model on images of any size."""
        return Predictor(model, len(self.names), self.settings.tile, self.settings.overlap, self.settings.tta)

    def scores(self, predictor: Predictor) -> list[RuleScores]:
        """The counts of the split under every rule."""
        from seg.data.batches.dataset import user_errors

        ignore_index = self.config.labels.ignore_index
        with user_errors():
            rules = fit_rules(
                predictor,
                self._known(self.val),
                self.posterior_weights,
                temperature=self.settings.temperature,
                thresholds=self.settings.thresholds,
                ranking=self.settings.ranking,
                ignore_index=ignore_index,
            )
            tolerance = self.settings.boundary_tolerance
            overlap = self.config.labels.multi_label
            sets = self.config.labels.label_set().sets
            scoring = Scoring(rules, len(self.names), ignore_index, tolerance, tuple(self.rare()), overlap, sets)
            scores = score_split(predictor, self._batches(self.samples), scoring)
        # A large raster comes in several views, whose sums are its own.
        views = evaluation_views(self.samples, self.preprocessing)
        owners = [relative_name(view.sample.image, self._root) for view in views]
        return [replace(rule_scores, sums=group_sums(rule_scores.sums, owners)) for rule_scores in scores]

    def _known(self, samples: Sequence[Sample]) -> Iterator[Any]:
        """The batches, what is one of several classes as void."""
        labels = self.config.labels.label_set()
        yield from ((images, labels.known(masks)) for images, masks in self._batches(samples))

    def _batches(self, samples: Sequence[Sample]) -> Iterator[Any]:
        yield from self.config.evaluation_data(samples, self.preprocessing).as_numpy_iterator()

    @property
    def _root(self) -> Path:
        return Path(self.config.data.root)

    def facts(self) -> dict[str, Any]:
        """What is evaluated, and how."""
        resize = self.preprocessing.resize
        return {
            "run": str(self.path),
            "checkpoint": self.checkpoint.name,
            "split": self.settings.split,
            "images": len(self.samples),
            "image_size": list(resize) if resize else "as stored",
            "fingerprint": self.fingerprint(),
            "tta": self.settings.tta,
            "tile": self.settings.tile,
            "overlap": self.settings.overlap,
            "boundary_tolerance": self.settings.boundary_tolerance,
            "rare_share": self.settings.rare_share,
            "counts_of": "train" if self.weights is not None else self.settings.split,
        }

    def results(self, scores: Sequence[RuleScores]) -> dict[str, Any]:
        """The numbers, with each class's share of the pixels of `counts` and its weight in the loss or None."""
        content = split_results(scores, self.names, self.groups(), self.rare(), self.settings.resamples)
        weights = [None] * len(self.names) if self.weights is None else self.weights.tolist()
        for name, share, weight in zip(self.names, self.counts.frequencies.tolist(), weights, strict=True):
            content["classes"][name] |= {"share": share, "weight": weight}
        return content

    def pictures(self, predictor: Predictor, scores: RuleScores) -> Iterator[Picture]:
        """The worst, the median and the best image of each rare class, of large rasters their middle, predicted once
        more: the predictions of a whole split would not fit in memory.

        Args:
            predictor: The run's model.
            scores: Of the rule to draw.
        """
        from seg.data.batches.loading import load_view

        labels, encoding = self.config.labels.label_set(), self.config.labels.mask_encoding()
        preprocessing = self.preprocessing
        names, iou = self.image_names(), score_sums(scores.sums)["iou"]
        for index in self.rare()[:RARE_SHOWN]:
            for which, number in telling_images(scores.sums, index).items():
                view = middle_view(self.samples[number], preprocessing)
                image, inputs, mask = load_view(view, labels, encoding, preprocessing)
                logits = predictor(inputs[None])[0]
                picture = panel(Tile(image, mask, self._decided(logits, scores), ""), labels, index)
                yield Picture(labels.names[index], which, f"IoU {iou[number, index]:.3f}, {names[number]}", picture)

    def _decided(self, logits: np.ndarray, scores: RuleScores) -> np.ndarray:
        """The mask that the rule makes of logits (H, W, C)."""
        labels = self.config.labels.label_set()
        if labels.multi_label:
            return labels.predicted(logits)
        return scores.rule.decide(logits.reshape(-1, logits.shape[-1])).classes.reshape(logits.shape[:-1])


def check_comparable(subject: Subject, other: Subject) -> None:
    """Refuses two runs whose scores would not be of the same pixels.

    Raises:
        DataError: Classes, images, masks, groups or sizes differ; says which.
    """
    found = []
    if subject.names != other.names:
        found.append(f"classes ({', '.join(subject.names)} and {', '.join(other.names)})")
    if subject.config.labels.multi_label != other.config.labels.multi_label:
        found.append("labels.encoding (classes overlap in one of them alone)")
    if subject.image_names() != other.image_names():
        found.append(f"images of split {subject.settings.split} ({len(subject.samples)} and {len(other.samples)})")
    elif subject.fingerprint() != other.fingerprint():
        found.append(f"masks of split {subject.settings.split} (their fingerprints, of names and sizes)")
    if subject.groups() != other.groups():
        found.append("groups of the images")
    if subject.preprocessing.resize != other.preprocessing.resize:
        found.append(f"input.resize ({subject.preprocessing.resize} and {other.preprocessing.resize})")
    if found:
        raise DataError(
            f"--against: {subject.path} and {other.path} differ in {'; '.join(found)}; allowed: two runs evaluated on "
            "the same pixels"
        )


def comparison(
    subject: Subject, scores: Sequence[RuleScores], other: Subject, other_scores: Sequence[RuleScores]
) -> dict[str, Any]:
    """Paired differences between two runs, see `seg.inference.results.differences`.

    Raises:
        DataError: They were not scored on the same labels after all.
    """
    if (scores[0].sums[..., 1] != other_scores[0].sums[..., 1]).any():
        raise DataError(
            f"--against: {subject.path} and {other.path} read other labels from the same masks; allowed: one "
            "labels.encoding for both"
        )
    rows = differences(scores, other_scores, subject.names, subject.groups(), subject.settings.resamples)
    return {"run": str(other.path), "checkpoint": other.checkpoint.name, "rules": rows}
