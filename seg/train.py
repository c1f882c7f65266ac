"""`python -m seg.train`: from a configuration to a trained model, with everything on the way kept in a run folder."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from seg.config import Config, load_config
from seg.errors import ConfigError, DataError, run_command

if TYPE_CHECKING:  # TensorFlow comes with these: only once the configuration is known to be right
    import keras

    from seg.balance import ClassCounts, MultiLabelCounts
    from seg.build import Sampling
    from seg.data.band_statistics import BandStatistics
    from seg.data.samples import Sample, Splits
    from seg.metrics.confusion import ConfusionMatrix
    from seg.metrics.multi_label import MultiLabelConfusion
    from seg.training.run_dir import RunDir
    from seg.training.segmenter import Segmenter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not for the user

console = Console(highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m seg.train",
        description="Counts the classes of the training masks, weights them, trains a U-Net, reports per-class IoU.",
        epilog="example: python -m seg.train --config configs/quickstart.yaml training.epochs=3",
    )
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--config", type=Path, metavar="FILE", help="a YAML file such as configs/quickstart.yaml")
    start.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with a run that was stopped")
    parser.add_argument("--run-dir", type=Path, help="the new run's folder; left out: output.root/<name>-<date>-<time>")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes one key of the configuration")
    args = parser.parse_args(argv)
    return run_command(lambda: _start(args))


def _start(args: argparse.Namespace) -> None:
    from seg.training.run_dir import RunDir

    if args.resume:
        if args.overrides or args.run_dir:
            raise ConfigError("--resume goes on with the run's own configuration; allowed: no overrides, no --run-dir")
        run = RunDir.open(args.resume)
        train(run.config(), run)
    else:
        config = load_config(args.config, args.overrides)
        train(config, RunDir.new(args.run_dir) if args.run_dir else RunDir.dated(Path(config.output.root), config.name))


def train(config: Config, run: RunDir) -> None:
    """Trains `config` in `run`, from its last checkpoint if it has one, and prints the best epoch's per-class IoU.

    Nothing is written before all masks of the training split have been read.

    Raises:
        DataError: The data, a stored artefact or the run folder is at fault.
    """
    from seg import build

    splits = build.samples(config)
    counts, statistics = count_training(config, run, splits["train"])
    sampling = sample_rare_classes(config, run, splits["train"])
    weights = build.weights(config, shown_counts(counts, sampling))

    from seg.training.hardware import start_tensorflow

    num_gpus = start_tensorflow()
    from seg.data.dataset import user_errors
    from seg.data.draws import steps_per_epoch
    from seg.training.run_board import run_board

    steps = steps_per_epoch(len(splits["train"]), config.training.batch_size, config.input.crops_per_image)
    start_run(run, config, splits, counts, weights, sampling, statistics)
    model, confusion = build_model(config, run, weights, steps, num_gpus)
    log = resume(model, run, steps)
    with user_errors(), resume_hint(run):
        val = build.evaluation_data(config, splits["val"], statistics)
        if not finished(config, log):
            table = class_rows(counts, weights, sampling)
            board = run_board(config, run, splits["val"], counts, weights, table, statistics)
            sampler, copy_paste = sampling.drawn_by if sampling else (None, None)
            model.fit(
                build.training_data(config, splits["train"], len(log), sampler, copy_paste, statistics),
                validation_data=val,
                epochs=config.training.epochs,
                initial_epoch=len(log),
                steps_per_epoch=steps,
                callbacks=callbacks(config, run, log, steps, [board]),
                shuffle=False,  # the stream has its order
                verbose=0,
            )
        model.load_weights(run.best)
        model.evaluate(val, verbose=0)
    report(run, splits, confusion)


def count_training(
    config: Config, run: RunDir, samples: Sequence[Sample]
) -> tuple[ClassCounts | MultiLabelCounts, BandStatistics | None]:
    """The class counts of the training masks and, where values are normalised by them, the images' band statistics.

    Images are read beside their masks, in one pass, for their statistics, and where pixels may be missing in them,
    which are void then. A resumed run has both in its folder.
    """
    from seg import build
    from seg.balance.pairs import count_pairs, fingerprint_pairs
    from seg.data.band_statistics import BandStatistics

    root, wanted = Path(config.data.root), build.needs_statistics(config)
    # Counts of classes that overlap are of masks alone.
    counted = run.counts.exists() or config.class_weights.counts is not None or config.labels.multi_label
    if wanted and run.bands.exists():
        kept = BandStatistics.load(run.bands)
        try:
            kept.check_matches(config.input.bands, build.clip(config), fingerprint_pairs(samples, root))
        except DataError as error:
            raise DataError(f"{run.bands}: {error}") from None
        return count_classes(config, run, samples), kept
    if not wanted and (counted or not build.may_miss_pixels(config, samples)):
        return count_classes(config, run, samples), None
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("counting classes and bands", total=len(samples))
        counts, statistics = count_pairs(
            samples,
            build.label_set(config),
            build.mask_encoding(config),
            root=root,
            bands=config.input.bands,
            nodata=config.input.nodata,
            clip=build.clip(config),
            with_statistics=wanted,
            progress=lambda done, _: bar.update(task, completed=done),
        )
    return (count_classes(config, run, samples) if counted else counts), statistics


def count_classes(config: Config, run: RunDir, samples: Sequence[Sample]) -> ClassCounts | MultiLabelCounts:
    """The class counts of the training masks: read from an artefact (the config's, or a resumed run's) if it is of
    just these masks, else counted."""
    from seg import build
    from seg.balance import fingerprint_files

    labels, encoding, root = build.label_set(config), build.mask_encoding(config), Path(config.data.root)
    masks = [sample.mask for sample in samples]
    artefact = run.counts if run.counts.exists() else config.class_weights.counts
    if artefact is not None:
        counts = build.load_counts(config, Path(artefact))
        try:
            counts.check_matches(
                labels.names, labels.ignore_index, encoding.description, fingerprint_files(masks, root)
            )
        except DataError as error:
            raise DataError(f"{artefact}: {error}") from None
        return counts
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("counting classes", total=len(masks))
        return build.count_classes(config, masks, lambda done, _: bar.update(task, completed=done))


def sample_rare_classes(config: Config, run: RunDir, samples: Sequence[Sample]) -> Sampling | None:
    """The configured sampler and what it makes the training see; None without one."""
    from seg import build

    with Progress(console=console, transient=True) as bar:

        def progress(name: str) -> Callable[[int, int], None]:
            task = bar.add_task(name, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        return build.sampling(config, samples, run.mask_index, progress)


def start_run(
    run: RunDir,
    config: Config,
    splits: Splits,
    counts: ClassCounts | MultiLabelCounts,
    weights: np.ndarray,
    sampling: Sampling | None = None,
    statistics: BandStatistics | None = None,
) -> None:
    """Makes a new run's folder, with its configuration, counts and weights, and prints the class table."""
    from seg import build
    from seg.balance import ClassCounts

    if not run.path.exists():
        run.create(config)
        counts.save(run.counts)
        run.write_json("class_weights.json", dict(zip(counts.names, weights.tolist(), strict=True)))
        if sampling and isinstance(counts, ClassCounts):
            run.write_json("realised_frequencies.json", sampling.to_json(counts))
            sampling.sampler.index.save(run.mask_index, counts.fingerprint)
    if statistics is not None and not run.bands.exists():
        statistics.save(run.bands)
    console.print(f"run {run.path}: " + ", ".join(f"{len(samples)} {split}" for split, samples in splits.items()))
    head, *rows = class_rows(counts, weights, sampling)
    table = Table(*head, title="training masks")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if isinstance(counts, ClassCounts) and counts.moved_pixels:
        share = counts.moved_pixels / (counts.pixel_counts.sum() + counts.void_pixels)
        console.print(f"{counts.moved_pixels:,} pixels ({share:.2%}) took the nearest class colour: {counts.encoding}")
    if sampling:
        console.print(sampling.told())
    if config.class_weights.online is not None:
        console.print("the loss's class weights follow the batches; the table's are those of all masks")
    warnings = build.weight_warnings(config, shown_counts(counts, sampling), weights)
    for warning in [*warnings, *build.sampling_warnings(config)]:
        console.print(f"warning: {warning}")


def shown_counts(counts: ClassCounts | MultiLabelCounts, sampling: Sampling | None) -> ClassCounts | MultiLabelCounts:
    """What the training sees: the masks' counts, or what a sampler makes of them."""
    from seg.balance import ClassCounts

    return sampling.counts(counts) if sampling and isinstance(counts, ClassCounts) else counts


def class_rows(
    counts: ClassCounts | MultiLabelCounts, weights: np.ndarray, sampling: Sampling | None = None
) -> list[tuple[str, ...]]:
    """A head, then pixels, share, images that contain it and weight of each class, as text; with a sampler the share
    of what the training draws, too."""
    from seg.balance import ClassCounts

    head = ("class", "pixels", "share", "images", "weight" if isinstance(counts, ClassCounts) else "pos_weight")
    rows = [
        (name, f"{pixels:,}", f"{share:.3%}", f"{images}/{counts.num_images}", f"{weight:.3f}")
        for name, pixels, share, images, weight in zip(
            counts.names, counts.pixel_counts, counts.frequencies, counts.image_counts, weights, strict=True
        )
    ]
    if sampling is None:
        return [head, *rows]
    drawn = sampling.realised_texts()
    return [(*row[:3], text, *row[3:]) for row, text in zip([head, *rows], ["drawn", *drawn], strict=True)]


def build_model(
    config: Config, run: RunDir, weights: np.ndarray, steps: int, num_gpus: int
) -> tuple[Segmenter, ConfusionMatrix | MultiLabelConfusion]:
    """The compiled model and the metric it reports, on the hardware there is, which the run folder gets to know."""
    import keras

    from seg import build
    from seg.training.hardware import environment, precision_policy
    from seg.training.segmenter import Segmenter

    policy = precision_policy(config.training.precision, num_gpus)
    run.write_json("environment.json", environment(num_gpus, policy))
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(config.seed)
    confusion = build.confusion(config)
    model = Segmenter(*build.network(config))
    model.compile(
        optimizer=build.optimizer(config, steps),
        loss=build.loss(config, weights),
        metrics=[confusion],
        online_weights=build.online_weights(config),
        jit_compile=num_gpus > 0,  # XLA's convolutions are slower on CPU; the segmenter compiles the loss there
    )
    model.optimizer.build(model.trainable_variables)  # so that a checkpoint's optimizer state has where to go
    console.print(f"{model.count_params():,} parameters, {policy}, {num_gpus} GPUs")
    return model, confusion


def resume(model: Segmenter, run: RunDir, steps: int) -> list[dict[str, str]]:
    """Loads the last checkpoint, if there is one; returns the log rows of the epochs it has behind it.

    The optimizer's step count says how far the checkpoint is: one source, which cannot disagree with the weights.

    Raises:
        DataError: The checkpoint is broken, or log.csv lacks epochs that it has.
    """
    from seg.training.callbacks import read_log

    if not run.last.exists():
        return []
    try:
        model.load_weights(run.last)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise DataError(f"{run.last}: cannot be loaded into the configured model: {first_line}") from None
    iterations = int(model.optimizer.iterations)
    for layer in model.layers:  # Keras does not save how far dropout's random stream has come: one draw a step
        if (generator := getattr(layer, "seed_generator", None)) is not None:
            generator.state.assign([generator.state[0], iterations])
    epochs = iterations // steps
    rows = read_log(run.log, epochs)
    if len(rows) < epochs:
        raise DataError(f"{run.log}: got {len(rows)} epochs, but {run.last} has {epochs}; allowed: a row an epoch")
    console.print(f"resuming after epoch {epochs}")
    return rows


def finished(config: Config, log: list[dict[str, str]]) -> bool:
    """Whether a resumed run has nothing left to train: all epochs done, or early stopping had ended it."""
    from seg.training.callbacks import MONITOR, out_of_patience

    history = [float(row[MONITOR]) for row in log]
    return len(log) >= config.training.epochs or out_of_patience(history, config.training.early_stopping)


@contextmanager
def resume_hint(run: RunDir) -> Iterator[None]:
    """After Ctrl-C, says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if run.last.exists():
            console.print(f"resume   python -m seg.train --resume {run.path}")
        raise


def callbacks(
    config: Config,
    run: RunDir,
    log: list[dict[str, str]],
    steps: int,
    watching: Sequence[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """What happens at the end of each epoch, in this order: facts, log, `watching`, checkpoints, the printed line."""
    from seg.training import callbacks as on

    history = [float(row[on.MONITOR]) for row in log]
    return [
        on.NaNStop(),
        on.EpochFacts(steps * config.training.batch_size),
        on.TrainingLog(run.log, log),
        *watching,
        on.Checkpoints(run.best, run.last, history=history, patience=config.training.early_stopping),
        on.ProgressBar(console, config.training.epochs, steps, first_epoch=len(log)),
    ]


def report(run: RunDir, splits: Splits, confusion: ConfusionMatrix | MultiLabelConfusion) -> None:
    """Prints the per-class scores of the last evaluation, and what to type next."""
    import keras

    from seg.inference.report import scores_table
    from seg.metrics.iou import scores

    matrix = keras.ops.convert_to_numpy(confusion.matrix)
    console.print(scores_table(scores(matrix), confusion.class_names, title="validation, best epoch"))
    console.print(f"watch    tensorboard --logdir {run.path.parent}")
    if "test" in splits:
        console.print(f"test     python -m seg.evaluate {run.path} --split test")
    console.print(f"predict  python -m seg.predict {run.path} IMAGES --out predictions")


if __name__ == "__main__":
    sys.exit(main())
