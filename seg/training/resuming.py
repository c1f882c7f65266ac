"""Going on with a run: from which checkpoint, behind which log, towards which best epoch."""

from __future__ import annotations

from collections.abc import Callable

import keras

from seg.config import Config
from seg.errors import DataError
from seg.runs.checkpoints import Found
from seg.runs.model_file import check_model_file
from seg.runs.run_dir import RunDir
from seg.training.callbacks import read_log
from seg.training.checkpoints import load_checkpoint, out_of_patience
from seg.training.monitor import Monitor

Tell = Callable[[str], None]


def resume(model: keras.Model, run: RunDir, found: Found | None, steps: int, tell: Tell) -> list[dict[str, str]]:
    """Loads the checkpoint that was found, if one was; returns the log rows of the epochs it has behind it.

    Raises:
        DataError: The checkpoint is of another model, log.csv lacks epochs that it has, or has epochs without it.
    """
    if found is None:
        epochs = len(read_log(run.log))
        if epochs > 1:  # of the first, the row is there a moment before the checkpoint
            raise DataError(
                f"{run.last}: is not there, nor one before it, but {run.log} has {epochs} epochs; allowed: to put a "
                f"checkpoint back, or a new run (--config {run.config_file})"
            )
        return []
    load_checkpoint(model, found)
    position = found.state.position
    rows = read_log(run.log)[: position.epoch]
    if len(rows) < position.epoch:
        raise DataError(
            f"{run.log}: got {len(rows)} epochs, but {found.path} has {position.epoch}; allowed: a row an epoch"
        )
    if not 0 <= position.step <= steps:
        raise DataError(f"{found.path}: got step {position.step} of an epoch, allowed: 0 to {steps}")
    tell(f"resuming after epoch {position.epoch}" + (f" and {position.step} steps" if position.step else ""))
    return rows


def finished(config: Config, log: list[dict[str, str]]) -> bool:
    """Whether a resumed run has nothing left to train: all epochs done, or early stopping had ended it."""
    history = [Monitor(config.training.monitor).score(row) for row in log]
    return len(log) >= config.training.epochs or out_of_patience(history, config.training.early_stopping)


def load_best(model: keras.Model, run: RunDir) -> None:
    """Gives the model the weights of the best epoch.

    Raises:
        DataError: They are not there, or damaged.
    """
    check_model_file(run.best)
    model.load_weights(run.best)


def best_since(run: RunDir, epochs: int, tell: Tell) -> int:
    """From which epoch on a resumed run looks for its best: from the first, or where that one's file is lost, the
    next."""
    if epochs:
        try:
            check_model_file(run.best)
        except DataError as error:
            tell(f"warning: {error}; the best of the epochs from {epochs + 1} on takes its place")
            return epochs
    return 0


def advice(config: Config, run: RunDir) -> str:
    """What to do about a training that has diverged."""
    lower = f"optimizer.learning_rate={config.optimizer.learning_rate / 10:g}"
    return (
        "; nothing of it was saved. Try a lower optimizer.learning_rate or a class_weights.cap, or look at the files: "
        f"from the last checkpoint: python -m seg.train --resume {run.path} {lower}"
    )
