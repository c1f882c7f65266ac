"""The numbers of an evaluation as plain data: what the JSON file holds and every other output is made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seg.inference.scoring import RuleScores
from seg.metrics.bootstrap import LEVEL, difference_intervals, group_sums, intervals
from seg.metrics.boundary import boundary_scores
from seg.metrics.calibration import expected_calibration_error
from seg.metrics.iou import OVERALL, PER_CLASS, score_sums
from seg.metrics.objects import FOUND_SHARE, size_names
from seg.tables import Table

SEED = 0  # of the bootstrap: the same intervals in every evaluation
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the images' scores
NO_DIFFERENCE = "no difference shown"


def split_results(
    scores: Sequence[RuleScores], class_names: Sequence[str], groups: Sequence[str], rare: Sequence[int], resamples: int
) -> dict[str, Any]:
    """All numbers of a split. The last rule's stand at the top; `rules` has those of each.

    Args:
        scores: One a rule, see `seg.inference.scoring`.
        class_names: C names.
        groups: One an image, "" for none; images of a group are drawn together.
        rare: The classes whose objects were counted, in their order.
        resamples: Of the bootstrap.
    """
    last = scores[-1]
    bounds = intervals(group_sums(last.sums, groups), resamples, SEED)
    classes = _class_rows(last, class_names)
    per_image = score_sums(last.sums)
    has_class = last.sums[..., 1] > 0
    for index, name in enumerate(class_names):
        classes[name] |= {
            "images": int(has_class[:, index].sum()),
            "rare": index in rare,
            "intervals": {key: numbers(bounds[key][index]) for key in PER_CLASS},
            "image_iou_quantiles": _quantiles(per_image["iou"][has_class[:, index], index]),
        }
    return {
        **_overall_row(last),
        "classes_averaged": int((~np.isnan(score_sums(last.sums.sum(axis=0))["iou"])).sum()),
        "intervals": {key: numbers(bounds[key]) for key in OVERALL},
        "interval_method": _method(groups, resamples),
        "image_mean_iou_quantiles": _quantiles(per_image["mean_iou"]),
        "quantiles": list(QUANTILES),
        "classes": classes,
        "objects": _objects(last, class_names, rare),
        "rules": [_rule_row(rule_scores, class_names) for rule_scores in scores],
        "confusion_matrix": last.total.matrix.tolist(),
    }


def differences(
    ours: Sequence[RuleScores],
    theirs: Sequence[RuleScores],
    class_names: Sequence[str],
    groups: Sequence[str],
    resamples: int,
) -> list[dict[str, Any]]:
    """Paired differences, ours minus theirs, of each rule: of the scores as a whole and of each class.

    Each has `ours`, `theirs`, `difference`, `interval` and `verdict`: `better`, `worse`, or 'no difference shown' where
    the interval contains 0 or there is none.
    """
    rows = []
    for own, other in zip(ours, theirs, strict=True):
        sums, other_sums = (group_sums(scores.sums, groups) for scores in (own, other))
        bounds = difference_intervals(sums, other_sums, resamples, SEED)
        left, right = score_sums(own.sums.sum(axis=0)), score_sums(other.sums.sum(axis=0))
        rows.append(
            {
                "rule": own.rule.name,
                **{key: _difference(left[key], right[key], bounds[key]) for key in OVERALL},
                "classes": {
                    name: {key: _difference(left[key][i], right[key][i], bounds[key][i]) for key in PER_CLASS}
                    for i, name in enumerate(class_names)
                },
            }
        )
    return rows


def image_table(scores: RuleScores, class_names: Sequence[str], names: Sequence[str], groups: Sequence[str]) -> Table:
    """per_image.csv: name, group, pixel accuracy, mean IoU and each class's IoU."""
    found = score_sums(scores.sums)
    headings = ["image", "group", "pixel_accuracy", "mean_iou", *(f"iou/{name}" for name in class_names)]
    rows = []
    for index, (name, group) in enumerate(zip(names, groups, strict=True)):
        values = [found["pixel_accuracy"][index], found["mean_iou"][index], *found["iou"][index]]
        rows.append([name, group, *("" if np.isnan(value) else float(value) for value in values)])
    return Table(headings, rows)


def telling_images(sums: np.ndarray, index: int) -> dict[str, int]:
    """The images of the `worst`, `median` and `best` IoU of a class among those that show it; {} where none does.

    Among equal scores the image with most labelled pixels of the class comes first, and so is the worst of them.
    """
    showing = np.flatnonzero(sums[:, index, 1] > 0)
    if not len(showing):
        return {}
    iou = score_sums(sums[showing])["iou"][:, index]
    order = showing[np.lexsort((-sums[showing, index, 1], iou))].tolist()
    return {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}


def _overall_row(scores: RuleScores) -> dict[str, Any]:
    found = score_sums(scores.sums.sum(axis=0))
    pixels = int(scores.total.matrix[: len(scores.total.boundary)].sum())
    return {
        **{key: number(found[key]) for key in OVERALL},
        "expected_calibration_error": number(expected_calibration_error(scores.total.reliability.sum(axis=0))),
        "cross_entropy": -scores.total.log_likelihood / pixels if pixels else None,
    }


def _class_rows(scores: RuleScores, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    total = scores.sums.sum(axis=0)
    found = score_sums(total) | boundary_scores(scores.total.boundary)
    found["expected_calibration_error"] = expected_calibration_error(scores.total.reliability)
    return {
        name: {key: number(values[index]) for key, values in found.items() if key not in OVERALL}
        | {"support": int(total[index, 1])}
        for index, name in enumerate(class_names)
    }


def _rule_row(scores: RuleScores, class_names: Sequence[str]) -> dict[str, Any]:
    rule = scores.rule
    pixels, confidence, correct = np.moveaxis(scores.total.reliability.sum(axis=0), -1, 0)
    return {
        "rule": rule.name,
        "temperature": rule.temperature,
        "weights_removed": dict(zip(class_names, rule.weights.tolist(), strict=True)),
        "thresholds": dict(zip(class_names, np.exp(-rule.biases).tolist(), strict=True)),
        "ranking": rule.ranking,
        **_overall_row(scores),
        "classes": _class_rows(scores, class_names),
        "reliability": {
            "pixels": [int(value) for value in pixels],
            "confidence": [number(c / n) if n else None for c, n in zip(confidence, pixels, strict=True)],
            "accuracy": [number(c / n) if n else None for c, n in zip(correct, pixels, strict=True)],
        },
    }


def _objects(scores: RuleScores, class_names: Sequence[str], rare: Sequence[int]) -> dict[str, Any]:
    rows = {}
    for row, index in enumerate(rare):
        counts = scores.total.objects[row]
        everything = counts.sum(axis=0)
        rows[class_names[index]] = {
            size: {"objects": int(objects), "found": int(found), "recall": found / objects if objects else None}
            for size, (objects, found) in zip(
                [*size_names(), "all"], [*counts.tolist(), everything.tolist()], strict=True
            )
        }
    return {"found_share": FOUND_SHARE, "classes": rows}


def _difference(ours: Any, theirs: Any, bounds: np.ndarray) -> dict[str, Any]:
    low, high = numbers(bounds)
    verdict = NO_DIFFERENCE
    if low is not None and high is not None and (low > 0 or high < 0):
        verdict = "better" if low > 0 else "worse"
    return {
        "ours": number(ours),
        "theirs": number(theirs),
        "difference": number(ours - theirs),
        "interval": [low, high],
        "verdict": verdict,
    }


def _method(groups: Sequence[str], resamples: int) -> str:
    named = {group for group in groups if group}
    alone = sum(not group for group in groups)
    unit = f"{len(named) + alone} groups of images" if named else f"{alone} images"
    return f"{LEVEL:.0%} percentile bootstrap over {unit}, {resamples} resamples, seed {SEED}"


def _quantiles(values: np.ndarray) -> list[float | None]:
    defined = values[~np.isnan(values)]
    return numbers(np.quantile(defined, QUANTILES)) if defined.size else [None] * len(QUANTILES)


def number(value: Any) -> float | None:
    """NaN has no JSON; an undefined score is null."""
    return None if np.isnan(value) else float(value)


def numbers(values: np.ndarray) -> list[float | None]:
    """`number` of each."""
    return [number(value) for value in values]
