"""Which value of the validation says what is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from seg.errors import SegError

RARE = "mean_iou_rare"


@dataclass(frozen=True)
class Monitor:
    """A value of the validation, named without `val_`: losses are better when lower, scores when higher."""

    name: str = "mean_iou"

    @property
    def key(self) -> str:
        """What it is called in the logs and in log.csv."""
        return f"val_{self.name}"

    def score(self, logs: Mapping[str, Any]) -> float:
        """The value in the logs or in a row of log.csv, turned so that higher is better.

        Raises:
            SegError: It is the IoU of classes that the validation lacks: no epoch would be the best.
        """
        value = float(logs[self.key])
        if value != value and self.name != "mean_iou" and "iou" in self.name.partition("/")[0]:
            raise SegError(
                f"training.monitor: '{self.name}' has no value, the validation split shows none of its classes; "
                "allowed: mean_iou, loss, or iou/<class> of a class with validation pixels"
            )
        return -value if self.name.partition("/")[0] == "loss" else value


class RareMean(keras.callbacks.Callback):
    """Adds `val_mean_iou_rare` to the logs: the mean IoU of the rare classes that the validation has; else NaN."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        values = np.array([logs[f"val_iou/{name}"] for name in self.names], np.float64)
        logs[f"val_{RARE}"] = float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
