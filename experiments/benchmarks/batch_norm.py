"""Keras's BatchNormalization against the fused one of `seg.models.blocks`: forward and backward, in milliseconds.

    python experiments/benchmarks/batch_norm.py

Both run as a graph on the same 4 x 256 x 256 x 32 input, in turns, so that a busy machine slows both alike. The median
of the turns and Keras's divided by ours are printed, in float32 and in mixed_bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from seg.models.blocks import FusedBatchNormalization


def step(layer: keras.layers.Layer, inputs: tf.Tensor) -> Callable[[], list[tf.Tensor]]:
    """One training step of the layer, as a graph: the gradients of the inputs, the scale and the offset."""
    layer.build(inputs.shape)

    @tf.function
    def forward_and_backward() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        return tape.gradient(outputs, [inputs, layer.gamma.value, layer.beta.value], output_gradients=inputs)

    return forward_and_backward


def milliseconds(run: Callable[[], list[tf.Tensor]]) -> float:
    """Wall time of one call, until its last result is here."""
    start = time.perf_counter()
    run()[-1].numpy()
    return (time.perf_counter() - start) * 1e3


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args(argv).turns
    print(f"{'precision':16}{'keras ms':>10}{'fused ms':>10}{'keras / fused':>15}")
    for precision in ("float32", "mixed_bfloat16"):
        dtype = keras.DTypePolicy(precision).compute_dtype
        inputs = tf.cast(tf.random.stateless_normal((4, 256, 256, 32), seed=(0, 0)), dtype)
        layers = (keras.layers.BatchNormalization(dtype=precision), FusedBatchNormalization(dtype=precision))
        runs = [step(layer, inputs) for layer in layers]
        for run in runs:
            milliseconds(run)  # traces
        times = [[milliseconds(run) for run in runs] for _ in range(turns)]
        theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{precision:16}{theirs:10.1f}{ours:10.1f}{theirs / ours:15.2f}")


if __name__ == "__main__":
    main()
