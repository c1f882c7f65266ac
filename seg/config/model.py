"""The `model` section of a configuration.

A model has `build(bands, num_classes)`, `hyperparameters()` and `label_problems(num_classes, multi_label)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from seg.section import Problem, Section, Value


class UNet(Section):
    """U-Net (Ronneberger 2015)."""

    name: Literal["unet"]
    depth: Annotated[int, Field(ge=1, le=7)] = Field(4, description="halvings of the resolution")
    base_filters: Annotated[int, Field(ge=1, le=512)] = Field(32, description="filters at full resolution")
    norm: Literal["batch", "group", "none"] = "batch"
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of feature maps at the two deepest levels")
    upsampling: Literal["transpose", "bilinear"] = "transpose"
    one_logit: bool = Field(False, description="one output with a sigmoid; two classes only")

    def build(self, bands: int, num_classes: int) -> tuple[Any, Any]:
        """The model's symbolic images and logits."""
        from seg.models.unet import unet_layers

        return unet_layers(bands=bands, num_classes=num_classes, **self.model_dump(exclude={"name"}))

    def hyperparameters(self) -> dict[str, Value]:
        """What runs are compared by."""
        return {
            "model": self.name,
            "depth": self.depth,
            "base_filters": self.base_filters,
            "dropout": self.dropout,
        }

    def label_problems(self, num_classes: int, multi_label: bool) -> Iterator[Problem]:
        """What of the model does not go with the classes."""
        if self.one_logit and num_classes != 2:
            yield "one_logit", f"got true with {num_classes} classes, allowed: with 2"
        elif self.one_logit and multi_label:
            yield "one_logit", "got true, but every class of multi-label masks has one logit already; allowed: false"


ModelKind = UNet  # with a second model: Annotated[UNet | Second, Field(discriminator="name")]
