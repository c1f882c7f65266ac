"""`python -m seg.evaluate`: how good a trained run or model is on a split, how sure that is, and beside another."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seg.console import text_console
from seg.errors import ConfigError, DataError, run_command

if TYPE_CHECKING:
    from seg.config import Config
    from seg.data.views.preprocessing import Preprocessing
    from seg.inference.page import Picture
    from seg.inference.scoring import RuleScores
    from seg.inference.settings import Settings
    from seg.inference.subject import Subject
    from seg.labels import LabelSet
    from seg.runs.run_dir import RunDir

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not for the user

console = text_console(soft_wrap=True)


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
    add("model", type=Path, metavar="MODEL", help="a folder that seg.train made, or a .keras file")
    add("--config", type=Path, metavar="FILE", help="for a .keras file: a YAML file with the data and labels to use")
    add("--split", default="test", choices=("train", "val", "test"), help="default: test")
    add("--checkpoint", help="of a folder: best (default), last or the path of a .keras file")
    add("--out", type=Path, metavar="DIR", help="folder for the results; left out: RUN_DIR/evaluation/SPLIT")
    add("--overwrite", action="store_true", help="replace a report of another run or split in OUT")
    add("--against", type=Path, metavar="OTHER", help="a run (or file) of the same data: paired differences, intervals")
    add("--against-checkpoint", metavar="CHECKPOINT", help=f"of OTHER; left out: {same}")
    add("--tta", default="none", choices=("none", "mirror", "flips", "d4"), help=f"mean probability of {views}")
    add("--tile", type=int, default=1024, help="larger images are predicted in tiles of this side; default: 1024")
    add("--overlap", type=int, default=128, help="pixels that neighbouring tiles share; default: 128")
    add("--prior-correction", action="store_true", help="take the loss's class weights out of the probabilities")
    add("--temperature", action="store_true", help="divide the logits by a temperature fitted on the val split")
    add("--thresholds", action="store_true", help="one threshold a class, chosen on val for the highest mean IoU")
    add("--ranking", choices=("iou", "dice"), help="decide for the classes of an image with the highest expected score")
    add("--boundary-tolerance", type=int, default=2, metavar="PIXELS", help="of boundary F1; default: 2")
    add("--rare-share", type=float, default=0.01, help="of the training pixels: below, a class is rare; default: 0.01")
    add("--resamples", type=int, default=2000, help="of the bootstrap; default: 2000")
    return parser


def _start(args: argparse.Namespace) -> None:
    from seg.inference.settings import Settings

    options = vars(args)
    settings = Settings(**{key: options[key] for key in Settings.__dataclass_fields__})
    settings.check()
    if args.against is None and args.against_checkpoint is not None:
        raise ConfigError("--against-checkpoint: has no effect without --against")
    if args.config is not None and not any(path and path.is_file() for path in (args.model, args.against)):
        raise ConfigError("--config: has no effect with a run folder, which has its own; allowed: with a .keras file")
    from seg.inference.report import check_report_folder

    opened = _open(args.model, args.checkpoint, args.config)
    folder = args.out or (opened.run.evaluation(settings.split) if opened.run else None)
    if folder is None:
        raise ConfigError(f"--out: left out, and {args.model} is no run folder; allowed: a folder for the results")
    check_report_folder(folder, None if args.out is None or args.overwrite else (args.model, settings.split))
    subject = _subject(opened, settings)
    other = None
    if args.against is not None:
        same = args.checkpoint if args.checkpoint in ("best", "last") and args.against.is_dir() else None
        other = _subject(_open(args.against, args.against_checkpoint or same, args.config), settings)
    return evaluate(subject, other, folder)


class _Opened(NamedTuple):
    """What MODEL names."""

    path: Path
    checkpoint: Path
    config: Config  # whose data and labels the model meets
    run: RunDir | None  # None: a file by itself

    @property
    def preprocessing(self) -> Preprocessing:
        """What the model was trained to see."""
        from seg.runs.model_file import read_description

        if self.run is None:
            return read_description(self.checkpoint)[1]
        return self.config.input.preprocessing(self.run.band_statistics())


def _open(path: Path, which: str | None, config_file: Path | None) -> _Opened:
    """Opens a run, or a .keras file and the configuration that was given for it.

    Raises:
        DataError: There is no such run or checkpoint, or it has other classes than the configuration.
        ConfigError: A file comes without a configuration.
    """
    from seg.config import load_config
    from seg.runs.model_file import read_description
    from seg.runs.run_dir import open_model

    checkpoint, run = open_model(path, which)
    if run is not None:
        return _Opened(path, checkpoint, run.config(), run)
    if config_file is None:
        raise ConfigError(f"--config: left out, and {path} knows no data; allowed: a YAML file with data and labels")
    labels, _ = read_description(checkpoint)
    config = load_config(config_file, trains=False)
    got, allowed = _classes(config.labels.label_set()), _classes(labels)
    if got != allowed:
        raise DataError(f"{config_file}: got the classes {got}; allowed with {path}: {allowed}")
    return _Opened(path, checkpoint, config, None)


def _classes(labels: LabelSet) -> str:
    return ", ".join(labels.names) + (" (may overlap)" if labels.multi_label else "")


def _subject(opened: _Opened, settings: Settings) -> Subject:
    from seg.inference.subject import Subject

    path, checkpoint, config, run = opened
    if config.labels.multi_label:
        settings.check_multi_label()
    counts = run.class_counts() if run else None
    weights = run.class_weights(config.labels.label_set().names) if run else None
    return Subject.of_run(path, checkpoint, config, opened.preprocessing, counts, weights, settings)


def evaluate(subject: Subject, other: Subject | None, folder: Path) -> None:
    """Evaluates a run, and another if there is one, prints the scores and writes the report.

    Raises:
        DataError: A checkpoint or the data is at fault, or the two runs cannot be compared.
    """
    from seg.inference.subject import check_comparable, comparison

    if other is not None:
        check_comparable(subject, other)
    for one in (subject, other):
        if one is not None and (unlike := one.unlike_images()):
            console.print(f"warning: {one.path}: {unlike}")

    from seg.runs.hardware import environment, start_tensorflow

    num_gpus = start_tensorflow()
    from seg.training.segmenter import load_segmenter

    model = load_segmenter(subject.checkpoint, len(subject.names))
    predictor = subject.predictor(model)
    scores = subject.scores(predictor)
    content: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),  # the one thing that a second evaluation changes
        **subject.facts(),
        "environment": environment(num_gpus, model.dtype_policy.name),
        **subject.results(scores),
    }
    if other is not None:
        other_scores = other.scores(other.predictor(load_segmenter(other.checkpoint, len(other.names))))
        content["against"] = comparison(subject, scores, other, other_scores)
    _write(folder, subject, scores[-1], content, list(subject.pictures(predictor, scores[-1])))
    _print(content, folder)


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
    charts = {"reliability": reliability_png(content["rules"])}
    matrix = np.array(content["confusion_matrix"])
    if matrix.ndim == 2:  # classes that may overlap are not mistaken for one another
        charts["confusion_matrix"] = confusion_matrix_png(matrix[: labels.num_classes], labels.names)
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
