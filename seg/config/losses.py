"""The loss terms of a configuration: `seg.losses` has their formulas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from seg.config.section import Positive, Problem, Section


class Term(Section):
    """What all loss terms have."""

    coefficient: Positive = 1.0
    weighted: bool = Field(True, description="whether the class weights act in this term")


class CrossEntropyTerm(Term):
    """Weighted categorical cross-entropy."""

    name: Literal["cross_entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    normalize: Literal["valid", "weights", "all"] = "valid"


class FocalTerm(Term):
    """Focal loss, softmax form."""

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0)] = 2.0
    normalize: Literal["valid", "weights", "all"] = "valid"


class TopKCrossEntropyTerm(Term):
    """Weighted cross-entropy of the hardest pixels of a batch alone."""

    name: Literal["top_k_cross_entropy"]
    fraction: Annotated[float, Field(gt=0, lt=1)] = Field(0.25, description="of the valid pixels")


class BinaryCrossEntropyTerm(Term):
    """Cross-entropy of a sigmoid for each class; the class weights are its pos_weight. For multi-label masks."""

    name: Literal["binary_cross_entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    normalize: Literal["valid", "weights", "all"] = "valid"


class OverlapTerm(Term):
    """What the terms have that compare whole classes."""

    reduction: Literal["batch", "image"] = Field("batch", description="the pixels of one comparison")
    absent: Literal["skip", "count"] = Field("skip", description="classes without a labelled pixel there")


class DiceTerm(OverlapTerm):
    """Weighted Dice loss, of sigmoids where the masks are multi-label."""

    name: Literal["dice"]
    smooth: Annotated[float, Field(ge=0)] = 1.0


class JaccardTerm(OverlapTerm):
    """Weighted soft Jaccard (IoU) loss."""

    name: Literal["jaccard"]
    smooth: Annotated[float, Field(ge=0)] = 1.0


class TverskyTerm(OverlapTerm):
    """Weighted Tversky loss; with gamma above 1 the focal Tversky loss."""

    name: Literal["tversky"]
    alpha: Annotated[float, Field(ge=0)] = Field(0.3, description="weight of false positives")
    beta: Annotated[float, Field(ge=0)] = Field(0.7, description="weight of false negatives")
    gamma: Positive = Field(1.0, description="the loss of a class is taken to the power 1 / gamma")
    smooth: Annotated[float, Field(ge=0)] = 1.0

    def problems(self) -> Iterator[Problem]:
        if self.alpha == self.beta == 0:
            yield "alpha", "got 0, allowed with beta 0: above 0"


class GeneralisedDiceTerm(OverlapTerm):
    """Dice loss of all classes at once, each by how few pixels of the batch it has."""

    name: Literal["generalised_dice"]


class LovaszTerm(OverlapTerm):
    """Weighted Lovasz-softmax loss."""

    name: Literal["lovasz"]


LossTerm = Annotated[
    CrossEntropyTerm
    | BinaryCrossEntropyTerm
    | FocalTerm
    | TopKCrossEntropyTerm
    | DiceTerm
    | JaccardTerm
    | TverskyTerm
    | GeneralisedDiceTerm
    | LovaszTerm,
    Field(discriminator="name"),
]
