"""The section `schedule` of a configuration: the learning rate over the updates of a training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from seg.errors import ConfigError
from seg.section import Count, Positive, Problem, Section, Value

if TYPE_CHECKING:
    from seg.optimization.plateau import Plateau

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Schedule(Section):
    """What all schedules have in common. They count updates, however many parts a batch is cut into."""

    def build(self, peak: float, epochs: int, steps_per_epoch: int) -> Any:
        """What a Keras optimizer takes: a rate or a schedule.

        Raises:
            ConfigError: The warm-up is as long as the training.
        """
        raise NotImplementedError

    def plateau(self, peak: float, steps_per_epoch: int) -> Plateau | None:
        """What lowers the rate when the monitored value stands still; None where nothing does."""
        return None

    def hyperparameters(self) -> dict[str, Value]:
        """What people vary."""
        own = {key: value for key, value in self.model_dump().items() if value is not None}
        return {"schedule": own.pop("name"), "warmup_epochs": 0, **own}

    def training_problems(self, epochs: int, early_stopping: int | None) -> Iterator[Problem]:
        """What is wrong between the schedule and the length of the training."""
        yield from ()


class Warmed(Schedule):
    """Those that may begin with a linear rise from 0, in which the shape that follows has not begun."""

    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    warmup_steps: Count | None = Field(None, description="the same in updates of the optimizer, in place of epochs")

    def problems(self) -> Iterator[Problem]:
        if self.warmup_epochs and self.warmup_steps is not None:
            yield "warmup_steps", "stands beside warmup_epochs, allowed: one of them"

    def training_problems(self, epochs: int, early_stopping: int | None) -> Iterator[Problem]:
        if self.warmup_epochs >= epochs:
            yield "warmup_epochs", f"got {self.warmup_epochs}, allowed: less than training.epochs ({epochs})"

    def warmup(self, steps_per_epoch: int) -> int:
        """The updates of the rise."""
        return self.warmup_epochs * steps_per_epoch if self.warmup_steps is None else self.warmup_steps

    def build(self, peak: float, epochs: int, steps_per_epoch: int) -> Any:
        from seg.optimization.schedules import WarmUp

        warmup, total = self.warmup(steps_per_epoch), epochs * steps_per_epoch
        if warmup >= total:
            raise ConfigError(f"schedule.warmup_steps: got {warmup}, allowed: less than the training's {total} updates")
        shape = self.shape(peak, total - warmup, steps_per_epoch)
        return WarmUp(peak, warmup, shape) if warmup else shape

    def shape(self, peak: float, steps: int, steps_per_epoch: int) -> Any:
        """What follows the rise, over `steps` updates counted from its end."""
        raise NotImplementedError


class ConstantSchedule(Warmed):
    """The learning rate stays as it is."""

    name: Literal["constant"]

    def shape(self, peak: float, steps: int, steps_per_epoch: int) -> Any:
        return peak


class CosineSchedule(Warmed):
    """A cosine to `final_fraction` of the learning rate (Loshchilov & Hutter 2017)."""

    name: Literal["cosine"]
    final_fraction: Fraction = 0.0

    def shape(self, peak: float, steps: int, steps_per_epoch: int) -> Any:
        import keras

        return keras.optimizers.schedules.CosineDecay(peak, steps, alpha=self.final_fraction)


class PolySchedule(Warmed):
    """peak (1 - t / T)^power down to `final_fraction` of the peak, DeepLab's 'poly' (Chen et al. 2018)."""

    name: Literal["poly"]
    power: Positive = 0.9
    final_fraction: Fraction = 0.0

    def shape(self, peak: float, steps: int, steps_per_epoch: int) -> Any:
        import keras

        return keras.optimizers.schedules.PolynomialDecay(peak, steps, peak * self.final_fraction, self.power)


class StepSchedule(Warmed):
    """The rate times `factor` after each of the given epochs."""

    name: Literal["step"]
    epochs: Annotated[tuple[Count, ...], Field(min_length=1)]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if list(self.epochs) != sorted(set(self.epochs)):
            yield "epochs", f"got {list(self.epochs)}, allowed: ascending numbers of epochs, each once"

    def training_problems(self, epochs: int, early_stopping: int | None) -> Iterator[Problem]:
        yield from super().training_problems(epochs, early_stopping)
        for index, epoch in enumerate(self.epochs):
            if epoch >= epochs:
                yield f"epochs.{index}", f"got {epoch}, allowed: less than training.epochs ({epochs})"
            elif epoch <= self.warmup_epochs:
                yield f"epochs.{index}", f"got {epoch}, allowed: more than warmup_epochs ({self.warmup_epochs})"

    def build(self, peak: float, epochs: int, steps_per_epoch: int) -> Any:
        if self.epochs[0] * steps_per_epoch <= self.warmup(steps_per_epoch):
            raise ConfigError(
                f"schedule.warmup_steps: got {self.warmup_steps}, allowed: less than the {self.epochs[0]} epochs of "
                f"{steps_per_epoch} updates before the first step of the rate"
            )
        return super().build(peak, epochs, steps_per_epoch)

    def shape(self, peak: float, steps: int, steps_per_epoch: int) -> Any:
        import keras

        warmup = self.warmup(steps_per_epoch)
        # Keras's boundaries are the last updates of a rate.
        boundaries = [epoch * steps_per_epoch - warmup - 1 for epoch in self.epochs]
        rates = [peak * self.factor**number for number in range(len(boundaries) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)

    def hyperparameters(self) -> dict[str, Value]:
        values = super().hyperparameters()
        return {key: value for key, value in values.items() if key != "epochs"}


class OneCycleSchedule(Schedule):
    """A cosine up to the learning rate over `rise` of the updates, then a cosine down (Smith & Topin 2018).

    Momentum stays as it is.
    """

    name: Literal["one_cycle"]
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    start_fraction: Fraction = Field(0.04, description="of the learning rate, at the first update")
    final_fraction: Fraction = Field(4e-6, description="of the learning rate, at the last update")

    def build(self, peak: float, epochs: int, steps_per_epoch: int) -> Any:
        from seg.optimization.schedules import OneCycle

        return OneCycle(peak, epochs * steps_per_epoch, self.rise, self.start_fraction, self.final_fraction)


class PlateauSchedule(Warmed):
    """The rate times `factor` after `patience` epochs without a better value of `training.monitor`."""

    name: Literal["plateau"]
    patience: Count = 10
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    final_fraction: Fraction = Field(0.0, description="of the learning rate, below which it never goes")

    def build(self, peak: float, epochs: int, steps_per_epoch: int) -> Any:
        super().build(peak, epochs, steps_per_epoch)  # refuses a warm-up that never ends
        return peak  # and the callback sets it

    def shape(self, peak: float, steps: int, steps_per_epoch: int) -> Any:
        return peak

    def plateau(self, peak: float, steps_per_epoch: int) -> Plateau | None:
        from seg.optimization.plateau import Plateau

        return Plateau(peak, self.warmup(steps_per_epoch), self.patience, self.factor, self.final_fraction)

    def training_problems(self, epochs: int, early_stopping: int | None) -> Iterator[Problem]:
        yield from super().training_problems(epochs, early_stopping)
        if self.patience >= epochs:
            yield "patience", f"got {self.patience}, which has no effect in {epochs} epochs"
        elif early_stopping is not None and self.patience >= early_stopping:
            yield "patience", f"got {self.patience}, allowed: less than training.early_stopping ({early_stopping})"


ScheduleKind = Annotated[
    ConstantSchedule | CosineSchedule | PolySchedule | StepSchedule | OneCycleSchedule | PlateauSchedule,
    Field(discriminator="name"),
]
