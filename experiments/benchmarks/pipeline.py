"""Images a second of the training pipeline, beside plain loops over the same files.

python -m experiments.benchmarks.pipeline DATA_ROOT, where DATA_ROOT holds images/train and masks/train index PNGs of at
most 16 classes (CamVid, say). 'plain' reads, resizes and normalises without augmentation; 'tf.image' adds flip,
brightness, contrast, saturation and hue, the usual tf.data recipe: no scale, no rotation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from seg.data.dataset import Preprocessing, training_batches
from seg.data.masks import IndexEncoding
from seg.data.samples import Sample, samples_from_folders
from seg.data.transforms import Augmentation
from seg.labels import LabelSet

SIZE = (180, 240)
BATCH_SIZE = 8
PREPROCESSING = Preprocessing(3, SIZE, None, (0.5,) * 3, (0.25,) * 3)
EVERYTHING = Augmentation(
    horizontal_flip=0.5,
    scale=(0.5, 2.0),
    rotate=10.0,
    brightness=0.2,
    contrast=0.2,
    colour_jitter=0.2,
)


def ours(samples: list[Sample], augmentation: Augmentation | None, workers: int) -> Iterator:
    """The pipeline that training uses."""
    labels = LabelSet.from_names([f"class_{index}" for index in range(16)])
    return iter(
        training_batches(
            samples,
            labels,
            IndexEncoding(),
            PREPROCESSING,
            augmentation,
            batch_size=BATCH_SIZE,
            seed=0,
            epochs=1000,
            workers=workers,
        )
    )


def plain_loop(samples: list[Sample]) -> Iterator:
    """OpenCV in one Python thread, no augmentation."""
    while True:
        for start in range(0, len(samples) - BATCH_SIZE + 1, BATCH_SIZE):
            images, masks = [], []
            for sample in samples[start : start + BATCH_SIZE]:
                image = np.asarray(cv2.imread(str(sample.image)))[:, :, ::-1]
                image = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA)
                images.append((image.astype(np.float32) / 255 - 0.5) / 0.25)
                mask = cv2.imread(str(sample.mask), cv2.IMREAD_UNCHANGED)
                masks.append(cv2.resize(mask, SIZE[::-1], interpolation=cv2.INTER_NEAREST))
            yield np.stack(images), np.stack(masks)


def tf_image(samples: list[Sample], workers: int) -> Iterator:
    """The usual recipe of TensorFlow operations."""

    def load(image_path: tf.Tensor, mask_path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_image(tf.io.read_file(image_path), channels=3, expand_animations=False)
        image = tf.image.resize(image, SIZE, antialias=True) / 255.0
        mask = tf.io.decode_png(tf.io.read_file(mask_path), channels=1)
        mask = tf.image.resize(mask, SIZE, method="nearest")
        flip = tf.random.uniform(()) < 0.5
        image, mask = (tf.cond(flip, lambda x=x: x[:, ::-1], lambda x=x: x) for x in (image, mask))
        image = tf.image.random_contrast(tf.image.random_brightness(image, 0.2), 0.8, 1.2)
        image = tf.image.random_hue(tf.image.random_saturation(image, 0.8, 1.2), 0.05)
        return (image - 0.5) / 0.25, mask[..., 0]

    paths = [str(sample.image) for sample in samples], [str(sample.mask) for sample in samples]
    dataset = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(samples)).repeat()
    return iter(dataset.map(load, num_parallel_calls=workers).batch(BATCH_SIZE).prefetch(2))


def measure(batches: Iterator, seconds: float, rounds: int = 4) -> tuple[float, float]:
    """Images a second and milliseconds of CPU an image, each the best of some rounds, after 8 batches of warm-up.

    The second figure is what the pipeline takes from a training that shares the cores, and holds on a busy machine.
    """
    for _ in islice(batches, 8):
        pass
    speeds, costs = [], []
    for _ in range(rounds):
        count, start, cpu_start = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds / rounds:
            next(batches)
            count += BATCH_SIZE
        speeds.append(count / (time.perf_counter() - start))
        costs.append((time.process_time() - cpu_start) / count * 1000)
    return max(speeds), min(costs)


def main() -> None:
    """Prints one row a pipeline."""
    parser = argparse.ArgumentParser(description="Images a second of the training pipeline.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each pipeline runs")
    arguments = parser.parse_args()
    samples = samples_from_folders(arguments.root)["train"]
    table = Table(
        "pipeline", "workers", "images/s", "CPU ms/image", title=f"{SIZE[0]} x {SIZE[1]}, batches of {BATCH_SIZE}"
    )
    rows = [("plain OpenCV loop", 1, plain_loop(samples))]
    for workers in (1, 2):
        rows.append(("seg, no augmentation", workers, ours(samples, None, workers)))
        rows.append(("seg, full augmentation", workers, ours(samples, EVERYTHING, workers)))
        rows.append(("tf.image recipe", workers, tf_image(samples, workers)))
    for name, workers, batches in rows:
        speed, cost = measure(batches, arguments.seconds)
        table.add_row(name, str(workers), f"{speed:.0f}", f"{cost:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
