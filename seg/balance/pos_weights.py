"""Multi-label counts -> one `pos_weight` a class: what a present pixel weighs beside an absent one.

For each class the scheme weighs the two classes absent and present, and pos_weight_k = w_present / w_absent, so every
scheme of `seg.balance.weights` has its meaning here: `inverse_frequency` is negatives / positives, the usual choice,
which gives both sides the same total weight; `inverse_sqrt` its root; `uniform` 1. Normalising would cancel.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from seg.balance.counts import ClassCounts
from seg.balance.multi_label_counts import SIDES, MultiLabelCounts
from seg.balance.weights import class_weights, manual_weights
from seg.errors import DataError


def pos_weights(
    counts: MultiLabelCounts,
    scheme: str,
    *,
    cap: float | None = None,
    beta: float | Literal["auto"] = "auto",
    unit: str = "images",
    manual: dict[str, float] | None = None,
) -> np.ndarray:
    """The pos_weight of each class.

    Args:
        counts: The counts of the training masks.
        scheme: One of `seg.balance.weights.SCHEMES`.
        cap: Bounds the ratio of the two sides either way: 1 / cap <= pos_weight <= cap, but for a manual 0.
        beta: As for `class_weights`.
        unit: As for `class_weights`.
        manual: Only for `manual`: the pos_weight for every class name.

    Returns:
        (K,) float64, not negative. A class that is present nowhere gets 0 (no pixel would have the weight), one that is
        absent nowhere 1; `pos_weight_warnings` names both.

    Raises:
        ConfigError: An unknown name or a value out of range.
        DataError: No class is present anywhere.
    """
    if not counts.pixel_counts.any():
        raise DataError(f"no pos_weight: no class is present in any of the {counts.num_images} counted masks")
    given = None if manual is None else manual_weights(counts.names, manual)
    ratios = []
    for index, of_class in enumerate(counts.of_class):
        sides = None if given is None else dict(zip(SIDES, (1.0, float(given[index])), strict=True))
        ratios.append(_ratio(of_class, scheme, cap, beta, unit, sides))
    return np.array(ratios)


def _ratio(
    counts: ClassCounts,
    scheme: str,
    cap: float | None,
    beta: float | Literal["auto"],
    unit: str,
    sides: dict[str, float] | None,
) -> float:
    """w_present / w_absent."""
    absent, present = counts.pixel_counts.tolist()
    if not absent or not present:
        return 1.0 if present else 0.0
    options = {} if sides is None else {"manual": sides}
    weights = class_weights(counts, scheme, normalize="none", cap=cap, beta=beta, unit=unit, **options)
    return float(weights[1] / weights[0])


def pos_weight_warnings(counts: MultiLabelCounts, weights: np.ndarray, scheme: str) -> list[str]:
    """What the user should know about these weights, one sentence each.

    Args:
        counts: The counts that the weights came from.
        weights: (K,) the result of `pos_weights`.
        scheme: Its scheme.
    """
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
            if 0 < present < labelled and abs(np.log(weight)) < np.log(1.05) <= abs(np.log(labelled / present - 1))
        ]
        if flat:
            messages.append(
                f"effective_number is flat for {', '.join(flat)}: pos_weight is within 5 % of 1, although absent and "
                "present pixels differ by more. Try beta nearer to 1 or 'auto', the other unit, or another scheme"
            )
    return messages
