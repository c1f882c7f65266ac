"""One pass over a split: every image's scores under every rule, in threads beside the model."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from seg.errors import DataError
from seg.inference.predictor import Predictor
from seg.metrics.boundary import boundary_counts
from seg.metrics.calibration import NUM_BINS, reliability_counts
from seg.metrics.fitting import fit_biases, fit_temperature
from seg.metrics.iou import confusion_matrix, false_alarms, matrix_sums
from seg.metrics.objects import SIZE_EDGES, object_counts
from seg.metrics.pixel_sample import PixelSample
from seg.metrics.posterior import Rule
from seg.metrics.ranking import Score

CHUNK = 1 << 19  # logits looked at together: they stay in a core's cache
MAX_WAITING = 1 << 26  # logits of images that wait for a thread
RANKED: dict[Score, str] = {"iou": "IoU", "dice": "Dice"}


@dataclass(frozen=True)
class Scoring:
    """What is measured.

    Attributes:
        rules: How logits become classes; the first is the model as trained.
        num_classes: C.
        ignore_index: The label of void pixels.
        tolerance: Of boundary F1, in pixels.
        rare: The classes whose objects are counted.
        multi_label: Whether the classes may overlap; then there is one rule, the model as trained.
        sets: Labels that stand for several classes, of which a pixel is one. They count as false alarms of the
            classes that a pixel is not, and as void in everything but the matrix.
    """

    rules: tuple[Rule, ...]
    num_classes: int
    ignore_index: int
    tolerance: int = 2
    rare: tuple[int, ...] = ()
    multi_label: bool = False
    sets: tuple[tuple[int, tuple[int, ...]], ...] = ()


@dataclass(eq=False)
class Tally:
    """What one rule made of an image, or of all images so far.

    Attributes:
        matrix: (C, C) int64 confusion matrix, rows = labels, with `Scoring.sets` and a row of false alarms (C + 1, C);
            of classes that may overlap (C, 2, 2), one a class.
        boundary: (C, 4) int64, see `seg.metrics.boundary`.
        objects: (K, sizes, 2) int64, see `seg.metrics.objects`.
        reliability: (C, bins, 3) float64, see `seg.metrics.calibration`; of a class that may overlap others what is
            predicted present and what is predicted absent together.
        log_likelihood: Sum of log p of the labels.
    """

    matrix: np.ndarray
    boundary: np.ndarray
    objects: np.ndarray
    reliability: np.ndarray
    log_likelihood: float = 0.0

    @classmethod
    def empty(cls, scoring: Scoring) -> Tally:
        """Nothing counted."""
        size = scoring.num_classes
        return cls(
            np.zeros((size, 2, 2) if scoring.multi_label else (size + bool(scoring.sets), size), np.int64),
            np.zeros((size, 4), np.int64),
            np.zeros((len(scoring.rare), len(SIZE_EDGES) + 1, 2), np.int64),
            np.zeros((size, NUM_BINS, 3)),
        )

    def add(self, other: Tally) -> None:
        """Takes another's counts in."""
        for own, theirs in zip(self._arrays(), other._arrays(), strict=True):
            own += theirs
        self.log_likelihood += other.log_likelihood

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.matrix, self.boundary, self.objects, self.reliability


@dataclass(frozen=True, eq=False)
class RuleScores:
    """A rule's counts over a split.

    Attributes:
        rule: The rule.
        total: Over all images.
        sums: (N, C, 3) or (N, C, 4) int64, what `seg.metrics.iou.matrix_sums` says of each image.
    """

    rule: Rule
    total: Tally
    sums: np.ndarray


def score_split(predictor: Predictor, batches: Iterable[object], scoring: Scoring) -> list[RuleScores]:
    """The scores of every rule over batches of (images, labels), each image predicted once.

    Images are scored in threads, while the model predicts the next. Memory: the logits of what waits, and 3 C numbers
    an image and rule, where its confusion matrix has C^2.
    """
    totals = [Tally.empty(scoring) for _ in scoring.rules]
    sums: list[list[np.ndarray]] = [[] for _ in scoring.rules]
    waiting: deque[Future[list[Tally]]] = deque()

    def collect() -> None:
        for total, rows, tally in zip(totals, sums, waiting.popleft().result(), strict=True):
            total.add(tally)
            rows.append(matrix_sums(tally.matrix))

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for logits, labels in predictor.over(batches):
            waiting.append(pool.submit(score_image, logits, labels, scoring))
            while len(waiting) > min(2 * workers, MAX_WAITING // logits.size):
                collect()
        while waiting:
            collect()
    return [
        RuleScores(rule, total, np.stack(rows)) for rule, total, rows in zip(scoring.rules, totals, sums, strict=True)
    ]


def score_image(logits: np.ndarray, labels: np.ndarray, scoring: Scoring) -> list[Tally]:
    """What each rule makes of one image.

    Args:
        logits: (H, W, C) float32.
        labels: (H, W) uint8 class indices or void; of classes that may overlap (H, W, C) uint8 0, 1 or void.
        scoring: What is measured.
    """
    if scoring.multi_label:
        return [_score_planes(logits, labels, scoring)]
    tallies: list[Tally] = []
    maps: list[np.ndarray] = []
    stored = labels
    if scoring.sets:
        codes = [label for label, _ in scoring.sets]
        labels = np.where(np.isin(labels, codes), labels.dtype.type(scoring.ignore_index), labels)
    for rule in scoring.rules:
        tally = Tally.empty(scoring)
        maps.append(_decide(logits, labels, rule, scoring, tally))
        if scoring.sets:
            alarms = false_alarms(stored, maps[-1], scoring.num_classes, scoring.sets)
            tally.matrix = np.vstack([tally.matrix, alarms])
        same = next((index for index, known in enumerate(maps[:-1]) if np.array_equal(known, maps[-1])), None)
        if same is not None:  # a temperature changes no class
            tally.boundary, tally.objects = tallies[same].boundary, tallies[same].objects
        else:
            tally.boundary = boundary_counts(
                labels,
                maps[-1],
                scoring.num_classes,
                ignore_index=scoring.ignore_index,
                tolerance=scoring.tolerance,
            )
            tally.objects = object_counts(labels, maps[-1], scoring.rare)
        tallies.append(tally)
    return tallies


def _score_planes(logits: np.ndarray, labels: np.ndarray, scoring: Scoring) -> Tally:
    """Of classes that may overlap each is a problem of two classes, absent and present, with the logits 0 and its own:
    their softmax is its sigmoid."""
    total = Tally.empty(scoring)
    for index in range(scoring.num_classes):
        rare = (1,) if index in scoring.rare else ()
        two_classes = replace(scoring, rules=(Rule.as_trained(2),), num_classes=2, rare=rare, multi_label=False)
        own = logits[..., index]
        (tally,) = score_image(
            np.stack([np.zeros_like(own), own], axis=-1), np.ascontiguousarray(labels[..., index]), two_classes
        )
        total.matrix[index], total.boundary[index] = tally.matrix, tally.boundary[1]
        total.reliability[index] = tally.reliability.sum(axis=0)
        total.log_likelihood += tally.log_likelihood
        if rare:
            total.objects[scoring.rare.index(index)] = tally.objects[0]
    return total


def _decide(logits: np.ndarray, labels: np.ndarray, rule: Rule, scoring: Scoring, tally: Tally) -> np.ndarray:
    """(H, W) uint8, the rule's classes; counts its pixels into `tally`."""
    size, num_classes = labels.size, logits.shape[-1]
    flat, flat_labels = logits.reshape(size, num_classes), labels.reshape(size)
    classes = np.empty(size, np.uint8)
    step = size if rule.ranking else max(1, CHUNK // num_classes)
    for start in range(0, size, step):
        part = slice(start, start + step)
        decisions = rule.decide(flat[part])
        classes[part] = decisions.classes
        valid = flat_labels[part] != scoring.ignore_index
        known, found = flat_labels[part][valid], decisions.classes[valid]
        tally.reliability += reliability_counts(decisions.confidences[valid], found, known == found, num_classes)
        own = rule.log_probability(
            flat[part], np.where(flat_labels[part] < num_classes, flat_labels[part], 0), decisions
        )
        tally.log_likelihood += float(own[valid].sum(dtype=np.float64))
    tally.matrix = confusion_matrix(flat_labels, classes, num_classes, scoring.ignore_index)
    return classes.reshape(labels.shape)


def fit_rules(
    predictor: Predictor,
    batches: Iterable[object],
    weights: np.ndarray | None,
    *,
    temperature: bool,
    thresholds: bool,
    ranking: Score | None = None,
    ignore_index: int,
    seed: int = 0,
) -> tuple[Rule, ...]:
    """The rules to compare, each with all that the one before it has: as trained, without the class weights, with a
    temperature, with thresholds or a ranking.

    Args:
        predictor: The model.
        batches: Of validation; not looked at without `temperature` and `thresholds`.
        weights: (C,) the class weights to take out, or None to leave them.
        temperature: Whether to fit one.
        thresholds: Whether to choose them.
        ranking: The score that the decisions of an image are to maximise, which is nothing to fit; not with thresholds.
        ignore_index: The label of void pixels.
        seed: Of the sample of pixels that both are fitted on.

    Raises:
        DataError: No validation pixel is labelled.
    """
    rules = [Rule.as_trained(predictor.num_classes)]

    def extend(name: str, **changes: object) -> None:
        last = rules[-1]
        known = {"weights": last.weights, "temperature": last.temperature, "biases": last.biases}
        rules.append(Rule(name, **(known | changes)))  # type: ignore[arg-type]

    if weights is not None:
        extend("prior corrected", weights=weights)
    if temperature or thresholds:
        sample = PixelSample(predictor.num_classes, seed=seed)
        for number, (logits, labels) in enumerate(predictor.over(batches)):
            valid = labels != ignore_index
            sample.add(logits[valid], labels[valid], number)
        logits, labels, pixels = sample.result()
        if not len(labels):
            raise DataError("the val split has no labelled pixel; allowed with --temperature and --thresholds: some")
        if temperature:
            extend("temperature", temperature=fit_temperature(rules[-1].adjusted(logits).T, labels, pixels))
        if thresholds:
            extend("thresholds", biases=fit_biases(rules[-1].adjusted(logits).T, labels, pixels))
    if ranking:
        extend(f"ranked for {RANKED[ranking]}", ranking=ranking)
    return tuple(rules)
