"""Class weights and the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from seg.balance import ClassCounts, class_weights
from seg.balance import weight_warnings as class_weight_warnings
from seg.config.labels import Labels
from seg.config.losses import (
    BinaryCrossEntropyTerm,
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
from seg.config.tree import Config

if TYPE_CHECKING:
    from seg.losses.base import SegmentationLoss
    from seg.losses.combined import Combined
    from seg.losses.online_weights import OnlineClassWeights
    from seg.metrics.confusion import ConfusionMatrix


def weights(config: Config, counts: ClassCounts) -> np.ndarray:
    """(C,) float64 class weights by the configured scheme; the pos_weight of multi-label classes."""
    section = config.class_weights
    given = {key: getattr(section, key) for key in ("beta", "unit", "manual") if getattr(section, key) is not None}
    return class_weights(counts, section.scheme, normalize=section.normalize, cap=section.cap, **given)


def weight_warnings(config: Config, counts: ClassCounts, weights: np.ndarray) -> list[str]:
    """What the user should know about the result of `weights`, one sentence each."""
    return class_weight_warnings(counts, weights, config.class_weights.scheme)


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

    return Combined([(term.coefficient, _term(term, class_weights, config.labels)) for term in config.loss])


def confusion(config: Config) -> ConfusionMatrix:
    """The metric: what `seg.metrics.iou.scores` takes, summed over batches."""
    from seg.metrics.confusion import ConfusionMatrix

    labels = config.labels
    return ConfusionMatrix(labels.class_names, labels.ignore_index, multi_label=labels.multi_label)


def _term(term: LossTerm, class_weights: np.ndarray, labels: Labels) -> SegmentationLoss:
    from seg import losses

    settings = term.model_dump(exclude={"name", "coefficient", "weighted"})
    settings["class_weights"] = class_weights if term.weighted else None
    settings["ignore_index"] = labels.ignore_index
    match term:
        case CrossEntropyTerm():
            return losses.CrossEntropy(**settings)
        case FocalTerm():
            return losses.Focal(**settings)
        case TopKCrossEntropyTerm():
            return losses.TopKCrossEntropy(**settings)
        case BinaryCrossEntropyTerm():
            return losses.BinaryCrossEntropy(pos_weight=settings.pop("class_weights"), **settings)
        case DiceTerm():
            return losses.Dice(multi_label=labels.multi_label, **settings)
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
