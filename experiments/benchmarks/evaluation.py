"""What an evaluation costs beside the model: scoring one image, its parts, and the bootstrap.

    python -m experiments.benchmarks.evaluation

CPU time, which other work on the machine changes little; medians of the turns. Blocky labels with 2 % void and noisy
logits. Beside boundary F1 of all classes at once stands the usual way, a dilation and four counts for each class that
is present. At the end the highest memory of the process before and after a pass over four images of 2048 x 2048 and 19
classes.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from seg.inference.predictor import Predictor
from seg.inference.scoring import Scoring, score_image, score_split
from seg.metrics.bootstrap import intervals
from seg.metrics.boundary import boundary_counts
from seg.metrics.iou import confusion_matrix
from seg.metrics.objects import object_counts
from seg.metrics.posterior import Rule

SIZES = ((180, 240, 11), (512, 512, 150), (2048, 2048, 11), (2048, 2048, 19))  # height, width, classes
SPLITS = ((233, 11), (2000, 150), (20000, 19))  # images, classes


class Echo:
    """A model whose logits are its images: what is measured is all but the model."""

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """The images."""
        return images


def picture(height: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(logits, labels) of a street-like image: blocks of a 20th of its height."""
    generator = np.random.default_rng(0)
    labels = cv2.resize(
        generator.integers(0, classes, (20, 26)).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    )
    logits = generator.standard_normal((height, width, classes), np.float32)
    logits[np.arange(height)[:, None], np.arange(width), np.roll(labels, 2, axis=1)] += 4
    labels[cv2.resize(generator.random((40, 52)), (width, height)) < 0.02] = 255
    return logits, labels


def milliseconds(run: Callable[[], object], turns: int) -> float:
    """Median CPU time of a call, all threads together."""
    times = []
    for _ in range(turns):
        start = time.process_time()
        run()
        times.append((time.process_time() - start) * 1e3)
    return statistics.median(times)


def boundary_by_class(labels: np.ndarray, predictions: np.ndarray) -> list[int]:
    """Boundary pixels matched, a class after the other, by dilation with a disc of radius 2; void like any class."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    counts = []
    for index in np.union1d(labels, predictions).tolist():
        edges = []
        for mask in (labels, predictions):
            own = cv2.inRange(mask, index, index)
            edges.append(own - cv2.erode(own, cross))
        near = [cv2.dilate(edge, disc) for edge in edges]
        counts += [cv2.countNonZero(edges[0] & near[1]), cv2.countNonZero(edges[1] & near[0])]
        counts += [cv2.countNonZero(edge) for edge in edges]
    return counts


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args(argv).turns
    columns = ("argmax", "softmax+argmax", "ranking", "whole score", "confusion", "boundary F1", "by class", "objects")
    print(f"{'one image, ms':16}" + "".join(f"{column:>16}" for column in columns))
    for height, width, classes in SIZES:
        logits, labels = picture(height, width, classes)
        rare = tuple(range(min(5, classes)))
        trained = Rule.as_trained(classes)
        ranked = replace(trained, ranking="iou")
        scoring = Scoring((trained,), classes, 255, rare=rare)
        predictions = logits.argmax(axis=-1).astype(np.uint8)
        runs: list[Callable[[], object]] = [
            lambda: logits.argmax(axis=-1),  # noqa: B023 - called before the next picture
            lambda: trained.decide(logits.reshape(-1, classes)),  # noqa: B023
            lambda: ranked.decide(logits.reshape(-1, classes)),  # noqa: B023
            lambda: score_image(logits, labels, scoring),  # noqa: B023
            lambda: confusion_matrix(labels, predictions, classes),  # noqa: B023
            lambda: boundary_counts(labels, predictions, classes),  # noqa: B023
            lambda: boundary_by_class(labels, predictions),  # noqa: B023
            lambda: object_counts(labels, predictions, rare),  # noqa: B023
        ]
        times = [milliseconds(run, turns) for run in runs]
        print(f"{f'{height} x {width}, {classes}':16}" + "".join(f"{value:16.1f}" for value in times))
    for images, classes in SPLITS:
        sums = np.sort(np.random.default_rng(0).integers(0, 10**6, (images, classes, 3)), axis=-1)
        cost = milliseconds(lambda: intervals(sums, 2000, 0), 3)  # noqa: B023
        print(f"2000 resamples of {images} images, {classes} classes: {cost / 1e3:.2f} s")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logits, labels = picture(2048, 2048, 19)
    scoring = Scoring((Rule.as_trained(19),), 19, 255, rare=(0, 1))
    score_split(Predictor(Echo(), 19, tile=2048), ((logits[None], labels[None]) for _ in range(4)), scoring)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"highest memory so far {before / 1024:.0f} MiB, with a pass over 2048 x 2048 x 19 {after / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
