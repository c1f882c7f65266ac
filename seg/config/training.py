"""The sections `training`, `checkpoints` and `output` of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from seg.section import Count, Positive, Problem, Section, Value

SKIPS = 10  # of an epoch's updates: a broken image or two, but no training that has diverged
HALVINGS = 3  # of the learning rate, to an eighth: a training that diverges then has another fault


class Freeze(Section):
    """Layers that are not trained, for a while or ever."""

    layers: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] = Field(
        ("encoder",), description="encoder: that of model.encoder; or patterns of layer names, such as encoder_block1_*"
    )
    epochs: Annotated[int, Field(ge=1)] | None = Field(None, description="left out: for the whole training")

    def patterns(self) -> list[str]:
        """Shell patterns of layer names."""
        return ["encoder_*" if pattern == "encoder" else pattern for pattern in self.layers]


class Training(Section):
    """How long, how much at once, how precisely, and which epoch is the best (docs/training.md)."""

    epochs: Count
    batch_size: Count
    steps_per_epoch: Count | None = Field(
        None, description="updates between two validations; left out: as many as show the training samples once"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        "auto", description="auto: mixed_bfloat16 on a GPU that multiplies it or where it is timed faster, else float32"
    )
    keep_programs: bool = Field(
        True, description="on a GPU: keep what XLA compiles in the user's cache folder, so that the next start is quick"
    )
    accumulation: Count = Field(
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
    freeze: Freeze | None = Field(None, description="layers that are left as they begin; left out: none")
    monitor: str = Field(
        "mean_iou",
        description="validation value that decides the best epoch, early stopping and a plateau: mean_iou, "
        "mean_iou_rare, iou/<class>, loss or loss/<term>",
    )
    early_stopping: Count | None = Field(
        None, description="epochs without a better value of `monitor` before training ends"
    )
    workers: Count | None = Field(
        None, description="images or, by processes, batches that are loaded at a time; left out: one a core"
    )
    loading: Literal["auto", "threads", "processes"] = Field(
        "auto", description="what loads the training batches; auto: processes on a GPU, whose steps outrun threads"
    )
    on_nonfinite: Literal["stop", "skip", "back"] = Field(
        "stop",
        description="once a loss, gradient or weight is NaN or infinite; skip: without the update of that step; "
        "back: to the last checkpoint, at half the rate",
    )
    nonfinite_limit: Count | None = Field(
        None,
        description="before a run gives up: updates skipped in an epoch, or how often it goes back; left out: "
        f"{SKIPS} or {HALVINGS}",
    )
    distribution: Literal["none", "mirrored"] = Field(
        "none", description="mirrored: all GPUs of this machine share each batch (docs/scale.md)"
    )

    def problems(self) -> Iterator[Problem]:
        if self.early_stopping is not None and self.early_stopping >= self.epochs:
            yield "early_stopping", f"got {self.early_stopping}, which has no effect in {self.epochs} epochs"
        if self.on_nonfinite == "skip" and self.distribution != "none":
            yield (
                "on_nonfinite",
                f"skip works on one device; allowed with distribution '{self.distribution}': stop, back",
            )
        if self.distribution != "none":
            for key, default in (("ema", None), ("accumulation", 1)):
                if getattr(self, key) != default:
                    yield key, f"works on one device; allowed with distribution '{self.distribution}': leave it out"
        if self.freeze is not None and self.freeze.epochs is not None and self.freeze.epochs >= self.epochs:
            yield "freeze.epochs", f"got {self.freeze.epochs}, allowed: less than epochs ({self.epochs}), or left out"
        if self.batch_size % self.accumulation:
            yield "accumulation", f"got {self.accumulation}, allowed: divisors of batch_size ({self.batch_size})"
        if self.nonfinite_limit is not None and self.on_nonfinite == "stop":
            yield "nonfinite_limit", f"got {self.nonfinite_limit}, which has no effect with on_nonfinite: stop"

    def hyperparameters(self) -> dict[str, Value]:
        """What people vary."""
        sizes = {"batch_size": self.batch_size, "epochs": self.epochs, "accumulation": self.accumulation}
        return {**sizes, "ema": self.ema or 0.0, "l2": self.l2 or 0.0, "monitor": self.monitor}

    @property
    def most_halvings(self) -> int:
        """How often the learning rate may be halved."""
        return self.nonfinite_limit or HALVINGS if self.on_nonfinite == "back" else 0

    @property
    def most_skips(self) -> int:
        """How many updates of an epoch may be skipped."""
        return self.nonfinite_limit or SKIPS if self.on_nonfinite == "skip" else 0


class Checkpoints(Section):
    """What is left of a training that is stopped."""

    keep: Annotated[int, Field(ge=1, le=100)] = Field(
        2, description="last.keras and those before it; two, so that one is left where the newest is damaged"
    )
    steps: Count | None = Field(None, description="saves within an epoch after so many steps; left out: not by steps")
    minutes: Annotated[float, Field(gt=0, le=10_000)] | None = Field(
        15.0, description="saves within an epoch after so many minutes; null: not by time"
    )


class Output(Section):
    """Where a run's folder is made and what is drawn."""

    root: str = Field("runs", description="the run's folder is root/<name>-<date>-<time>")
    overlays: Annotated[int, Field(ge=0, le=64)] = Field(4, description="validation samples drawn in TensorBoard")
