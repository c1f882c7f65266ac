"""`python -m seg.evaluate`: how good a trained run is on one of its splits, how sure that is, and against another run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from seg.errors import ConfigError, DataError, run_command

if TYPE_CHECKING:
    from seg.balance import ClassCounts
    from seg.config import Config
    from seg.data.samples import Sample
    from seg.inference.page import Picture
    from seg.inference.predictor import Predictor
    from seg.inference.scoring import RuleScores
    from seg.training.run_dir import RunDir

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not for the user

console = Console(highlight=False, soft_wrap=True)

RARE_SHARE = 0.01  # of the labelled training pixels, as in seg.balance.advisor
RARE_SHOWN = 10  # rare classes with pictures, of 150 perhaps


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    args = _parser().parse_args(argv)
    return run_command(lambda: evaluate(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seg.evaluate",
        description="Scores of a run over a whole split at the size that the run's input.resize gives, with confidence "
        "intervals: per-class IoU, Dice, precision, recall, boundary F1 and calibration, object recall of the rare "
        "classes. Written to RUN_DIR/evaluation/SPLIT as JSON, CSV and one HTML page. docs/evaluation.md defines each.",
        epilog="example: python -m seg.evaluate runs/weighted --split test --against runs/unweighted",
    )
    add = parser.add_argument
    add("run_dir", type=Path, metavar="RUN_DIR", help="a folder that seg.train made")
    add("--split", default="test", choices=("train", "val", "test"), help="default: test")
    add("--checkpoint", default="best", help="best (default), last or the path of a .keras file")
    add("--out", type=Path, metavar="DIR", help="folder for the results; left out: RUN_DIR/evaluation/SPLIT")
    add("--against", type=Path, metavar="OTHER_RUN", help="another run of the same data, evaluated in the same way: "
        "paired differences with intervals")  # fmt: skip
    add("--against-checkpoint", metavar="CHECKPOINT", help="of OTHER_RUN; left out: the one of --checkpoint if that is "
        "best or last, else best")  # fmt: skip
    add("--tta", default="none", choices=("none", "mirror", "flips", "d4"), help="average the probabilities of the "
        "image and its mirror image (mirror), of both flips and their product (flips), of all 8 turns and flips (d4)")  # fmt: skip
    add("--tile", type=int, default=1024, help="larger images are predicted in tiles of this side; default: 1024")
    add("--overlap", type=int, default=128, help="pixels that neighbouring tiles share; default: 128")
    add("--prior-correction", action="store_true", help="take the loss's class weights out of the probabilities")
    add("--temperature", action="store_true", help="divide the logits by a temperature fitted on the val split")
    add("--thresholds", action="store_true", help="one threshold a class, chosen on val for the highest mean IoU")
    add("--boundary-tolerance", type=int, default=2, metavar="PIXELS", help="of boundary F1; default: 2")
    add("--rare-share", type=float, default=RARE_SHARE, help="classes below this share of the training pixels are rare;"
        " default: %(default)s")  # fmt: skip
    add("--resamples", type=int, default=2000, help="of the bootstrap; default: 2000")
    return parser


def evaluate(args: argparse.Namespace) -> None:
    """Evaluates a run, and another if asked to, prints the scores and writes the report.

    Raises:
        ConfigError: An option is out of its range, or does not go with the run.
        DataError: A run, a checkpoint, a split or its data is at fault.
    """
    _check_options(args)
    subject = Subject.open(args.run_dir, args.checkpoint, args)
    other = None
    if args.against is not None:
        same = args.checkpoint if args.checkpoint in ("best", "last") else "best"
        other = Subject.open(args.against, args.against_checkpoint or same, args)
        _check_comparable(subject, other, args.split)

    from seg.training.hardware import start_tensorflow

    num_gpus = start_tensorflow()
    predictor, scores = _score(subject, args)
    content = _facts(subject, args, num_gpus) | _results(subject, scores, args)
    if other is not None:
        content["against"] = _compare(subject, scores, other, args)
    _write(subject, predictor, scores, content, args)


@dataclass(frozen=True)
class Subject:
    """A run to evaluate: all that can be checked before TensorFlow is loaded.

    Attributes:
        run: Its folder.
        config: Its configuration.
        checkpoint: The file of the model.
        samples: Of the split.
        val: Of the val split, which temperature and thresholds are fitted on.
        counts: Of the training masks.
        weights: (C,) that --prior-correction takes out; None without it.
    """

    run: RunDir
    config: Config
    checkpoint: Path
    samples: Sequence[Sample]
    val: Sequence[Sample]
    counts: ClassCounts
    weights: Any

    @classmethod
    def open(cls, run_dir: Path, which: str, args: argparse.Namespace) -> Subject:
        from seg import build
        from seg.balance import ClassCounts
        from seg.training.run_dir import RunDir

        run = RunDir.open(run_dir)
        config, checkpoint = run.config(), run.checkpoint(which)
        splits = build.samples(config)
        if args.split not in splits:
            allowed = ", ".join(splits)
            raise DataError(f"--split: got '{args.split}', which {run_dir}'s data does not have; allowed: {allowed}")
        counts = ClassCounts.load(run.counts)
        weights = None
        if args.prior_correction:
            try:
                weights = build.posterior_weights(config, counts)
            except ConfigError as error:
                raise ConfigError(f"{run_dir}: {error}") from None
        return cls(run, config, checkpoint, splits[args.split], splits.get("val", ()), counts, weights)

    def image_names(self) -> list[str]:
        """The images of the split relative to the data's folder."""
        from seg.data.storage import relative_name

        return [relative_name(sample.image, Path(self.config.data.root)) for sample in self.samples]

    def fingerprint(self) -> str:
        """Of the split's masks: their names and sizes."""
        from seg.balance import fingerprint_files

        return fingerprint_files([sample.mask for sample in self.samples], Path(self.config.data.root))

    def groups(self) -> list[str]:
        """What the bootstrap draws as one."""
        return [sample.group for sample in self.samples]


def _check_options(args: argparse.Namespace) -> None:
    if args.tile < 1:
        raise ConfigError(f"--tile: got {args.tile}, allowed: 1 or more")
    if not 0 <= args.overlap < args.tile:
        raise ConfigError(f"--overlap: got {args.overlap}, allowed: 0 to {args.tile - 1} (less than --tile)")
    if args.boundary_tolerance < 0:
        raise ConfigError(f"--boundary-tolerance: got {args.boundary_tolerance}, allowed: 0 or more pixels")
    if not 0 < args.rare_share <= 1:
        raise ConfigError(f"--rare-share: got {args.rare_share}, allowed: above 0, at most 1")
    if args.resamples < 100:
        raise ConfigError(f"--resamples: got {args.resamples}, allowed: 100 or more; fewer have no 2.5 % quantile")
    if args.against_checkpoint is not None and args.against is None:
        raise ConfigError("--against-checkpoint: has no effect without --against")
    if args.split == "val" and (args.temperature or args.thresholds):
        option = "--temperature" if args.temperature else "--thresholds"
        raise ConfigError(f"{option}: is fitted on val, whose scores it would flatter; allowed: --split test")


def _check_comparable(subject: Subject, other: Subject, split: str) -> None:
    """Refuses two runs whose scores are not of the same pixels."""
    ours, theirs = subject.config, other.config
    differences = []
    if ours.labels.names != theirs.labels.names:
        differences.append(f"classes {', '.join(ours.labels.names)} and {', '.join(theirs.labels.names)}")
    if subject.image_names() != other.image_names():
        differences.append(f"images of split {split} ({len(subject.samples)} and {len(other.samples)})")
    elif subject.fingerprint() != other.fingerprint():
        differences.append(f"masks of split {split} (fingerprints differ: other files or sizes)")
    if subject.groups() != other.groups():
        differences.append("groups of the images")
    if ours.input.resize != theirs.input.resize:
        differences.append(f"input.resize {ours.input.resize} and {theirs.input.resize}")
    if differences:
        raise DataError(
            f"--against: {subject.run.path} and {other.run.path} differ in {'; '.join(differences)}; allowed: two runs "
            "evaluated on the same pixels"
        )


def _score(subject: Subject, args: argparse.Namespace) -> tuple[Predictor, list[RuleScores]]:
    """The run's predictor, and its scores under every rule."""
    from seg import build
    from seg.balance.advisor import rare_classes
    from seg.data.dataset import user_errors
    from seg.inference.predictor import Predictor
    from seg.inference.scoring import Scoring, fit_rules, score_split
    from seg.training.segmenter import load_segmenter

    config = subject.config
    names, ignore_index = config.labels.names, config.labels.ignore_index
    predictor = Predictor(load_segmenter(subject.checkpoint), len(names), args.tile, args.overlap, args.tta)

    def batches(samples: Sequence[Sample]) -> Iterator[Any]:
        yield from build.evaluation_data(config, samples).as_numpy_iterator()

    with user_errors():
        rules = fit_rules(
            predictor,
            batches(subject.val),
            subject.weights,
            temperature=args.temperature,
            thresholds=args.thresholds,
            ignore_index=ignore_index,
        )
        rare = tuple(rare_classes(subject.counts, args.rare_share))
        scoring = Scoring(rules, len(names), ignore_index, args.boundary_tolerance, rare)
        return predictor, score_split(predictor, batches(subject.samples), scoring)


def _facts(subject: Subject, args: argparse.Namespace, num_gpus: int) -> dict[str, Any]:
    """What was evaluated, when, how and with what. The date is the one thing that another evaluation changes."""
    import time

    from seg.training.hardware import environment

    resize = subject.config.input.resize
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "run": str(subject.run.path),
        "checkpoint": subject.checkpoint.name,
        "split": args.split,
        "images": len(subject.samples),
        "image_size": list(resize) if resize else "as stored",
        "fingerprint": subject.fingerprint(),
        "tta": args.tta,
        "tile": args.tile,
        "overlap": args.overlap,
        "boundary_tolerance": args.boundary_tolerance,
        "rare_share": args.rare_share,
        "environment": environment(num_gpus, "as saved"),
    }


def _results(subject: Subject, scores: Sequence[RuleScores], args: argparse.Namespace) -> dict[str, Any]:
    """The numbers, with each class's share of the training pixels and its weight in the loss."""
    from seg import build
    from seg.balance.advisor import rare_classes
    from seg.inference.results import split_results

    names = subject.config.labels.names
    rare = rare_classes(subject.counts, args.rare_share)
    content = split_results(scores, names, subject.groups(), rare, args.resamples)
    weights = build.weights(subject.config, subject.counts)
    for name, share, weight in zip(names, subject.counts.frequencies, weights, strict=True):
        content["classes"][name] |= {"share": float(share), "weight": float(weight)}
    return content


def _compare(
    subject: Subject, scores: Sequence[RuleScores], other: Subject, args: argparse.Namespace
) -> dict[str, Any]:
    """Paired differences from the other run, evaluated in the same way.

    Raises:
        DataError: The two were not scored on the same labels after all.
    """
    from seg.inference.results import differences

    _, other_scores = _score(other, args)
    if (scores[0].sums[..., 1] != other_scores[0].sums[..., 1]).any():
        raise DataError(
            f"--against: the labels of {subject.run.path} and {other.run.path} differ pixel by pixel; allowed: one "
            "labels.encoding for the same masks"
        )
    rows = differences(scores, other_scores, subject.config.labels.names, subject.groups(), args.resamples)
    return {"run": str(other.run.path), "checkpoint": other.checkpoint.name, "rules": rows}


def _write(
    subject: Subject,
    predictor: Predictor,
    scores: Sequence[RuleScores],
    content: dict[str, Any],
    args: argparse.Namespace,
) -> None:
    """Writes the files and prints what they say."""
    from seg.balance.charts import frequency_chart
    from seg.config import dump_config
    from seg.inference.page import report_page
    from seg.inference.report import difference_lines, results_table, rules_table, write_report
    from seg.inference.results import image_rows

    labels, folder = subject.config.labels.label_set(), args.out or subject.run.evaluation(args.split)
    charts = {"Class frequencies of the training masks": frequency_chart(subject.counts, labels.colours)}
    pictures = list(_pictures(subject, predictor, scores[-1], args))
    page = report_page(content, labels, pictures, charts, dump_config(subject.config))
    images = image_rows(scores[-1], labels.names, subject.image_names(), subject.groups())
    write_report(folder, content, page, images)

    console.print(results_table(content, title=f"{args.split}: {len(subject.samples)} images"))
    if len(scores) > 1:
        console.print(rules_table(content["rules"]))
    if "against" in content:
        for row in content["against"]["rules"]:
            console.print("\n".join(difference_lines(row, content["against"]["run"])))
    console.print(f"written to {folder}: open {folder / 'report.html'}")


def _pictures(
    subject: Subject, predictor: Predictor, scores: RuleScores, args: argparse.Namespace
) -> Iterator[Picture]:
    """The worst, the median and the best image of each rare class, predicted once more: a split's predictions would
    not fit in memory."""
    from seg import build
    from seg.balance.advisor import rare_classes
    from seg.data.dataset import load_pair
    from seg.inference.page import Picture
    from seg.inference.results import telling_images
    from seg.metrics.iou import score_sums
    from seg.training.overlay import panel

    config, labels = subject.config, subject.config.labels.label_set()
    preprocessing, encoding = build.preprocessing(config), build.mask_encoding(config)
    names, iou = subject.image_names(), score_sums(scores.sums)["iou"]
    for index in rare_classes(subject.counts, args.rare_share)[:RARE_SHOWN]:
        for which, number in telling_images(scores.sums, index).items():
            image, mask = load_pair(subject.samples[number], labels, encoding, preprocessing)
            logits = predictor(preprocessing.prepare(image)[None])[0]
            classes = scores.rule.decide(logits.reshape(-1, labels.num_classes)).classes.reshape(mask.shape)
            pixels = panel(preprocessing.augmentable(image), mask, classes, labels)
            yield Picture(labels.names[index], which, f"IoU {iou[number, index]:.3f}, {names[number]}", pixels)


if __name__ == "__main__":
    sys.exit(main())
