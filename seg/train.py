"""`python -m seg.train`: from a configuration to a trained model, with everything on the way kept in a run folder."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seg.config import Config, dump_config, load_config
from seg.config.changes import changes
from seg.console import text_console
from seg.errors import ConfigError, DataError, SegError, Stopped, run_command
from seg.tables import Table

if TYPE_CHECKING:  # TensorFlow comes with these: only once the configuration is known to be right
    import keras
    import tensorflow as tf

    from seg.balance import ClassCounts
    from seg.data.batches.shares import Share
    from seg.data.samples.pairs import Sample, Splits
    from seg.data.sampling.sampler import Sampler
    from seg.data.views.preprocessing import Preprocessing
    from seg.metrics.confusion import ConfusionMatrix
    from seg.runs.checkpoints import CheckpointFiles, Found
    from seg.runs.devices import Devices
    from seg.runs.run_dir import RunDir
    from seg.training.diverged import DivergedError
    from seg.training.preparation import Preparation
    from seg.training.segmenter import Segmenter
    from seg.training.signals import StopRequest
    from seg.training.tensorboard import SegmentationTensorBoard

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not for the user

console = text_console(soft_wrap=True)

MOST_NAMES = 16  # of a batch, in a message


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
    from seg.runs.run_dir import RunDir

    if args.resume:
        if args.run_dir:
            raise ConfigError("--run-dir: has no effect with --resume, which goes on in the run's own folder")
        run = RunDir.open(args.resume)
        config = load_config(run.config_file, args.overrides)
        changed = changes(run.config(), config)
        with run.locked(console.print):
            run.remove_leftovers()
            for line in changed:
                console.print(f"changed  {line}")
            if not run.checkpoints().existing():
                console.print("no checkpoint yet: starts at epoch 1")
            train(config, run)
    else:
        config = load_config(args.config, args.overrides)
        run = RunDir.new(args.run_dir, config) if args.run_dir else RunDir.dated(Path(config.output.root), config)
        with run.locked(console.print), run.removed_if_unprepared():
            train(config, run)


def train(config: Config, run: RunDir) -> None:
    """Trains `config` in `run`, from its last checkpoint if it has one, and prints the best epoch's per-class IoU.

    Nothing is written into `run` before all masks of the training split have been read.

    Raises:
        DataError: The data, a stored artefact or the run folder is at fault.
        Stopped: A signal asked for it; the run can be gone on with.
    """
    from seg.data.masks.values import telling_all_values
    from seg.training.preparation import prepare

    splits = config.samples(console.print)
    masks = [sample.mask for samples in splits.values() for sample in samples]
    with telling_all_values(masks, config.labels.label_set(), config.labels.mask_encoding()):
        prepared = prepare(config, run, splits["train"], console)
    rare = rare_names(config, prepared.counts)

    num_gpus = start_hardware(config)
    from seg.runs.devices import Devices

    devices = Devices.of(config.training.distribution, num_gpus)
    devices.check_batch_size(config.training.batch_size)
    from seg.data.batches.dataset import user_errors
    from seg.training.resuming import load_best

    steps = config.steps_per_epoch(len(splits["train"]))
    config.learning_rate(steps)  # refuses a warm-up that is longer than the training
    start_run(run, config, splits, prepared)
    with user_errors(), resume_hint(run):
        preprocessing = config.input.preprocessing(prepared.statistics)
        val = devices.data(lambda share: config.evaluation_data(splits["val"], preprocessing, share))
        model, confusion = fit(config, run, splits, prepared, val, steps, rare, num_gpus, devices)
        load_best(model, run)
        model.evaluate(val, verbose=0)
    report(run, splits, confusion)


def rare_names(config: Config, counts: ClassCounts) -> list[str]:
    """The classes that are rare by `tensorboard.rare_share`.

    Raises:
        DataError: There are none, and `training.monitor` is their mean IoU.
    """
    from seg.balance.rare import classes_below

    names = [counts.names[index] for index in classes_below(counts, config.tensorboard.rare_share)]
    if config.training.monitor == "mean_iou_rare" and not names:
        raise DataError(
            f"training.monitor: got 'mean_iou_rare', but every class has at least {config.tensorboard.rare_share:g} of "
            "the labelled training pixels (tensorboard.rare_share); allowed: mean_iou, iou/<class> or a higher share"
        )
    return names


def start_hardware(config: Config) -> int:
    """Starts TensorFlow, with XLA's programs kept on a GPU if they are to be; returns the number of GPUs."""
    from seg.runs.hardware import start_tensorflow
    from seg.runs.program_cache import keep_programs

    if config.training.keep_programs and "tensorflow" not in sys.modules:  # later it would not be read
        added, told = keep_programs(os.environ)
        os.environ.update(added)
        if told:
            console.print(told)
    return start_tensorflow()


def fit(
    config: Config,
    run: RunDir,
    splits: Splits,
    prepared: Preparation,
    val: tf.data.Dataset,
    steps: int,
    rare: Sequence[str],
    num_gpus: int,
    devices: Devices,
) -> tuple[Segmenter, ConfusionMatrix]:
    """Trains from the last checkpoint to the end; where the training diverges, as `training.on_nonfinite` says.

    Returns:
        The model as it is after the last epoch, and its metric.
    """
    from seg.runs.checkpoints import Position
    from seg.runs.model_file import describe
    from seg.training.checkpoints import resumed_at
    from seg.training.diverged import DivergedError
    from seg.training.freezing import freezing
    from seg.training.resuming import advice, finished, resume
    from seg.training.signals import stop_requests

    files = run.checkpoints(config.checkpoints.keep)
    sampler = prepared.sampling.sampler if prepared.sampling else None
    halvings = 0

    def training_data(share: Share) -> tf.data.Dataset:
        first_step = resumed_at(position, steps)
        return config.training_data(splits["train"], len(log), sampler, prepared.statistics, first_step, share)

    while True:
        found = files.newest(console.print)
        position = found.state.position if found else Position(0)
        halvings = max(halvings, position.halvings)
        slowed = config.at_rate(0.5**halvings)
        model, confusion = build_model(slowed, run, prepared.weights, steps, num_gpus, devices)
        log = resume(model, run, found, steps, console.print)
        if finished(config, log):
            return model, confusion
        preprocessing = config.input.preprocessing(prepared.statistics)
        described = describe(config.labels.label_set(), preprocessing, prepared.images)
        watching = [*freezing(config, model), tensorboard(config, run, splits["val"], prepared, preprocessing)]
        with stop_requests(console.print) as stop:
            called = callbacks(slowed, run, files, found, log, steps, rare, halvings, stop, watching, described)
            try:
                model.fit(
                    devices.data(training_data),
                    validation_data=val,
                    epochs=config.training.epochs,
                    initial_epoch=len(log),
                    steps_per_epoch=steps,
                    callbacks=called,
                    shuffle=False,  # the stream has its order
                    verbose=0,
                )
                stop.obey()
                return model, confusion
            except DivergedError as error:
                traceback.clear_frames(error.__traceback__)  # the stream is freed here, see `user_errors`
                halvings += 1
                told = f"{error}{batch_told(config, splits['train'], sampler, error)}"
                if halvings > config.training.most_halvings:
                    raise SegError(told + advice(config, run)) from None
                console.print(f"{told}; back to the last checkpoint, at {0.5**halvings:g} of the learning rate")
            finally:
                files.wait()


def start_run(run: RunDir, config: Config, splits: Splits, prepared: Preparation) -> None:
    """Writes what the run's folder lacks of its counts and weights, and prints the class table."""
    prepared.save(run)
    run.change_config(config)
    console.print(f"run {run.path}: " + ", ".join(f"{len(samples)} {split}" for split, samples in splits.items()))
    head, *rows = prepared.rows()
    console.print(Table(head, rows).rich(title="training masks"))
    for line in prepared.remarks(config):
        console.print(line)


def build_model(
    config: Config, run: RunDir, weights: np.ndarray, steps: int, num_gpus: int, devices: Devices
) -> tuple[Segmenter, ConfusionMatrix]:
    """The compiled model and the metric it reports, on the hardware there is, which the run folder gets to know."""
    import keras

    from seg.runs.hardware import environment, quiet_stderr
    from seg.runs.precision import choose_precision
    from seg.training.checkpoints import build_metrics
    from seg.training.segmenter import Segmenter

    with quiet_stderr():  # TensorFlow remarks on bfloat16 where the processor has none
        precision = choose_precision(config.training.precision, num_gpus, run.path / "environment.json")
    facts = environment(num_gpus, precision.policy)
    run.write_json("environment.json", {**facts, "precision_reason": precision.reason})
    keras.config.set_dtype_policy(precision.policy)
    keras.utils.set_random_seed(config.seed)
    with devices.strategy.scope():
        confusion = config.labels.confusion(labelled_only=config.input.resize is not None)
        model = Segmenter(*config.build_model())
        parameters = model.count_params()  # before the average's are among them
        model.compile(
            optimizer=config.build_optimizer(steps),
            loss=config.build_loss(weights),
            metrics=[confusion],
            online_weights=config.class_weights.build_online(config.labels.label_set()),
            clip=config.optimizer.clip.plain() if config.optimizer.clip else None,
            l2=config.training.l2,
            accumulation=config.training.accumulation,
            ema=config.training.ema,
            skip_nonfinite=config.training.on_nonfinite == "skip",
            # XLA's convolutions are slower on CPU; the segmenter compiles the loss there. And devices meet in a step,
            # which XLA, compiling for one, cannot do.
            jit_compile=num_gpus > 0 and devices.number == 1,
        )
        model.optimizer.build(model.trainable_variables)  # so that a checkpoint's optimizer state has where to go
        build_metrics(model, config.labels.label_set().mask_axes)  # and that of its metrics
    console.print(f"{parameters:,} parameters, {num_gpus} GPUs")
    console.print(f"precision {precision.policy}: {precision.reason}")
    if devices.note:
        console.print(devices.note)
    return model, confusion


@contextmanager
def resume_hint(run: RunDir) -> Iterator[None]:
    """After Ctrl-C or another signal, says how to go on."""
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        console.print(f"resume   python -m seg.train --resume {run.path}")
        raise


def batch_told(config: Config, samples: Sequence[Sample], sampler: Sampler | None, error: DivergedError) -> str:
    """Which files the batches were of that may be why the training has diverged."""
    batches = [config.batch(samples, error.epoch, step, sampler) for step in error.steps]
    named = [sorted({str(sample.image) for sample in batch}) for batch in batches]
    texts = [", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "") for names in named]
    before = f"; of the step before it: {texts[0]}" if len(texts) == 2 else ""
    return f" (its batch: {texts[-1]}{before})" if texts else ""


def callbacks(
    config: Config,
    run: RunDir,
    files: CheckpointFiles,
    found: Found | None,
    log: list[dict[str, str]],
    steps: int,
    rare: Sequence[str],
    halvings: int,
    stop: StopRequest,
    watching: Sequence[keras.callbacks.Callback],
    description: str,
) -> list[keras.callbacks.Callback]:
    """What happens beside the steps, in this order: divergence, the monitored value, the rate that it leads to, facts,
    log, `watching`, checkpoints, the printed line."""
    from seg.training import callbacks as on
    from seg.training.checkpoints import Checkpoints
    from seg.training.diverged import DivergenceCheck
    from seg.training.monitor import RARE, Monitor, RareMean
    from seg.training.resuming import best_since

    monitor = Monitor(config.training.monitor)
    history = [monitor.score(row) for row in log]
    plateau = config.schedule.plateau(config.optimizer.learning_rate, steps)
    facts = on.EpochFacts(steps * config.training.batch_size, found.state.position.seconds if found else 0.0)
    return [
        DivergenceCheck(config.training.most_skips, console.print),
        *([RareMean(rare)] if monitor.name == RARE else []),
        *([on.PlateauRate(plateau, monitor, history)] if plateau else []),
        facts,
        on.TrainingLog(run.log, log),
        *watching,
        Checkpoints(
            files,
            facts,
            start=found.state if found else None,
            history=history,
            best_since=best_since(run, len(log), console.print),
            patience=config.training.early_stopping,
            description=description,
            every_steps=config.checkpoints.steps,
            every_minutes=config.checkpoints.minutes,
            halvings=halvings,
            stop=stop,
            monitor=monitor,
        ),
        on.ProgressBar(console, config.training.epochs, steps, first_epoch=len(log), monitor=monitor),
    ]


def tensorboard(
    config: Config, run: RunDir, val: Sequence[Sample], prepared: Preparation, preprocessing: Preprocessing
) -> SegmentationTensorBoard:
    """What writes the run's TensorBoard files."""
    from seg.data.views.sources import evaluation_views
    from seg.training.tensorboard import SegmentationTensorBoard

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


def report(run: RunDir, splits: Splits, confusion: ConfusionMatrix) -> None:
    """Prints the per-class scores of the last evaluation, and what to type next."""
    import keras

    from seg.inference.report import scores_table
    from seg.metrics.iou import scores

    matrix = keras.ops.convert_to_numpy(confusion.matrix)
    console.print(
        scores_table(scores(matrix, confusion.labelled_only), confusion.class_names, title="validation, best epoch")
    )
    console.print(f"watch    tensorboard --logdir {run.path.parent}")
    if "test" in splits:
        console.print(f"test     python -m seg.evaluate {run.path} --split test")
    console.print(f"predict  python -m seg.predict {run.path} IMAGES --out predictions")


if __name__ == "__main__":
    sys.exit(main())
