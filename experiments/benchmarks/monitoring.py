"""What the TensorBoard callback costs: the same training with it and without, epoch by epoch in one process.

python -m experiments.benchmarks.monitoring [--only quickstart]: epochs alternate between the two, so that whatever else
the machine does falls on both; the first of each is left out. Medians of the epochs' time, and of the processor time
of all threads, which holds on a busy machine too. A looked-at epoch draws pictures, curves and shares, a light one has
scalars and the confusion matrix; the pictures of either are waited for, which in a training are drawn while the next
epoch runs, so that the time on the clock is an upper bound. `once` is what the first look takes longer than the others.
`run` is a whole training: light and looked-at epochs as the callback chooses them, and `once`, over the epochs without.
`MB`: what an epoch writes. The sizes are those of configs/quickstart.yaml and configs/camvid.yaml, on random pictures,
and 150 classes at 512 x 512.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from seg.balance.counts import ClassCounts
from seg.config.tensorboard import TensorBoard
from seg.data.batches.dataset import not_tuned
from seg.labels import LabelSet
from seg.losses import Combined, CrossEntropy, Dice
from seg.metrics.confusion import ConfusionMatrix
from seg.models.unet import unet_layers
from seg.runs.precision import choose_precision
from seg.training.event_file import folder_bytes
from seg.training.segmenter import Segmenter
from seg.training.tensorboard import SegmentationTensorBoard, is_due


@dataclass(frozen=True)
class Size:
    """A training: `train` images of an epoch, in batches, and `val` images, at (height, width)."""

    name: str
    classes: int
    train: tuple[int, int, int]
    val: tuple[int, int, int]
    batch: int
    depth: int
    epochs: int


SIZES = (
    Size("quickstart", 7, (192, 128, 128), (16, 256, 256), 8, 3, 12),
    Size("camvid", 11, (367, 180, 240), (101, 180, 240), 4, 4, 120),
    Size("150 classes", 150, (8, 512, 512), (4, 512, 512), 2, 3, 50),
)


def batches(size: tuple[int, int, int], classes: int, batch: int) -> tf.data.Dataset:
    """Random pictures and masks of blobs, some of them void, made anew from 8 that are kept."""
    number, height, width = size
    random = np.random.default_rng(0)
    images = random.normal(size=(8, height, width, 3)).astype(np.float32)
    blobs = random.integers(0, classes, (8, -(-height // 16), -(-width // 16))).astype(np.uint8)
    masks = blobs.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    masks[:, :4] = 255
    kept = tf.data.Dataset.from_tensor_slices((images, masks)).repeat().take(number)
    return not_tuned(kept.batch(batch).prefetch(2))


class Alternating(keras.callbacks.Callback):
    """Hands every other epoch to the callback, of those every other one to be looked at, and times all of them."""

    def __init__(self, inner: SegmentationTensorBoard) -> None:
        super().__init__()
        self.inner = inner
        self.seconds: dict[str, list[float]] = {"without": [], "light": [], "looked at": []}
        self.cpu: dict[str, list[float]] = {"without": [], "light": [], "looked at": []}
        self.written: dict[str, list[int]] = {"light": [], "looked at": []}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.kind = ("without", "light", "without", "looked at")[epoch % 4]
        self.inner.set_model(self.model)
        # The board decides by its own epoch number: 1 is looked at, 2 not, and it thinks that there are many.
        self.inner.set_params({"epochs": 10**6})
        self.own = 0 if self.kind == "looked at" else 1
        self.before = folder_bytes(self.inner.folder)
        if self.kind != "without":
            if self.inner._files:
                self.inner._watch.install()
                self.inner._clock.install()
            else:
                self.inner.on_train_begin()
                self.inner._open(0)
        self.started, self.cpu_started = time.perf_counter(), time.process_time()
        if self.kind != "without":
            self.inner.on_epoch_begin(self.own)

    def on_test_begin(self, logs: Any = None) -> None:
        if self.kind != "without":
            self.inner.on_test_begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.kind != "without":
            self.inner.on_epoch_end(self.own, dict(logs or {}))
            self.inner._wait_for_pictures()
        self.seconds[self.kind].append(time.perf_counter() - self.started)
        self.cpu[self.kind].append(time.process_time() - self.cpu_started)
        if self.kind != "without":
            self.written[self.kind].append(folder_bytes(self.inner.folder) - self.before)
            self.inner._watch.remove()
            self.inner._clock.remove()


def part(size: Size, share: float) -> Size:
    """The size with a share of its images; what an epoch costs whatever its length then weighs more."""
    counts = [max(size.batch, round(share * images[0])) for images in (size.train, size.val)]
    return replace(size, train=(counts[0], *size.train[1:]), val=(counts[1], *size.val[1:]))


def measure(size: Size, rounds: int) -> list[str]:
    """A row of the table."""
    names = tuple(f"class {index}" for index in range(size.classes))
    labels = LabelSet.from_names(names)
    pixels = np.geomspace(1e4, 1e8, size.classes).astype(np.int64)
    ones = np.full(size.classes, 10)
    counts = ClassCounts(names, 255, "index", pixels, ones, pixels * 10, 0, 10, "0" * 64)
    weights = np.ones(size.classes)
    keras.config.set_dtype_policy(choose_precision("auto", 0).policy)
    keras.utils.set_random_seed(0)
    model = Segmenter(*unet_layers(bands=3, num_classes=size.classes, depth=size.depth, base_filters=16))
    loss = Combined([(1.0, CrossEntropy(class_weights=weights.tolist())), (1.0, Dice())])
    model.compile("adam", loss=loss, metrics=[ConfusionMatrix(names)])
    with tempfile.TemporaryDirectory() as folder:
        limits = TensorBoard(max_mb=1e6)
        inner = SegmentationTensorBoard(folder, labels, counts=counts, class_weights=weights, limits=limits)
        alternating = Alternating(inner)
        model.fit(
            batches(size.train, size.classes, size.batch),
            validation_data=batches(size.val, size.classes, size.batch),
            epochs=4 * (rounds + 1),
            shuffle=False,
            verbose=0,
            callbacks=[alternating],
        )
    times = [*columns(alternating.seconds, size.epochs), *columns(alternating.cpu, size.epochs)]
    return [size.name, *times, *megabytes(alternating.written)]


def columns(times: dict[str, list[float]], epochs: int) -> list[str]:
    """Seconds of an epoch without, the overheads of both kinds of epochs, the extra of the first look, and a run's."""
    without, light, looked = (float(np.median(values[1:])) for values in times.values())
    once = times["looked at"][0] - looked
    looks = sum(is_due(step, epochs, None) for step in range(1, epochs + 1))
    run = (light - without) / without + (looks * (looked - light) + once) / (epochs * without)
    return [
        f"{without:.2f}",
        f"{light / without - 1:+.1%}",
        f"{looked / without - 1:+.1%}",
        f"{once:.1f}",
        f"{run:+.1%}",
    ]


def megabytes(written: dict[str, list[int]]) -> list[str]:
    """MB of each kind of epoch."""
    return [f"{np.median(values[1:]) / 1e6:.2f}" for values in written.values()]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="What the TensorBoard callback costs.")
    parser.add_argument("--rounds", type=int, default=3, help="measured epochs of each kind (twice as many without)")
    parser.add_argument("--only", help="one of: " + ", ".join(size.name for size in SIZES))
    parser.add_argument("--share", type=float, default=1.0, help="of each size's images, for a slow machine")
    arguments = parser.parse_args(argv)
    kinds = ["light", "looked at", "once", "run"]
    table = Table("training", "s", *kinds, "CPU s", *kinds, "MB", "MB looked at")
    for size in SIZES:
        if arguments.only in (None, size.name):
            table.add_row(*measure(part(size, arguments.share), arguments.rounds))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
