"""The sections `training` and `output` of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from seg.section import Positive, Problem, Section, Value


class Training(Section):
    """How long, how much at once, how precisely, and which epoch is the best (docs/training.md)."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = Field(
        None, description="updates between two validations; left out: as many as show the training samples once"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        "auto", description="auto: mixed_bfloat16 on a GPU that multiplies it or where it is timed faster, else float32"
    )
    keep_programs: bool = Field(
        True, description="on a GPU: keep what XLA compiles in the user's cache folder, so that the next start is quick"
    )
    accumulation: Annotated[int, Field(ge=1)] = Field(
        1,
        description="parts that a batch is computed in, one after another: its gradient in the memory of a part",
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="momentum of a moving average of the weights, which is validated, saved and predicted with; 0.999 "
        "remembers about 1000 updates; left out: none",
    )
    l2: Positive | None = Field(
        None, description="adds l2 x the sum of the squared kernels to the loss; biases and norms are left out"
    )
    monitor: str = Field(
        "mean_iou",
        description="validation value that decides the best epoch, early stopping and a plateau: mean_iou, "
        "mean_iou_rare, iou/<class>, loss or loss/<term>",
    )
    early_stopping: Annotated[int, Field(ge=1)] | None = Field(
        None, description="epochs without a better value of `monitor` before training ends"
    )
    workers: Annotated[int, Field(ge=1)] | None = Field(
        None, description="images or, by processes, batches that are loaded at a time; left out: one a core"
    )
    loading: Literal["auto", "threads", "processes"] = Field(
        "auto", description="what loads the training batches; auto: processes on a GPU, whose steps outrun threads"
    )

    def problems(self) -> Iterator[Problem]:
        if self.early_stopping is not None and self.early_stopping >= self.epochs:
            yield "early_stopping", f"got {self.early_stopping}, which has no effect in {self.epochs} epochs"
        if self.batch_size % self.accumulation:
            yield "accumulation", f"got {self.accumulation}, allowed: divisors of batch_size ({self.batch_size})"

    def hyperparameters(self) -> dict[str, Value]:
        """What people vary."""
        sizes = {"batch_size": self.batch_size, "epochs": self.epochs, "accumulation": self.accumulation}
        return {**sizes, "ema": self.ema or 0.0, "l2": self.l2 or 0.0, "monitor": self.monitor}


class Output(Section):
    """Where a run's folder is made and what is drawn."""

    root: str = Field("runs", description="the run's folder is root/<name>-<date>-<time>")
    overlays: Annotated[int, Field(ge=0, le=64)] = Field(4, description="validation samples drawn in TensorBoard")
