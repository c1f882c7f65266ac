"""The TensorBoard cockpit: whether the rare classes are being learnt, and if not, why not. See docs/tensorboard.md."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from seg.balance import ClassCounts, MultiLabelCounts
from seg.config.tensorboard import TensorBoard
from seg.labels import LabelSet
from seg.metrics.confusion import ConfusionMatrix
from seg.metrics.iou import scores
from seg.metrics.multi_label import MultiLabelConfusion
from seg.metrics.pr_curve import precision_recall
from seg.pictures.confusion import confusion_picture
from seg.pictures.panels import Picture, panel
from seg.training import event_file
from seg.training.dashboard import PER_CLASS, categories, hyperparameters, layout
from seg.training.event_file import EventFile, cut_back, folder_bytes
from seg.training.input_clock import InputClock
from seg.training.validation_watch import Findings, ValidationWatch, Watched

Logs = dict[str, Any] | None
Drawing = tuple[str, Callable[[], np.ndarray]]  # a picture's tag, and what draws it
LOOKS = 10  # a run is looked at about so often unless told otherwise; TensorBoard shows 10 pictures of a tag
LEAST_INTERVAL = 4  # epochs; in a run of a dozen short epochs more looks would cost too much
SHARES = ("pixel_share", "loss_share", "gradient_share")
UNWRITTEN = ("seconds",)  # log keys that are no curve


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
        limits: How much is drawn and written.
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
        counts: ClassCounts | MultiLabelCounts | None = None,
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
        self.counts, self.picture, self.texts = counts, picture, dict(texts or {})
        self.hparams, self.run_name = dict(hparams or {}), run_name or self.folder.name
        self.class_weights = None if class_weights is None else np.asarray(class_weights, np.float64)
        self._check(labels)
        counted = counts is not None and bool(counts.pixel_counts.any())
        shares = counts.frequencies if counts is not None and counted else np.ones(labels.num_classes)
        self.rarest_first = [int(index) for index in np.argsort(shares, kind="stable")]
        self.num_rare = int(np.count_nonzero(shares < self.limits.rare_share))
        # A class without a single training pixel is rare, but its pictures and curves would never change.
        shown = [index for index in self.rarest_first if shares[index] > 0]
        positions = range(samples) if isinstance(samples, int) else samples
        names = {position: _name(position, sample_names) for position in positions}
        self.watched = Watched(
            names,
            shown[: self.limits.tile_classes],
            self.limits.tiles,
            self._curve_classes(shown),
            self.limits.side,
            tuple(sample_names),
        )
        self._files: dict[str, EventFile] = {}
        self._watch: ValidationWatch | None = None
        self._clock: InputClock | None = None
        self._train_matrix: np.ndarray | None = None
        self._full = False
        self._painter = ThreadPoolExecutor(1, "pictures")  # its thread starts with the first picture
        self._painting: Future[None] | None = None

    def _check(self, labels: LabelSet) -> None:
        if self.counts is not None and tuple(self.counts.names) != labels.names:
            raise ValueError(
                f"counts: got the classes {', '.join(self.counts.names)}, allowed: {', '.join(labels.names)}"
            )
        if self.class_weights is not None and self.class_weights.shape != (labels.num_classes,):
            raise ValueError(
                f"class_weights: got shape {self.class_weights.shape}, allowed: ({labels.num_classes},), one a class"
            )
        if not isinstance(self.limits.curve_classes, int):
            for name in set(self.limits.curve_classes) - set(labels.names):
                raise ValueError(f"curve_classes: got '{name}', allowed: {', '.join(labels.names)}")

    def _curve_classes(self, shown: Sequence[int]) -> list[int]:
        chosen = self.limits.curve_classes
        return list(shown[:chosen]) if isinstance(chosen, int) else [self.labels.names.index(name) for name in chosen]

    # --- fit ----------------------------------------------------------------------------------------------------------
    def on_train_begin(self, logs: Logs = None) -> None:
        if self._watch is None or self._watch.model is not self.model:
            self._watch = ValidationWatch(self.model, self.labels, self.watched, self.picture)
            self._clock = InputClock(self.model)
        self._watch.install()
        assert self._clock is not None
        self._clock.install()

    def on_train_end(self, logs: Logs = None) -> None:
        assert self._watch is not None and self._clock is not None
        self._watch.remove()
        self._clock.remove()
        self._wait_for_pictures()
        for file in self._files.values():
            file.close()
        self._files = {}

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        assert self._clock is not None
        if not self._files:
            self._open(epoch)
        self._epoch, self._train_matrix = epoch, None
        self._clock.reset()
        self._started = time.perf_counter()
        self._trained: float | None = None

    def on_test_begin(self, logs: Logs = None) -> None:
        if self._files:  # not an `evaluate` outside of `fit`
            assert self._watch is not None
            self._end_training()
            self._watch.begin(self._is_due(self._epoch, self.limits.look_every))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert self._watch is not None
        validated = self._trained is not None
        self._end_training()
        values = {"train": self._matrix_values(self._train_matrix), "val": []}
        drawings: list[Drawing] = []
        if validated:
            matrix = self._matrix()
            values["val"] = self._matrix_values(matrix)
            findings = self._watch.end()
            if matrix is not None and self._draws_confusion(epoch, matrix):
                drawings.append(("confusion", partial(confusion_picture, matrix, self.labels.names)))
            if findings is not None:
                values["val"] += self._finding_values(findings)
                drawings += self._finding_drawings(findings)
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
        self._files = {run: EventFile(self.folder / run) for run in runs}
        if not self._kept_bytes:
            self._files["train"].add(0, self._static_values())
            self._files["val"].add(0, hyperparameters(self.hparams, self.run_name) if self.hparams else [])
        self._full = False

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

    # --- values -------------------------------------------------------------------------------------------------------
    def _static_values(self) -> list[Any]:
        """What is known before training: layout, texts, the class table and the chart."""
        folds = categories(self.labels.names, self.rarest_first, self.num_rare)
        values = [layout(folds), *(event_file.text(tag, markdown) for tag, markdown in self.texts.items())]
        if self.counts is not None:
            from seg.pictures.class_charts import share_chart

            if "classes" not in self.texts:
                values.append(event_file.text("classes", self._class_table(self.counts)))
            if self.counts.pixel_counts.any():
                png, width, height = share_chart(self.counts, self.labels.colours, self.class_weights)
                values.append(event_file.png_image("class_balance", png, width, height))
        return values

    def _class_table(self, counts: ClassCounts | MultiLabelCounts) -> str:
        """Markdown, the rarest class first."""
        rows = ["| class | pixels | share | images | weight | rare |", "|---|---:|---:|---:|---:|---|"]
        for place, index in enumerate(self.rarest_first):
            weight = "-" if self.class_weights is None else f"{self.class_weights[index]:.3f}"
            images = f"{counts.image_counts[index]:,}/{counts.num_images:,}"
            numbers = f"{counts.pixel_counts[index]:,} | {counts.frequencies[index]:.3%} | {images} | {weight}"
            rows.append(f"| {counts.names[index]} | {numbers} | {'rare' if place < self.num_rare else ''} |")
        return "\n".join([*rows, "", f"rare: below {self.limits.rare_share:.3g} of the labelled training pixels"])

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

    def _matrix_values(self, matrix: np.ndarray | None) -> list[Any]:
        """Scores by class and over classes. An undefined score of a class has no point."""
        if matrix is None:
            return []
        result = scores(matrix)
        rare = result.iou[self.rarest_first[: self.num_rare]]
        values = [event_file.scalar("pixel_accuracy", result.pixel_accuracy)]
        if rare.size and not np.isnan(rare).all():
            values.append(event_file.scalar("mean_iou_rare", float(np.nanmean(rare))))
        for score in PER_CLASS[1:]:
            values += self._class_scalars(score, getattr(result, score))
        return values

    def _class_scalars(self, name: str, numbers: np.ndarray) -> list[Any]:
        pairs = zip(self.labels.names, numbers.tolist(), strict=True)
        return [event_file.scalar(f"{name}/{class_name}", number) for class_name, number in pairs if number == number]

    def _finding_values(self, findings: Findings) -> list[Any]:
        values: list[Any] = []
        if findings.shares is not None:
            for name, numbers in zip(SHARES, findings.shares, strict=True):
                values += self._class_scalars(name, numbers)
        if findings.histograms is not None:
            for index, histogram in zip(self.watched.curve_classes, findings.histograms, strict=True):
                values.append(event_file.pr_curve(f"pr_curve/{self.labels.names[index]}", precision_recall(histogram)))
        return values

    def _finding_drawings(self, findings: Findings) -> list[Drawing]:
        drawings: list[Drawing] = [
            (f"overlay/{name}", partial(panel, tile, self.labels)) for name, tile in findings.samples.items()
        ]
        for index, worst in findings.worst.items():
            for place, (_, _, tile) in enumerate(worst, 1):
                tag = f"worst/{self.labels.names[index]}/{place}"
                drawings.append((tag, partial(panel, tile, self.labels, focus=index)))
        return drawings

    def _log_values(self, logs: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The epoch's logs, and the speed where no other callback has measured it."""
        assert self._clock is not None and self._trained is not None
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
            values["train"] += self._class_scalars("weight", keras.ops.convert_to_numpy(online.current()))
        return values


def is_due(step: int, epochs: int, every: int | None) -> bool:
    """Whether something that is done every so many epochs is done after epoch `step` of `epochs`, counted from 1.

    Always after the first, so that a mistake is seen at once, and after the last. `every` None: see `TensorBoard`.
    """
    every = every or max(LEAST_INTERVAL, -(-epochs // LOOKS))
    return step in (1, epochs) or step % every == 0


def find_confusion(model: keras.Model) -> ConfusionMatrix | MultiLabelConfusion | None:
    """The model's confusion matrix metric, or None."""
    for metric in model.metrics:
        for inner in (metric, *getattr(metric, "metrics", ())):
            if isinstance(inner, ConfusionMatrix | MultiLabelConfusion):
                return inner
    return None


def _name(position: int, sample_names: Sequence[str]) -> str:
    """A sample's name in tags: unique, because two pictures of one tag and step would be one."""
    if position >= len(sample_names):
        return f"{position:04d}"
    name = sample_names[position]
    return name if sample_names.count(name) == 1 else f"{name} ({position})"
