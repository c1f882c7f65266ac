"""Pictures of an evaluation: the reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seg.pictures.figures import figure_png, new_figure


def reliability_png(rules: Sequence[Mapping[str, Any]]) -> bytes:
    """The reliability diagram as a PNG, a panel a rule: how often pixels of a confidence are right, above the share of
    pixels in each bin. On the diagonal the model is as sure as it is right; below it, too sure.

    Args:
        rules: As in `seg.inference.results.split_results`: `rule`, `expected_calibration_error` and `reliability` with
            lists `pixels`, `confidence` and `accuracy` of one number a bin, None where it is empty.
    """
    figure = new_figure(max(4.0, 3.2 * len(rules)), 4.2)
    panels = figure.subplots(2, len(rules), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for column, rule in enumerate(rules):
        pixels = np.array(rule["reliability"]["pixels"], np.float64)
        bins, width = len(pixels), 1 / len(pixels)
        used = np.flatnonzero(pixels)
        confidence = [rule["reliability"]["confidence"][index] for index in used]
        accuracy = [rule["reliability"]["accuracy"][index] for index in used]
        upper, lower = panels[0, column], panels[1, column]
        centres = (np.arange(bins) + 0.5) * width
        upper.bar(centres[used], accuracy, width, color="#9ecae1", edgecolor="white")
        upper.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--")
        upper.plot(confidence, accuracy, "o-", color="#08519c", markersize=3.5, linewidth=1.2)
        error = rule["expected_calibration_error"]
        upper.set_title(f"{rule['rule']}\nECE {'-' if error is None else f'{error:.3f}'}", fontsize=9)
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
        lower.bar(centres, pixels / max(1.0, pixels.sum()), width, color="0.7", edgecolor="white")
        lower.set_xlabel("confidence", fontsize=9)
    panels[0, 0].set_ylabel("share of pixels that are right", fontsize=9)
    panels[1, 0].set_ylabel("share of pixels", fontsize=9)
    return figure_png(figure)
