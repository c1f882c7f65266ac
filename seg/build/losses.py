"""Class weights and the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from seg.balance import ClassCounts, class_weights
from seg.config_losses import (
    CrossEntropyTerm,
    DiceTerm,
    FocalTerm,
    GeneralisedDiceTerm,
    JaccardTerm,
    LossTerm,
    LovaszTerm,
    TopKCrossEntropyTerm,
    TverskyTerm,
)
from seg.config_tree import Config

if TYPE_CHECKING:
    from seg.losses.base import SegmentationLoss
    from seg.losses.combined import Combined
    from seg.losses.online_weights import OnlineClassWeights


def weights(config: Config, counts: ClassCounts) -> np.ndarray:
    """(C,) float64 class weights by the configured scheme."""
    section = config.class_weights
    given = {key: getattr(section, key) for key in ("beta", "unit", "manual") if getattr(section, key) is not None}
    return class_weights(counts, section.scheme, normalize=section.normalize, cap=section.cap, **given)


def online_weights(config: Config) -> OnlineClassWeights | None:
    """The class weights that follow the batches, or None where those of all masks hold."""
    section = config.class_weights
    if section.online is None:
        return None
    from seg.losses.online_weights import OnlineClassWeights

    effective: dict[str, Any] = {}
    if section.scheme == "effective_number":
        effective = {"beta": section.beta, "unit": section.unit}
    return OnlineClassWeights(
        len(config.labels.class_names),
        section.scheme,
        momentum=section.online,
        ignore_index=config.labels.ignore_index,
        normalize=section.normalize,
        cap=section.cap,
        **effective,
    )


def loss(config: Config, class_weights: np.ndarray) -> Combined:
    """The weighted sum of the configured terms."""
    from seg.losses.combined import Combined

    return Combined(
        [(term.coefficient, _term(term, class_weights, config.labels.ignore_index)) for term in config.loss]
    )


def _term(term: LossTerm, class_weights: np.ndarray, ignore_index: int) -> SegmentationLoss:
    from seg import losses

    settings = term.model_dump(exclude={"name", "coefficient", "weighted"})
    settings["class_weights"] = class_weights if term.weighted else None
    settings["ignore_index"] = ignore_index
    match term:
        case CrossEntropyTerm():
            return losses.CrossEntropy(**settings)
        case FocalTerm():
            return losses.Focal(**settings)
        case TopKCrossEntropyTerm():
            return losses.TopKCrossEntropy(**settings)
        case DiceTerm():
            return losses.Dice(**settings)
        case JaccardTerm():
            return losses.Tversky(alpha=1.0, beta=1.0, name="jaccard", **settings)
        case TverskyTerm():
            return losses.Tversky(**settings)
        case GeneralisedDiceTerm():
            return losses.GeneralisedDice(**settings)
        case LovaszTerm():
            return losses.Lovasz(**settings)
        case _ as never:
            assert_never(never)
