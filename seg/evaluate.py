"""`python -m seg.evaluate`: per-class scores of a trained run on one of its splits."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from seg.errors import DataError, run_command

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not for the user

console = Console(highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m seg.evaluate",
        description="Per-class IoU, Dice, precision, recall and support of a run, over a whole split at the size that "
        "the run's input.resize gives; written to RUN_DIR/evaluation/SPLIT as JSON, CSV and a confusion matrix.",
        epilog="example: python -m seg.evaluate runs/quickstart-20260101-120000 --split test",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a folder that seg.train made")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="default: test")
    parser.add_argument("--checkpoint", default="best", help="best (default), last or the path of a .keras file")
    args = parser.parse_args(argv)
    return run_command(lambda: evaluate(args.run_dir, args.split, args.checkpoint))


def evaluate(run_dir: Path, split: str, which: str = "best") -> None:
    """Evaluates a run's checkpoint on a split, prints the scores and writes the report.

    Raises:
        DataError: The run, the checkpoint, the split or its data is at fault.
    """
    from seg import build
    from seg.training.run_dir import RunDir

    run = RunDir.open(run_dir)
    config, checkpoint = run.config(), run.checkpoint(which)
    splits = build.samples(config)
    if split not in splits:
        raise DataError(f"--split: got '{split}', which {run_dir}'s data does not have; allowed: {', '.join(splits)}")

    from seg.training.hardware import start_tensorflow

    start_tensorflow()
    matrix, cross_entropy = _predict_split(config, checkpoint, splits[split], run.band_statistics())

    from seg.inference.report import scores_table, write_report
    from seg.metrics.iou import scores

    results = scores(matrix)
    resize = config.input.resize
    facts = {
        "run": str(run_dir),
        "checkpoint": checkpoint.name,
        "split": split,
        "images": len(splits[split]),
        "image_size": list(resize) if resize else "as stored",
        "binary_cross_entropy" if config.labels.multi_label else "cross_entropy": cross_entropy,
    }
    write_report(run.evaluation(split), matrix, results, config.labels.class_names, facts)
    console.print(scores_table(results, config.labels.class_names, title=f"{split}: {len(splits[split])} images"))
    console.print(f"written to {run.evaluation(split)}")


def _predict_split(config: Any, checkpoint: Path, samples: Sequence[Any], statistics: Any = None) -> tuple[Any, float]:
    """The confusion matrix (C, C) or matrices (K, 2, 2), int64, and the unweighted cross-entropy of a model."""
    import keras

    from seg import build
    from seg.data.dataset import user_errors
    from seg.training.segmenter import load_segmenter

    confusion = build.confusion(config)
    model = load_segmenter(checkpoint)
    model.compile(loss=build.plain_loss(config), metrics=[confusion])
    with user_errors():
        logs = model.evaluate(build.evaluation_data(config, samples, statistics), verbose=0, return_dict=True)
    return keras.ops.convert_to_numpy(confusion.matrix), float(logs["loss"])


if __name__ == "__main__":
    sys.exit(main())
