"""RankSEG: the classes of an image with the highest expected IoU or Dice, from its probabilities. NumPy only.

The most probable class of each pixel maximises the expected pixel accuracy, which a rare class hardly enters. The
expected Dice of a class is highest for the n pixels where it is most probable, with the best n of this image (B. Dai,
C. Li, "RankSEG: A Consistent Ranking-based Framework for Segmentation", JMLR 24, 2023). With S the sum of the class's
probabilities and c that of the n highest, the reciprocal moment approximation (Z. Wang, B. Dai, "RankSEG-RMA", NeurIPS
2025, arXiv:2510.15362), whose error falls with S, is

    E[Dice] ~ 2 c / (S + n + 1)        E[IoU] ~ c / (S + n - c)

One more pixel of probability p raises the first where p > c / (S + n + 1), the second where p > c / (S + n). So the
best set is {p > t} where t is that ratio of the set itself, and no sorting is needed: the ratio of {p > t}, put in t's
place again and again, only rises, and ends at the best after a few passes over ever fewer pixels (W. Dinkelbach, "On
Nonlinear Fractional Programming", Management Science 1967). t is at most 1/2: there the model is sure of every pixel.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Score = Literal["iou", "dice"]
SCORES: tuple[Score, ...] = get_args(Score)


def ranked_classes(probabilities: np.ndarray, score: Score) -> np.ndarray:
    """The class of each pixel, without overlap, that together have the highest expected score, class by class.

    A pixel in the set of one class alone is of that class. One in several sets, or in none, is of the class whose
    expected score it raises most (or lowers least), over that of the pixels that are the class's alone: RankSEG-RMA.

    Args:
        probabilities: (C, P) float32 of all pixels of one image, summing to 1 over the classes; calibrated, or what is
            expected is not what comes.
        score: "iou" or "dice".

    Returns:
        (P,) uint8. A class of probability 0 everywhere is never chosen.
    """
    sums = probabilities.sum(axis=1)
    holders = np.zeros(probabilities.shape[1], np.uint8)
    classes = np.zeros(probabilities.shape[1], np.uint8)
    sets = []
    for index, row in enumerate(probabilities):
        inside = row > best_threshold(row, score)
        holders += inside
        np.copyto(classes, index, where=inside)
        sets.append(inside)
    alone = holders == 1
    own = [row[inside & alone] for row, inside in zip(probabilities, sets, strict=True)]
    number, mass = np.array([len(some) for some in own], np.float32), np.array([some.sum() for some in own], np.float32)
    rest = np.flatnonzero(~alone)
    gains = _gains(probabilities[:, rest], sums[:, None], number[:, None], mass[:, None], score)
    allowed = np.stack([inside[rest] for inside in sets]) | (holders[rest] == 0)
    gains[~allowed | (sums == 0)[:, None]] = -np.inf
    classes[rest] = gains.argmax(axis=0)
    return classes


def best_threshold(probabilities: np.ndarray, score: Score) -> float:
    """The t of the set {p > t} of one class with the highest expected score.

    Args:
        probabilities: (P,) float32 of the class.
        score: "iou" or "dice".

    Returns:
        In [0, 1/2]; 0 where all probabilities are 0.
    """
    total = float(probabilities.sum()) + (score == "dice")

    def ratio(inside: np.ndarray) -> float:
        return float(inside.sum()) / (total + len(inside)) if len(inside) else 0.0

    threshold = ratio(probabilities[probabilities > 0.5])
    inside = probabilities
    while True:
        inside = inside[inside > threshold]
        if (new := ratio(inside)) <= threshold:
            return threshold
        threshold = new


def _gains(p: np.ndarray, total: np.ndarray, number: np.ndarray, mass: np.ndarray, score: Score) -> np.ndarray:
    """What each pixel p (C, R) adds to the expected score of a set of `number` pixels whose p have the sum `mass`."""
    if score == "dice":
        union = total + number + 1
        return 2 / (union + 1) * (p - mass / union)
    union = total + number - mass
    return (p - mass / np.maximum(union, np.finfo(np.float32).tiny) * (1 - p)) / (union + 1 - p)
