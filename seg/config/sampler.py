"""The `sampler` section of a configuration: rare classes on purpose, by the rules of seg/data/sampling/sampler.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from seg.section import Positive, Probability, Problem, Section

if TYPE_CHECKING:
    from seg.data.sampling import sampler

Share = Annotated[float, Field(gt=0, le=1)]


class RepeatFactorImages(Section):
    """Images with rare classes come more often, by the square root of how rare (LVIS, Gupta et al. 2019)."""

    name: Literal["repeat_factor"]
    threshold: Share = Field(
        description="t: classes in a smaller share of the images are repeated, sqrt(t / share) times"
    )

    def build(self, class_names: Sequence[str]) -> sampler.RepeatFactor:
        from seg.data.sampling.sampler import RepeatFactor

        return RepeatFactor(self.threshold)

    def class_names(self) -> Iterator[tuple[str, str]]:
        yield from ()


class ClassPresenceImages(Section):
    """A class by weight, then one of the images that hold it."""

    name: Literal["class_presence"]
    weights: dict[str, Positive] = Field({}, description="by class name; a class that is left out has 1")

    def build(self, class_names: Sequence[str]) -> sampler.ClassPresence:
        from seg.data.sampling.sampler import ClassPresence

        return ClassPresence(by_class(self.weights, class_names, others=1.0))

    def class_names(self) -> Iterator[tuple[str, str]]:
        yield from (("weights", name) for name in self.weights)


class ClassCentredCrops(Section):
    """A share of the crops shows a pixel of a class drawn by weight."""

    share: Share = Field(description="of an epoch's crops")
    classes: dict[str, Positive] = Field(description="weight by class name; crops are centred on no other")
    jitter: Probability = Field(
        0.8, description="how far from the crop's centre the pixel may lie; 0: in the centre, 1: anywhere in the crop"
    )

    def build(self, class_names: Sequence[str]) -> sampler.CropTargets:
        from seg.data.sampling.sampler import CropTargets

        return CropTargets(self.share, by_class(self.classes, class_names), self.jitter)

    def problems(self) -> Iterator[Problem]:
        if not self.classes:
            yield "classes", "got none, allowed: a weight for one class or more"


class Sampler(Section):
    """Which training images are drawn, and which crops are centred on a class; each part may be left out."""

    images: Annotated[RepeatFactorImages | ClassPresenceImages, Field(discriminator="name")] | None = Field(
        None, description="how often each image is drawn; left out: equally often"
    )
    crops: ClassCentredCrops | None = Field(
        None, description="crops that are centred on a pixel of a class; left out: none"
    )

    def summary(self) -> str:
        """`repeat_factor, crops 0.5`: the parts that there are."""
        parts: list[str] = []
        if self.images:
            parts.append(self.images.name)
        if self.crops:
            parts.append(f"crops {self.crops.share:g}")
        return ", ".join(parts)

    def class_names(self) -> Iterator[tuple[str, str]]:
        """(key, class name) of every class that the section names."""
        if self.images:
            yield from ((f"images.{key}", name) for key, name in self.images.class_names())
        if self.crops:
            yield from (("crops.classes", name) for name in self.crops.classes)

    def problems(self) -> Iterator[Problem]:
        if self.images is None and self.crops is None:
            yield "images", "missing, as is crops: the section has no effect"
        if self.images is not None and self.crops is not None and self.crops.share == 1:
            yield "images", "has no effect: every crop is class-centred (sampler.crops.share is 1)"


def by_class(given: Mapping[str, float], class_names: Sequence[str], others: float = 0.0) -> tuple[float, ...]:
    """(C,) of what is given by class name."""
    return tuple(given.get(name, others) for name in class_names)
