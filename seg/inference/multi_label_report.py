"""The scores of classes that may overlap, as JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.files.storage import write_bytes
from seg.inference.results import number
from seg.metrics.iou import PER_CLASS, Scores
from seg.tables import Table


def write_multi_label_report(
    folder: Path, matrix: np.ndarray, scores: Scores, class_names: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Writes metrics.json and metrics.csv, each in one step.

    Args:
        folder: Made if it is not there.
        matrix: (K, 2, 2) int64, see `seg.metrics.multi_label`.
        scores: Of the matrix.
        class_names: K names.
        facts: What was evaluated (checkpoint, split, image size ...); stands first in the JSON.
    """
    rows = {
        name: {key: number(getattr(scores, key)[index]) for key in PER_CLASS} | {"support": int(scores.support[index])}
        for index, name in enumerate(class_names)
    }
    content = {
        **facts,
        "mean_iou": number(scores.mean_iou),
        "classes_averaged": scores.num_averaged,
        "pixel_accuracy": number(scores.pixel_accuracy),
        "classes": rows,
        "confusion_matrix": matrix.tolist(),
    }
    table = Table(["class", *PER_CLASS, "support"], [[name, *row.values()] for name, row in rows.items()])
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "metrics.json", (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    write_bytes(folder / "metrics.csv", table.csv().encode())
