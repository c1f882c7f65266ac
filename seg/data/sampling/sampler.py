"""Rare classes on purpose: which images an epoch draws, and which of its crops are centred on a class.

Every draw of an epoch is either class-centred (a class by weight, one of the images that hold it, one of its pixels) or
of the image sampler's order: uniform, by repeat factors, or by class presence. An epoch has as many draws as without a
sampler, so budgets compare. All of it follows from (run seed, epoch).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg.data.sampling.draws import NO_CENTRE, epoch_draws, numbered
from seg.data.sampling.mask_index import MaskIndex
from seg.data.views.crop_transform import Target
from seg.errors import ConfigError

# Which random stream of a draw or an epoch: the augmentation's seeds have one entry less, so no two are the same.
_TARGET_STREAM = 1
_EPOCH_STREAM = 2


@dataclass(frozen=True)
class RepeatFactor:
    """Images with rare classes come more often: r_i = max over the classes c in image i of max(1, sqrt(t / f_c)).

    f_c is the share of images that hold c. The fractional part of r_i is rounded up or down at random each epoch.
    t = 1 repeats every image that holds a class which not every image holds; t at most the smallest f_c repeats none.
    Gupta, Dollar & Girshick, LVIS, CVPR 2019, arXiv:1908.03195, section 5.1.

    Attributes:
        threshold: t, in (0, 1].
    """

    threshold: float

    def factors(self, presence: np.ndarray) -> np.ndarray:
        """(N,) float64 r_i, 1 or more, from (N, C) presence; 1 for an image without a class."""
        shares = presence.mean(axis=0)
        of_class = np.sqrt(np.divide(self.threshold, shares, out=np.ones(len(shares)), where=shares > 0))
        return np.where(presence, np.maximum(1.0, of_class), 1.0).max(axis=1)

    def repeats(self, presence: np.ndarray, crops_per_image: int, generator: np.random.Generator) -> np.ndarray:
        """(N,) int64: how often each image stands in one epoch's list."""
        wanted = self.factors(presence) * crops_per_image
        whole = np.floor(wanted)
        return (whole + (generator.random(len(wanted)) < wanted - whole)).astype(np.int64)

    def draws(
        self, presence: np.ndarray, count: int, crops_per_image: int, generator: np.random.Generator
    ) -> np.ndarray:
        """(count,) the images of an epoch's draws."""
        listed = np.repeat(np.arange(len(presence)), self.repeats(presence, crops_per_image, generator))
        return generator.permutation(listed)[:count]

    def check(self, presence: np.ndarray) -> None:
        """Refuses a threshold that repeats no image.

        Raises:
            ConfigError: Says which would.
        """
        if (self.factors(presence) == 1).all():
            held = presence.mean(axis=0)
            raise ConfigError(
                f"sampler.images.threshold: got {self.threshold}, which repeats no image: the rarest class "
                f"is in {held[held > 0].min():.4g} of them; allowed: above that"
            )


@dataclass(frozen=True)
class ClassPresence:
    """A class by weight, then one of the images that hold it: p_i = sum over c in image i of v_c / n_c.

    v_c are the weights of the classes that occur, summing to 1, n_c the images that hold c. With equal weights every
    class is asked for equally often, however rare. An image without a class is never drawn.
    Shen, Lin & Huang, Relay Backpropagation, ECCV 2016, arXiv:1512.05830, section 3.3 (class-aware sampling).

    Attributes:
        weights: (C,) not negative.
    """

    weights: tuple[float, ...]

    def probabilities(self, presence: np.ndarray) -> np.ndarray:
        """(N,) float64 p_i, sums to 1, from (N, C) presence."""
        images = presence.sum(axis=0)
        shares = np.array(self.weights) * (images > 0)
        return presence @ (shares / shares.sum() / np.maximum(images, 1))

    def draws(
        self, presence: np.ndarray, count: int, crops_per_image: int, generator: np.random.Generator
    ) -> np.ndarray:
        """(count,) the images of an epoch's draws."""
        times = systematic_counts(self.probabilities(presence) * count, generator)
        return generator.permutation(np.repeat(np.arange(len(presence)), times))

    def check(self, presence: np.ndarray) -> None:
        """Every weighting of the classes changes something."""


@dataclass(frozen=True)
class CropTargets:
    """A share of the crops shows a pixel of a class drawn by weight.

    The class by weight, the image evenly from those that hold it, the pixel evenly from those that the index keeps.

    Attributes:
        share: In (0, 1]: of an epoch's crops.
        weights: (C,) not negative; 0: no crop is class-centred at the class.
        jitter: In [0, 1]: how far from the crop's centre the pixel may lie, as a share of the way to its border.
    """

    share: float
    weights: tuple[float, ...]
    jitter: float


@dataclass(frozen=True)
class Sampler:
    """Which images and which pixels the training draws.

    Attributes:
        index: Of the training masks, in their order, with the places of the classes of `crops`.
        images: How images are drawn where no crop is class-centred; None: each as often as any other.
        crops: Which crops are class-centred; None: none.

    Raises:
        ConfigError: `images` would draw as if it were not there.
    """

    index: MaskIndex
    images: RepeatFactor | ClassPresence | None = None
    crops: CropTargets | None = None

    def __post_init__(self) -> None:
        if self.images is not None:
            self.images.check(self.index.presence)

    def draws(self, seed: int, epoch: int, count: int, crops_per_image: int) -> np.ndarray:
        """The draws of an epoch: (count, 3) int64 of (sample, crop, centre class or `NO_CENTRE`), see
        `seg.data.sampling.draws`."""
        generator = np.random.default_rng((seed, epoch, _EPOCH_STREAM))
        centred = 0 if self.crops is None else int(self.crops.share * count + generator.random())
        if self.images is None:
            samples = [epoch_draws(len(self.index.presence), crops_per_image, seed, epoch, count - centred)[:, 0]]
        else:
            samples = [self.images.draws(self.index.presence, count - centred, crops_per_image, generator)]
        classes = [np.full(count - centred, NO_CENTRE)]
        if self.crops is not None:
            presence = self.index.presence
            shares = np.array(self.crops.weights)
            for label, number in enumerate(systematic_counts(shares / shares.sum() * centred, generator).tolist()):
                holding = np.flatnonzero(presence[:, label])
                if number:
                    times = systematic_counts(np.full(len(holding), number / len(holding)), generator)
                    samples.append(np.repeat(holding, times))
                    classes.append(np.full(number, label))
        drawn = np.stack([np.concatenate(samples), np.concatenate(classes)], axis=1)
        drawn = drawn[generator.permutation(count)]
        return np.stack([drawn[:, 0], numbered(drawn[:, 0]), drawn[:, 1]], axis=1)

    def target(self, sample: int, centre: int, seed: int) -> Target | None:
        """The pixel that a draw's crop is centred on, fixed by (sample, centre, the draw's seed); None without one."""
        if centre == NO_CENTRE:
            return None
        assert self.crops is not None
        places = self.index.places(sample, centre)
        row, column = places[np.random.default_rng((seed, _TARGET_STREAM)).integers(len(places))].tolist()
        return Target(row, column, self.crops.jitter)


def systematic_counts(expected: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Whole numbers with these expectations, each rounded up or down, that sum to the rounded sum: (n,) int64.

    One random start for all (systematic sampling, Madow 1949), over a random order, so that no two items always come
    together.
    """
    order = generator.permutation(len(expected))
    ends = np.cumsum(expected[order])
    ends[-1:] = np.rint(ends[-1:])  # the sum is a whole number but for rounding
    marks = np.ceil(ends - generator.random()).clip(0)
    counts = np.empty(len(expected), np.int64)
    counts[order] = np.diff(marks, prepend=0.0).astype(np.int64)
    return counts
