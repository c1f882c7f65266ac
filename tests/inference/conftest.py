from __future__ import annotations

import numpy as np
import pytest

from seg.inference.results import differences, split_results
from seg.inference.scoring import RuleScores, Scoring, Tally, score_image
from seg.metrics.iou import matrix_sums
from seg.metrics.posterior import Rule


def rule_scores(num_classes=3, images=12, seed=0, skill=2.0, rules=None, rare=(2,)) -> list[RuleScores]:
    """Scores of a made-up model; the last class is rare, and class names may be any."""
    generator = np.random.default_rng(seed)
    rules = rules or (Rule.as_trained(num_classes),)
    scoring = Scoring(rules, num_classes, 255, rare=rare)
    tallies = []
    for _ in range(images):
        coarse = generator.choice(num_classes, (4, 5), p=_shares(num_classes)).astype(np.uint8)
        labels = np.kron(coarse, np.ones((4, 4), np.uint8))
        labels[generator.random(labels.shape) < 0.02] = 255
        logits = np.random.default_rng((seed, len(tallies))).normal(size=(*labels.shape, num_classes))
        logits += skill * (labels[..., None] == np.arange(num_classes))
        tallies.append(score_image(logits.astype(np.float32), labels, scoring))
    found = []
    for index, rule in enumerate(rules):
        total = Tally.empty(scoring)
        for tally in tallies:
            total.add(tally[index])
        found.append(RuleScores(rule, total, np.stack([matrix_sums(tally[index].matrix) for tally in tallies])))
    return found


def _shares(num_classes: int) -> np.ndarray:
    shares = np.geomspace(1, 0.02, num_classes)
    return shares / shares.sum()


def evaluation(num_classes=3, rules=None, against=False, images=12) -> dict:
    """What seg.evaluate would write as metrics.json of a made-up run."""
    names = [f"class {index}" for index in range(num_classes)]
    rare = list(range(num_classes - 1, 1, -1))[:12]
    scores = rule_scores(num_classes, rules=rules, rare=tuple(rare), images=images)
    content = {
        "date": "2026-01-01 00:00:00",
        "run": "runs/<made up>",
        "checkpoint": "best.keras",
        "split": "test",
        "images": images,
        "image_size": "as stored",
        "tta": "none",
        "boundary_tolerance": 2,
        "rare_share": 0.01,
        "counts_of": "train",
        "environment": {"python": "3"},
        **split_results(scores, names, [""] * images, rare, 100),
    }
    for row in content["classes"].values():
        row |= {"share": 0.25, "weight": 1.5}
    if against:
        other = rule_scores(num_classes, rules=rules, rare=tuple(rare), images=images, skill=1.5)
        rows = differences(scores, other, names, [""] * images, 100)
        content["against"] = {"run": "runs/other", "checkpoint": "last.keras", "rules": rows}
    return content


@pytest.fixture
def made_up():
    """`evaluation`, for tests to call."""
    return evaluation


@pytest.fixture
def made_up_scores():
    """`rule_scores`, for tests to call."""
    return rule_scores
