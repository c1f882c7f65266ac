"""What each weighting scheme would do to a training, and which one to start with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg.balance.counts import ClassCounts
from seg.balance.statistics import MaskStatistics
from seg.balance.weights import class_weights, weight_warnings

# Every scheme but `manual`, which is the user's, with its unit. `uniform` is what the others are compared with.
COMPARED = (
    ("uniform", "images"),
    ("inverse_frequency", "images"),
    ("inverse_square", "images"),
    ("inverse_sqrt", "images"),
    ("median_frequency", "images"),
    ("log_frequency", "images"),
    ("effective_number", "images"),
    ("effective_number", "pixels"),
)
BALANCED_RATIO = 3.0  # classes closer than this need no weights: cross-entropy learns a class of a quarter well
CALM_VARIANCE = 2.0  # the recommended weights cost at most half of the pixels' information
NOISY_VARIANCE = 4.0  # above it a batch says as little as a quarter of its pixels would
CAPS = (100, 50, 30, 20, 10, 5, 3, 2)
FEW_IMAGES = 5
FEW_COMPONENTS = 20


@dataclass(frozen=True)
class SchemeEffect:
    """What one scheme does.

    Attributes:
        name: The scheme, with its unit where it has one.
        weights: (C,) float64.
        ratio: Largest / smallest positive weight.
        loss_shares: (C,) float64, see `loss_shares`.
        variance_factor: See `variance_factor`.
        warnings: Sentences for the user.
    """

    name: str
    weights: np.ndarray
    ratio: float
    loss_shares: np.ndarray
    variance_factor: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Recommendation:
    """A scheme to start with: the `class_weights` section of a configuration, and why."""

    section: dict[str, str | int]
    reason: str

    def yaml(self) -> str:
        """The section as YAML to paste into a configuration."""
        return "class_weights:\n" + "".join(f"  {key}: {value}\n" for key, value in self.section.items())


def loss_shares(frequencies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(C,) f_c w_c / sum_k f_k w_k: each class's part of the loss while all pixels have the same loss, as at the start
    of a training. 1 / C each is what `inverse_frequency` makes of any masks."""
    return frequencies * weights / (frequencies @ weights)


def variance_factor(frequencies: np.ndarray, weights: np.ndarray) -> float:
    """sum_c f_c w_c^2 / (sum_c f_c w_c)^2, 1 or more: how much the weights raise the variance of a batch's mean.

    With n independent pixels the weighted mean is as noisy as an unweighted one of n / factor. Kish, Survey Sampling,
    1965, section 11.7 (the design effect of unequal weights).
    """
    return float(frequencies @ weights**2 / (frequencies @ weights) ** 2)


def compare_schemes(counts: ClassCounts, normalize: str = "mean_one") -> list[SchemeEffect]:
    """The effect of every scheme on a training with these masks.

    Raises:
        DataError: No pixel is labelled.
    """
    return [_effect(counts, scheme, unit, normalize) for scheme, unit in COMPARED]


def _effect(counts: ClassCounts, scheme: str, unit: str, normalize: str) -> SchemeEffect:
    weights = class_weights(counts, scheme, normalize=normalize, unit=unit)
    factor = variance_factor(counts.frequencies, weights)
    name = f"{scheme} ({unit})" if scheme == "effective_number" else scheme
    warnings = weight_warnings(counts, weights, scheme)
    if factor > NOISY_VARIANCE:
        warnings.append(
            f"{name}: gradients {factor:.1f} times as noisy as without weights (variance factor), as if batches had "
            f"{100 / factor:.3g} % of their pixels; set class_weights.cap or take a milder scheme"
        )
    positive = weights[weights > 0]
    shares = loss_shares(counts.frequencies, weights)
    return SchemeEffect(name, weights, float(positive.max() / positive.min()), shares, factor, tuple(warnings))


def recommend(counts: ClassCounts) -> Recommendation:
    """The scheme to try first: the strongest `inverse_sqrt` that keeps the variance factor at `CALM_VARIANCE`.

    Raises:
        DataError: No pixel is labelled.
    """
    present = counts.pixel_counts[counts.pixel_counts > 0]
    imbalance = present.max() / present.min()
    if imbalance < BALANCED_RATIO:
        reason = f"the commonest class has only {imbalance:.1f} times the rarest's pixels: there is nothing to balance"
        return Recommendation({"scheme": "uniform"}, reason)
    frequencies = counts.frequencies
    why = (
        f"the classes differ {imbalance:,.0f} times; inverse_sqrt goes half the way (in the exponent) to equal shares "
        "of the loss"
    )
    factor = variance_factor(frequencies, class_weights(counts, "inverse_sqrt"))
    if factor <= CALM_VARIANCE:
        return Recommendation({"scheme": "inverse_sqrt"}, f"{why}, with a variance factor of {factor:.2f}")
    factors = {cap: variance_factor(frequencies, class_weights(counts, "inverse_sqrt", cap=cap)) for cap in CAPS}
    cap = next((cap for cap in CAPS if factors[cap] <= CALM_VARIANCE), CAPS[-1])
    return Recommendation(
        {"scheme": "inverse_sqrt", "cap": cap},
        f"{why}; uncapped its variance factor would be {factor:.1f}, with cap {cap} it is {factors[cap]:.2f}",
    )


def scarcity_warnings(statistics: MaskStatistics) -> list[str]:
    """One sentence that names the classes shown so few times that no weight will make up for it; none where none is."""
    scarce = []
    rows = statistics.component_rows()
    counts = statistics.counts
    for index, name in enumerate(counts.names):
        images = int(counts.image_counts[index])
        objects = None if rows is None else rows[index]["components"]
        if 0 < images < FEW_IMAGES:
            scarce.append(f"{name} ({images} {'mask' if images == 1 else 'masks'})")
        elif objects is not None and 0 < objects < FEW_COMPONENTS:
            scarce.append(f"{name} ({objects} components)")
    if not scarce:
        return []
    return [f"few examples of {', '.join(scarce)}: a weight repeats what these show, only more examples add to it"]


def split_warnings(splits: dict[str, ClassCounts]) -> list[str]:
    """Names the classes that one split shows and another does not."""
    messages = []
    for split, counts in splits.items():
        others = sum(other.pixel_counts for other in splits.values()) - counts.pixel_counts
        names = [
            name
            for name, here, there in zip(counts.names, counts.pixel_counts, others, strict=True)
            if here == 0 and there > 0
        ]
        if names:
            messages.append(f"{split} shows no pixel of {', '.join(names)}, which other splits do")
    return messages
