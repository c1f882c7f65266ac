"""A training that came to NaN or infinity: seen at the step, before anything of it is logged, validated or saved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from seg.errors import SegError
from seg.training.model_checks import all_finite

Logs = dict[str, Any] | None


class DivergedError(SegError):
    """The training has values that are no numbers.

    Attributes:
        epoch: Which epoch, from 0.
        steps: The steps of it, from 0, whose batches may be the reason.
    """

    def __init__(self, what: str, epoch: int, steps: range) -> None:
        super().__init__(what)
        self.epoch, self.steps = epoch, steps


class DivergenceCheck(keras.callbacks.Callback):
    """Ends a training at the step whose loss is no number, and before the validation of weights that are none.

    The loss is the epoch's mean so far, which Keras has read anyway, and which stays NaN; the weights are looked at
    once an epoch.
    """

    def __init__(self, most_skips: int = 0, tell: Callable[[str], None] = print) -> None:
        """Makes the callback.

        Args:
            most_skips: How many updates of an epoch the model may skip; the logs' `skipped_steps` says how many it has.
            tell: Gets a sentence about the skipped ones of an epoch.
        """
        super().__init__()
        self.most_skips, self.tell = most_skips, tell

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch, self._steps = epoch, 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Raises: DivergedError: The loss is NaN or infinite."""
        self._steps = batch + 1
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            # Of the step before, too: an update can break the weights although its own loss was a number.
            told = f"the training loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}"
            raise DivergedError(told, self._epoch, range(max(0, batch - 1), batch + 1))
        if (skipped := (logs or {}).get("skipped_steps", 0)) > self.most_skips:
            told = (
                f"{skipped:.0f} updates of epoch {self._epoch + 1} were NaN or infinite by step {batch + 1} and skipped"
            )
            raise DivergedError(f"{told}, allowed: {self.most_skips}", self._epoch, range(batch, batch + 1))

    def on_test_begin(self, logs: Logs = None) -> None:
        """Raises: DivergedError: Weights are NaN or infinite."""
        check_weights(self.model, self._epoch, self._steps)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Raises: DivergedError: The validation loss is NaN or infinite."""
        if logs and logs.pop("val_skipped_steps", None) is not None and logs["skipped_steps"]:
            self.tell(f"epoch {epoch + 1}: {logs['skipped_steps']:.0f} updates were NaN or infinite and skipped")
        loss = (logs or {}).get("val_loss", 0.0)
        if not math.isfinite(loss):
            raise DivergedError(f"the validation loss became {loss} in epoch {epoch + 1}", epoch, range(0))


def check_weights(model: keras.Model, epoch: int, step: int) -> None:
    """Raises: DivergedError: A weight or a number of the optimizer is NaN or infinite, after so many steps."""
    if not all_finite([*model.weights, *(model.optimizer.variables if model.optimizer else ())]):
        told = f"weights became NaN or infinite in epoch {epoch + 1}, by step {step}"
        raise DivergedError(told, epoch, range(max(0, step - 1), step))
