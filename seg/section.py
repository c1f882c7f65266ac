"""What every section of a configuration is, and the ranges that several of them share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Value = bool | int | float | str
Problem = tuple[str, str]  # (dotted key, what is wrong with it and what is allowed)

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]  # more is a slip of the hand, and would fill the memory or the disk
Side = Annotated[int, Field(ge=8, le=32_766)]  # OpenCV's warp counts pixels of a side in 16 bits
Size = tuple[Side, Side]  # (height, width)
Channel = Annotated[int, Field(ge=0, le=255)]


class Section(BaseModel):
    """A part of the tree: unknown keys are errors, values are not converted, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def problems(self) -> Iterator[Problem]:
        """What is wrong between the section's own keys, each of which is valid by itself."""
        yield from ()
