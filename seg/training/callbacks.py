"""What happens beside the training steps: measuring, progress, log.csv."""

from __future__ import annotations

import csv
import gc
import io
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seg.data.files.storage import write_bytes
from seg.optimization.plateau import Plateau
from seg.training.monitor import Monitor

Logs = dict[str, Any] | None


class EpochFacts(keras.callbacks.Callback):
    """Adds `learning_rate`, `images_per_second` and `seconds` to the epoch's logs, for the callbacks behind it."""

    def __init__(self, images_per_epoch: int, seconds_before: float = 0.0) -> None:
        """`seconds_before`: what the steps of the first epoch that were done before a resume took."""
        super().__init__()
        self.images_per_epoch, self._seconds_before = images_per_epoch, seconds_before

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._started = time.perf_counter() - self._seconds_before
        self._trained, self._seconds_before = self._started, 0.0

    def elapsed(self) -> float:
        """Seconds since the epoch began."""
        return time.perf_counter() - self._started

    def on_test_begin(self, logs: Logs = None) -> None:
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert logs is not None
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        logs["images_per_second"] = self.images_per_epoch / (self._trained - self._started)
        logs["seconds"] = time.perf_counter() - self._started
        gc.collect()  # seg.data.batches.dataset puts it off while samples are loaded, which may be always


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
        write_bytes(self.path, text.getvalue().encode(), durable=True)


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a run's epochs, none where there is no file, and none from one on that a crash has torn.

    A row later than the checkpoint belongs to an epoch that did not reach its own.
    """
    if not path.exists():
        return []
    lines = path.read_text("utf-8", errors="replace").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    rows = csv.DictReader(lines)
    return list(itertools.takewhile(lambda row: None not in row and None not in row.values(), rows))
