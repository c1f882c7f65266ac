"""Draws every loss against the probability of the true class, for a rare and a common class: docs/loss_curves.png.

python -m experiments.loss_curves.plot [OUT.png]

The setting: an image of 100 x 100 pixels and two classes, one of which fills 1 % (rare) or 50 % (common) of it. Its
pixels get the probability p, all others are predicted with certainty and right. So a curve shows what this class alone
adds to the loss while it is being learnt. Weighted losses have inverse frequencies with mean one.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seg.data.files.storage import write_bytes
from seg.losses import (
    cross_entropy,
    dice_loss,
    focal_loss,
    generalised_dice_loss,
    lovasz_loss,
    top_k_cross_entropy,
    tversky_loss,
)

SHARES = {"rare class, 1 % of the pixels": 0.01, "common class, 50 % of the pixels": 0.5}
SIDE = 100
CERTAIN = 30.0  # a logit whose softmax rounds to 1 in float32
PROBABILITIES = np.linspace(0.002, 0.998, 84)
Loss = Callable[..., Any]
LOSSES: dict[str, tuple[Loss, bool]] = {  # name: (function, weighted)
    "cross-entropy": (cross_entropy, False),
    "weighted cross-entropy": (cross_entropy, True),
    "weighted focal, gamma 2": (focal_loss, True),
    "top-k cross-entropy, 25 %": (partial(top_k_cross_entropy, fraction=0.25), False),
    "Dice": (partial(dice_loss, smooth=0.0), False),
    "Jaccard": (partial(tversky_loss, alpha=1.0, beta=1.0, smooth=0.0), False),
    "Tversky, 0.3 / 0.7": (partial(tversky_loss, smooth=0.0), False),
    "generalised Dice": (generalised_dice_loss, False),
    "Lovasz-softmax": (lovasz_loss, False),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the picture."""
    parser = argparse.ArgumentParser(prog="python -m experiments.loss_curves.plot", description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path("docs/loss_curves.png"))
    out = parser.parse_args(argv).out
    figure = Figure(figsize=(12, 5), dpi=110, layout="constrained")
    for index, (title, share) in enumerate(SHARES.items()):
        axes = figure.add_subplot(1, 2, index + 1)
        for name, (loss, weighted) in LOSSES.items():
            axes.plot(PROBABILITIES, curve(loss, share, weighted), label=name, linewidth=1.6)
        axes.set(
            title=title, xlabel="probability p of the class on its own pixels", ylabel="loss", ylim=(0, 2), xlim=(0, 1)
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_bytes(out, picture.getvalue())
    return 0


def curve(loss: Loss, share: float, weighted: bool) -> np.ndarray:
    """The loss at each of `PROBABILITIES` of the class that fills `share` of the image."""
    labels = np.zeros((1, SIDE, SIDE), np.int32)
    labels.reshape(-1)[: round(share * SIDE * SIDE)] = 1
    inverse = 1 / np.array([1 - share, share])
    options = {"class_weights": (inverse / 2).tolist()} if weighted else {}
    values = []
    for p in PROBABILITIES:
        own = np.array([0.0, np.log(p / (1 - p))])
        logits = np.where(labels[..., None] == 1, own, [CERTAIN, 0.0]).astype(np.float32)
        values.append(float(keras.ops.convert_to_numpy(loss(labels, logits, **options))))
    return np.array(values)


if __name__ == "__main__":
    raise SystemExit(main())
