"""What a sampler makes the training see: class counts of its draws, beside those of the masks as they are.

Image samplers alone are counted exactly: every draw of the run, each as its whole mask. Class-centred crops
show parts of masks, so there the first draws of the run themselves are made, masks only, and counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seg.data.files.storage import File
from seg.data.files.threads import in_order
from seg.data.masks.counts import mask_pixels
from seg.data.masks.reading import MaskEncoding, read_mask
from seg.data.sampling.draws import sample_seed
from seg.data.sampling.sampler import Sampler
from seg.labels import LabelSet

if TYPE_CHECKING:  # whose import takes a second
    from seg.data.views.transforms import Augmentation

CROPS = 2048  # drawn for an estimate: a class in one crop of 20 is then known to about 10 %


@dataclass(frozen=True, eq=False)
class EffectiveCounts:
    """What some draws of a training hold.

    Attributes:
        pixels: (C,) int64: pixels of each class.
        images: (C,) int64: draws that show the class.
        image_pixels: (C,) int64: labelled pixels of those draws.
        void_pixels: Pixels without a label.
        num_draws: The draws.
        standard_error: (C,) float64, of the frequencies: 0 where every draw of the run was counted, else
            sqrt(sum_d (n_dc - f_c n_d)^2) / sum_d n_d over draws d, as if they were independent.
        exact: Whether every draw of the run was counted.
    """

    pixels: np.ndarray
    images: np.ndarray
    image_pixels: np.ndarray
    void_pixels: int
    num_draws: int
    standard_error: np.ndarray
    exact: bool

    @property
    def frequencies(self) -> np.ndarray:
        """(C,) float64: each class's share of the labelled pixels."""
        return self.pixels / max(1, int(self.pixels.sum()))


def count_image_draws(
    sampler: Sampler, *, seed: int, epochs: int, draws_per_epoch: int, crops_per_image: int
) -> EffectiveCounts:
    """Counts every draw of all epochs, exactly, each as its sample's whole mask.

    A random window shows the middle of an image more often than its border; that is not counted, here as little as in
    the counts of the masks as they are.
    """
    pixels = sampler.index.pixels
    times = np.zeros(len(pixels), np.int64)
    for epoch in range(epochs):
        drawn = sampler.draws(seed, epoch, draws_per_epoch, crops_per_image)[:, 0]
        times += np.bincount(drawn, minlength=len(pixels))
    present = sampler.index.presence.astype(np.int64)
    labelled = pixels[:, :-1].sum(axis=1)
    return EffectiveCounts(
        pixels=times @ pixels[:, :-1],
        images=times @ present,
        image_pixels=(times * labelled) @ present,
        void_pixels=int(times @ pixels[:, -1]),
        num_draws=int(times.sum()),
        standard_error=np.zeros(pixels.shape[1] - 1),
        exact=True,
    )


def count_crops(
    masks: Sequence[File],
    labels: LabelSet,
    encoding: MaskEncoding,
    augmentation: Augmentation,
    sampler: Sampler,
    *,
    seed: int,
    draws_per_epoch: int,
    crops_per_image: int,
    number: int = CROPS,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EffectiveCounts:
    """Makes the first `number` draws of a training, masks only, and counts them.

    Raises:
        DataError: A mask cannot be read.
    """
    rows = []
    for epoch in range(-(-number // draws_per_epoch)):
        drawn = sampler.draws(seed, epoch, draws_per_epoch, crops_per_image)
        rows += [(epoch, *draw) for draw in drawn.tolist()]
    by_sample: dict[int, list[tuple[int, int, int]]] = {}
    for epoch, sample, crop, centre in rows[:number]:
        by_sample.setdefault(sample, []).append((epoch, crop, centre))

    def of_sample(sample: int) -> np.ndarray:
        """Each mask is read once for all its draws."""
        mask = read_mask(masks[sample], labels, encoding)
        counted = []
        for epoch, crop, centre in by_sample[sample]:
            draw_seed = sample_seed(seed, epoch, sample, crop)
            draw = augmentation.draw(mask.shape, draw_seed, sampler.target(sample, centre, draw_seed))
            counted.append(mask_pixels(draw.transform.of_mask(mask, labels.ignore_index), labels))
        return np.stack(counted)

    found = []
    for result in in_order(of_sample, by_sample, workers or os.cpu_count() or 1):
        found.append(result)
        if progress is not None:
            progress(len(found), len(by_sample))
    return _summed(np.concatenate(found))


def _summed(counts: np.ndarray) -> EffectiveCounts:
    """From (draws, C + 1) pixels."""
    pixels = counts[:, :-1]
    present = (pixels > 0).astype(np.int64)
    labelled = pixels.sum(axis=1)
    total = pixels.sum(axis=0)
    residual = pixels - total / max(1, int(total.sum())) * labelled[:, None]
    return EffectiveCounts(
        pixels=total,
        images=present.sum(axis=0),
        image_pixels=labelled @ present,
        void_pixels=int(counts[:, -1].sum()),
        num_draws=len(counts),
        standard_error=np.sqrt((residual**2).sum(axis=0)) / max(1, int(labelled.sum())),
        exact=False,
    )
