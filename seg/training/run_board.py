"""A run's TensorBoard callback, from its configuration and class counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seg.config import Config, dump_config
from seg.data.samples.pairs import Sample
from seg.data.views.sources import evaluation_views
from seg.runs.run_dir import RunDir
from seg.training.preparation import Preparation
from seg.training.tensorboard import SegmentationTensorBoard


def run_board(config: Config, run: RunDir, val: Sequence[Sample], prepared: Preparation) -> SegmentationTensorBoard:
    """What writes the run's TensorBoard files."""
    preprocessing = config.input.preprocessing(prepared.statistics)
    views = evaluation_views(val, preprocessing)
    head, *rows = prepared.rows()
    rows = [rows[index] for index in np.argsort(prepared.counts.frequencies, kind="stable")]  # the rarest first
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return SegmentationTensorBoard(
        run.tensorboard,
        config.labels.label_set(),
        counts=prepared.counts,
        class_weights=prepared.weights,
        samples=np.linspace(0, len(views) - 1, min(config.output.overlays, len(views))).astype(int).tolist(),
        sample_names=[view.name for view in views],
        picture=preprocessing.shown,
        limits=config.tensorboard,
        texts={
            "classes": "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]),
            "config": f"```yaml\n{dump_config(config)}```",
            "resume": f"```\npython -m seg.train --resume {run.path}\n```",
        },
        hparams=config.hyperparameters(),
        run_name=run.path.name,
    )
