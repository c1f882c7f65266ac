"""How long training waits for its input."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf


class InputClock:
    """Times every `next()` of the training data while `fit` runs.

    What is measured is the time from asking the dataset's iterator for a batch until it is there, on the host: 0 where
    tf.data's prefetching has it ready, the full time of loading where nothing is prefetched. On a GPU the host may ask
    ahead of the device, so that a share above 0 is an upper bound of what the device waited.

    Attributes:
        waited: Seconds since `reset`.
        images: Samples handed out since `reset`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.reset()
        self._replaced: Any = None

    def reset(self) -> None:
        """Starts anew, as at the beginning of an epoch."""
        self.waited, self.images = 0.0, 0

    def install(self) -> None:
        """Puts itself before the model's train function, which `fit` has made by now."""
        if self.model.train_function != self._train_function:  # still there after a fit that was interrupted
            self._replaced, self.model.train_function = self.model.train_function, self._train_function

    def remove(self) -> None:
        """Gives the model its own train function back."""
        self.model.train_function = self._replaced

    def _train_function(self, iterator: Any) -> Any:
        """What `fit` calls. Keras's own function takes any Python iterator in place of the dataset's."""
        batches = []
        for _ in range(self.model.steps_per_execution):
            started = time.perf_counter()
            try:
                batches.append(next(iterator))
            except StopIteration:
                if not batches:
                    raise
                break
            finally:
                self.waited += time.perf_counter() - started
        self.images += sum(self._num_samples(batch) for batch in batches)
        return self._replaced(_handed_over(batches))

    def _num_samples(self, batch: Any) -> int:
        first = tf.nest.flatten(batch)[0]
        return sum(int(part.shape[0]) for part in self.model.distribute_strategy.experimental_local_results(first))


def _handed_over(batches: list[Any]) -> Iterator[Any]:
    """The batches, each forgotten here once it is taken, so that its memory can go."""
    while batches:
        yield batches.pop(0)
