"""Saving what a training is, so exactly that one that goes on from it ends with the same bits; and going on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from seg.errors import DataError
from seg.losses.replicas import assign_total
from seg.runs.checkpoints import CheckpointFiles, Found, Position, TrainingState
from seg.runs.model_file import first_line, write_model
from seg.training.callbacks import EpochFacts, Logs
from seg.training.diverged import check_weights
from seg.training.hooks import ModelFunction
from seg.training.monitor import Monitor
from seg.training.signals import StopRequest


class Checkpoints(keras.callbacks.Callback):
    """Saves at the end of each epoch, within one every so often, and when the training is asked to stop.

    best.keras is the epoch of the highest score. last.keras is written last: it says how far the run is,
    and everything that belongs to an epoch is on disk once it is there, but for its pictures, which may still be being
    drawn. Ends the training after `patience` epochs without a better one.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        facts: EpochFacts | None = None,
        *,
        start: TrainingState | None = None,
        history: Sequence[float] = (),
        best_since: int = 0,
        patience: int | None = None,
        description: str | None = None,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        halvings: int = 0,
        stop: StopRequest | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        """Makes the callback.

        Args:
            files: Where checkpoints go.
            facts: Knows how long an epoch has taken so far.
            start: What is gone on from; None: a new training.
            history: The scores of the epochs before that.
            best_since: From which epoch on best.keras is looked for: later than 0 where the one before is lost.
            patience: Epochs; None: never.
            description: See `save_model`.
            every_steps: How often an epoch is saved within; None: not by steps.
            every_minutes: The same by time; None: not by time.
            halvings: Of the learning rate, so far; goes into what is saved.
            stop: What asks to stop; None: nothing does.
            monitor: Which value of an epoch is its score; None: the validation mean IoU.
        """
        super().__init__()
        self.files, self.facts, self.start = files, facts, start
        self.history, self.best_since = list(history), best_since
        self.patience, self.description = patience, description
        self.every_steps = every_steps or math.inf
        self.every_seconds = math.inf if every_minutes is None else every_minutes * 60
        self.halvings, self.stop, self.monitor = halvings, stop or StopRequest(), monitor or Monitor()
        self._epoch = self._step = self._resumed_step = 0
        self._trained: dict[str, np.ndarray] = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        self._skipped = DoneSteps(self.model)
        self._skipped.install()
        self._saved = time.monotonic()

    def on_train_end(self, logs: Logs = None) -> None:
        self._skipped.remove()
        self.files.wait()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Goes on in the middle of an epoch, where the training is resumed there.

        Raises:
            Stopped: The training was asked to, while the epoch before was saved.
        """
        self.stop.obey()
        self._epoch = epoch
        self._step = self._resumed_step = 0
        if self.start is not None:
            self._resumed_step = self._step = self.start.position.step
            restore(self.model, self.start.variables)
            if self._step == 0:
                self.model.reset_metrics()  # which have the sums of the validation before
            self._skipped.begin(self._step, whole=self._step == self.params["steps"])
            self.start = None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Saves if it is time.

        Raises:
            Stopped: The training was asked to; it is saved.
            DivergedError: It would have been saved, and there are weights that are no numbers.
        """
        if batch < self._resumed_step:  # done before
            return
        self._step = batch + 1
        done = self._epoch * self.params["steps"] + self._step if self.every_steps < math.inf else 1
        if self.stop.signal or done % self.every_steps == 0 or time.monotonic() - self._saved > self.every_seconds:
            self._save(self._variables())
            self._obey()

    def on_test_begin(self, logs: Logs = None) -> None:
        self._trained = self._variables()  # validation resets the metrics

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:  # `_end` would read each batch's logs
        """Raises: Stopped: The training was asked to; it is saved as it was before the validation."""
        if self.stop.signal and self._trained:
            self._save(self._trained)
            self._obey()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Saves. Raises: DivergedError: There are weights that are no numbers."""
        assert logs is not None
        self.history.append(self.monitor.score(logs))
        self._epoch, self._step, self._trained = epoch + 1, 0, {}
        candidates = self.history[self.best_since :]
        self._save(self._variables(), best=best_epoch(candidates) == len(candidates) - 1)
        if out_of_patience(self.history, self.patience):
            self.model.stop_training = True

    def _obey(self) -> None:
        if self.stop.signal:
            self.files.wait()
            self.stop.obey()

    def _save(self, variables: dict[str, np.ndarray], *, best: bool = False) -> None:
        check_weights(self.model, self._epoch, self._step)
        seconds = self.facts.elapsed() if self.facts and self._step else 0.0
        state = TrainingState(Position(self._epoch, self._step, seconds, self.halvings), variables)
        self.files.save(lambda path: write_model(self.model, path, self.description), state, best=best)
        self._saved = time.monotonic()

    def _variables(self) -> dict[str, np.ndarray]:
        return {name: keras.ops.convert_to_numpy(v) for name, v in unsaved_variables(self.model).items()}


class DoneSteps(ModelFunction):
    """Answers for the steps that were done before the resume, so that Keras counts them without doing them again."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model, "train_function")
        self._left, self._whole = 0, False
        self._logs: Any = None

    def begin(self, steps: int, *, whole: bool) -> None:
        """Answers for so many calls. `whole`: the data still has the last of them, see `resumed_at`."""
        self._left, self._whole = steps, whole
        self._logs = self.model.get_metrics_result()

    def __call__(self, iterator: Any) -> Any:
        """A step, or for one that is done the logs as they are."""
        if self._left == 0:
            return self.replaced(iterator)
        self._left -= 1
        if self._left == 0 and self._whole:
            next(iterator)
        return self._logs


def resumed_at(position: Position, steps: int) -> int:
    """The step of its epoch that the data of a resumed training begin at.

    An epoch whose validation alone is missing still needs a batch, since Keras builds metrics by looking at one.
    """
    return min(position.step, steps - 1)


def load_checkpoint(model: keras.Model, found: Found) -> None:
    """Loads weights, optimizer and whatever else the model's file has.

    Raises:
        DataError: It is a checkpoint of another model.
    """
    try:
        model.load_weights(found.path)
    except Exception as error:  # Keras raises what its parts raise
        raise DataError(f"{found.path}: cannot be loaded into the configured model: {first_line(error)}") from None


def unsaved_variables(model: keras.Model) -> dict[str, Any]:
    """The variables that Keras leaves out of a model's file, by name: metrics, and random streams, as of dropout.

    In their order, because Keras numbers the names of layers through a process.
    """
    left: dict[int, Any] = {id(v): v for v in (*model.variables, *model.metrics_variables)}
    for variable in model.weights:
        left.pop(id(variable), None)
    return {f"{number:03d} {variable.name}": variable for number, variable in enumerate(left.values())}


def restore(model: keras.Model, values: dict[str, np.ndarray]) -> None:
    """Gives `unsaved_variables` their values back.

    Raises:
        DataError: They are of another model.
    """
    variables = unsaved_variables(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if shapes != {name: value.shape for name, value in values.items()}:
        got, allowed = ", ".join(values) or "none", ", ".join(variables)
        raise DataError(f"the checkpoint's state: got the variables {got}; allowed: those of the model, {allowed}")
    for name, variable in variables.items():
        assign_total(variable, values[name])


def build_metrics(model: keras.Model, mask_axes: tuple[int, ...]) -> None:
    """Makes the compiled metrics known to the model, which Keras does only when it traces the first batch.

    `mask_axes`: of the labels, after (N, H, W).
    """
    labels = tf.TensorSpec((None, None, None, *mask_axes), "uint8")
    logits = tf.TensorSpec((None, None, None, model.output_shape[-1]), "float32")
    tf.function(lambda y, z: model.compute_metrics(None, y, z)).get_concrete_function(labels, logits)


def best_epoch(history: Sequence[float]) -> int:
    """Index of the first highest value; NaN (no class present) counts as lowest."""
    return int(np.argmax([-math.inf if math.isnan(value) else value for value in history]))


def out_of_patience(history: Sequence[float], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    return patience is not None and bool(history) and len(history) - 1 - best_epoch(history) >= patience
