"""The devices that share the work of a training: `tf.distribute` as `training.distribution` asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import tensorflow as tf

from seg.data.batches.shares import ALL, Share
from seg.errors import ConfigError

Distribution = Literal["none", "mirrored"]


@dataclass(frozen=True)
class Devices:
    """What a model is built and trained on.

    Attributes:
        strategy: Its `scope` is where the model and the optimizer are made.
        note: A line for the user, or nothing.
    """

    strategy: tf.distribute.Strategy
    note: str = ""

    @classmethod
    def of(cls, distribution: Distribution, num_gpus: int) -> Devices:
        """The devices that a configuration asks for, of those that there are."""
        if distribution == "none":
            unused = f"1 of {num_gpus} GPUs is used; training.distribution=mirrored uses all of them"
            return cls(tf.distribute.get_strategy(), unused if num_gpus > 1 else "")
        kind = "GPU" if num_gpus else "CPU"
        names = tuple(device.name for device in tf.config.list_logical_devices(kind))
        return cls(_mirrored(names), f"a batch is shared by {len(names)} {kind}s")

    @property
    def number(self) -> int:
        """How many share a batch."""
        return int(self.strategy.num_replicas_in_sync)

    def check_batch_size(self, batch_size: int) -> None:
        """Raises ConfigError where the devices would not have equal parts of a batch."""
        if batch_size % self.number:
            raise ConfigError(
                f"training.batch_size: got {batch_size}, which {self.number} devices cannot share equally; allowed: a "
                f"multiple of {self.number}"
            )

    def data(self, make: Callable[[Share], tf.data.Dataset]) -> Any:
        """The data of all devices, from what makes the data of a share of them: each process loads only its own."""
        if self.number == 1:
            return make(ALL)

        def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
            number = context.num_replicas_in_sync // context.num_input_pipelines
            return make(Share(context.input_pipeline_id * number, number, context.num_replicas_in_sync))

        data = self.strategy.distribute_datasets_from_function(of_process)
        if data.cardinality > 0:  # counts a process's parts where Keras expects steps, and would warn of too few
            data._cardinality //= len(self.strategy.extended.worker_devices)
        return data


@cache  # a process's second strategy would number its exchanges anew, and TensorFlow take them for the first one's
def _mirrored(names: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(names)
