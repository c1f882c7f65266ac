"""Class counts -> one weight per class: one function a paper, then the cap and the normalisation.

Every scheme works in float64 on (C,) arrays. Symbols: n_c labelled pixels of class c, N = sum_c n_c, C classes,
f_c = n_c / N. A class that the masks never show (n_c = 0) has no meaningful weight: every scheme gives it 0 (its
formula would give infinity or an arbitrary constant) and `weight_warnings` names it.

Classes that may overlap get a `pos_weight` each, what a present pixel weighs beside an absent one: the scheme weighs
the two classes absent and present, and pos_weight_k = w_present / w_absent. So every scheme keeps its meaning:
`inverse_frequency` is negatives / positives, the usual choice, which gives both sides the same total weight;
`inverse_sqrt` its root; `uniform` 1. Normalising would cancel.
"""

from __future__ import annotations

import difflib
import math
from typing import Literal

import numpy as np

from seg.balance.counts import SIDES, ClassCounts
from seg.errors import ConfigError, DataError

SCHEMES = (
    "uniform",
    "inverse_frequency",
    "inverse_square",
    "inverse_sqrt",
    "median_frequency",
    "log_frequency",
    "effective_number",
    "manual",
)
NORMALIZATIONS = ("mean_one", "sum_one", "sum_classes", "none")
LOG_OFFSET = 1.02  # ENet's constant: it keeps the largest weight near 1 / ln(1.02) = 50.5
FLAT_RATIO = 1.05  # weights within 5 % of each other train like no weights at all


def class_weights(
    counts: ClassCounts,
    scheme: str,
    *,
    normalize: str = "mean_one",
    cap: float | None = None,
    beta: float | Literal["auto"] = "auto",
    unit: str = "images",
    manual: dict[str, float] | None = None,
) -> np.ndarray:
    """The weight of each class: scheme, then cap, then normalisation. Of classes that may overlap their pos_weight.

    Args:
        counts: The counts of the training masks.
        scheme: One of `SCHEMES`.
        normalize: One of `NORMALIZATIONS`, see `normalize_weights`; does nothing to a pos_weight.
        cap: The largest allowed ratio of the largest to the smallest positive weight, at least 1; see `cap_weights`.
            Of a pos_weight it bounds the two sides either way: 1 / cap <= pos_weight <= cap, but for a manual 0.
        beta: Only for `effective_number`: in [0, 1), or `auto`.
        unit: Only for `effective_number`: what a sample is, `images` or `pixels`.
        manual: Only for `manual`: a weight for every class name.

    Returns:
        (C,) float64, not negative; 0 exactly for the classes without a labelled pixel (and where `manual` says 0). The
        pos_weight of a class that is absent nowhere is 1.

    Raises:
        ConfigError: An unknown name or a value out of range.
        DataError: The masks have no labelled pixel at all, or none of the classes that may overlap is present anywhere.
    """
    _check_choice("scheme", scheme, SCHEMES)
    _check_choice("normalize", normalize, NORMALIZATIONS)
    if manual is not None and scheme != "manual":
        raise ConfigError(f"class_weights.manual: has no effect with scheme '{scheme}', allowed: with 'manual' only")
    if counts.absent is not None:
        return _pos_weights(counts, scheme, cap, beta, unit, manual)
    if not counts.pixel_counts.any():
        raise DataError(f"no class weights: the {counts.num_images} counted masks have no labelled pixel")
    weights = capped = _scheme_weights(counts, scheme, beta, unit, manual)
    if not weights.any():
        raise ConfigError("class_weights.manual: every class that the masks show has weight 0, allowed: one above 0")
    if cap is not None:
        capped = cap_weights(weights, cap)
    return normalize_weights(capped, counts.frequencies, normalize)


def weight_warnings(counts: ClassCounts, weights: np.ndarray, scheme: str) -> list[str]:
    """What the user should know about these weights, one sentence each.

    A list and not `warnings.warn`, so that a command prints it in its own story and stores it with the run: Python's
    warnings show once per process, with a source line, and turn into exceptions under `-W error`.

    Args:
        counts: The counts that the weights came from.
        weights: (C,) the result of `class_weights`.
        scheme: Its scheme.
    """
    if counts.absent is not None:
        return _pos_weight_warnings(counts, weights, scheme)
    messages = []
    absent = [name for name, pixels in zip(counts.names, counts.pixel_counts, strict=True) if pixels == 0]
    if absent:
        messages.append(
            f"no labelled pixel of {', '.join(absent)} in {counts.num_images} masks: weight 0, "
            "so the model cannot learn it"
        )
    if scheme == "effective_number" and _ratio(weights) < FLAT_RATIO <= _ratio(counts.pixel_counts):
        messages.append(
            f"effective_number is flat here: the largest weight is {_ratio(weights):.4f} times the smallest, although "
            f"the pixel counts differ {_ratio(counts.pixel_counts):.4g} times, so it does not rebalance anything. "
            "Try beta nearer to 1 or 'auto', the other unit (images or pixels), or another scheme"
        )
    return messages


def uniform(pixel_counts: np.ndarray) -> np.ndarray:
    """w_c = 1."""
    return (pixel_counts > 0).astype(np.float64)


def inverse_frequency(pixel_counts: np.ndarray) -> np.ndarray:
    """w_c = N / (C n_c), the 'balanced' heuristic: every class gets the same total weight.

    King & Zeng, Logistic Regression in Rare Events Data, Political Analysis 9 (2001). C counts the absent classes too.
    """
    return pixel_counts.sum() / len(pixel_counts) * _inverse(pixel_counts)


def inverse_square(pixel_counts: np.ndarray) -> np.ndarray:
    """w_c = (N / (C n_c))^2: rare classes get more total weight than common ones. Extreme: consider a cap."""
    return inverse_frequency(pixel_counts) ** 2


def inverse_sqrt(pixel_counts: np.ndarray) -> np.ndarray:
    """w_c = (N / (C n_c))^0.5, halfway (in the exponent) between uniform and inverse frequency.

    Mahajan et al., Exploring the Limits of Weakly Supervised Pretraining, ECCV 2018, arXiv:1805.00932.
    """
    return np.sqrt(inverse_frequency(pixel_counts))


def median_frequency(pixel_counts: np.ndarray, image_pixels: np.ndarray) -> np.ndarray:
    """w_c = median(freq) / freq_c, freq_c = n_c / (labelled pixels of the images that contain c).

    A class that fills few images, but those well, counts as common. The median runs over the classes present.
    Eigen & Fergus, Predicting Depth, Surface Normals and Semantic Labels, ICCV 2015, arXiv:1411.4734, sec. 6.3.2.
    """
    frequencies = pixel_counts * _inverse(image_pixels)
    return np.median(frequencies[pixel_counts > 0]) * _inverse(frequencies)


def log_frequency(pixel_counts: np.ndarray) -> np.ndarray:
    """w_c = 1 / ln(1.02 + f_c), from 50.5 for the rarest to 1.42 for a class alone: mild, and bounded by itself.

    Paszke et al., ENet, 2016, arXiv:1606.02147, sec. 5.2.
    """
    return uniform(pixel_counts) / np.log(LOG_OFFSET + pixel_counts / pixel_counts.sum())


def effective_number(samples: np.ndarray, total: int, beta: float | Literal["auto"]) -> np.ndarray:
    """w_c = (1 - beta) / (1 - beta^m_c): the inverse of the expected volume that m_c overlapping samples cover.

    beta = 0 is uniform, beta -> 1 is 1 / m_c. It saturates once m_c is far above 1 / (1 - beta): with beta = 0.9999
    and pixels for samples every class weighs the same, which `weight_warnings` reports.
    Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, arXiv:1901.05555.

    Args:
        samples: (C,) m_c, the samples of each class: images that contain it, or its pixels.
        total: M, all samples: the images counted, or the labelled pixels.
        beta: In [0, 1), or `auto` = (M - 1) / M.

    Raises:
        ConfigError: `beta` is out of range.
    """
    if beta != "auto" and not 0 <= beta < 1:
        raise ConfigError(f"class_weights.beta: got {beta}, allowed: 0 <= beta < 1, or auto")
    # From 1 - beta, because (M - 1) / M itself loses the digits that matter once M counts pixels.
    one_minus_beta = 1 / total if beta == "auto" else 1 - beta
    log_beta = math.log1p(-one_minus_beta) if one_minus_beta < 1 else -math.inf
    covered = np.zeros(len(samples), np.float64)
    covered[samples > 0] = -np.expm1(samples[samples > 0] * log_beta)
    return one_minus_beta * _inverse(covered)


def manual_weights(names: tuple[str, ...], manual: dict[str, float]) -> np.ndarray:
    """The given weights in class order.

    Raises:
        ConfigError: A class has no weight, a name is no class, or a weight is negative, infinite or NaN.
    """
    problems = [f"'{name}' is no class{_nearest(name, names)}" for name in manual if name not in names]
    missing = [name for name in names if name not in manual]
    if missing:
        problems.append(f"no weight for {', '.join(missing)}")
    problems += [
        f"'{name}' has weight {weight}, allowed: 0 or more, finite"
        for name, weight in manual.items()
        if not (math.isfinite(weight) and weight >= 0)
    ]
    if problems:
        raise ConfigError(
            f"class_weights.manual: {'; '.join(problems)}. Allowed: one weight for each of {', '.join(names)}"
        )
    return np.array([manual[name] for name in names], np.float64)


def cap_weights(weights: np.ndarray, cap: float) -> np.ndarray:
    """min(w_c, cap * smallest positive w): the rare classes give way, the common ones keep their weight.

    Zero weights stay 0. Normalise afterwards; scaling does not change the ratio.

    Raises:
        ConfigError: `cap` is below 1 (no weights could satisfy it) or not a number.
    """
    if not cap >= 1:
        raise ConfigError(f"class_weights.cap: got {cap}, allowed: 1 or more (largest weight / smallest weight)")
    return np.minimum(weights, cap * weights[weights > 0].min())


def normalize_weights(weights: np.ndarray, frequencies: np.ndarray, normalize: str) -> np.ndarray:
    """Scales weights by one common factor.

    `mean_one`: sum_c f_c w_c = 1, the mean weight of a labelled pixel, so that the loss keeps its scale and the
    learning rate its meaning. `sum_one`: sum_c w_c = 1. `sum_classes`: sum_c w_c = C. `none`: as the scheme gives them.

    Args:
        weights: (C,) float64, positive for at least one class that has pixels.
        frequencies: (C,) f_c, sums to 1.
        normalize: One of `NORMALIZATIONS`.
    """
    _check_choice("normalize", normalize, NORMALIZATIONS)
    totals = {
        "mean_one": float(frequencies @ weights),
        "sum_one": float(weights.sum()),
        "sum_classes": float(weights.sum()) / len(weights),
        "none": 1.0,
    }
    return weights / totals[normalize]


def _pos_weights(
    counts: ClassCounts,
    scheme: str,
    cap: float | None,
    beta: float | Literal["auto"],
    unit: str,
    manual: dict[str, float] | None,
) -> np.ndarray:
    if not counts.pixel_counts.any():
        raise DataError(f"no pos_weight: no class is present in any of the {counts.num_images} counted masks")
    given = None if manual is None else manual_weights(counts.names, manual)
    ratios = []
    for index, sides in enumerate(counts.two_classes()):
        absent, present = sides.pixel_counts.tolist()
        if not absent or not present:
            ratios.append(1.0 if present else 0.0)
            continue
        by_hand = None if given is None else dict(zip(SIDES, (1.0, float(given[index])), strict=True))
        weights = class_weights(sides, scheme, normalize="none", cap=cap, beta=beta, unit=unit, manual=by_hand)
        ratios.append(float(weights[1] / weights[0]))
    return np.array(ratios)


def _pos_weight_warnings(counts: ClassCounts, weights: np.ndarray, scheme: str) -> list[str]:
    rows = list(zip(counts.names, counts.pixel_counts.tolist(), counts.labelled_pixels.tolist(), strict=True))
    nowhere = [name for name, present, labelled in rows if labelled and not present]
    everywhere = [name for name, present, labelled in rows if labelled and present == labelled]
    unlabelled = [name for name, _, labelled in rows if not labelled]
    masks = f"{counts.num_images} masks"
    messages = []
    if nowhere:
        messages.append(f"{', '.join(nowhere)}: present in none of {masks}, so the model learns to never predict it")
    if everywhere:
        messages.append(
            f"{', '.join(everywhere)}: present at every labelled pixel of {masks}, so the model learns to always "
            "predict it"
        )
    if unlabelled:
        messages.append(f"no labelled pixel of {', '.join(unlabelled)} in {masks}: the model cannot learn it")
    if scheme == "effective_number":
        flat = [
            name
            for (name, present, labelled), weight in zip(rows, weights.tolist(), strict=True)
            if 0 < present < labelled
            and abs(np.log(weight)) < np.log(FLAT_RATIO) <= abs(np.log(labelled / present - 1))
        ]
        if flat:
            messages.append(
                f"effective_number is flat for {', '.join(flat)}: pos_weight is within 5 % of 1, although absent and "
                "present pixels differ by more. Try beta nearer to 1 or 'auto', the other unit, or another scheme"
            )
    return messages


def _scheme_weights(
    counts: ClassCounts, scheme: str, beta: float | Literal["auto"], unit: str, manual: dict[str, float] | None
) -> np.ndarray:
    pixels = counts.pixel_counts
    match scheme:
        case "uniform":
            return uniform(pixels)
        case "inverse_frequency":
            return inverse_frequency(pixels)
        case "inverse_square":
            return inverse_square(pixels)
        case "inverse_sqrt":
            return inverse_sqrt(pixels)
        case "median_frequency":
            return median_frequency(pixels, counts.image_pixels)
        case "log_frequency":
            return log_frequency(pixels)
        case "effective_number":
            _check_choice("unit", unit, ("images", "pixels"))
            if unit == "images":
                return effective_number(counts.image_counts, counts.num_images, beta)
            return effective_number(pixels, int(pixels.sum()), beta)
        case _:
            if manual is None:
                raise ConfigError("class_weights.manual: missing, scheme 'manual' needs one weight per class name")
            return manual_weights(counts.names, manual) * uniform(pixels)


def _inverse(values: np.ndarray) -> np.ndarray:
    """1 / values, and 0 where a value is 0."""
    return np.divide(1.0, values, out=np.zeros(len(values), np.float64), where=values > 0)


def _ratio(values: np.ndarray) -> float:
    """Largest / smallest of the positive values."""
    return float(values.max() / values[values > 0].min())


def _nearest(name: str, names: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f" (nearest: '{close[0]}')" if close else ""


def _check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"class_weights.{key}: got '{value}'{_nearest(value, allowed)}, allowed: {', '.join(allowed)}"
        )
