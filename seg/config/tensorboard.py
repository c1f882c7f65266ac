"""The section of a configuration on what TensorBoard gets, and on how much of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from seg.section import Count, Problem, Section


class TensorBoard(Section):
    """What is looked at and written, and its limits (docs/tensorboard.md says what each costs)."""

    rare_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.01, description="a class with a smaller share of the labelled training pixels is called rare"
    )
    look_every: Count | None = Field(
        None,
        description="epochs between two looks at the predictions; left out: a tenth of training.epochs, at least 4",
    )
    confusion_every: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        1, description="epochs between two pictures of the confusion matrix; 0: none"
    )
    tile_classes: Annotated[int, Field(ge=0, le=150)] = Field(
        4, description="so many of the rarest classes have their worst validation tiles drawn"
    )
    tiles: Annotated[int, Field(ge=1, le=8)] = Field(1, description="how many tiles of each")
    curve_classes: Annotated[int, Field(ge=0, le=150)] | tuple[str, ...] = Field(
        4, description="precision-recall curves: of so many of the rarest classes, or of the classes named"
    )
    side: Annotated[int, Field(ge=64, le=2048)] = Field(
        256, description="largest height and width of a sample or tile in a picture, in pixels"
    )
    max_mb: Annotated[float, Field(gt=0)] = Field(
        500.0, description="megabytes of a run's event files after which no more pictures are written"
    )

    def problems(self) -> Iterator[Problem]:
        if self.tile_classes == 0 and self.tiles != 1:
            yield "tiles", "has no effect with tile_classes 0, allowed: 1"
        if isinstance(self.curve_classes, tuple):
            for name in sorted({name for name in self.curve_classes if self.curve_classes.count(name) > 1}):
                yield "curve_classes", f"'{name}' stands twice, allowed: each class once"
