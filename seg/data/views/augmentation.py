"""Which random changes are made: the settings of a configuration that `seg.data.views.transforms` carries out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from seg.section import Positive, Probability, Problem, Section


class AugmentationSettings(Section):
    """Random changes of training images; everything is off unless stated."""

    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    rotate90: Probability = Field(0.0, description="probability of a random number of quarter turns")
    scale: tuple[Positive, Positive] = Field((1.0, 1.0), description="smallest and largest zoom factor")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="largest turn in degrees, either way")
    brightness: Probability = Field(0.0, description="largest change, as a share of the value range")
    contrast: Probability = Field(0.0, description="largest relative change")
    colour_jitter: Probability = Field(0.0, description="largest relative change of saturation and hue; 8-bit RGB only")
    elastic: Annotated[float, Field(ge=0)] = Field(0.0, description="strength of the elastic distortion in pixels")

    def problems(self) -> Iterator[Problem]:
        if self.scale[0] > self.scale[1]:
            yield "scale", f"got {list(self.scale)}, allowed: [smallest, largest]"
