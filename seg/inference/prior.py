"""Which class weights a run's posterior carries, if it can be said at all."""

from __future__ import annotations

import numpy as np

from seg.balance import ClassCounts
from seg.config import Config
from seg.errors import ConfigError


def posterior_weights(config: Config, counts: ClassCounts, weights: np.ndarray) -> np.ndarray:
    """(C,) float64: the w of q_c = w_c P_c / sum_k w_k P_k, what a model of this configuration learns in place of P.

    That holds for weighted cross-entropy whose denominator does not depend on the labels, with label smoothing too (P
    is then the smoothed posterior, as without weights). A class without a training pixel has weight 0 and is never
    learnt; its logit is left as it is, with weight 1.

    Args:
        config: Of the run.
        counts: Of its training masks.
        weights: (C,) that its loss had.

    Raises:
        ConfigError: The loss has another optimum, from which w cannot be taken out; says why.
    """
    if reason := _refusal(config):
        raise ConfigError(f"prior correction: {reason}; allowed: runs trained with cross_entropy alone")
    found = weights if config.loss[0].weighted else np.ones(counts.num_classes)
    for name, weight, pixels in zip(counts.names, found, counts.pixel_counts, strict=True):
        if weight == 0 and pixels:
            raise ConfigError(
                f"prior correction: class '{name}' has weight 0 and {pixels:,} training pixels, which the loss never "
                "asked for, so its posterior is not known; allowed: weights above 0"
            )
    return np.where(found == 0, 1.0, found)


def _refusal(config: Config) -> str | None:
    """Why the weights cannot be taken out of a run's posterior; None where they can."""
    if len(config.loss) > 1:
        names = " + ".join(term.name for term in config.loss)
        return (
            f"the loss is {names}, and the optimum of such a sum is no posterior that weights could be divided out of"
        )
    term = config.loss[0]
    if reason := term.prior_refusal():
        return reason
    if config.pixel_weights is not None:
        return "pixel_weights distort the posterior, too, by where a pixel lies, which no weight a class undoes"
    if config.sampler is not None:
        return "the sampler shows classes in other shares than the data has, and the weights are only a part of that"
    if config.class_weights.online is not None and term.weighted:
        return "class_weights.online changed the weights with the batches, so there is no one set to take out"
    weighted = term.weighted and config.class_weights.scheme != "uniform"
    if weighted and getattr(term, "normalize", None) == "weights":
        return (
            "normalize: weights divides by the weights of each batch's own labels, which undoes part of them (all of "
            "them where a batch has one class)"
        )
    return None
