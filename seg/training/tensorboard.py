"""The TensorBoard callback: whether the rare classes are being learnt, and if not, why not. See docs/tensorboard.md."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from seg.balance import ClassCounts
from seg.config.tensorboard import TensorBoard
from seg.labels import LabelSet
from seg.metrics.confusion import ConfusionMatrix
from seg.pictures.confusion import confusion_picture
from seg.pictures.panels import Picture
from seg.training import event_file
from seg.training.class_board import ClassBoard, Drawing
from seg.training.dashboard import hyperparameters
from seg.training.event_file import EventFile, cut_back, folder_bytes
from seg.training.hooks import InputClock
from seg.training.validation_watch import ValidationWatch

Logs = dict[str, Any] | None
LOOKS = 10  # a run is looked at about so often unless told otherwise; TensorBoard shows 10 pictures of a tag
LEAST_INTERVAL = 4  # epochs; in a run of a dozen short epochs more looks would cost too much
UNWRITTEN = ("seconds", "mean_iou_rare")  # log keys that are no curve, or that the matrix gives for both runs


class SegmentationTensorBoard(keras.callbacks.Callback):
    """Writes what a segmentation training does, class by class, under the runs `train` and `val` of a folder.

    Works with every `keras.Model` that is compiled with `ConfusionMatrix` among its `metrics`, on labels (N, H, W) and
    logits (N, H, W, C), and with `fit(validation_data=...)`; the shares also need a loss of `seg.losses`. What cannot
    be had of a model is left out. docs/tensorboard.md tells what each panel shows, and has a script that runs.

    A folder holds one run. `fit(initial_epoch=n)` goes on with it: what was written of later epochs is taken out first.
    Steps count finished epochs.

    Args:
        folder: The run's folder, made if it is not there.
        labels: The classes, in the order of the logits.
        counts: Class counts of the training masks: which classes are rare, and the charts and table of them. None:
            no class is called rare, and where only some classes are shown it is the first ones.
        class_weights: (C,), what the loss weighs the classes by, for the chart and the table.
        samples: Which validation samples are drawn: so many from the first on, or positions. The order of the
            validation data must be the same each time.
        sample_names: Names of all validation samples in order, for captions and tags.
        picture: From a sample as the model sees it (H, W, bands) to a picture (H, W, 1 or 3), uint8 or float in [0, 1].
            None: its values are stretched to that.
        limits: How much is drawn and written: the section `tensorboard` of a configuration.
        texts: Markdown by tag for the Text tab.
        hparams: bool, int, float or text by name, for the HParams tab.
        run_name: What the run is called there; None: the folder's name.

    Raises:
        ValueError: `counts`, `class_weights` or `curve_classes` are of other classes than `labels`, or in `fit` the
            metric is.
    """

    def __init__(
        self,
        folder: Path | str,
        labels: LabelSet,
        *,
        counts: ClassCounts | None = None,
        class_weights: Sequence[float] | np.ndarray | None = None,
        samples: int | Sequence[int] = 4,
        sample_names: Sequence[str] = (),
        picture: Picture | None = None,
        limits: TensorBoard | None = None,
        texts: Mapping[str, str] | None = None,
        hparams: Mapping[str, Any] | None = None,
        run_name: str | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.labels, self.limits = Path(folder), labels, limits or TensorBoard()
        self.board = ClassBoard(labels, self.limits, counts, class_weights)
        self.watched = self.board.watched(samples, sample_names)
        self.picture, self.texts = picture, dict(texts or {})
        self.hparams, self.run_name = dict(hparams or {}), run_name or self.folder.name
        self._files: dict[str, EventFile] = {}
        self._train_matrix: np.ndarray | None = None
        self._full = False
        self._painter = ThreadPoolExecutor(1, "pictures")  # its thread starts with the first picture
        self._painting: Future[None] | None = None

    # --- fit ----------------------------------------------------------------------------------------------------------
    def on_train_begin(self, logs: Logs = None) -> None:
        self._close()  # of a `fit` that was interrupted
        self._watch = ValidationWatch(self.model, self.labels, self.watched, self.picture)
        self._clock = InputClock(self.model)
        self._watch.install()
        self._clock.install()

    def on_train_end(self, logs: Logs = None) -> None:
        self._watch.remove()
        self._clock.remove()
        self._close()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if not self._files:
            self._open(epoch)
        self._epoch, self._train_matrix = epoch, None
        self._clock.reset()
        self._started = time.perf_counter()
        self._trained: float | None = None

    def on_test_begin(self, logs: Logs = None) -> None:
        if self._files:  # not an `evaluate` outside of `fit`
            self._end_training()
            self._watch.begin(self._is_due(self._epoch, self.limits.look_every))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        validated = self._trained is not None
        self._end_training()
        values = {"train": self.board.score_values(self._train_matrix), "val": []}
        drawings: list[Drawing] = []
        if validated:
            matrix = self._matrix()
            values["val"] = self.board.score_values(matrix)
            findings = self._watch.end()
            if matrix is not None and self._draws_confusion(epoch, matrix):
                drawings.append(("confusion", partial(confusion_picture, matrix, self.labels.names)))
            if findings is not None:
                values["val"] += self.board.finding_values(findings)
                drawings += self.board.drawings(findings)
        for run, more in self._log_values(logs or {}).items():
            values[run] += more
        self._write(epoch + 1, values, drawings)

    def _write(self, step: int, values: Mapping[str, list[Any]], drawings: list[Drawing]) -> None:
        """Writes an epoch's values now, and its pictures while the next epoch trains."""
        self._wait_for_pictures()  # of the epoch before: steps ascend within a file
        drawings, note = self._within_limit(drawings)
        for run, summaries in values.items():
            self._files[run].add(step, summaries + (note if run == "val" else []))
            self._files[run].flush()
        if drawings:
            self._painting = self._painter.submit(self._paint, self._files["val"], step, drawings)

    def _paint(self, file: EventFile, step: int, drawings: list[Drawing]) -> None:
        file.add(step, [event_file.image(tag, draw()) for tag, draw in drawings])
        file.flush()

    def _wait_for_pictures(self) -> None:
        """Until they are written; raises what drawing them raised."""
        painting, self._painting = self._painting, None
        if painting is not None:
            painting.result()

    def _draws_confusion(self, epoch: int, matrix: np.ndarray) -> bool:
        """Classes that overlap, (K, 2, 2), have no matrix of each other."""
        return (
            bool(self.limits.confusion_every) and matrix.ndim == 2 and self._is_due(epoch, self.limits.confusion_every)
        )

    def _end_training(self) -> None:
        """Keeps what belongs to the epoch's training, before validation resets the metrics."""
        if self._trained is None:
            self._trained = time.perf_counter()
            self._train_matrix = self._matrix()

    # --- when, and how much -------------------------------------------------------------------------------------------
    def _is_due(self, epoch: int, every: int | None) -> bool:
        return is_due(epoch + 1, self.params.get("epochs") or epoch + 1, every)

    def _open(self, epoch: int) -> None:
        """Takes out what an earlier `fit` wrote of this and later epochs, and starts new files."""
        runs = ("train", "val")
        known = epoch > 0 and any((self.folder / run).glob(event_file.PATTERN) for run in runs)
        for run in runs:
            if known:
                cut_back(self.folder / run, epoch)
            else:
                for path in (self.folder / run).glob(event_file.PATTERN):
                    path.unlink()
        self._kept_bytes = folder_bytes(self.folder)
        self._files = {run: EventFile(self.folder / run, epoch + 1 if known else 0) for run in runs}
        if not self._kept_bytes:
            self._files["train"].add(0, self.board.static_values(self.texts))
            self._files["val"].add(0, hyperparameters(self.hparams, self.run_name) if self.hparams else [])
        self._full = False

    def _close(self) -> None:
        self._wait_for_pictures()
        for file in self._files.values():
            file.close()
        self._files = {}

    def _within_limit(self, drawings: list[Drawing]) -> tuple[list[Drawing], list[Any]]:
        """The pictures to draw: all or, where the folder is full, none, and once a note of it."""
        used = self._kept_bytes + sum(file.num_bytes for file in self._files.values())
        if not drawings or used < self.limits.max_mb * 1e6:
            return drawings, []
        if self._full:
            return [], []
        self._full = True
        note = (
            f"{self.folder}: the event files have {used / 1e6:.3g} MB, the limit (max_mb) is {self.limits.max_mb:g}: "
            f"no more pictures from epoch {self._epoch + 1} on; the curves go on"
        )
        warnings.warn(note, stacklevel=2)
        return [], [event_file.text("limit", note)]

    def _matrix(self) -> np.ndarray | None:
        """The matrix (C, C), or (K, 2, 2), of the model's metric as it stands; None where no metric has one."""
        metric = find_confusion(self.model)
        if metric is None:
            return None
        if metric.class_names != self.labels.names:
            raise ValueError(
                f"metric '{metric.name}': got the classes {', '.join(metric.class_names)}, "
                f"allowed: those of labels, {', '.join(self.labels.names)}"
            )
        return keras.ops.convert_to_numpy(metric.matrix)

    def _log_values(self, logs: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The epoch's logs, and the speed where no other callback has measured it."""
        assert self._trained is not None
        seconds = max(self._trained - self._started, 1e-9)
        speed: dict[str, float] = {"input_wait_share": min(self._clock.waited / seconds, 1.0)}
        speed["images_per_second"] = self._clock.images / seconds
        if self.model.optimizer is not None:
            speed["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values: dict[str, list[Any]] = {"train": [], "val": []}
        for key, value in {**speed, **logs}.items():
            run, tag = ("val", key.removeprefix("val_")) if key.startswith("val_") else ("train", key)
            undefined = tag.startswith("iou/") and value != value
            if tag not in UNWRITTEN and np.ndim(value) == 0 and not undefined:
                values[run].append(event_file.scalar(tag, float(value)))
        online = getattr(self.model, "online_weights", None)
        if online is not None:
            values["train"] += self.board.class_scalars("weight", keras.ops.convert_to_numpy(online.current()))
        return values


def is_due(step: int, epochs: int, every: int | None) -> bool:
    """Whether something that is done every so many epochs is done after epoch `step` of `epochs`, counted from 1.

    Always after the first, so that a mistake is seen at once, and after the last. `every` None: see `TensorBoard`.
    """
    every = every or max(LEAST_INTERVAL, -(-epochs // LOOKS))
    return step in (1, epochs) or step % every == 0


def find_confusion(model: keras.Model) -> ConfusionMatrix | None:
    """The model's confusion matrix metric, or None."""
    for metric in model.metrics:
        for inner in (metric, *getattr(metric, "metrics", ())):
            if isinstance(inner, ConfusionMatrix):
                return inner
    return None
