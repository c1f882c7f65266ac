"""What goes together with masks whose classes may overlap, and what only with those of one class a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from seg.config_losses import BinaryCrossEntropyTerm, DiceTerm
from seg.config_section import Problem
from seg.config_tree import ClassWeights


def multi_label_problems(sections: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong between `labels.encoding` and the sections that are valid by themselves."""
    labels, loss = sections.get("labels"), sections.get("loss") or ()
    if not labels:
        return
    if not labels.multi_label:
        for index, term in enumerate(loss):
            if isinstance(term, BinaryCrossEntropyTerm):
                yield (
                    f"loss.{index}.name",
                    "got 'binary_cross_entropy', allowed with labels.encoding multi_label only; for two classes "
                    "cross_entropy with model.one_logit is the same loss, its class weights (1, w) a pos_weight of w",
                )
        return
    for index, term in enumerate(loss):
        if not isinstance(term, BinaryCrossEntropyTerm | DiceTerm):
            yield (
                f"loss.{index}.name",
                f"got '{term.name}', which is of one class a pixel; allowed with labels.encoding multi_label: "
                "binary_cross_entropy, dice",
            )
    model, weights = sections.get("model"), sections.get("class_weights")
    if model and model.one_logit and len(labels.names) == 2:
        yield "model.one_logit", "got true, but every class of multi-label masks has one logit already; allowed: false"
    if weights and weights.normalize != ClassWeights.model_fields["normalize"].default:
        yield "class_weights.normalize", f"has no effect on pos_weight, a ratio; {_MULTI_LABEL}"
    if weights and weights.online is not None:
        yield "class_weights.online", f"takes one class a pixel; {_MULTI_LABEL}"
    if sections.get("sampler"):
        yield "sampler", f"draws by one class a pixel; {_MULTI_LABEL}"
    if sections.get("pixel_weights"):
        yield "pixel_weights", f"the border map takes one class a pixel; {_MULTI_LABEL}"


_MULTI_LABEL = "allowed with labels.encoding multi_label: leave it out"
