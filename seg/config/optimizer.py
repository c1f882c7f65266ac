"""The section `optimizer` of a configuration: what turns gradients into updates, and how they are clipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from seg.section import Positive, Problem, Section, Value

if TYPE_CHECKING:
    import keras

Momentum = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0)]
# Whole names: Keras searches the variable's path, and a layer called `unbiased` is no bias.
UNDECAYED = r"(^|/)(bias|gamma|beta)(:\d+)?$"


class Clip(Section):
    """An upper bound of the gradient, of the whole batch on all replicas, before the update."""

    by: Literal["global_norm", "norm", "value"] = Field(
        "global_norm",
        description="global_norm: the norm of all gradients together; norm: of each variable's; value: of each entry",
    )
    limit: Positive

    def plain(self) -> tuple[str, float]:
        """What `seg.training.segmenter.Segmenter.compile` takes."""
        return self.by, self.limit


class Optimizer(Section):
    """What all optimizers have in common."""

    learning_rate: Positive = 1e-3
    clip: Clip | None = Field(None, description="left out: gradients are taken as they are")

    def build(self, learning_rate: Any) -> keras.optimizers.Optimizer:
        """The Keras optimizer with this rate or schedule."""
        raise NotImplementedError

    def hyperparameters(self) -> dict[str, Value]:
        """What people vary."""
        own = self.model_dump(exclude={"clip"})
        clip = f"{self.clip.by} {self.clip.limit:g}" if self.clip else ""
        return {"optimizer": own.pop("name"), "weight_decay": 0.0, **own, "clip": clip}


class Decayed(Optimizer):
    """Those with decoupled weight decay: each update also takes learning rate x weight_decay x weight off.

    Kernels alone: shrinking scales, offsets and biases changes what a layer computes, not its size.
    """

    weight_decay: Decay = 0.0

    def build(self, learning_rate: Any) -> keras.optimizers.Optimizer:
        decayed = self.undecayed(learning_rate, self.weight_decay or None)
        decayed.exclude_from_weight_decay(var_names=[UNDECAYED])
        return decayed

    def undecayed(self, learning_rate: Any, weight_decay: float | None) -> keras.optimizers.Optimizer:
        """The Keras optimizer, whose decay still takes everything."""
        raise NotImplementedError


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015)."""

    name: Literal["adam"]
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.999
    epsilon: Positive = 1e-7

    def build(self, learning_rate: Any) -> keras.optimizers.Optimizer:
        import keras

        return keras.optimizers.Adam(learning_rate, self.beta_1, self.beta_2, self.epsilon)


class AdamW(Decayed):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    name: Literal["adamw"]
    weight_decay: Positive = 1e-4
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.999
    epsilon: Positive = 1e-7

    def undecayed(self, learning_rate: Any, weight_decay: float | None) -> keras.optimizers.Optimizer:
        import keras

        return keras.optimizers.AdamW(learning_rate, weight_decay, self.beta_1, self.beta_2, self.epsilon)


class NAdam(Decayed):
    """Adam with Nesterov momentum (Dozat 2016)."""

    name: Literal["nadam"]
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.999
    epsilon: Positive = 1e-7

    def undecayed(self, learning_rate: Any, weight_decay: float | None) -> keras.optimizers.Optimizer:
        import keras

        return keras.optimizers.Nadam(learning_rate, self.beta_1, self.beta_2, self.epsilon, weight_decay=weight_decay)


class SGD(Decayed):
    """Gradient descent with momentum: v <- momentum v - rate g, w <- w + v; Nesterov: w <- w + momentum v - rate g."""

    name: Literal["sgd"]
    learning_rate: Positive = 1e-2
    momentum: Momentum = 0.9
    nesterov: bool = False

    def problems(self) -> Iterator[Problem]:
        if self.nesterov and not self.momentum:
            yield "nesterov", "has no effect with momentum 0, allowed: false"

    def undecayed(self, learning_rate: Any, weight_decay: float | None) -> keras.optimizers.Optimizer:
        import keras

        return keras.optimizers.SGD(learning_rate, self.momentum, self.nesterov, weight_decay)


class RMSprop(Decayed):
    """Gradients divided by the root of their moving mean square (Tieleman & Hinton 2012)."""

    name: Literal["rmsprop"]
    rho: Momentum = 0.9
    momentum: Momentum = 0.0
    epsilon: Positive = 1e-7

    def undecayed(self, learning_rate: Any, weight_decay: float | None) -> keras.optimizers.Optimizer:
        import keras

        return keras.optimizers.RMSprop(learning_rate, self.rho, self.momentum, self.epsilon, weight_decay=weight_decay)


class Lion(Decayed):
    """The sign of a momentum (Chen et al. 2023, arXiv:2302.06675); a third to a tenth of Adam's learning rate."""

    name: Literal["lion"]
    learning_rate: Positive = 1e-4
    beta_1: Annotated[float, Field(gt=0, lt=1)] = 0.9
    beta_2: Momentum = 0.99

    def undecayed(self, learning_rate: Any, weight_decay: float | None) -> keras.optimizers.Optimizer:
        import keras

        return keras.optimizers.Lion(learning_rate, self.beta_1, self.beta_2, weight_decay=weight_decay)


OptimizerKind = Annotated[Adam | AdamW | NAdam | SGD | RMSprop | Lion, Field(discriminator="name")]
