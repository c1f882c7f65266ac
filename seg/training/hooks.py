"""What takes the place of a model's train and test function while `fit` runs, so that a callback sees the batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

import keras
import tensorflow as tf


class ModelFunction:
    """Stands in for one of a model's two functions, from `install` to `remove`; Keras calls it with an iterator.

    Keras's extension points, `make_train_function` and `make_test_function`, are for subclasses; a callback meets
    models of any class, and after `fit` has made the train function. So what the two have made is exchanged, on a
    `Segmenter` as on any other model.
    """

    def __init__(self, model: keras.Model, name: Literal["train_function", "test_function"]) -> None:
        self.model, self.name = model, name
        self.replaced: Any = None

    def install(self) -> None:
        """Takes the function's place, or that of its like, which a `fit` that was interrupted has left."""
        present = getattr(self.model, self.name)
        self.replaced = present.replaced if type(present) is type(self) else present
        setattr(self.model, self.name, self)

    def remove(self) -> None:
        """Gives back what it has replaced, to the model or to the stand-in that has come on top."""
        above, present = None, getattr(self.model, self.name)
        while present is not self and isinstance(present, ModelFunction):
            above, present = present, present.replaced
        if above is None:
            setattr(self.model, self.name, self.replaced)
        else:
            above.replaced = self.replaced

    def __call__(self, iterator: Any) -> Any:
        """Does `steps_per_execution` steps on the iterator's batches; returns the logs of the last."""
        raise NotImplementedError


class InputClock(ModelFunction):
    """Times every `next()` of the training data while `fit` runs.

    What is measured is the time from asking the dataset's iterator for a batch until it is there, on the host: 0 where
    tf.data's prefetching has it ready, the full time of loading where nothing is prefetched. On a GPU the host may ask
    ahead of the device, so that a share above 0 is an upper bound of what the device waited.

    Attributes:
        waited: Seconds since `reset`.
        images: Samples handed out since `reset`.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model, "train_function")
        self.reset()

    def reset(self) -> None:
        """Starts anew, as at the beginning of an epoch."""
        self.waited, self.images = 0.0, 0

    def __call__(self, iterator: Any) -> Any:
        """Keras's own function takes any Python iterator in place of the dataset's."""
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
        return self.replaced(_handed_over(batches))

    def _num_samples(self, batch: Any) -> int:
        first = tf.nest.flatten(batch)[0]
        return sum(int(part.shape[0]) for part in self.model.distribute_strategy.experimental_local_results(first))


def _handed_over(batches: list[Any]) -> Iterator[Any]:
    """The batches, each forgotten here once it is taken, so that its memory can go."""
    while batches:
        yield batches.pop(0)
