"""Images a second of the training pipeline, beside torch's DataLoader and the bare loop over the same files.

python -m experiments.benchmarks.input_pipeline [--camvid ROOT] [--cores N]

Two sets: whole 480 x 360 JPEG images with PNG masks (CamVid's own, or as large) and the augmentation of
configs/camvid.yaml; and 1024 x 1024 PNG images and masks, crops of 256, the same changes but for zoom 0.5 to 2 and
turns of 10 degrees. All give batches of 8 float32 images, normalised, with their masks:

- seg, processes and seg, threads: `training_batches` either way; with decoded pixels kept in memory in the row below;
- torch, seg's transforms: a DataLoader with worker processes, whose dataset decodes with OpenCV, calls the very
  `Augmentation` of seg and normalises as seg does;
- bare loop: one thread decodes and augments, nothing else: no normalisation, no batches. Times the cores it is what
  the cores could do.

Rounds are interleaved, so that a busy moment of the machine hits all; medians of the rounds, and the medians of the
rounds' ratios. Spread is the middle half of the rounds over their median. Each pipeline is warm before it is timed, and
idle while another is. CPU milliseconds are those of all threads and processes of a pipeline: what it takes from a
training beside it, and the figure that holds on a machine with other work, where seconds measure how many threads ask
for a core. Scaling is the speed with N workers over N times that with one.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

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
Loading = Literal["threads", "processes"]
CROP = (256, 256)
VOID = 255
LABELS = LabelSet.from_names([f"class_{index}" for index in range(12)])
CAMVID: dict[str, Any] = {"horizontal_flip": 0.5, "brightness": 0.2, "contrast": 0.3, "colour_jitter": 0.3}
AUGMENTATIONS = {
    ".jpg": Augmentation(scale=(0.7, 1.6), rotate=5.0, **CAMVID),
    ".png": Augmentation(scale=(0.5, 2.0), rotate=10.0, crop=CROP, **CAMVID),
}
GENERATED = {"480 x 360 JPEG + PNG": ((360, 480), ".jpg", 100), "1024 x 1024 PNG": ((1024, 1024), ".png", 16)}


def augmentation_of(sample: Sample) -> Augmentation:
    """That of the set which the sample belongs to."""
    return AUGMENTATIONS[Path(str(sample.image)).suffix]


@cache
def preprocessing() -> Any:
    """Made where it is needed: the module that has it imports TensorFlow, which torch's processes do without."""
    from seg.data.views.preprocessing import Preprocessing

    return Preprocessing(3, None, None, (0.5,) * 3, (0.25,) * 3)


def seg_batches(samples: Sequence[Sample], workers: int, loading: Loading, kept: PixelCache | None = None) -> Any:
    """The pipeline that training uses."""
    from seg.data.batches.dataset import training_batches

    augmentation = augmentation_of(samples[0])
    settings: dict[str, Any] = {"batch_size": BATCH_SIZE, "seed": 0, "epochs": 100_000, "workers": workers}
    return iter(
        training_batches(
            samples, LABELS, IndexEncoding(), preprocessing(), augmentation, cache=kept, loading=loading, **settings
        )
    )


def decode(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """What everybody writes."""
    image = cv2.cvtColor(np.asarray(cv2.imread(str(sample.image))), cv2.COLOR_BGR2RGB)
    return image, np.asarray(cv2.imread(str(sample.mask), cv2.IMREAD_UNCHANGED))


class TorchSamples:
    """A map-style dataset for torch, over many epochs."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples) * 100_000

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self.samples[index % len(self.samples)]
        image, mask = augmentation_of(sample)(*decode(sample), index)
        return preprocessing().prepare(image), mask


def torch_batches(samples: Sequence[Sample], workers: int) -> Iterator[Any]:
    """torch's DataLoader with `workers` processes."""
    import torch

    dataset: Any = TorchSamples(samples)
    return iter(torch.utils.data.DataLoader(dataset, BATCH_SIZE, num_workers=workers, multiprocessing_context="spawn"))


def bare_loop(samples: Sequence[Sample]) -> Iterator[None]:
    """Decoding and augmenting alone, in this thread."""
    seed = 0
    while True:
        for start in range(0, len(samples) - BATCH_SIZE + 1, BATCH_SIZE):
            for sample in samples[start : start + BATCH_SIZE]:
                augmentation_of(sample)(*decode(sample), seed)
                seed += 1
            yield


def cpu_seconds() -> float:
    """Of this process and of its workers so far, whoever started them."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += (int(fields[1]) == os.getpid()) * (int(fields[11]) + int(fields[12]))  # user and system
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


BARE = "bare loop, one core"
READY = 6  # torch keeps 2 batches a worker ready, tf.data 2 and the images under way


def compare(samples: Sequence[Sample], workers: int, seconds: float, rounds: int, console: Console) -> dict[str, float]:
    """One table: a row a pipeline. Returns the images a second of each."""
    pipelines: dict[str, Iterator[Any]] = {
        "seg, processes": seg_batches(samples, workers, "processes"),
        "seg, threads": seg_batches(samples, workers, "threads"),
        "seg, processes, cache": seg_batches(samples, workers, "processes", PixelCache(4 * 2**30, "benchmark")),
        BARE: bare_loop(samples),
    }
    if importlib.util.find_spec("torch"):
        pipelines["torch, seg's transforms"] = torch_batches(samples, workers)
    for batches in pipelines.values():
        for _ in range(len(samples) // BATCH_SIZE + 1):
            next(batches)
    rounds_of: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
    for _ in track(range(rounds), f"{workers} workers", console=console, transient=True):
        for name, batches in pipelines.items():
            rounds_of[name].append(measure(batches, seconds))
    head = ("pipeline", "images/s", "spread", "processes / it", "CPU ms/image", "it / processes")
    table = Table(*head, title=f"{workers} worker(s)")
    speeds = {}
    for name, values in rounds_of.items():
        cores = workers if name == BARE else 1
        pairs = list(zip(rounds_of["seg, processes"], values, strict=True))
        quarters = np.percentile([speed for speed, _ in values], (25, 50, 75))
        speeds[name] = cores * float(quarters[1])
        table.add_row(
            f"{name} x {workers}" if cores > 1 else name,
            f"{speeds[name]:.0f}",
            f"{(quarters[2] - quarters[0]) / quarters[1]:.0%}",
            f"{statistics.median(ours[0] / (cores * theirs[0]) for ours, theirs in pairs):.2f}",
            f"{statistics.median(cost for _, cost in values):.2f}",
            f"{statistics.median(theirs[1] / ours[1] for ours, theirs in pairs):.2f}",
        )
    console.print(table)
    return speeds


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
    parser.add_argument("--cores", type=int, default=2, help="workers of each pipeline (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a pipeline in a round (default: %(default)s)")
    parser.add_argument("--files", type=int, help="of each set at most; left out: all")
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    console = Console()
    processors = Path("/proc/cpuinfo").read_text().split("model name")[1:]
    console.print(
        f"{len(processors)} x {processors[0].partition(chr(10))[0].strip(' :' + chr(9))}, {platform.platform()}"
    )
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
            settings = (arguments.seconds, arguments.rounds, console)
            one, several = (compare(samples, workers, *settings) for workers in (1, arguments.cores))
            scaling = {name: several[name] / one[name] / arguments.cores for name in one if name != BARE}
            console.print("scaling: " + ", ".join(f"{name} {value:.2f}" for name, value in scaling.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
