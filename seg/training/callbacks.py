"""What happens beside the training steps: progress, log.csv, checkpoints, early stopping."""

from __future__ import annotations

import csv
import gc
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seg.data.files.storage import write_bytes
from seg.errors import SegError
from seg.optimization.plateau import Plateau
from seg.runs.model_file import save_model
from seg.training.monitor import Monitor

Logs = dict[str, Any] | None


class EpochFacts(keras.callbacks.Callback):
    """Adds `learning_rate`, `images_per_second` and `seconds` to the epoch's logs, for the callbacks behind it."""

    def __init__(self, images_per_epoch: int) -> None:
        super().__init__()
        self.images_per_epoch = images_per_epoch

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._started = time.perf_counter()
        self._trained = self._started

    def on_test_begin(self, logs: Logs = None) -> None:
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert logs is not None
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        logs["images_per_second"] = self.images_per_epoch / (self._trained - self._started)
        logs["seconds"] = time.perf_counter() - self._started
        gc.collect()  # seg.data.batches.dataset puts it off while samples are loaded, which may be always


class NaNStop(keras.callbacks.Callback):
    """Ends a run whose loss is no number, before that epoch reaches the log or a checkpoint."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Raises: SegError: The epoch's mean loss is NaN or infinite."""
        assert logs is not None
        if not math.isfinite(logs["loss"]):
            raise SegError(
                f"the training loss became {logs['loss']} in epoch {epoch + 1}; try a lower optimizer.learning_rate or "
                "a class_weights.cap; the checkpoints are those of the epoch before"
            )


class ProgressBar(keras.callbacks.Callback):
    """One line an epoch, and on a terminal a bar with the time left below it."""

    def __init__(
        self,
        console: Console,
        epochs: int,
        steps_per_epoch: int,
        first_epoch: int = 0,
        monitor: Monitor | None = None,
    ) -> None:
        """`monitor`: shown beside the mean IoU."""
        super().__init__()
        self.console, self.monitor = console, monitor or Monitor()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=epochs * steps_per_epoch, epoch=first_epoch + 1)
        self.bar.advance(self.task, first_epoch * steps_per_epoch)

    def on_train_begin(self, logs: Logs = None) -> None:
        self.bar.start()

    def on_train_end(self, logs: Logs = None) -> None:
        self.bar.stop()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.bar.update(self.task, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert logs is not None
        monitored = self.monitor.name
        shown = "" if monitored in ("mean_iou", "loss") else f"val {monitored} {logs[self.monitor.key]:.4f}  "
        self.console.print(
            f"epoch {epoch + 1:3d}/{self.epochs}  loss {logs['loss']:.4f}  val loss {logs['val_loss']:.4f}  "
            f"val mean IoU {logs['val_mean_iou']:.4f}  {shown}"
            f"{logs['images_per_second']:.1f} images/s  {logs['seconds']:.0f} s",
            highlight=False,
            markup=False,  # a class may be called [/b]
        )


class Checkpoints(keras.callbacks.Callback):
    """best.keras by the monitored value, last.keras each epoch; ends training after `patience` epochs without a better.

    last.keras is written last: it holds the optimizer and so says how far the run is, and everything that belongs to
    an epoch is on disk once it is there, but for its pictures, which may still be being drawn.
    """

    def __init__(
        self,
        best: Path,
        last: Path,
        *,
        history: Sequence[float] = (),
        patience: int | None = None,
        description: str | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        """`history`: the scores of the epochs before a resume. `description`: see `save_model`."""
        super().__init__()
        self.best, self.last, self.patience, self.description = best, last, patience, description
        self.monitor = monitor or Monitor()
        self.history = list(history)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert logs is not None
        self.history.append(self.monitor.score(logs))
        if best_epoch(self.history) == len(self.history) - 1:
            save_model(self.model, self.best, self.description)
        save_model(self.model, self.last, self.description)
        if out_of_patience(self.history, self.patience):
            self.model.stop_training = True


class PlateauRate(keras.callbacks.Callback):
    """Sets the learning rate that `plateau` finds from the scores of the epochs, and raises it during the warm-up."""

    def __init__(self, plateau: Plateau, monitor: Monitor, history: Sequence[float] = ()) -> None:
        """`history`: the scores of the epochs before a resume."""
        super().__init__()
        self.plateau, self.monitor, self.history = plateau, monitor, list(history)

    def _set(self) -> None:
        optimizer = self.model.optimizer
        optimizer.learning_rate = self.plateau.rate(self.history, int(optimizer.iterations))

    def on_train_begin(self, logs: Logs = None) -> None:
        self._set()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        if self.plateau.warmup and int(self.model.optimizer.iterations) <= self.plateau.warmup:
            self._set()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert logs is not None
        self.history.append(self.monitor.score(logs))
        self._set()


def best_epoch(history: Sequence[float]) -> int:
    """Index of the first highest value; NaN (no class present) counts as lowest."""
    return int(np.argmax([-math.inf if math.isnan(value) else value for value in history]))


def out_of_patience(history: Sequence[float], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    return patience is not None and bool(history) and len(history) - 1 - best_epoch(history) >= patience


class TrainingLog(keras.callbacks.Callback):
    """log.csv: a row an epoch with everything in the logs. Rewritten whole and renamed, so it never has half a row."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__()
        self.path = path
        self.rows: list[Mapping[str, Any]] = list(rows)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.rows.append({"epoch": epoch, **(logs or {})})
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_bytes(self.path, text.getvalue().encode())


def read_log(path: Path, epochs: int) -> list[dict[str, str]]:
    """The rows of the first `epochs` epochs; a later row belongs to an epoch that did not reach its checkpoint.

    Fewer where the file has fewer; none where there is no file.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))[:epochs]
