"""A trained run as something to evaluate: its data, its weights, its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seg import build
from seg.balance import ClassCounts, fingerprint_files
from seg.balance.advisor import rare_classes
from seg.config import Config
from seg.data.files.storage import relative_name
from seg.data.samples.pairs import Sample
from seg.data.views.band_statistics import BandStatistics
from seg.data.views.sources import evaluation_views, middle_view
from seg.errors import ConfigError, DataError
from seg.inference.page import Picture
from seg.inference.predictor import Predictor
from seg.inference.results import differences, split_results, telling_images
from seg.inference.scoring import RuleScores, Scoring, fit_rules, score_split
from seg.inference.settings import Settings
from seg.metrics.bootstrap import group_sums
from seg.metrics.iou import score_sums
from seg.pictures.panels import Tile, panel

RARE_SHOWN = 10  # rare classes with pictures, of 150 perhaps


@dataclass(frozen=True, eq=False)
class Subject:
    """A run to evaluate: all that can be checked before the model is loaded.

    Attributes:
        path: The run's folder.
        checkpoint: The file of the model.
        config: The run's configuration.
        counts: Of its training masks.
        samples: Of the split.
        val: Of the val split, which temperature and thresholds are fitted on.
        weights: (C,) that the loss had.
        statistics: Of the training images' bands; None where the configuration needs none.
        posterior_weights: (C,) that the prior correction takes out; None without it.
        settings: How it is evaluated.
    """

    path: Path
    checkpoint: Path
    config: Config
    counts: ClassCounts
    samples: Sequence[Sample]
    val: Sequence[Sample]
    weights: np.ndarray
    statistics: BandStatistics | None
    posterior_weights: np.ndarray | None
    settings: Settings

    @classmethod
    def of_run(
        cls,
        path: Path,
        checkpoint: Path,
        config: Config,
        counts: ClassCounts,
        weights: Mapping[str, float],
        statistics: BandStatistics | None,
        settings: Settings,
    ) -> Subject:
        """The subject, its samples found.

        Raises:
            DataError: The data has no such split, or is at fault.
            ConfigError: The settings do not go with the run's loss.
        """
        splits = build.samples(config)
        if settings.split not in splits:
            raise DataError(
                f"--split: got '{settings.split}', which {path}'s data does not have; allowed: {', '.join(splits)}"
            )
        by_class = np.array([weights[name] for name in config.labels.class_names])
        posterior = None
        if settings.prior_correction:
            try:
                posterior = build.posterior_weights(config, counts, by_class)
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
        samples, val = splits[settings.split], splits.get("val", [])
        return cls(path, checkpoint, config, counts, samples, val, by_class, statistics, posterior, settings)

    @property
    def names(self) -> tuple[str, ...]:
        return self.config.labels.class_names

    def rare(self) -> list[int]:
        """The rare classes, rarest first."""
        return rare_classes(self.counts, self.settings.rare_share)

    def image_names(self) -> list[str]:
        """The images of the split relative to the data's folder."""
        return [relative_name(sample.image, self._root) for sample in self.samples]

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
                self._batches(self.val),
                self.posterior_weights,
                temperature=self.settings.temperature,
                thresholds=self.settings.thresholds,
                ignore_index=ignore_index,
            )
            tolerance = self.settings.boundary_tolerance
            scoring = Scoring(rules, len(self.names), ignore_index, tolerance, tuple(self.rare()))
            scores = score_split(predictor, self._batches(self.samples), scoring)
        # A large raster comes in several views, whose sums are its own.
        views = evaluation_views(self.samples, build.preprocessing(self.config, self.statistics))
        owners = [relative_name(view.sample.image, self._root) for view in views]
        return [replace(rule_scores, sums=group_sums(rule_scores.sums, owners)) for rule_scores in scores]

    def _batches(self, samples: Sequence[Sample]) -> Iterator[Any]:
        yield from build.evaluation_data(self.config, samples, self.statistics).as_numpy_iterator()

    @property
    def _root(self) -> Path:
        return Path(self.config.data.root)

    def facts(self) -> dict[str, Any]:
        """What is evaluated, and how."""
        resize = self.config.input.resize
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
        }

    def results(self, scores: Sequence[RuleScores]) -> dict[str, Any]:
        """The numbers, with each class's share of the training pixels and its weight in the loss."""
        content = split_results(scores, self.names, self.groups(), self.rare(), self.settings.resamples)
        for name, share, weight in zip(self.names, self.counts.frequencies, self.weights, strict=True):
            content["classes"][name] |= {"share": float(share), "weight": float(weight)}
        return content

    def pictures(self, predictor: Predictor, scores: RuleScores) -> Iterator[Picture]:
        """The worst, the median and the best image of each rare class, of large rasters their middle, predicted once
        more: the predictions of a whole split would not fit in memory.

        Args:
            predictor: The run's model.
            scores: Of the rule to draw.
        """
        from seg.data.batches.loading import load_view

        labels, encoding = self.config.labels.label_set(), build.mask_encoding(self.config)
        preprocessing = build.preprocessing(self.config, self.statistics)
        names, iou = self.image_names(), score_sums(scores.sums)["iou"]
        for index in self.rare()[:RARE_SHOWN]:
            for which, number in telling_images(scores.sums, index).items():
                view = middle_view(self.samples[number], preprocessing)
                image, inputs, mask = load_view(view, labels, encoding, preprocessing)
                logits = predictor(inputs[None])[0]
                classes = scores.rule.decide(logits.reshape(mask.size, -1)).classes.reshape(mask.shape)
                picture = panel(Tile(image, mask, classes, ""), labels, index)
                yield Picture(labels.names[index], which, f"IoU {iou[number, index]:.3f}, {names[number]}", picture)


def check_comparable(subject: Subject, other: Subject) -> None:
    """Refuses two runs whose scores would not be of the same pixels.

    Raises:
        DataError: Classes, images, masks, groups or sizes differ; says which.
    """
    found = []
    if subject.names != other.names:
        found.append(f"classes ({', '.join(subject.names)} and {', '.join(other.names)})")
    if subject.image_names() != other.image_names():
        found.append(f"images of split {subject.settings.split} ({len(subject.samples)} and {len(other.samples)})")
    elif subject.fingerprint() != other.fingerprint():
        found.append(f"masks of split {subject.settings.split} (their fingerprints, of names and sizes)")
    if subject.groups() != other.groups():
        found.append("groups of the images")
    if subject.config.input.resize != other.config.input.resize:
        found.append(f"input.resize ({subject.config.input.resize} and {other.config.input.resize})")
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
