"""The loss terms of a configuration: `seg.losses` has their formulas.

A term has `build(labels, class_weights)` and `prior_refusal()`; mypy objects to one of `LossTerm` that lacks either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from seg.section import Positive, Problem, Section

if TYPE_CHECKING:
    import numpy as np

    from seg.labels import LabelSet
    from seg.losses.base import SegmentationLoss

Normalize = Literal["valid", "weights", "all"]


class Term(Section):
    """What all loss terms have.

    Attributes:
        takes_one_class: Whether it is for masks of one class a pixel.
        takes_overlap: Whether it is for classes that may overlap.
        weighs_pixels: Whether weights of single pixels act in it.
        takes_partial: Whether it is for masks of which some classes alone were annotated (labels.partial).
    """

    takes_one_class: ClassVar[bool] = True
    takes_overlap: ClassVar[bool] = False
    weighs_pixels: ClassVar[bool] = True
    takes_partial: ClassVar[bool] = False

    if TYPE_CHECKING:
        name: str  # a Literal of each term's own

    coefficient: Positive = 1.0
    weighted: bool = Field(True, description="whether the class weights act in this term")

    def summary(self) -> str:
        """`0.5 dice (unweighted)`."""
        return f"{self.coefficient:g} {self.name}" + ("" if self.weighted else " (unweighted)")

    def settings(self, labels: LabelSet, class_weights: np.ndarray) -> dict[str, Any]:
        """What the loss takes: the term's own keys, the class weights where they act in it, and what void is."""
        own = self.model_dump(exclude={"name", "coefficient", "weighted"})
        weights = class_weights if self.weighted else None
        sets = {"sets": labels.sets} if labels.partial else {}
        return own | {"class_weights": weights, "ignore_index": labels.ignore_index} | sets


class CrossEntropyTerm(Term):
    """Weighted categorical cross-entropy."""

    takes_partial: ClassVar[bool] = True

    name: Literal["cross_entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    normalize: Normalize = "valid"

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import CrossEntropy

        return CrossEntropy(**self.settings(labels, class_weights))

    def prior_refusal(self) -> str | None:
        return None


class FocalTerm(Term):
    """Focal loss, softmax form."""

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0)] = 2.0
    normalize: Normalize = "valid"

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import Focal

        return Focal(**self.settings(labels, class_weights))

    def prior_refusal(self) -> str | None:
        if self.gamma == 0:  # cross-entropy, exactly
            return None
        return (
            f"focal loss with gamma {self.gamma:g} is not proper: its optimum is not the posterior even without "
            "weights (Charoenphakdee et al., CVPR 2021, arXiv:2011.09172)"
        )


class TopKCrossEntropyTerm(Term):
    """Weighted cross-entropy of the hardest pixels of a batch alone."""

    name: Literal["top_k_cross_entropy"]
    fraction: Annotated[float, Field(gt=0, lt=1)] = Field(0.25, description="of the valid pixels")

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import TopKCrossEntropy

        return TopKCrossEntropy(**self.settings(labels, class_weights))

    def prior_refusal(self) -> str | None:
        return "top_k_cross_entropy learns from the hardest pixels alone, whose classes have other shares"


class BinaryCrossEntropyTerm(Term):
    """Cross-entropy of a sigmoid for each class; the class weights are its pos_weight. For multi-label masks."""

    takes_one_class: ClassVar[bool] = False
    takes_overlap: ClassVar[bool] = True

    name: Literal["binary_cross_entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    normalize: Normalize = "valid"

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import BinaryCrossEntropy

        settings = self.settings(labels, class_weights)
        return BinaryCrossEntropy(pos_weight=settings.pop("class_weights"), **settings)

    def prior_refusal(self) -> str | None:
        return "binary_cross_entropy learns a posterior for each class by itself, with no prior shared out among them"


class OverlapTerm(Term):
    """What the terms have that compare whole classes."""

    weighs_pixels: ClassVar[bool] = False

    reduction: Literal["batch", "image"] = Field("batch", description="the pixels of one comparison")
    absent: Literal["skip", "count"] = Field("skip", description="classes without a labelled pixel there")

    def prior_refusal(self) -> str | None:
        return f"the optimum of '{self.name}' is a mask and no posterior (an overlap of whole classes)"


class DiceTerm(OverlapTerm):
    """Weighted Dice loss, of sigmoids where the masks are multi-label."""

    takes_overlap: ClassVar[bool] = True
    takes_partial: ClassVar[bool] = True

    name: Literal["dice"]
    smooth: Annotated[float, Field(ge=0)] = 1.0

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import Dice

        return Dice(multi_label=labels.multi_label, **self.settings(labels, class_weights))


class JaccardTerm(OverlapTerm):
    """Weighted soft Jaccard (IoU) loss."""

    name: Literal["jaccard"]
    smooth: Annotated[float, Field(ge=0)] = 1.0

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import Tversky

        return Tversky(alpha=1.0, beta=1.0, name="jaccard", **self.settings(labels, class_weights))


class TverskyTerm(OverlapTerm):
    """Weighted Tversky loss; with gamma above 1 the focal Tversky loss."""

    name: Literal["tversky"]
    alpha: Annotated[float, Field(ge=0)] = Field(0.3, description="weight of false positives")
    beta: Annotated[float, Field(ge=0)] = Field(0.7, description="weight of false negatives")
    gamma: Positive = Field(1.0, description="the loss of a class is taken to the power 1 / gamma")
    smooth: Annotated[float, Field(ge=0)] = 1.0

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import Tversky

        return Tversky(**self.settings(labels, class_weights))

    def problems(self) -> Iterator[Problem]:
        if self.alpha == self.beta == 0:
            yield "alpha", "got 0, allowed with beta 0: above 0"


class GeneralisedDiceTerm(OverlapTerm):
    """Dice loss of all classes at once, each by how few pixels of the batch it has."""

    name: Literal["generalised_dice"]

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import GeneralisedDice

        return GeneralisedDice(**self.settings(labels, class_weights))


class LovaszTerm(OverlapTerm):
    """Weighted Lovasz-softmax loss."""

    name: Literal["lovasz"]

    def build(self, labels: LabelSet, class_weights: np.ndarray) -> SegmentationLoss:
        from seg.losses import Lovasz

        return Lovasz(**self.settings(labels, class_weights))


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
