"""A sample of pixels that is bounded in memory, the same in every run, and rich in rare classes. NumPy only."""

from __future__ import annotations

import numpy as np

MAX_PIXELS = 200_000
MAX_NUMBERS = 1 << 24  # logits kept: 64 MiB of float32, whatever the number of classes


class PixelSample:
    """Up to Q pixels of each class, drawn from all pixels seen without replacement, each as likely as any of its class.

    Every pixel gets a random number by (seed, image); the Q lowest of a class stay (bottom-k sampling: Cohen & Kaplan,
    "Summarizing data using bottom-k sketches", PODC 2007). A pixel kept of class c stands for n_c / (kept of c) pixels,
    so that weighted sums over the sample estimate sums over all pixels.
    """

    def __init__(self, num_classes: int, *, seed: int = 0, per_class: int | None = None) -> None:
        """`per_class`: Q; None: what `MAX_PIXELS` and `MAX_NUMBERS` allow."""
        self.num_classes, self.seed = num_classes, seed
        self.per_class = per_class or max(1, min(MAX_PIXELS, MAX_NUMBERS // num_classes) // num_classes)
        self.pixels = np.zeros(num_classes, np.int64)
        self._cutoffs = np.ones(num_classes)
        self._logits = [np.zeros((0, num_classes), np.float32)] * num_classes
        self._draws = [np.zeros(0)] * num_classes

    def add(self, logits: np.ndarray, labels: np.ndarray, image: int) -> None:
        """Takes an image in.

        Args:
            logits: (P, C) float32 of its valid pixels.
            labels: (P,) class indices.
            image: Its number, which fixes its draws; each once.
        """
        self.pixels += np.bincount(labels, minlength=self.num_classes)
        draws = np.random.default_rng((self.seed, image)).random(len(labels))
        places = np.flatnonzero(draws < self._cutoffs[labels])
        classes = labels[places]
        for index in np.unique(classes).tolist():
            own = places[classes == index]
            if len(own) > self.per_class:
                own = own[np.argpartition(draws[own], self.per_class)[: self.per_class]]
            self._draws[index] = np.concatenate([self._draws[index], draws[own]])
            self._logits[index] = np.concatenate([self._logits[index], logits[own]])
            self._keep_lowest(index)

    def _keep_lowest(self, index: int) -> None:
        draws = self._draws[index]
        order = np.argsort(draws, kind="stable")[: self.per_class]
        self._draws[index], self._logits[index] = draws[order], self._logits[index][order]
        if len(draws) >= self.per_class:
            self._cutoffs[index] = draws[order[-1]]

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """logits (S, C) float32, labels (S,) int64, and how many pixels each stands for, (S,) float64."""
        kept = np.array([len(draws) for draws in self._draws])
        labels = np.repeat(np.arange(self.num_classes), kept)
        shares = np.divide(self.pixels, kept, out=np.zeros(self.num_classes), where=kept > 0)
        return np.concatenate(self._logits), labels, shares[labels]
