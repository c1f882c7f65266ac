"""One training step of ours beside plain Keras and torch: `python -m experiments.benchmarks.train_step`.

The same U-Net four times: ours as `seg.train` compiles it (cross-entropy + Dice, and the confusion matrix, which the
others do without); what plain Keras code gives (`BatchNormalization`, `MaxPooling2D`, cross-entropy alone, float32);
torch with channels_last and bfloat16 autocast where ours has it, eager and by torch.compile (cross-entropy + Dice). All
with AdamW, on random batches that are on the device already, so that no input is measured. The steps take turns, run by
run, each once before it is timed, so that a busy machine slows all alike: trust the ratios of the medians. Processor
time (all threads) stands beside the time on the clock, since it hardly feels other programs. Spread is the middle half
of the runs over their median. Without torch its rows are left out, with a line that says so; it is no dependency of the
project.

Peak memory is of all that a framework holds while a row's own steps run; TensorFlow and torch tell it of GPUs only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from seg.losses import Combined, CrossEntropy, Dice
from seg.metrics.confusion import ConfusionMatrix
from seg.models.unet import unet_layers
from seg.runs.hardware import start_tensorflow
from seg.runs.precision import choose_precision
from seg.training.segmenter import Segmenter

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
    arguments = parser.parse_args(argv)
    gpus = start_tensorflow()
    arguments.device = arguments.device or ("gpu" if gpus else "cpu")
    if arguments.device == "gpu" and not gpus:
        parser.error("--device gpu: TensorFlow sees no GPU")
    if arguments.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    for name, on_cpu, on_gpu in (("size", 256, 512), ("filters", 32, 64), ("batch", 4, 16), ("steps", 1, 20)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, on_gpu if arguments.device == "gpu" else on_cpu)
    if arguments.size % 2**DEPTH:
        parser.error(f"--size: got {arguments.size}, allowed: multiples of {2**DEPTH}")
    arguments.policy = choose_precision(arguments.precision, int(arguments.device == "gpu")).policy
    return arguments


# --- TensorFlow -------------------------------------------------------------------------------------------------------
def keras_step(model: keras.Model, arguments: argparse.Namespace) -> Step:
    """One step of `fit` on a batch that stays where it is."""
    draw = np.random.default_rng(0)
    shape = (arguments.batch, arguments.size, arguments.size)
    images = tf.constant(draw.normal(size=(*shape, 3)).astype(np.float32))
    labels = tf.constant(draw.integers(0, arguments.classes, shape, np.uint8))
    train = tf.function(model.train_step, jit_compile=model.jit_compile, autograph=False, reduce_retracing=True)
    return lambda: tf.reshape(train((images, labels))["loss"], ())


def ours(arguments: argparse.Namespace) -> Step:
    """As `seg.train` builds and compiles it."""
    keras.config.set_dtype_policy(arguments.policy)
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
    device, narrow = "cuda" if arguments.device == "gpu" else "cpu", arguments.policy == "mixed_bfloat16"

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


# --- what is measured and printed -------------------------------------------------------------------------------------
def rows(arguments: argparse.Namespace) -> dict[str, tuple[Callable[[], Step], Peak]]:
    """How to build each step, by name; ours first."""
    short = "bf16" if arguments.policy == "mixed_bfloat16" else "float32"
    found: dict[str, tuple[Callable[[], Step], Peak]] = {
        f"seg, {short}": (lambda: ours(arguments), tensorflow_peak),
        "plain Keras, float32": (lambda: plain_keras(arguments), tensorflow_peak),
    }
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed: no rows for it; pip install torch, best into an environment of its own")
        return found
    found[f"torch, {short}, eager"] = (lambda: torch_step(arguments, compiled=False), torch_peak)
    if not arguments.no_compile:
        found[f"torch, {short}, compiled"] = (lambda: torch_step(arguments, compiled=True), torch_peak)
    return found


def machine(device: str) -> str:
    """The chip's name, the cores that may be used and the versions."""
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
    steps: dict[str, Step] = {}
    first: dict[str, float] = {}
    peaks: dict[str, float] = {}
    found: dict[str, list[tuple[float, float]]] = {}
    for name, (build, peak) in rows(arguments).items():
        start = time.perf_counter()
        try:
            steps[name] = build()
            float(steps[name]())
        except Exception as error:  # torch.compile without a compiler, a row that does not fit the memory
            print(f"{name}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
            steps.pop(name, None)
            continue
        first[name] = time.perf_counter() - start
        peak()
        steps[name](), float(steps[name]())
        found[name], peaks[name] = [], peak()
    for _ in range(arguments.runs):
        for name, step in steps.items():
            float(step())  # now its library's threads are awake, and those of the one before wait busily no more
            start, before = time.perf_counter(), time.process_time()
            for _ in range(arguments.steps):
                loss = step()
            float(loss)
            took = time.perf_counter() - start, time.process_time() - before
            found[name].append((took[0] / arguments.steps, took[1] / arguments.steps))
    print(machine(arguments.device))
    print_table(arguments, found, first, peaks)


def print_table(
    arguments: argparse.Namespace,
    found: dict[str, list[tuple[float, float]]],
    first: dict[str, float],
    peaks: dict[str, float],
) -> None:
    """Medians of the runs, and each over ours."""
    size = f"{arguments.batch} x {arguments.size} x {arguments.size} x 3, {arguments.classes} classes"
    table = Table(title=f"Training step, U-Net {arguments.filters} x depth {DEPTH}, {size}")
    for column in ("", "images/s", "ms", "CPU ms", "spread", "over seg", "of CPU", "first step, s", "peak GiB"):
        table.add_column(column, justify="right" if column else "left")
    reference = [statistics.median(column) for column in zip(*next(iter(found.values())), strict=True)]
    for name, runs in found.items():
        walls, processors = zip(*runs, strict=True)
        wall, processor = statistics.median(walls), statistics.median(processors)
        low, _, high = statistics.quantiles(walls, n=4) if len(walls) > 1 else (wall, wall, wall)
        table.add_row(
            name,
            f"{arguments.batch / wall:.2f}",
            f"{wall * 1e3:.0f}",
            f"{processor * 1e3:.0f}",
            f"{(high - low) / wall:.0%}",
            f"{wall / reference[0]:.2f}",
            f"{processor / reference[1]:.2f}",
            f"{first[name]:.0f}",
            "" if np.isnan(peaks[name]) else f"{peaks[name]:.1f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
