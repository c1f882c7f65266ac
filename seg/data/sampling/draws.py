"""What an epoch draws: which samples, in which order, and the seed of everything random about each draw.

A draw is (sample, crop, centre): the sample's index, the number of the draw among those of the sample in this epoch,
and the class that the crop is centred on or `NO_CENTRE`. (run seed, epoch, sample, crop) differ between any two draws
of a run, and so do their seeds.
"""

from __future__ import annotations

import numpy as np

from seg.errors import DataError

NO_CENTRE = -1


def sample_seed(run_seed: int, epoch: int, sample_index: int, crop_index: int) -> int:
    """A 64-bit seed for one draw: of a million draws, two are equal with probability 3e-8."""
    sequence = np.random.SeedSequence((run_seed, epoch, sample_index, crop_index))
    return int(sequence.generate_state(1, np.uint64)[0])


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch: a permutation of range(num_samples), int64, fixed by (seed, epoch)."""
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


def epoch_draws(num_samples: int, crops_per_image: int, seed: int, epoch: int, count: int) -> np.ndarray:
    """The first `count` draws of an epoch that visits each sample `crops_per_image` times: (count, 3) int64."""
    order = epoch_order(num_samples * crops_per_image, seed, epoch)[:count]
    return np.stack([order // crops_per_image, order % crops_per_image, np.full_like(order, NO_CENTRE)], axis=1)


def numbered(samples: np.ndarray) -> np.ndarray:
    """For each entry how often its value came before it: [4, 2, 4, 4] -> [0, 0, 1, 2]."""
    order = np.argsort(samples, kind="stable")
    ordered = samples[order]
    first = np.searchsorted(ordered, ordered)  # where each value's run begins
    numbers = np.empty(len(samples), np.int64)
    numbers[order] = np.arange(len(samples)) - first
    return numbers


def steps_per_epoch(num_samples: int, batch_size: int, crops_per_image: int = 1) -> int:
    """Whole batches in an epoch; the samples left over come in another epoch's order.

    Raises:
        DataError: There is not one whole batch.
    """
    crops = num_samples * crops_per_image
    if crops < batch_size:
        raise DataError(
            f"the training split has {num_samples} samples, {crops_per_image} crops each, fewer than one batch: "
            f"got batch_size {batch_size}, allowed: 1 to {crops}"
        )
    return crops // batch_size
