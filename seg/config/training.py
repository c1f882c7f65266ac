"""The sections `optimizer`, `schedule`, `training` and `output` of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from seg.section import Positive, Problem, Section, Value

if TYPE_CHECKING:
    import keras


# --- optimizer: build(learning_rate), hyperparameters() ---------------------------------------------------------------
class Adam(Section):
    """Adam (Kingma & Ba 2015)."""

    name: Literal["adam"]
    learning_rate: Positive = 1e-3

    def build(self, learning_rate: Any) -> keras.optimizers.Optimizer:
        import keras

        return keras.optimizers.Adam(learning_rate)

    def hyperparameters(self) -> dict[str, Value]:
        return {"optimizer": self.name, "learning_rate": self.learning_rate, "weight_decay": 0.0}


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    name: Literal["adamw"]
    learning_rate: Positive = 1e-3
    weight_decay: Positive = 1e-4

    def build(self, learning_rate: Any) -> keras.optimizers.Optimizer:
        import keras

        decayed = keras.optimizers.AdamW(learning_rate, weight_decay=self.weight_decay)
        # Scales, offsets and biases are not decayed: shrinking them changes what the layer computes, not its size.
        decayed.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return decayed

    def hyperparameters(self) -> dict[str, Value]:
        return {"optimizer": self.name, "learning_rate": self.learning_rate, "weight_decay": self.weight_decay}


OptimizerKind = Annotated[Adam | AdamW, Field(discriminator="name")]


# --- schedule: build(peak, epochs, steps_per_epoch), hyperparameters(), training_problems(epochs) ---------------------
class ConstantSchedule(Section):
    """The learning rate stays as it is."""

    name: Literal["constant"]

    def build(self, peak: float, epochs: int, steps_per_epoch: int) -> Any:
        return peak

    def hyperparameters(self) -> dict[str, Value]:
        return {"schedule": self.name, "warmup_epochs": 0}

    def training_problems(self, epochs: int) -> Iterator[Problem]:
        yield from ()


class CosineSchedule(Section):
    """A linear rise over the warm-up epochs, then a cosine to `final_fraction` of the learning rate."""

    name: Literal["cosine"]
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    final_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def build(self, peak: float, epochs: int, steps_per_epoch: int) -> Any:
        import keras

        warmup = self.warmup_epochs * steps_per_epoch
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else peak,
            decay_steps=epochs * steps_per_epoch - warmup,
            alpha=self.final_fraction,
            warmup_target=peak if warmup else None,
            warmup_steps=warmup,
        )

    def hyperparameters(self) -> dict[str, Value]:
        return {"schedule": self.name, "warmup_epochs": self.warmup_epochs}

    def training_problems(self, epochs: int) -> Iterator[Problem]:
        if self.warmup_epochs >= epochs:
            yield "warmup_epochs", f"got {self.warmup_epochs}, allowed: less than training.epochs ({epochs})"


ScheduleKind = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="name")]


# --- training, output -------------------------------------------------------------------------------------------------
class Training(Section):
    """How long, how much at once, how precisely."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        "auto", description="auto: mixed_bfloat16 on a GPU or a CPU with bfloat16 units, else float32"
    )
    early_stopping: Annotated[int, Field(ge=1)] | None = Field(
        None, description="epochs without a better validation mean IoU before training ends"
    )
    workers: Annotated[int, Field(ge=1)] | None = Field(None, description="data threads; left out: one a core")

    def problems(self) -> Iterator[Problem]:
        if self.early_stopping is not None and self.early_stopping >= self.epochs:
            yield "early_stopping", f"got {self.early_stopping}, which has no effect in {self.epochs} epochs"


class Output(Section):
    """Where a run's folder is made and what is drawn."""

    root: str = Field("runs", description="the run's folder is root/<name>-<date>-<time>")
    overlays: Annotated[int, Field(ge=0, le=64)] = Field(4, description="validation samples drawn in TensorBoard")
