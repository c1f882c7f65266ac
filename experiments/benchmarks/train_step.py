"""One training step of ours beside plain Keras and torch: `python -m experiments.benchmarks.train_step`.

The same U-Net: ours as `seg.train` compiles it (cross-entropy + Dice, and the confusion matrix, which the others do
without); what plain Keras code gives (`BatchNormalization`, `MaxPooling2D`, cross-entropy alone, float32), with the
kernels that TensorFlow chooses by itself and with those that ours asks for; torch with channels_last and bfloat16
autocast where ours has it, eager and by torch.compile (cross-entropy + Dice). All with AdamW, on random batches that
are on the device already, so that no input is measured.

Each row has a process of its own, and they take turns, run by run, with one step before each that is not timed: a busy
machine slows all alike. Trust the ratios of the medians. Processor time (all threads) stands beside the time on the
clock, since it hardly feels other programs. Spread is the middle half of the runs over their median. Without torch its
rows are left out, with a line that says so; it is no dependency of the project.

Peak memory is of all that a framework holds while a row's own steps run; TensorFlow and torch tell it of GPUs only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from seg.runs.hardware import quiet_stderr, start_tensorflow
from seg.runs.precision import choose_precision

if TYPE_CHECKING:  # each row imports its own framework
    import keras

DEPTH = 4
GIB = 2**30
Step = Callable[[], Any]  # one step, not waited for; returns the loss, and float(loss) waits
Peak = Callable[[], float]  # GiB since it was asked last; NaN where nobody tells


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), help="default: a GPU if TensorFlow sees one")
    parser.add_argument("--size", type=int, help="height and width; default: 256, on a GPU 512")
    parser.add_argument("--filters", type=int, help="at full resolution; default: 32, on a GPU 64")
    parser.add_argument("--batch", type=int, help="images; default: 4, on a GPU 16")
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--steps", type=int, help="of a run; default: 1, on a GPU 20")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--precision", choices=("auto", "float32", "mixed_bfloat16"), default="auto")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes a C++ compiler")
    parser.add_argument("--row", choices=tuple(ROWS), help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args(argv)
    if arguments.row:
        return arguments
    gpus = start_tensorflow()
    arguments.device = arguments.device or ("gpu" if gpus else "cpu")
    if arguments.device == "gpu" and not gpus:
        parser.error("--device gpu: TensorFlow sees no GPU")
    for name, on_cpu, on_gpu in (("size", 256, 512), ("filters", 32, 64), ("batch", 4, 16), ("steps", 1, 20)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, on_gpu if arguments.device == "gpu" else on_cpu)
    if arguments.size % 2**DEPTH:
        parser.error(f"--size: got {arguments.size}, allowed: multiples of {2**DEPTH}")
    with quiet_stderr():
        arguments.precision = choose_precision(arguments.precision, int(arguments.device == "gpu")).policy
    return arguments


# --- TensorFlow -------------------------------------------------------------------------------------------------------
def only_visible(device: str) -> None:
    """Lets TensorFlow see no GPU where the CPU is asked for, and take a GPU's memory as it needs it."""
    with quiet_stderr():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)


def keras_step(model: keras.Model, arguments: argparse.Namespace) -> Step:
    """One step of `fit` on a batch that stays where it is."""
    import tensorflow as tf

    draw = np.random.default_rng(0)
    shape = (arguments.batch, arguments.size, arguments.size)
    images = tf.constant(draw.normal(size=(*shape, 3)).astype(np.float32))
    labels = tf.constant(draw.integers(0, arguments.classes, shape, np.uint8))
    train = tf.function(model.train_step, jit_compile=model.jit_compile, autograph=False, reduce_retracing=True)
    return lambda: tf.reshape(train((images, labels))["loss"], ())


def ours(arguments: argparse.Namespace) -> Step:
    """As `seg.train` builds and compiles it."""
    only_visible(arguments.device)
    import keras

    from seg.losses import Combined, CrossEntropy, Dice
    from seg.metrics.confusion import ConfusionMatrix
    from seg.models.unet import unet_layers
    from seg.training.segmenter import Segmenter

    keras.config.set_dtype_policy(arguments.precision)
    model = Segmenter(*unet_layers(bands=3, num_classes=arguments.classes, depth=DEPTH, base_filters=arguments.filters))
    terms = [(1.0, CrossEntropy(class_weights=[1.0] * arguments.classes)), (1.0, Dice())]
    model.compile(
        keras.optimizers.AdamW(1e-3),
        Combined(terms),
        metrics=[ConfusionMatrix(class_names=[str(index) for index in range(arguments.classes)], ignore_index=255)],
        jit_compile=arguments.device == "gpu",
    )
    model.optimizer.build(model.trainable_variables)
    return keras_step(model, arguments)


def plain_keras(arguments: argparse.Namespace) -> Step:
    """The usual code: Keras's layers, its cross-entropy, its defaults."""
    only_visible(arguments.device)
    import keras

    keras.config.set_dtype_policy("float32")
    layers = keras.layers

    def double(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    inputs = x = keras.Input((arguments.size, arguments.size, 3))
    skips = []
    for level in range(DEPTH):
        skips.append(double(x, arguments.filters << level))
        x = layers.MaxPooling2D()(skips[-1])
    x = double(x, arguments.filters << DEPTH)
    for level in reversed(range(DEPTH)):
        x = layers.Conv2DTranspose(arguments.filters << level, 2, strides=2)(x)
        x = double(layers.Concatenate()([skips[level], x]), arguments.filters << level)
    model = keras.Model(inputs, layers.Conv2D(arguments.classes, 1)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss)
    model.jit_compile = arguments.device == "gpu"  # what compile's "auto" comes to in `fit` there
    model.optimizer.build(model.trainable_variables)
    return keras_step(model, arguments)


def tensorflow_peak() -> float:
    """GiB that TensorFlow held at most since it was asked last."""
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return float("nan")
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / GIB
    tf.config.experimental.reset_memory_stats("GPU:0")
    return float(peak)


# --- torch ------------------------------------------------------------------------------------------------------------
def torch_step(arguments: argparse.Namespace, compiled: bool) -> Step:
    """The same network and loss in torch, as its tuning guide has it: channels_last, autocast, cuDNN's own choice."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    device, narrow = "cuda" if arguments.device == "gpu" else "cpu", arguments.precision == "mixed_bfloat16"

    def double(bands: int, filters: int) -> Any:
        pairs = ((bands, filters), (filters, filters))
        parts = [(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(True)) for i, o in pairs]
        return nn.Sequential(*[layer for part in parts for layer in part])

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            filters = [arguments.filters << level for level in range(DEPTH + 1)]
            self.down = nn.ModuleList(map(double, [3, *filters[:-1]], filters))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * f, f, 2, 2) for f in filters[:-1])
            self.joined = nn.ModuleList(double(2 * f, f) for f in filters[:-1])
            self.logits = nn.Conv2d(arguments.filters, arguments.classes, 1)

        def forward(self, x: Any) -> Any:
            skips = []
            for block in self.down[:-1]:
                skips.append(block(x))
                x = functional.max_pool2d(skips[-1], 2)
            x = self.down[-1](x)
            for level in reversed(range(DEPTH)):
                x = self.joined[level](torch.cat([skips[level], self.up[level](x)], 1))
            return self.logits(x)

    network = UNet().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    shape = (arguments.batch, arguments.size, arguments.size)
    images = torch.randn(shape[0], 3, *shape[1:], device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, arguments.classes, shape, device=device)

    def loss(images: Any, labels: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=narrow):
            logits = network(images)
        logits = logits.float()
        shares = logits.softmax(1)
        truth = functional.one_hot(labels, arguments.classes).permute(0, 3, 1, 2).to(shares.dtype)
        common, both = (shares * truth).sum((0, 2, 3)), shares.sum((0, 2, 3)) + truth.sum((0, 2, 3))
        return functional.cross_entropy(logits, labels) + 1 - (2 * common / both).mean()

    evaluate = torch.compile(loss) if compiled else loss

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = evaluate(images, labels)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def torch_peak() -> float:
    """GiB that torch held at most since it was asked last."""
    import torch

    if not torch.cuda.is_available():
        return float("nan")
    peak = torch.cuda.max_memory_allocated() / GIB
    torch.cuda.reset_peak_memory_stats()
    return float(peak)


# --- a row in a process of its own ------------------------------------------------------------------------------------
ROWS: dict[str, tuple[Callable[[argparse.Namespace], Step], Peak]] = {
    "seg": (ours, tensorflow_peak),
    "plain Keras": (plain_keras, tensorflow_peak),
    "plain Keras, oneDNN": (plain_keras, tensorflow_peak),
    "torch, eager": (partial(torch_step, compiled=False), torch_peak),
    "torch, compiled": (partial(torch_step, compiled=True), torch_peak),
}


def run_row(arguments: argparse.Namespace) -> None:
    """Answers on stdout: the seconds of the first step with all that comes before it, and peak GiB; then, for each line
    on stdin, the seconds and the processor seconds of a step."""
    build, peak = ROWS[arguments.row]
    start = time.perf_counter()
    step = build(arguments)
    float(step())
    first = time.perf_counter() - start
    peak()
    step(), float(step())
    print(json.dumps((first, peak())), flush=True)
    for _ in sys.stdin:
        float(step())
        start, before = time.perf_counter(), time.process_time()
        for _ in range(arguments.steps):
            loss = step()
        float(loss)
        took = time.perf_counter() - start, time.process_time() - before
        print(json.dumps([seconds / arguments.steps for seconds in took]), flush=True)


class Row:
    """The process of a row."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        options = ("device", "size", "filters", "batch", "classes", "steps", "precision")
        command = [sys.executable, "-m", "experiments.benchmarks.train_step", "--row", name]
        command += [f"--{option}={getattr(arguments, option)}" for option in options]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            command, env={**ENVIRONMENT, **quiet, **kernels(name)}, stdin=-1, stdout=-1, text=True
        )
        answer = self._answer()
        self.first, self.peak = answer or (float("nan"), float("nan"))
        self.runs_at_all = answer is not None
        self.found: list[list[float]] = []

    def run(self) -> None:
        """One more run."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        if (answer := self._answer()) is not None:
            self.found.append(answer)

    def end(self) -> None:
        """Lets the process end."""
        self._process.communicate()

    def _answer(self) -> list[float] | None:
        """The next answer; None once the process has ended, which has told on stderr why."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("["):  # other lines are a library's
                return list(json.loads(line))
        return None


ENVIRONMENT = dict(os.environ)  # before TensorFlow's start adds to it


def kernels(row: str) -> dict[str, str]:
    """What ours asks TensorFlow for, where it runs; elsewhere what the user has."""
    asked = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    return {"TF_ENABLE_ONEDNN_OPTS": asked} if asked and row in ("seg", "plain Keras, oneDNN") else {}


# --- what is measured and printed -------------------------------------------------------------------------------------
def names(arguments: argparse.Namespace) -> list[str]:
    """The rows there can be, ours first."""
    left_out = []
    if arguments.device == "gpu" or not kernels("seg"):
        left_out.append("plain Keras, oneDNN")
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed: no rows for it; pip install torch, best into an environment of its own")
        left_out += ["torch, eager", "torch, compiled"]
    if arguments.no_compile:
        left_out.append("torch, compiled")
    return [name for name in ROWS if name not in left_out]


def machine(device: str) -> str:
    """The chip's name, the cores that may be used and the versions."""
    import keras
    import tensorflow as tf

    if device == "gpu":
        chip = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])["device_name"]
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text("utf-8").splitlines() if info.exists() else []
        chip = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    if importlib.util.find_spec("torch") is not None:
        import torch

        versions += f", torch {torch.__version__}"
    return f"{chip}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, {versions}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints the table."""
    arguments = parse_arguments(argv)
    if arguments.row:
        run_row(arguments)
        return
    rows = {name: Row(name, arguments) for name in names(arguments)}
    rows = {name: row for name, row in rows.items() if row.runs_at_all}
    for _ in range(arguments.runs):
        for row in rows.values():
            row.run()
    for row in rows.values():
        row.end()
    print(machine(arguments.device))
    print_table(arguments, rows)


def print_table(arguments: argparse.Namespace, rows: dict[str, Row]) -> None:
    """Medians of the runs, and each over ours."""
    size = f"{arguments.batch} x {arguments.size} x {arguments.size} x 3, {arguments.classes} classes"
    table = Table(title=f"Training step, U-Net {arguments.filters} x depth {DEPTH}, {size}, {arguments.precision}")
    for column in ("", "images/s", "ms", "CPU ms", "spread", "over seg", "of CPU", "first step, s", "peak GiB"):
        table.add_column(column, justify="right" if column else "left")
    reference = [statistics.median(column) for column in zip(*next(iter(rows.values())).found, strict=True)]
    for name, row in rows.items():
        walls, processors = zip(*row.found, strict=True)
        wall, processor = statistics.median(walls), statistics.median(processors)
        low, _, high = statistics.quantiles(walls, n=4) if len(walls) > 1 else (wall, wall, wall)
        table.add_row(
            f"{name}, float32" if "Keras" in name else name,
            f"{arguments.batch / wall:.2f}",
            f"{wall * 1e3:.0f}",
            f"{processor * 1e3:.0f}",
            f"{(high - low) / wall:.0%}",
            f"{wall / reference[0]:.2f}",
            f"{processor / reference[1]:.2f}",
            f"{row.first:.0f}",
            "" if np.isnan(row.peak) else f"{row.peak:.1f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
