"""Times losses forward and backward, side by side in one process: `python -m experiments.benchmarks.losses`.

Every row is the median of runs that alternate between the rows, so that a busy machine slows all of them alike: trust
the ratios. The reference (ratio 1) is the cross-entropy that snippets on the web compute from a one-hot softmax. Torch,
MONAI and segmentation-models-pytorch have rows where they are installed; none is a dependency of the project.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import rich
import rich.table
import tensorflow as tf

from seg.losses import Combined, CrossEntropy, Dice, Focal, GeneralisedDice, Lovasz, TopKCrossEntropy, Tversky

IGNORE_INDEX = 255
Step = Callable[[], Any]  # one forward and backward pass, waited for


def main() -> None:
    """Measures and prints the table."""
    arguments = parse_arguments()
    tf.get_logger().setLevel("ERROR")  # no advice about the many functions that are traced on purpose
    labels, logits, weights = random_pixels(arguments.batch, arguments.size, arguments.classes)
    steps = {
        f"{name}, {'XLA' if jit else 'graph'}": tensorflow_step(loss, labels, logits, jit)
        for jit in ((True, False) if arguments.graph else (True,))
        for name, loss in tensorflow_losses(weights).items()
    } | torch_steps(labels, logits, weights)
    times = median_times(steps, arguments.runs)
    reference = times["one-hot softmax snippet, XLA"]
    table = rich.table.Table("loss", "ms", "ratio", title=f"{logits.shape} float32, forward + backward")
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.1f}", f"{milliseconds / reference:.2f}")
    rich.print(table)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=10, help="timed passes of each loss")
    parser.add_argument("--graph", action="store_true", help="also without XLA")
    return parser.parse_args()


def random_pixels(batch: int, size: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N, H, W) uint8 with 5 % void, logits (N, H, W, C) and class weights (C,)."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, (batch, size, size), np.uint8)
    labels[generator.random(labels.shape) < 0.05] = IGNORE_INDEX
    logits = generator.normal(0, 3, (batch, size, size, classes)).astype(np.float32)
    return labels, logits, np.linspace(0.5, 3.0, classes, dtype=np.float32)


def tensorflow_losses(weights: np.ndarray) -> dict[str, Callable[[Any, Any], Any]]:
    """What is measured, by name: the snippet, ours, Keras's."""
    given = weights.tolist()
    cross_entropy, focal, dice = (loss(class_weights=given) for loss in (CrossEntropy, Focal, Dice))
    keras_focal = keras.losses.CategoricalFocalCrossentropy(alpha=given, gamma=2.0, from_logits=True)

    def snippet(labels: Any, logits: Any) -> Any:
        targets = tf.one_hot(labels, len(weights))
        probabilities = tf.clip_by_value(tf.nn.softmax(logits), 1e-7, 1.0)
        return -tf.reduce_mean(tf.reduce_sum(targets * tf.math.log(probabilities) * weights, axis=-1))

    return {
        "one-hot softmax snippet": snippet,
        "seg cross-entropy": cross_entropy,
        "seg focal": focal,
        "seg Dice": dice,
        "seg cross-entropy, smoothed": CrossEntropy(class_weights=given, label_smoothing=0.1),
        "seg top-k cross-entropy": TopKCrossEntropy(class_weights=given),
        "seg Jaccard": Tversky(alpha=1.0, beta=1.0, class_weights=given),
        "seg focal Tversky": Tversky(gamma=4 / 3, class_weights=given),
        "seg generalised Dice": GeneralisedDice(class_weights=given),
        "seg Lovasz": Lovasz(class_weights=given),
        "seg cross-entropy + Dice": Combined([(1.0, cross_entropy), (1.0, dice)]),
        "seg focal + Dice": Combined([(1.0, focal), (1.0, dice)]),
        "seg cross-entropy + focal + Dice": Combined([(1.0, cross_entropy), (1.0, focal), (1.0, dice)]),
        "Keras sparse cross-entropy (no weights)": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=IGNORE_INDEX
        ),
        "Keras categorical focal": lambda labels, logits: keras_focal(tf.one_hot(labels, len(weights)), logits),
    }


def tensorflow_step(loss: Callable[[Any, Any], Any], labels: np.ndarray, logits: np.ndarray, jit: bool) -> Step:
    """A traced step of one loss."""

    @tf.function(jit_compile=jit, autograph=False)
    def step(labels: Any, logits: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    inputs = tf.constant(labels), tf.constant(logits)
    return lambda: [result.numpy() for result in step(*inputs)]


def torch_steps(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> dict[str, Step]:
    """The other packages' losses on logits (N, C, H, W), their own order of axes; none where torch is not installed."""
    torch = installed("torch")
    if torch is None:
        return {}
    targets = torch.from_numpy(labels.astype(np.int64))
    inputs = torch.from_numpy(logits.transpose(0, 3, 1, 2).copy()).requires_grad_()
    weight = torch.from_numpy(weights)
    no_void = torch.where(targets == IGNORE_INDEX, 0, targets)  # for those that know no void: class 0 there

    def step(loss: Callable[[Any, Any], Any], targets: Any) -> Step:
        return lambda: torch.autograd.grad(loss(inputs, targets), inputs)

    cross_entropy = torch.nn.CrossEntropyLoss(weight=weight, ignore_index=IGNORE_INDEX)
    steps = {"torch F.cross_entropy, eager": step(cross_entropy, targets)}
    for name, loss in monai_losses(weight).items():
        steps[f"MONAI {name}, eager"] = step(loss, no_void[:, None])
    for name, loss in smp_losses().items():
        steps[f"smp {name}, eager"] = step(loss, no_void)
    return steps


def monai_losses(weight: Any) -> dict[str, Callable[[Any, Any], Any]]:
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


def smp_losses() -> dict[str, Callable[[Any, Any], Any]]:
    """The losses of segmentation-models-pytorch of the same kinds."""
    smp = installed("segmentation_models_pytorch.losses")
    names = ("DiceLoss", "JaccardLoss", "TverskyLoss", "LovaszLoss")
    return {} if smp is None else {name: getattr(smp, name)("multiclass") for name in names}


def installed(module: str) -> Any:
    """The module, or None with a line that says so; no peer is a dependency of the project."""
    try:
        return importlib.import_module(module)
    except ImportError:
        print(f"{module} is not installed: no rows for it")
        return None


def median_times(steps: dict[str, Step], runs: int) -> dict[str, float]:
    """Median milliseconds of each step; the steps take turns, after one untimed pass that compiles."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(runs):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
