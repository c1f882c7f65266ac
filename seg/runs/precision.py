"""Which precision a run computes in: what is stated, what it began with, else by the GPU or a measurement here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seg.errors import DataError

Asked = Literal["auto", "float32", "mixed_bfloat16"]
POLICIES = ("float32", "mixed_bfloat16")
FIRST_CAPABILITY = (8, 0)  # of an NVIDIA GPU that multiplies bfloat16 (Ampere); older ones emulate it
SHAPE = (2, 64, 64, 64)  # of the images that are convolved into as many channels: 1.8 GFLOP forward and backward
ROUNDS = 5
MARGIN = 1.15  # by how much bfloat16 has to be faster to be worth its digits; also what noise may feign
HOPELESS = 2.0  # times as slow in the first round: no further rounds


@dataclass(frozen=True)
class Precision:
    """A Keras dtype policy, and why it."""

    policy: str
    reason: str


def choose_precision(asked: Asked, num_gpus: int, earlier: Path | None = None) -> Precision:
    """The precision of a run.

    `auto` is mixed_bfloat16 on GPUs that multiply it, and on a CPU where a convolution's training step is faster by a
    margin in it: flags of a processor tell what it has, not what the libraries make of it. A resumed run keeps what it
    began with, as another precision would lead its weights elsewhere.

    Args:
        asked: What the configuration says.
        num_gpus: GPUs that TensorFlow sees.
        earlier: The `environment.json` of the run's first start, if it has one.

    Raises:
        DataError: `earlier` cannot be read.
    """
    if asked != "auto":
        return Precision(asked, "as the configuration says")
    if earlier is not None and earlier.exists():
        return _recorded(earlier)
    if num_gpus:
        return _of_gpus()
    return by_times(measured(ROUNDS))


def _recorded(file: Path) -> Precision:
    try:
        known = json.loads(file.read_text("utf-8"))
        policy, reason = known["precision"], known.get("precision_reason", "as the run began")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        policy, reason = None, ""
    if policy not in POLICIES:
        raise DataError(
            f"{file}: got no precision that the run could go on with; allowed: the file that seg.train wrote, or "
            f"training.precision in the run's config.yaml ({', '.join(POLICIES)})"
        )
    return Precision(policy, str(reason))


def _of_gpus() -> Precision:
    """bfloat16 unless a GPU is known to be too old for it."""
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    known = [detail["compute_capability"] for detail in details if detail.get("compute_capability")]
    if not known:
        return Precision("mixed_bfloat16", "on a GPU that tells no compute capability")
    lowest = min(known)
    policy = "mixed_bfloat16" if lowest >= FIRST_CAPABILITY else "float32"
    return Precision(policy, f"a GPU of compute capability {lowest[0]}.{lowest[1]}, bfloat16 from 8.0 on")


def by_times(seconds: dict[str, float]) -> Precision:
    """The faster policy, bfloat16 only by the margin."""
    full, half = (seconds[policy] for policy in POLICIES)
    times = f"a convolution's training step takes {full * 1e3:.1f} ms in float32, {half * 1e3:.1f} in bfloat16 here"
    return Precision(POLICIES[1] if half * MARGIN < full else POLICIES[0], times)


def measured(rounds: int) -> dict[str, float]:
    """Seconds of the training step in either policy: the shortest of `rounds`, taken in turns.

    What else runs on the machine can only lengthen a step, and slows both where they alternate.
    """
    steps = {policy: training_step(policy) for policy in POLICIES}
    for step in steps.values():
        step()
    found = {policy: float("inf") for policy in POLICIES}
    for _ in range(rounds):
        for policy, step in steps.items():
            start = time.perf_counter()
            step()
            found[policy] = min(found[policy], time.perf_counter() - start)
        if found["mixed_bfloat16"] > HOPELESS * found["float32"]:
            break
    return found


def training_step(policy: str) -> Callable[[], Any]:
    """Forward and backward through a 3 x 3 convolution, batch normalisation and ReLU, as the models have them."""
    import keras
    import tensorflow as tf

    from seg.models.blocks import FusedBatchNormalization
    from seg.models.convolutions import Convolution3x3

    # Zeros take as long as other numbers, and no random stream is touched.
    layers: list[Any] = [
        Convolution3x3(SHAPE[-1], use_bias=False, kernel_initializer="zeros", dtype=policy, name="timed_conv"),
        FusedBatchNormalization(dtype=policy, name="timed_norm"),
    ]
    for layer in layers:
        layer.build(SHAPE)
    images = tf.zeros(SHAPE, keras.DTypePolicy(policy).compute_dtype)
    kernel = layers[0].trainable_weights[0].value

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = images
            for layer in layers:
                outputs = layer(outputs, training=True)
            total = tf.reduce_sum(tf.nn.relu(outputs))
        return [tf.reshape(part, (-1,))[0] for part in tape.gradient(total, [images, kernel])]

    return lambda: [part.numpy() for part in step()]
