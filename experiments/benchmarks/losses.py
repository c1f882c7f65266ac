"""Times losses forward and backward beside their peers: `python -m experiments.benchmarks.losses`.

The steps take turns, run by run, each once before it is timed, so that a busy machine slows all alike: trust the ratios
of the medians. Processor time (all threads) stands beside the time on the clock, since it hardly feels other programs.
Ours and Keras's are compiled by XLA, torch's, MONAI's and segmentation-models-pytorch's are eager, as their users run
them. A peer that is not installed is left out, with a line that says so; none is a dependency of the project.

Each shape is measured in processes of its own, with the memory allocator as it is and with one that keeps its pages
(`--allocator`): fresh pages cost more than the arithmetic where the system hands them out slowly. `of a copy` is
the time of one pass that reads and writes the logits over the loss's, which can be no faster. Memory is what XLA
reports of the compiled step, in multiples of the logits: labels, logits, gradient and all that lies between. Where
TensorFlow has a GPU ours run there, with KERAS_BACKEND=jax on JAX's device, and torch on CUDA if it has it; on JAX
memory is not measured.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from seg.losses import (
    BinaryCrossEntropy,
    Combined,
    CrossEntropy,
    Dice,
    Focal,
    GeneralisedDice,
    Lovasz,
    TopKCrossEntropy,
    Tversky,
)

IGNORE_INDEX = 255
SHAPES = ((8, 256, 256, 8), (4, 512, 512, 19))
GPU_SHAPE = (16, 512, 512, 16)
QUICK_SHAPE = (2, 64, 64, 8)
WARM = {  # glibc: the heap grows in large steps and is never given back, so no page is fetched twice
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}
COMPILED = "torch F.cross_entropy, compiled"
TARGETS = (  # ours, the peer that computes the same, the largest ratio
    ("cross-entropy", "torch F.cross_entropy", 0.30),
    ("cross-entropy", COMPILED, 0.80),
    ("cross-entropy", f"{COMPILED}, channels_last", 0.80),
    ("focal", "MONAI FocalLoss", 0.12),
    ("focal", "Keras categorical focal", 0.50),
    ("Dice", "MONAI DiceLoss", 0.35),
    ("cross-entropy + Dice", "MONAI DiceCELoss", 0.30),
    ("focal + Dice", "MONAI DiceFocalLoss", 0.25),
    ("binary cross-entropy", "torch BCEWithLogitsLoss", 1.0),
    ("Lovasz", "smp LovaszLoss", 1.0),
)
XLA_DUMP = "LOSSES_XLA_DUMP"  # the environment variable that tells a child the folder
COPY = "one read and write of the logits"
Step = Callable[[], Any]  # one forward and backward pass, waited for
Loss = Callable[[Any, Any], Any]  # of labels and logits


def main() -> None:
    """Measures and prints the tables."""
    arguments = parse_arguments()
    if arguments.child:
        print(json.dumps(CHILDREN[arguments.child](arguments)))
        return
    for shape in [arguments.shape] if arguments.shape else default_shapes(arguments.quick):
        told = keras.backend.backend() == "tensorflow" and not arguments.no_memory
        memory = memory_of_steps(shape, arguments.seed) if told else {}
        for allocator in ("default", "warm") if arguments.allocator == "both" else (arguments.allocator,):
            extra = WARM if allocator == "warm" else {}
            options = ["--runs", str(arguments.runs), "--seed", str(arguments.seed)]
            rows = child("times", shape, extra, *options, *["--compile"] * arguments.compile)
            print(f"\n{shape} float32, {keras.backend.backend()}, allocator {allocator}, seed {arguments.seed}\n")
            print_times(rows, memory)
            print_targets(rows)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=shape_of, help="N,H,W,C; default: two shapes, one on a GPU")
    parser.add_argument("--runs", type=int, default=15, help="timed passes of each loss")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one small shape, to see that all runs")
    parser.add_argument("--allocator", choices=("default", "warm", "both"), default="both")
    parser.add_argument("--no-memory", action="store_true", help="leave it out: it takes a process for each loss")
    parser.add_argument("--compile", action="store_true", help="torch's cross-entropy by torch.compile too")
    parser.add_argument("--child", choices=tuple(CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--loss", help=argparse.SUPPRESS)
    return parser.parse_args()


def shape_of(text: str) -> tuple[int, ...]:
    """(N, H, W, C) from its numbers with commas between."""
    shape = tuple(map(int, text.split(",")))
    if len(shape) != 4:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed: N,H,W,C")
    return shape


def default_shapes(quick: bool) -> tuple[tuple[int, ...], ...]:
    """What is measured where no shape is given."""
    if quick:
        return (QUICK_SHAPE,)
    return (GPU_SHAPE,) if on_gpu() else SHAPES


def on_gpu() -> bool:
    """Whether ours run on a GPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    import jax

    return bool(jax.default_backend() == "gpu")


def child(task: str, shape: tuple[int, ...], environment: dict[str, str], *options: str) -> dict[str, Any]:
    """What a task of `CHILDREN` returns in a process of its own."""
    command = [sys.executable, "-m", "experiments.benchmarks.losses", "--child", task]
    command += ["--shape", ",".join(map(str, shape)), *options]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    done = subprocess.run(command, env={**os.environ, **quiet, **environment}, stdout=subprocess.PIPE, check=True)
    *lines, result = done.stdout.decode().splitlines()
    print(*lines, sep="\n", end="\n" if lines else "")
    return dict(json.loads(result))


# --- what is measured -------------------------------------------------------------------------------------------------
def random_pixels(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N, H, W) uint8 with 5 % void, logits (N, H, W, C) and class weights (C,)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, shape[-1], shape[:3], np.uint8)
    labels[generator.random(labels.shape) < 0.05] = IGNORE_INDEX
    logits = generator.normal(0, 3, shape).astype(np.float32)
    return labels, logits, np.linspace(0.5, 3.0, shape[-1], dtype=np.float32)


def our_losses(weights: np.ndarray) -> dict[str, Loss]:
    """Ours, by name."""
    given = weights.tolist()
    binary = BinaryCrossEntropy(pos_weight=given)
    cross_entropy, focal, dice = (loss(class_weights=given) for loss in (CrossEntropy, Focal, Dice))
    return {
        "cross-entropy": cross_entropy,
        "focal": focal,
        "Dice": dice,
        "cross-entropy + Dice": Combined([(1.0, cross_entropy), (1.0, dice)]),
        "focal + Dice": Combined([(1.0, focal), (1.0, dice)]),
        "cross-entropy + focal + Dice": Combined([(1.0, cross_entropy), (1.0, focal), (1.0, dice)]),
        "cross-entropy, smoothed": CrossEntropy(class_weights=given, label_smoothing=0.1),
        "binary cross-entropy": lambda labels, logits: binary(planes(labels, len(weights)), logits),
        "top-k cross-entropy": TopKCrossEntropy(class_weights=given),
        "Jaccard": Tversky(alpha=1.0, beta=1.0, class_weights=given),
        "focal Tversky": Tversky(gamma=4 / 3, class_weights=given),
        "generalised Dice": GeneralisedDice(class_weights=given),
        "Lovasz": Lovasz(class_weights=given),
    }


def planes(labels: Any, num_classes: int) -> Any:
    """A plane of 0 and 1 for each class, (N, H, W, C) uint8, which exists in the compiler only."""
    return keras.ops.one_hot(labels, num_classes, dtype="uint8")


def keras_losses(weights: np.ndarray) -> dict[str, Loss]:
    """Keras's own of the same kinds; void pixels count in its focal loss."""
    focal = keras.losses.CategoricalFocalCrossentropy(alpha=weights.tolist(), gamma=2.0, from_logits=True)
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE_INDEX)
    return {
        "Keras sparse cross-entropy (no weights)": sparse,
        "Keras categorical focal": lambda labels, logits: focal(keras.ops.one_hot(labels, len(weights)), logits),
    }


def compiled_step(loss: Loss, labels: np.ndarray, logits: np.ndarray) -> Step:
    """A step compiled by XLA, on the backend that Keras runs on."""
    if keras.backend.backend() == "jax":
        return jax_step(loss, labels, logits)
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def step(labels: Any, logits: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    inputs = tf.constant(labels), tf.constant(logits)

    def run() -> Any:
        value, gradient = step(*inputs)
        return float(value), gradient  # the value is copied, which waits; the gradient stays where it is

    return run


def jax_step(loss: Loss, labels: np.ndarray, logits: np.ndarray) -> Step:
    """The same on JAX."""
    import jax

    step = jax.jit(jax.value_and_grad(lambda logits, labels: loss(labels, logits)))
    inputs = jax.device_put(logits), jax.device_put(labels)
    return lambda: jax.block_until_ready(step(*inputs))


def copy_step(logits: np.ndarray) -> Step:
    """One compiled pass that reads the logits and writes as much."""
    if keras.backend.backend() == "jax":
        import jax

        doubled, inputs = jax.jit(lambda logits: logits * 2.0), jax.device_put(logits)
        return lambda: jax.block_until_ready(doubled(inputs))
    import tensorflow as tf

    twice = tf.function(lambda logits: (logits * 2.0, logits[0, 0, 0, 0]), jit_compile=True, autograph=False)
    constant = tf.constant(logits)

    def run() -> Any:
        result, value = twice(constant)
        return float(value), result

    return run


def torch_steps(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray, compiled: bool) -> dict[str, Step]:
    """The other packages' losses on logits (N, C, H, W), their own order of axes, on CUDA where ours run on a GPU.

    With `compiled` also torch's cross-entropy by torch.compile, on these and on the same with the channels last in
    memory.
    """
    torch = installed("torch")
    if torch is None:
        return {}
    device = "cuda" if on_gpu() and torch.cuda.is_available() else "cpu"
    targets = torch.from_numpy(labels.astype(np.int64)).to(device)
    inputs = torch.from_numpy(logits.transpose(0, 3, 1, 2).copy()).to(device).requires_grad_()
    weight = torch.from_numpy(weights).to(device)
    no_void = torch.where(targets == IGNORE_INDEX, 0, targets)  # for those that know no void: class 0 there

    def step(loss: Loss, targets: Any, inputs: Any = inputs) -> Step:
        def run() -> Any:
            gradient = torch.autograd.grad(loss(inputs, targets), inputs)
            if device == "cuda":
                torch.cuda.synchronize()
            return gradient

        return run

    cross_entropy = torch.nn.CrossEntropyLoss(weight=weight, ignore_index=IGNORE_INDEX)
    steps = {"torch F.cross_entropy": step(cross_entropy, targets)}
    if compiled:
        last = torch.from_numpy(logits).to(device).permute(0, 3, 1, 2).requires_grad_()
        for layout, given in (("", inputs), (", channels_last", last)):
            steps[f"{COMPILED}{layout}"] = step(torch.compile(cross_entropy, dynamic=False), targets, given)
    hot = torch.from_numpy(np.moveaxis(labels[..., None] == np.arange(len(weights)), -1, 1).astype(np.float32))
    binary = torch.nn.BCEWithLogitsLoss(pos_weight=weight[:, None, None])
    steps["torch BCEWithLogitsLoss"] = step(binary, hot.to(device))
    steps |= {f"MONAI {name}": step(loss, no_void[:, None]) for name, loss in monai_losses(weight).items()}
    return steps | {f"smp {name}": step(loss, no_void) for name, loss in smp_losses().items()}


def monai_losses(weight: Any) -> dict[str, Loss]:
    """MONAI's losses of the same kinds, summed over the batch as ours are."""
    monai = installed("monai.losses")
    if monai is None:
        return {}
    options = {"to_onehot_y": True, "softmax": True, "batch": True}
    return {
        "DiceLoss": monai.DiceLoss(**options),
        "FocalLoss": monai.FocalLoss(to_onehot_y=True, use_softmax=True, weight=weight),
        "DiceCELoss": monai.DiceCELoss(**options, weight=weight),
        "DiceFocalLoss": monai.DiceFocalLoss(**options, weight=weight),
        "TverskyLoss": monai.TverskyLoss(**options),
        "GeneralizedDiceLoss": monai.GeneralizedDiceLoss(**options),
    }


def smp_losses() -> dict[str, Loss]:
    """The losses of segmentation-models-pytorch of the same kinds; without its encoders, which need more packages."""
    package = "segmentation_models_pytorch"
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        bare = types.ModuleType(package)
        bare.__path__ = [str(Path(spec.origin).parent)]
        sys.modules[package] = bare
    smp = installed(f"{package}.losses")
    names = ("DiceLoss", "JaccardLoss", "TverskyLoss", "LovaszLoss")
    return {} if smp is None else {name: getattr(smp, name)("multiclass") for name in names}


def installed(module: str) -> Any:
    """The module, or None with a line that says so; no peer is a dependency of the project."""
    try:
        return importlib.import_module(module)
    except ImportError:
        print(f"{module} is not installed: no rows for it")
        return None


# --- in a process of its own ------------------------------------------------------------------------------------------
def measure_times(arguments: argparse.Namespace) -> dict[str, tuple[float, float, float]]:
    """Medians of each step: milliseconds, milliseconds of processor time, page faults. The steps take turns."""
    labels, logits, weights = random_pixels(arguments.shape, arguments.seed)
    losses = {f"seg {name}": loss for name, loss in our_losses(weights).items()} | keras_losses(weights)
    steps = {name: compiled_step(loss, labels, logits) for name, loss in losses.items()}
    steps[COPY] = copy_step(logits)
    steps |= torch_steps(labels, logits, weights, arguments.compile)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in steps}
    for step in steps.values():
        step(), step()
    for _ in range(arguments.runs):
        for name, step in steps.items():
            step()  # now its library's threads are awake, and those of the one before wait busily no more
            before, start, faults = time.process_time(), time.perf_counter(), page_faults()
            result = step()
            took = 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - before)
            found[name].append((*took, float(page_faults() - faults)))
            del result
    return {name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in found.items()}


def page_faults() -> int:
    """Pages that this process had to be given so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure_memory(arguments: argparse.Namespace) -> dict[str, float]:
    """The bytes that XLA allots to a step, in multiples of the logits; it writes its reports to `XLA_DUMP`."""
    labels, logits, weights = random_pixels(arguments.shape, arguments.seed)
    compiled_step(our_losses(weights)[arguments.loss], labels, logits)()
    reports = [path.read_text() for path in Path(os.environ[XLA_DUMP]).glob("*memory-usage-report.txt")]
    used = [int(found[1]) for text in reports if (found := re.match(r"Total bytes used: (\d+)", text))]
    return {"ratio": max(used) / logits.nbytes}


CHILDREN: dict[str, Callable[[argparse.Namespace], Any]] = {"times": measure_times, "memory": measure_memory}


# --- what is printed --------------------------------------------------------------------------------------------------
def memory_of_steps(shape: tuple[int, ...], seed: int) -> dict[str, float]:
    """`measure_memory` of each of our losses."""
    found = {}
    for name in our_losses(np.ones(shape[-1], np.float32)):
        with tempfile.TemporaryDirectory() as folder:
            flags = {"XLA_FLAGS": f"--xla_dump_to={folder} --xla_dump_hlo_as_text", XLA_DUMP: folder}
            found[f"seg {name}"] = child("memory", shape, flags, "--loss", name, "--seed", str(seed))["ratio"]
    return found


def print_times(rows: dict[str, tuple[float, float, float]], memory: dict[str, float]) -> None:
    """The medians as a Markdown table."""
    print("| loss, forward + backward | ms | processor ms | of a copy | page faults | memory / logits |")
    print("|---|---|---|---|---|---|")
    for name, (wall, processor, faults) in rows.items():
        multiple = f"{memory[name]:.2f}" if name in memory else ""
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {rows[COPY][0] / wall:.0%} | {faults:.0f} | {multiple} |")


def print_targets(rows: dict[str, tuple[float, float, float]]) -> None:
    """The ratios to the peers, and whether they are what they should be, as a Markdown table."""
    print("\n| ours | peer | ratio | of processor time | target | |\n|---|---|---|---|---|---|")
    for ours, peer, target in TARGETS:
        if peer in rows:
            print_ratio(ours, peer, rows[f"seg {ours}"], rows[peer], target)
    alone = sorted((rows[f"seg {name}"] for name in ("cross-entropy", "focal", "Dice")), reverse=True)
    two = [sum(parts) for parts in zip(*alone[:2], strict=True)]
    print_ratio("cross-entropy + focal + Dice", "two of the three", rows["seg cross-entropy + focal + Dice"], two, 1.0)


def print_ratio(ours: str, peer: str, found: Any, reference: Any, target: float) -> None:
    """One row of `print_targets`."""
    ratio = found[0] / reference[0]
    verdict = "met" if ratio <= target else "not met"
    print(f"| {ours} | {peer} | {ratio:.2f} | {found[1] / reference[1]:.2f} | {target:.2f} | {verdict} |")


if __name__ == "__main__":
    main()
