"""Which part of each batch a process makes, where several devices work on one batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Share(NamedTuple):
    """The replicas `first` to `first` + `number` - 1 of `total`.

    A training batch is cut by position: replica r of R has the samples r B / R to (r + 1) B / R - 1 of B. So the
    replicas of a step have between them exactly the batch that one device would have, whatever processes they are in.
    """

    first: int
    number: int
    total: int

    def part_size(self, batch_size: int) -> int:
        """Samples of a batch that each replica gets.

        Raises:
            ValueError: The parts would not be equal.
        """
        if batch_size % self.total:
            raise ValueError(f"batch_size: got {batch_size} for {self.total} replicas, allowed: a multiple of that")
        return batch_size // self.total

    def parts(self, draws: Any) -> Any:
        """Of the draws of a batch (B, n), a tensor, what these replicas get, (number, B / total, n)."""
        import tensorflow as tf

        size, columns = draws.shape
        of_all = tf.reshape(draws, (self.total, self.part_size(size), columns))
        return of_all[self.first : self.first + self.number]

    def of_evaluation(self, num_views: int, batch_size: int) -> tuple[np.ndarray, int]:
        """Whole batches in turn: batch b is replica b mod total's.

        Returns:
            The views of these replicas' batches, in the order in which they are handed out, which only the last batch
            of all ends early; and how many batches without images follow, so that all replicas have as many.
        """
        num_batches = -(-num_views // batch_size)
        rounds = -(-num_batches // self.total)
        of_all = np.arange(rounds * self.total).reshape(rounds, self.total)
        numbers = of_all[:, self.first : self.first + self.number].ravel()
        there = numbers[numbers < num_batches]
        views = (there[:, None] * batch_size + np.arange(batch_size)).ravel()
        return views[views < num_views], len(numbers) - len(there)


ALL = Share(0, 1, 1)
