"""From logits to probabilities and decisions: undoing class weights, temperature, thresholds. NumPy only.

A `Rule` reads logits z as

    a_c = (z_c - log w_c) / T        probabilities p = softmax(a)
    decision = argmax_c (a_c + b_c)  that is, argmax_c p_c / t_c with the thresholds t_c = exp(-b_c)

or, with `ranking`, what seg.metrics.ranking makes of the p of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg.metrics.ranking import Score, ranked_classes


@dataclass(frozen=True, eq=False)
class Rule:
    """How logits become probabilities and classes.

    Attributes:
        name: For tables.
        weights: (C,) float64, w, above 0: the class weights that the training loss had and that are taken out of the
            posterior; all 1: none.
        temperature: T, above 0.
        biases: (C,) float64, b: 0 decides for the most probable class; more decides for c although it is less probable
            than another class by up to the factor exp(b_c).
        ranking: The score whose expectation the decisions of an image maximise together; None: each pixel by itself.

    Raises:
        ValueError: A weight or the temperature is not above 0 and finite, the lengths differ, or there are biases and a
            ranking, which are two ways to decide.
    """

    name: str
    weights: np.ndarray
    temperature: float
    biases: np.ndarray
    ranking: Score | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise ValueError(f"weights: got {self.weights.tolist()}, allowed: finite, above 0")
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"temperature: got {self.temperature}, allowed: finite, above 0")
        if self.weights.shape != self.biases.shape:
            raise ValueError(f"got {self.weights.size} weights and {self.biases.size} biases, allowed: one a class")
        if self.ranking is not None and self.biases.any():
            raise ValueError(f"got biases and the ranking '{self.ranking}', allowed: one of the two")

    @classmethod
    def as_trained(cls, num_classes: int) -> Rule:
        """softmax and argmax of the logits as they are."""
        return cls("as trained", np.ones(num_classes), 1.0, np.zeros(num_classes))

    def adjusted(self, logits: np.ndarray) -> np.ndarray:
        """a, classes first: (P, C) float32 -> (C, P) float32.

        Dividing the softmax by w and normalising again gives the posterior that training without weights aims at: a
        pixel of posterior P has its least expected weighted cross-entropy -sum_c w_c P_c log q_c at q_c = w_c P_c /
        sum_k w_k P_k. Equal weights change nothing.

        M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities",
        Neural Computation 2002; C. Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001; A. Menon et al.,
        "Long-tail Learning via Logit Adjustment", ICLR 2021, arXiv:2007.07314. The temperature: C. Guo et al., "On
        Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.
        """
        # A copy, also where the transposed array is contiguous; reductions over the first axis are SIMD.
        adjusted = np.array(logits.T, np.float32, order="C")
        if (self.weights != 1).any():
            adjusted -= np.log(self.weights).astype(np.float32)[:, None]
        if self.temperature != 1:
            adjusted *= np.float32(1 / self.temperature)
        return adjusted

    def decide(self, logits: np.ndarray) -> Decisions:
        """Class and probability of each pixel.

        Args:
            logits: (P, C) float32; with a `ranking` those of all pixels of one image.
        """
        adjusted = self.adjusted(logits)
        highest = adjusted.max(axis=0)
        if self.ranking is not None:
            adjusted -= highest
            np.exp(adjusted, out=adjusted)
            total = adjusted.sum(axis=0)
            adjusted /= total
            classes = ranked_classes(adjusted, self.ranking)
            return Decisions(classes, np.take_along_axis(adjusted, classes[None], axis=0)[0], np.log(total) + highest)
        if self.biases.any():
            classes = (adjusted + self.biases.astype(np.float32)[:, None]).argmax(axis=0)  # the first of equal ones
        elif (self.weights != 1).any():
            classes = adjusted.argmax(axis=0)
        else:
            classes = logits.argmax(axis=1)  # a temperature changes none; the last axis takes a third of the time
        chosen = np.take_along_axis(adjusted, classes[None], axis=0)[0]
        adjusted -= highest
        np.exp(adjusted, out=adjusted)
        log_sum = np.log(adjusted.sum(axis=0)) + highest
        return Decisions(classes.astype(np.uint8), np.minimum(np.exp(chosen - log_sum), 1), log_sum)

    def log_probability(self, logits: np.ndarray, labels: np.ndarray, decisions: Decisions) -> np.ndarray:
        """log p of each pixel's label, (P,) float32; `decisions` is what `decide` made of these logits.

        Args:
            logits: (P, C) float32.
            labels: (P,) class indices, no void.
            decisions: Of the same pixels.
        """
        chosen = logits[np.arange(len(labels)), labels]
        own = (chosen - np.log(self.weights)[labels]) / self.temperature
        return np.minimum(own.astype(np.float32) - decisions.log_sum, 0)


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a rule says of P pixels.

    Attributes:
        classes: (P,) uint8, the class decided for.
        confidences: (P,) float32 in [0, 1], its probability; not the highest one where biases or a ranking decide.
        log_sum: (P,) float32, log sum_c exp(a_c).
    """

    classes: np.ndarray
    confidences: np.ndarray
    log_sum: np.ndarray
