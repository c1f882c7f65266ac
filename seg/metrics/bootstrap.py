"""Bootstrap confidence intervals over images, or over groups of images. NumPy only.

An image's scores are known from its (C, 3) or (K, 4) sums (`seg.metrics.iou.matrix_sums`), and those of a resample of
the images from the sums of its images. So all resamples are one matrix product, whatever the images' size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from seg.metrics.iou import OVERALL, PER_CLASS, score_sums

LEVEL = 0.95
CHUNK = 1 << 24  # numbers of one chunk of resamples: 128 MiB, however many images and classes there are


def group_sums(sums: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """(G, C, 3): the sums of each group's images, in the order in which the groups first occur.

    Args:
        sums: (N, C, 3), one row an image.
        groups: One name an image; an image with the name "" is a group of its own.
    """
    numbers: dict[str, int] = {}
    rows = [numbers.setdefault(group or f"\0{index}", len(numbers)) for index, group in enumerate(groups)]
    total = np.zeros((len(numbers), *sums.shape[1:]), sums.dtype)
    np.add.at(total, rows, sums)
    return total


def intervals(sums: np.ndarray, resamples: int, seed: int, level: float = LEVEL) -> dict[str, np.ndarray]:
    """Percentile intervals of all scores.

    B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: images are drawn with replacement, as
    many as there are, and the interval is between the (1 - level) / 2 and (1 + level) / 2 quantiles of the resamples'
    scores. Resamples without the class are left out of its quantiles.

    Args:
        sums: (N, C, 3) integers, one row an image or group that is drawn as one.
        resamples: How many, at least 2.
        seed: Fixes the draws.
        level: The share of resamples inside, in (0, 1).

    Returns:
        By score (those of `seg.metrics.iou.PER_CLASS` and `OVERALL`): (C, 2) or (2,) float64, lower and upper end; NaN
        where no resample has the score, and everywhere with fewer than 2 images.
    """
    return _quantiles(_resampled(sums, None, resamples, seed), len(sums), level)


def difference_intervals(
    sums: np.ndarray, others: np.ndarray, resamples: int, seed: int, level: float = LEVEL
) -> dict[str, np.ndarray]:
    """Percentile intervals of the differences between two models on the same images: paired, each resample has the
    same images for both, so that what makes an image hard for both cancels.

    Args:
        sums: (N, C, 3), the first model's.
        others: (N, C, 3), those of the model that is subtracted.
        resamples: See `intervals`.
        seed: See `intervals`.
        level: See `intervals`.

    Returns:
        As `intervals`, of score(sums) - score(others).

    Raises:
        ValueError: The shapes differ.
    """
    if sums.shape != others.shape:
        raise ValueError(f"got sums of shapes {sums.shape} and {others.shape}, allowed: the same images and classes")
    return _quantiles(_resampled(sums, others, resamples, seed), len(sums), level)


def draws(number: int, resamples: int, seed: int, chunk: int) -> Iterator[np.ndarray]:
    """(at most `chunk`, N) int64 at a time: how often each of N images is in each resample.

    The draws are those of one `default_rng(seed).integers(0, N, (resamples, N))`, whatever the chunk.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        indices = generator.integers(0, number, (min(chunk, resamples - start), number))
        rows = np.arange(len(indices))[:, None] * number
        yield np.bincount((indices + rows).ravel(), minlength=indices.size).reshape(indices.shape)


def _resampled(sums: np.ndarray, others: np.ndarray | None, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """By score, (resamples, C) or (resamples,): the score of each resample, or the difference of two models'."""
    number, *columns = sums.shape
    chunk = max(1, CHUNK // max(1, number, sums[0].size))
    models = [model.reshape(number, -1).astype(np.float64) for model in (sums, others) if model is not None]
    parts: list[dict[str, np.ndarray]] = []
    for times in draws(number, resamples, seed, chunk):
        # Exact: the sums are whole numbers far below 2^53.
        first, *rest = [score_sums((times.astype(np.float64) @ model).reshape(-1, *columns)) for model in models]
        parts.append({name: first[name] - rest[0][name] for name in first} if rest else first)
    return {name: np.concatenate([part[name] for part in parts]) for name in (*PER_CLASS, *OVERALL)}


def _quantiles(values: dict[str, np.ndarray], number: int, level: float) -> dict[str, np.ndarray]:
    ends = ((1 - level) / 2, (1 + level) / 2)
    found = {}
    for name, scores in values.items():
        bounds = np.full((*scores.shape[1:], 2), np.nan)
        for place in np.ndindex(scores.shape[1:]):
            defined = scores[(slice(None), *place)]
            defined = defined[~np.isnan(defined)]
            if defined.size and number > 1:
                bounds[place] = np.quantile(defined, ends)
        found[name] = bounds
    return found
