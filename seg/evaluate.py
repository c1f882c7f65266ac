"""`python -m seg.evaluate`: how good a trained run is on a split, how sure that is, and beside another run."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from seg.errors import ConfigError, DataError, run_command

if TYPE_CHECKING:
    from seg.inference.page import Picture
    from seg.inference.scoring import RuleScores
    from seg.inference.settings import Settings
    from seg.inference.subject import Subject
    from seg.runs.run_dir import RunDir

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not for the user

console = Console(highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    args = _parser().parse_args(argv)
    return run_command(lambda: _start(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seg.evaluate",
        description="Scores of a run over a whole split at the size that the run's input.resize gives, with confidence "
        "intervals: per-class IoU, Dice, precision, recall, boundary F1 and calibration, object recall of the rare "
        "classes. Written to RUN_DIR/evaluation/SPLIT as JSON, CSV and one HTML page. docs/evaluation.md defines each.",
        epilog="example: python -m seg.evaluate runs/weighted --split test --against runs/unweighted",
    )
    same = "the one of --checkpoint if that is best or last, else best"
    views = "the image and its mirror image (mirror), of both flips (flips), of all 8 turns and flips (d4)"
    add = parser.add_argument
    add("run_dir", type=Path, metavar="RUN_DIR", help="a folder that seg.train made")
    add("--split", default="test", choices=("train", "val", "test"), help="default: test")
    add("--checkpoint", default="best", help="best (default), last or the path of a .keras file")
    add("--out", type=Path, metavar="DIR", help="folder for the results; left out: RUN_DIR/evaluation/SPLIT")
    add("--against", type=Path, metavar="OTHER_RUN", help="a run of the same data: paired differences with intervals")
    add("--against-checkpoint", metavar="CHECKPOINT", help=f"of OTHER_RUN; left out: {same}")
    add("--tta", default="none", choices=("none", "mirror", "flips", "d4"), help=f"mean probability of {views}")
    add("--tile", type=int, default=1024, help="larger images are predicted in tiles of this side; default: 1024")
    add("--overlap", type=int, default=128, help="pixels that neighbouring tiles share; default: 128")
    add("--prior-correction", action="store_true", help="take the loss's class weights out of the probabilities")
    add("--temperature", action="store_true", help="divide the logits by a temperature fitted on the val split")
    add("--thresholds", action="store_true", help="one threshold a class, chosen on val for the highest mean IoU")
    add("--boundary-tolerance", type=int, default=2, metavar="PIXELS", help="of boundary F1; default: 2")
    add("--rare-share", type=float, default=0.01, help="of the training pixels: below, a class is rare; default: 0.01")
    add("--resamples", type=int, default=2000, help="of the bootstrap; default: 2000")
    return parser


def _start(args: argparse.Namespace) -> None:
    from seg.inference.settings import Settings
    from seg.runs.run_dir import RunDir

    options = vars(args)
    settings = Settings(**{key: options[key] for key in Settings.__dataclass_fields__})
    settings.check()
    if args.against is None and args.against_checkpoint is not None:
        raise ConfigError("--against-checkpoint: has no effect without --against")
    folder = args.out or args.run_dir / "evaluation" / settings.split
    run = RunDir.open(args.run_dir)
    if run.config().labels.multi_label:
        if args.against is not None:
            raise ConfigError("--against: is not for classes that overlap; allowed: --split, --checkpoint, --out")
        settings.check_multi_label()
        return evaluate_multi_label(run, args.checkpoint, settings.split, folder)
    same = args.checkpoint if args.checkpoint in ("best", "last") else "best"
    subject = _open(run, args.checkpoint, settings)
    other = None
    if args.against is not None:
        other = _open(RunDir.open(args.against), args.against_checkpoint or same, settings)
    return evaluate(subject, other, folder)


def _open(run: RunDir, which: str, settings: Settings) -> Subject:
    import json

    from seg.balance import ClassCounts
    from seg.inference.subject import Subject

    config, checkpoint, counts = run.config(), run.checkpoint(which), ClassCounts.load(run.counts)
    weights = json.loads((run.path / "class_weights.json").read_text("utf-8"))
    return Subject.of_run(run.path, checkpoint, config, counts, weights, run.band_statistics(), settings)


def evaluate(subject: Subject, other: Subject | None, folder: Path) -> None:
    """Evaluates a run, and another if there is one, prints the scores and writes the report.

    Raises:
        DataError: A checkpoint or the data is at fault, or the two runs cannot be compared.
    """
    from seg.inference.subject import check_comparable, comparison

    if other is not None:
        check_comparable(subject, other)

    from seg.runs.hardware import environment, start_tensorflow

    num_gpus = start_tensorflow()
    from seg.training.segmenter import load_segmenter

    model = load_segmenter(subject.checkpoint)
    predictor = subject.predictor(model)
    scores = subject.scores(predictor)
    content: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),  # the one thing that a second evaluation changes
        **subject.facts(),
        "environment": environment(num_gpus, model.dtype_policy.name),
        **subject.results(scores),
    }
    if other is not None:
        other_scores = other.scores(other.predictor(load_segmenter(other.checkpoint)))
        content["against"] = comparison(subject, scores, other, other_scores)
    _write(folder, subject, scores[-1], content, list(subject.pictures(predictor, scores[-1])))
    _print(content, folder)


def evaluate_multi_label(run: RunDir, which: str, split: str, folder: Path) -> None:
    """The scores of a run whose classes may overlap: a 2 x 2 confusion matrix a class.

    Raises:
        DataError: The checkpoint, the split or its data is at fault.
    """
    import keras

    from seg import build

    config, checkpoint, splits = run.config(), run.checkpoint(which), build.samples(run.config())
    if split not in splits:
        raise DataError(f"--split: got '{split}', which {run.path}'s data does not have; allowed: {', '.join(splits)}")

    from seg.runs.hardware import start_tensorflow

    start_tensorflow()
    from seg.data.batches.dataset import user_errors
    from seg.inference.multi_label_report import write_multi_label_report
    from seg.inference.report import scores_table
    from seg.metrics.iou import scores
    from seg.training.segmenter import load_segmenter

    confusion = build.confusion(config)
    model = load_segmenter(checkpoint)
    model.compile(loss=build.plain_loss(config), metrics=[confusion])
    with user_errors():
        batches = build.evaluation_data(config, splits[split], run.band_statistics())
        logs = model.evaluate(batches, verbose=0, return_dict=True)
    matrix = keras.ops.convert_to_numpy(confusion.matrix)
    results, resize = scores(matrix), config.input.resize
    facts = {
        "run": str(run.path),
        "checkpoint": checkpoint.name,
        "split": split,
        "images": len(splits[split]),
        "image_size": list(resize) if resize else "as stored",
        "binary_cross_entropy": float(logs["loss"]),
    }
    write_multi_label_report(folder, matrix, results, config.labels.class_names, facts)
    console.print(scores_table(results, config.labels.class_names, title=f"{split}: {len(splits[split])} images"))
    console.print(f"written to {folder}")


def _write(
    folder: Path, subject: Subject, scores: RuleScores, content: dict[str, Any], pictures: Sequence[Picture]
) -> None:
    import numpy as np

    from seg.config import dump_config
    from seg.inference.page import report_page
    from seg.inference.report import write_report
    from seg.inference.results import image_table
    from seg.pictures.class_charts import frequency_chart
    from seg.pictures.confusion import confusion_matrix_png
    from seg.pictures.reliability import reliability_png

    labels = subject.config.labels.label_set()
    charts = {
        "reliability": reliability_png(content["rules"]),
        "confusion_matrix": confusion_matrix_png(np.array(content["confusion_matrix"]), labels.names),
    }
    training = {"class_frequencies": frequency_chart(subject.counts, labels.colours)}
    page = report_page(content, labels, pictures, charts | training, dump_config(subject.config))
    images = image_table(scores, labels.names, subject.image_names(), subject.groups())
    write_report(folder, content, page, images, charts)


def _print(content: dict[str, Any], folder: Path) -> None:
    from seg.inference.report import difference_lines, results_table, rules_table

    console.print(results_table(content, title=f"{content['split']}: {content['images']} images"))
    if len(content["rules"]) > 1:
        console.print(rules_table(content["rules"]))
    if "against" in content:
        console.print("\n".join(difference_lines(content["against"])))
    console.print(f"written to {folder}: open {folder / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
