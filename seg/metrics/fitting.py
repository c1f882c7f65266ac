"""Temperature and thresholds, fitted on pixels of a validation split."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

MAX_LOG_TEMPERATURE = 3.0  # T from 1/20 to 20
BIASES = np.arange(-60, 61) * 0.05  # what a class's bias may be: odds of up to 20 to 1 either way, in steps of 5 %
MAX_SWEEPS = 10
LEAST_GAIN = 1e-6  # of the mean IoU: less is the rounding of its sums
CHUNK = 1 << 19  # numbers, which stay in a core's cache


def fit_temperature(logits: np.ndarray, labels: np.ndarray, pixels: np.ndarray) -> float:
    """The temperature T of the least negative log-likelihood of the labels under softmax(z / T).

    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.
    The likelihood has one minimum in T; Brent's bounded search finds it in log T.

    Args:
        logits: (P, C) float32, class weights taken out where they are to be.
        labels: (P,) class indices.
        pixels: (P,) float64, how many pixels each stands for.

    Returns:
        T in [1/20, 20]: above 1 where the model is too sure of itself, below 1 where it is too unsure.

    Raises:
        ValueError: There is no pixel.
    """
    if not len(labels):
        raise ValueError("got no labelled pixel to fit a temperature on, allowed: one or more")

    values = np.ascontiguousarray(logits.T)  # (C, P): reductions over the first axis are SIMD
    step = max(1, CHUNK // len(values))

    def loss(log_temperature: float) -> float:
        scale, total = np.float32(np.exp(-log_temperature)), 0.0
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            scaled = values[:, part] * scale
            own = scaled[labels[part], np.arange(scaled.shape[1])]
            highest = scaled.max(axis=0)
            log_sum = np.log(np.exp(scaled - highest).sum(axis=0)) + highest
            total += float(pixels[part] @ (log_sum - own).astype(np.float64))
        return total / float(pixels.sum())

    bounds = (-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def fit_biases(logits: np.ndarray, labels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The biases b of the decision argmax_c (z_c + b_c) that raise the mean IoU most.

    One threshold a class, as odds: t_c = exp(-b_c), decide for argmax_c p_c / t_c; with two classes that is a threshold
    on one probability. The best decision for a score that is made of the confusion matrix, such as the mean IoU, is of
    such a linear kind and not the most probable class (H. Narasimhan et al., "Consistent Multiclass Algorithms for
    Complex Performance Measures", ICML 2015, with a full matrix where this has a diagonal). Found by coordinate ascent
    from b = 0: a class after the other gets the bias of `BIASES` with the highest mean IoU, exactly, all others kept,
    until none gains. So the mean IoU on these pixels never falls, and nothing is changed for a model without a mistake.

    Args:
        logits: (P, C) float32.
        labels: (P,) class indices.
        pixels: (P,) float64, how many pixels each stands for.

    Returns:
        (C,) float64; 0 for classes without a label here. The mean IoU is over the classes that have one.

    Raises:
        ValueError: There is no pixel.
    """
    if not len(labels):
        raise ValueError("got no labelled pixel to fit thresholds on, allowed: one or more")
    ranking = _Ranking(np.array(logits.T, order="C"))
    biases = np.zeros(logits.shape[1])
    present = np.unique(labels)
    for _ in range(MAX_SWEEPS):
        changed = False
        for index in present.tolist():
            rival, needed = ranking.against(index)
            totals = _mean_ious(index, rival, needed + biases[index], labels, pixels, present, len(biases))
            chosen = int(totals.argmax())
            current = int(np.abs(BIASES - biases[index]).argmin())
            if totals[chosen] > totals[current] + LEAST_GAIN:
                ranking.add(index, BIASES[chosen] - biases[index])
                biases[index] = BIASES[chosen]
                changed = True
        if not changed:
            break
    return biases


class _Ranking:
    """The two highest classes of each pixel, kept up while one class's values change.

    Attributes:
        values: (C, P) float32, changed in place.
        top: Row of the highest and of the second highest value, (P,) each, and those values.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        parts = np.array_split(values, max(1, values.size // CHUNK), axis=1)
        self.top = [np.concatenate(arrays) for arrays in zip(*map(_two_highest, parts), strict=True)]

    def against(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The highest of the other classes, and how much a class's value must rise to be level with it, (P,) each."""
        first, second, best, second_best = self.top
        leads = first == index
        return np.where(leads, second, first), np.where(leads, second_best, best) - self.values[index]

    def add(self, index: int, bias: float) -> None:
        """Adds a number to all values of a class."""
        self.values[index] += np.float32(bias)
        first, second, best, second_best = self.top
        own = self.values[index]
        involved = (first == index) | (second == index)
        to_second = ~involved & (own > second_best)
        to_first = to_second & (own > best)
        second[to_second], second_best[to_second] = index, own[to_second]
        second[to_first], second_best[to_first] = first[to_first], best[to_first]
        first[to_first], best[to_first] = index, own[to_first]
        places = np.flatnonzero(involved)  # a third class may be among their highest now
        for known, new in zip(self.top, _two_highest(self.values[:, places]), strict=True):
            known[places] = new


def _mean_ious(
    index: int,
    rival: np.ndarray,
    needed: np.ndarray,
    labels: np.ndarray,
    pixels: np.ndarray,
    present: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """(len(BIASES),): the mean IoU with each bias of one class, where it wins the pixels whose `needed` is below it and
    `rival` has the others."""
    steps = np.searchsorted(BIASES, needed, side="right")  # the first bias that wins the pixel; len(BIASES): none
    size = (len(BIASES) + 1) * num_classes

    def won(chosen: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """(len(BIASES) + 1, C): pixels by class that the class has won at each bias; the last row: all there are."""
        cells = steps[chosen] * num_classes + classes[chosen]
        return np.bincount(cells, weights=pixels[chosen], minlength=size).reshape(-1, num_classes).cumsum(axis=0)

    everywhere = np.ones(len(labels), bool)
    taken, taken_right = won(everywhere, rival), won(rival == labels, rival)
    gained = won(labels == index, labels)[:-1, index]
    predicted, right = taken[-1] - taken[:-1], taken_right[-1] - taken_right[:-1]  # what the rivals keep
    predicted[:, index], right[:, index] = taken[:-1].sum(axis=1), gained
    labelled = np.bincount(labels, weights=pixels, minlength=num_classes)
    union = labelled + predicted - right
    return (right[:, present] / union[:, present]).mean(axis=1)


def _two_highest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the highest and the second highest value of each column of (C, P), and those values; `values` stays."""
    values, columns = np.array(values), np.arange(values.shape[1])
    first = values.argmax(axis=0)
    best = values[first, columns]
    values[first, columns] = -np.inf
    second = values.argmax(axis=0)
    return first, second, best, values[second, columns]
