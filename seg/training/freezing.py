"""Layers that a training leaves alone for a while, as a pretrained encoder in the first epochs."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import keras

from seg.config import Config
from seg.errors import ConfigError
from seg.training.hooks import ModelFunction


def freezing(config: Config, model: keras.Model) -> list[keras.callbacks.Callback]:
    """What keeps `training.freeze` from being trained, if anything.

    Raises:
        ConfigError: It matches no layer, or leaves none.
    """
    freeze = config.training.freeze
    return [] if freeze is None else [Freezing(model, freeze.patterns(), freeze.epochs)]


class Freezing(keras.callbacks.Callback):
    """Freezes layers by name until `epochs` epochs are done.

    A frozen layer has no gradient and no weight decay, its optimizer state stands still, and its batch normalisation
    takes the moving statistics, which do not move. Clipping sees the gradients of the others alone.

    Args:
        model: Compiled, its optimizer built for all of its variables.
        patterns: Shell patterns of layer names, such as `encoder_*`.
        epochs: The first epoch, counted from 0, in which they train; None: never.

    Raises:
        ConfigError: A pattern matches no layer with weights, or nothing would be left to train.
    """

    def __init__(self, model: keras.Model, patterns: Sequence[str], epochs: int | None) -> None:
        super().__init__()
        self.epochs = epochs
        weighted = [layer for layer in model.layers if layer.weights]
        names = ", ".join(layer.name for layer in weighted)
        self.layers = [layer for layer in weighted if any(fnmatch.fnmatchcase(layer.name, p) for p in patterns)]
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in weighted):
                raise ConfigError(f"training.freeze.layers: '{pattern}' matches no layer; allowed: patterns of {names}")
        if len(self.layers) == len(weighted):
            raise ConfigError(f"training.freeze.layers: nothing is left to train; allowed: some of {names}")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        trainable = self.epochs is not None and epoch >= self.epochs
        if all(layer.trainable == trainable for layer in self.layers):
            return
        for layer in self.layers:
            layer.trainable = trainable
        # What trains is fixed when a step is traced. Stand-ins stay where they are, around the new function.
        outer = self.model.train_function
        self.model.make_train_function(force=True)
        innermost = outer
        while isinstance(innermost, ModelFunction) and isinstance(innermost.replaced, ModelFunction):
            innermost = innermost.replaced
        if isinstance(innermost, ModelFunction):
            innermost.replaced, self.model.train_function = self.model.train_function, outer

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        for layer in self.layers:
            layer.trainable = True
