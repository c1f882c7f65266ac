"""Where a training step's time goes, by kind of operation: `python -m experiments.benchmarks.step_profile`.

Profiles steps of ours as `experiments.benchmarks.train_step` builds them, with TensorFlow's own profiler, and groups
the events of its trace: on a GPU the kernels of each stream, on a CPU the operations of TensorFlow's executor, the
compiled loss among them. Times of operations that run beside each other add up to more than the step.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.benchmarks.train_step import machine, ours, parse_arguments

PICOSECONDS = 1e-9  # in a millisecond
# The first that an event's name matches. On a CPU it is a scope and, behind a colon, the kind of operation.
KINDS = (
    ("convolutions, weight gradients", r"weight_gradient\w*/|BackpropFilter|wgrad|bwd_?filter|backward_filter"),
    ("convolutions, data gradients", r"data_gradient\w*/|gradient.*BackpropInput|dgrad|bwd_?data|backward_data"),
    ("convolutions, forward", r"Conv2D|fprop|implicit_gemm|cudnn.*conv|xmma"),
    ("normalisation", r"BatchNorm"),
    ("pooling", r"Pool"),
    ("matrix products", r"MatMul|gemm|cutlass|cublas"),
    ("loss and metric, compiled", r"Thunk|Xla|scatter"),
    ("copies between host and device", r"MEMCPY|[Mm]emcpy|MEMSET|[Mm]emset"),
    ("joining, padding, transposing, copying", r"Pad|[Cc]oncat|[Tt]ranspose|Slice|Pack|[Cc]opy"),
    ("ReLU", r"Relu"),
    ("optimizer", r"adam|Assign"),
    ("reductions, compiled", r"reduce"),
    ("elementwise, compiled", r"fusion|loop_"),
)
REST = "all else"
COMPILED = "ThunkExecutor::Execute"  # a program of XLA on a CPU: the loss, or the confusion matrix


def main(argv: Sequence[str] | None = None) -> None:
    """Profiles and prints the table."""
    arguments = parse_arguments(argv)
    step = ours(arguments)
    for _ in range(3):
        float(step())
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(arguments.steps):
                float(step())
        (trace,) = Path(folder).rglob("*.xplane.pb")
        kinds = by_kind(events(read_trace(trace)))
    print(machine(arguments.device))
    print_table(kinds, arguments.steps)


def read_trace(file: Path) -> Any:
    """The profiler's record."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(file.read_bytes())
    return space


def events(space: Any) -> Iterator[tuple[str, float]]:
    """Name and milliseconds of each kernel of a GPU's streams, or without any of each operation of the executor."""
    gpus = [plane for plane in space.planes if plane.name.startswith("/device:GPU")]
    for plane in gpus or [plane for plane in space.planes if plane.name == "/host:CPU"]:
        for line in plane.lines:
            if line.name.startswith("Stream" if gpus else "tf_"):
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name
                    if gpus or re.search(r"[^:]:\w+$", name) or name == COMPILED:
                        yield name, event.duration_ps * PICOSECONDS


def by_kind(found: Iterator[tuple[str, float]]) -> list[tuple[str, float, int, str]]:
    """Each kind with its milliseconds, its number of events and the name that took longest; the longest kind first."""
    kinds: dict[str, dict[str, list[float]]] = {}
    for name, milliseconds in found:
        kinds.setdefault(kind_of(name), {}).setdefault(name, []).append(milliseconds)
    rows = []
    for kind, names in kinds.items():
        number = sum(map(len, names.values()))
        rows.append((kind, sum(map(sum, names.values())), number, max(names, key=lambda name: sum(names[name]))))
    return sorted(rows, key=lambda row: -row[1])


def kind_of(name: str) -> str:
    """The kind of an event by its name."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, name)), REST)


def print_table(kinds: list[tuple[str, float, int, str]], steps: int) -> None:
    """Milliseconds and shares a step."""
    total = sum(took for _, took, _, _ in kinds)
    table = Table(title=f"A step of {steps}: {total / steps:.1f} ms of operations")
    for column in ("kind", "ms", "share", "number", "the longest"):
        table.add_column(column, justify="left" if column in ("kind", "the longest") else "right")
    for kind, took, number, longest in kinds:
        row = f"{took / steps:.1f}", f"{took / total:.0%}", f"{number / steps:.0f}"
        table.add_row(kind, *row, longest[-60:])
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
