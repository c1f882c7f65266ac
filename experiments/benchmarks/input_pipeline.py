"""Images a second of the training pipeline, beside torch's DataLoader and the bare loop over the same files.

python -m experiments.benchmarks.input_pipeline [--camvid ROOT]

Two sets: 480 x 360 JPEG images with PNG masks (CamVid's own, or as large), and 1024 x 1024 PNG images and masks. All
draw the same augmentation (flip, zoom 0.5 to 2, turn, brightness, contrast, saturation and hue; a crop of 256) and give
batches of 8 float32 images with their masks:

- seg: `training_batches`, threads; with decoded pixels kept in memory or on disk in the rows below it;
- torch, seg's transforms: a DataLoader with worker processes, whose dataset decodes with OpenCV and calls the very
  `Augmentation` of seg;
- torch, albumentations: the same, with a Compose of albumentations' own HorizontalFlip, Affine, PadIfNeeded,
  RandomCrop, RandomBrightnessContrast, ColorJitter and Normalize;
- bare loop: one thread decodes and augments, nothing else: no normalisation, no batches. Times the cores it is what
  the cores could do.

Rounds are interleaved, so that a busy moment of the machine hits all; medians of the rounds, and the medians of the
rounds' ratios. Each pipeline is warm before it is timed, and idle while another is. CPU milliseconds are those of all
threads and processes of a pipeline: what it takes from a training beside it, and the figure that holds on a machine
with other work, where seconds measure how many threads ask for a core.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from data_tools.scenes.scene import draw_scene
from seg.data.batches.pixel_cache import PixelCache
from seg.data.files.images import write_png
from seg.data.masks.reading import IndexEncoding, write_mask
from seg.data.samples.pairs import Sample, samples_from_folders
from seg.data.views.transforms import Augmentation
from seg.labels import LabelSet

BATCH_SIZE = 8
CROP = (256, 256)
VOID = 255
LABELS = LabelSet.from_names([f"class_{index}" for index in range(12)])
AUGMENTATION = Augmentation(
    horizontal_flip=0.5,
    scale=(0.5, 2.0),
    rotate=10.0,
    brightness=0.2,
    contrast=0.2,
    colour_jitter=0.2,
    crop=CROP,
)
GENERATED = {"480 x 360 JPEG + PNG": ((360, 480), ".jpg", 100), "1024 x 1024 PNG": ((1024, 1024), ".png", 16)}


@cache
def preprocessing() -> Any:
    """Made where it is needed: the module that has it imports TensorFlow, which torch's processes do without."""
    from seg.data.views.preprocessing import Preprocessing

    return Preprocessing(3, None, None, (0.5,) * 3, (0.25,) * 3)


def seg_batches(samples: Sequence[Sample], workers: int, kept: PixelCache | None = None) -> Iterator[Any]:
    """The pipeline that training uses."""
    from seg.data.batches.dataset import training_batches

    settings: dict[str, Any] = {"batch_size": BATCH_SIZE, "seed": 0, "epochs": 100_000, "workers": workers}
    return iter(
        training_batches(samples, LABELS, IndexEncoding(), preprocessing(), AUGMENTATION, cache=kept, **settings)
    )


def decode(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """What everybody writes."""
    image = cv2.cvtColor(np.asarray(cv2.imread(str(sample.image))), cv2.COLOR_BGR2RGB)
    return image, np.asarray(cv2.imread(str(sample.mask), cv2.IMREAD_UNCHANGED))


class TorchSamples:
    """A map-style dataset for torch, over many epochs."""

    def __init__(self, samples: Sequence[Sample], transform: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples) * 100_000

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = decode(self.samples[index % len(self.samples)])
        return self.transform(image, mask, index)


def segs_transforms(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """seg's own, in a worker process of torch."""
    image, mask = AUGMENTATION(image, mask, seed)
    return preprocessing().prepare(image), mask


STOCK = albumentations.Compose([
    albumentations.HorizontalFlip(p=0.5),
    albumentations.Affine(scale=(0.5, 2.0), rotate=(-10, 10), fill_mask=VOID, p=1.0),
    albumentations.PadIfNeeded(*CROP, border_mode=cv2.BORDER_CONSTANT, fill_mask=VOID),
    albumentations.RandomCrop(*CROP),
    albumentations.RandomBrightnessContrast(0.2, 0.2, p=1.0),
    albumentations.ColorJitter((1.0, 1.0), (1.0, 1.0), (0.8, 1.2), (-0.05, 0.05), p=1.0),
    albumentations.Normalize((0.5,) * 3, (0.25,) * 3),
])  # fmt: skip


def stock_transforms(image: np.ndarray, mask: np.ndarray, _: int) -> tuple[np.ndarray, np.ndarray]:
    """albumentations' own."""
    drawn = STOCK(image=image, mask=mask)
    return drawn["image"], drawn["mask"]


def torch_batches(samples: Sequence[Sample], workers: int, transform: Callable[..., Any]) -> Iterator[Any]:
    """torch's DataLoader with `workers` processes."""
    import torch

    dataset: Any = TorchSamples(samples, transform)
    return iter(torch.utils.data.DataLoader(dataset, BATCH_SIZE, num_workers=workers, multiprocessing_context="spawn"))


def bare_loop(samples: Sequence[Sample]) -> Iterator[None]:
    """Decoding and augmenting alone, in this thread."""
    seed = 0
    while True:
        for start in range(0, len(samples) - BATCH_SIZE + 1, BATCH_SIZE):
            for sample in samples[start : start + BATCH_SIZE]:
                AUGMENTATION(*decode(sample), seed)
                seed += 1
            yield


def cpu_seconds() -> float:
    """Of this process and of its workers so far."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def settle() -> None:
    """Waits until the pipelines that were timed before have made what they keep ready."""
    before = -1.0
    while (now := cpu_seconds()) - before > 0.01:
        before = now
        time.sleep(0.5)  # on a busy machine a thread may wait that long for a core


def measure(batches: Iterator[Any], seconds: float) -> tuple[float, float]:
    """Images a second and CPU milliseconds an image over `seconds`, after the batches that lay ready."""
    settle()
    cpu = cpu_seconds()
    for _ in range(READY):
        next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += 1
    speed = BATCH_SIZE * count / (time.perf_counter() - start)
    settle()  # as many batches lie ready as before, so that READY + count were made
    return speed, 1000 * (cpu_seconds() - cpu) / (BATCH_SIZE * (READY + count))


READY = 6  # torch keeps 2 batches a worker ready, tf.data 2 and the images under way


def compare(
    samples: Sequence[Sample], folder: Path, workers: int, seconds: float, rounds: int, console: Console
) -> None:
    """One table: a row a pipeline."""
    pipelines: dict[str, Iterator[Any]] = {
        "seg": seg_batches(samples, workers),
        "seg, cache in memory": seg_batches(samples, workers, PixelCache(4 * 2**30, "benchmark")),
        "seg, cache on disk": seg_batches(samples, workers, PixelCache(4 * 2**30, "benchmark", folder / "cache")),
        "bare loop, one core": bare_loop(samples),
    }
    if importlib.util.find_spec("torch"):
        pipelines["torch, seg's transforms"] = torch_batches(samples, workers, segs_transforms)
        pipelines["torch, albumentations"] = torch_batches(samples, workers, stock_transforms)
    for batches in pipelines.values():
        for _ in range(len(samples) // BATCH_SIZE + 1):
            next(batches)
    rounds_of: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
    for _ in track(range(rounds), f"{workers} workers", console=console, transient=True):
        for name, batches in pipelines.items():
            rounds_of[name].append(measure(batches, seconds))
    head = ("pipeline", "images/s", "seg / it", "CPU ms/image", "it / seg")
    table = Table(*head, title=f"{workers} worker(s)")
    for name, values in rounds_of.items():
        cores = workers if name.startswith("bare") else 1
        pairs = list(zip(rounds_of["seg"], values, strict=True))
        table.add_row(
            f"{name} x {workers}" if cores > 1 else name,
            f"{cores * statistics.median(speed for speed, _ in values):.0f}",
            f"{statistics.median(ours[0] / (cores * theirs[0]) for ours, theirs in pairs):.2f}",
            f"{statistics.median(cost for _, cost in values):.2f}",
            f"{statistics.median(theirs[1] / ours[1] for ours, theirs in pairs):.2f}",
        )
    console.print(table)


def generate(folder: Path, size: tuple[int, int], suffix: str, number: int) -> list[Sample]:
    """Scenes cut to `size`, written as image files and index PNGs."""
    samples = []
    for index in range(number):
        image, mask = draw_scene(max(size), index)
        image, mask = image[: size[0], : size[1]], mask[: size[0], : size[1]]
        image_file, mask_file = folder / f"{index}{suffix}", folder / f"{index}_mask.png"
        if suffix == ".png":
            write_png(image_file, np.ascontiguousarray(image))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image_file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        write_mask(mask_file, np.ascontiguousarray(mask))
        samples.append(Sample(image_file, mask_file))
    time.sleep(2.1)  # files as young as that are not kept by a cache: they could change within the clock's tick
    return samples


def main(argv: Sequence[str] | None = None) -> int:
    """Prints two tables a set of files: one worker, and as many as asked for."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.input_pipeline", description=__doc__)
    parser.add_argument("--camvid", type=Path, metavar="ROOT", help="CamVid's folder: images/train and masks/train")
    parser.add_argument("--workers", type=int, default=2, help="threads, or processes of torch (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a pipeline in a round (default: %(default)s)")
    parser.add_argument("--files", type=int, help="of each set at most; left out: all")
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    console = Console()
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    with tempfile.TemporaryDirectory() as folder:
        for name, (size, suffix, number) in GENERATED.items():
            own = Path(folder) / name
            if arguments.camvid and suffix == ".jpg":
                name, samples = "CamVid, 480 x 360 JPEG + PNG", samples_from_folders(arguments.camvid)["train"]
            else:
                samples = generate(own, size, suffix, number)
            samples = samples[: arguments.files]
            console.rule(f"{name}, {len(samples)} files")
            for workers in sorted({1, arguments.workers}):
                compare(samples, own, workers, arguments.seconds, arguments.rounds, console)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
