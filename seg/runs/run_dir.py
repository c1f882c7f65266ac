"""The folder of one run: what lies where, made once and never shared."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg.config import Config, dump_config, load_config
from seg.data.files.outputs import local_paths
from seg.data.files.storage import (
    make_folder,
    remove_temporaries,
    temporary_name,
    told_unwritable,
    write_bytes,
)
from seg.errors import ConfigError, DataError, SegError
from seg.runs.lock import locked, new_lock

if TYPE_CHECKING:
    from seg.balance import ClassCounts
    from seg.data.views.band_statistics import BandStatistics
    from seg.runs.checkpoints import CheckpointFiles


@dataclass(frozen=True)
class RunDir:
    """The files of a run.

    ```
    config.yaml          the resolved configuration, itself a valid --config
    config-1.yaml ...    the configurations before a resume changed them
    run.lock             while it is trained: by which process
    environment.json     versions and hardware
    counts.json          class counts of the training masks
    class_weights.json   weight by class name
    bands.json           mean, std and percentiles of the training images' bands, where they were counted
    effective_frequencies.json, mask_index.npz   with a sampler: what it draws, and where the classes lie
    log.csv              a row an epoch
    checkpoints/         best.keras (validation mean IoU), last.keras (to resume from), last-1.keras ... (before it)
    tensorboard/         train/ and val/
    evaluation/<split>/  what seg.evaluate writes
    ```
    """

    path: Path

    @classmethod
    def new(cls, path: Path, config: Config) -> RunDir:
        """Makes a run's folder with its configuration, locked by this process (see `seg.runs.lock`).

        Raises:
            DataError: Something is there, for two runs never share a folder, or it cannot be made.
        """
        run = cls(path)
        if not run._make(config):
            raise DataError(f"{path}: exists, and two runs never share a folder; allowed: a new folder")
        return run

    @classmethod
    def dated(cls, root: Path, config: Config) -> RunDir:
        """The same at root/<name>-<date>-<time>, with -2, -3, ... behind it where others began in the same second."""
        stem = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        return next(run for run in (cls(root / name) for name in names) if run._make(config))

    def _make(self, config: Config) -> bool:
        """False where something is there: the folder gets its name, for one of two only, once all is in it."""
        partial = RunDir(temporary_name(self.path))
        try:
            with told_unwritable(self.path):
                for folder in ("checkpoints", "tensorboard"):
                    make_folder(partial.path / folder)
                partial.write_text("config.yaml", dump_config(config))
                new_lock(partial.path)
                try:
                    partial.path.rename(self.path)
                except OSError as error:
                    if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                        return False
                    raise
        finally:
            shutil.rmtree(partial.path, ignore_errors=True)
        return True

    def locked(self, tell: Callable[[str], None]) -> AbstractContextManager[None]:
        """Holds the run for this process, see `seg.runs.lock.locked`."""
        return locked(self.path, tell)

    @contextmanager
    def removed_if_unprepared(self) -> Iterator[None]:
        """After an error before anything was counted, a new run's folder is gone and its name free."""
        try:
            yield
        except BaseException:
            if not self.counts.exists():
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """An existing run.

        Raises:
            DataError: There is no run there.
        """
        run = cls(path)
        if not run.config_file.is_file():
            raise DataError(f"{path}: no run there (config.yaml is missing); allowed: a folder that seg.train made")
        return run

    def change_config(self, config: Config) -> None:
        """Makes `config` the run's, if it is another one; the one before stays as config-1.yaml, config-2.yaml, ..."""
        if config != self.config():
            number = next(n for n in itertools.count(1) if not (self.path / f"config-{n}.yaml").exists())
            self.write_text(f"config-{number}.yaml", dump_config(self.config()))
            self.write_text("config.yaml", dump_config(config))

    def remove_leftovers(self) -> None:
        """Removes what a killed process has left under temporary names. For who holds the run's lock: then nobody else
        writes there."""
        for folder in (self.path, self.path / "checkpoints"):
            remove_temporaries(folder)

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def counts(self) -> Path:
        return self.path / "counts.json"

    @property
    def bands(self) -> Path:
        return self.path / "bands.json"

    def band_statistics(self) -> BandStatistics | None:
        """The training images' statistics that the run normalises by; None where its configuration needs none.

        Raises:
            DataError: The file is missing or broken.
        """
        from seg.data.views.band_statistics import BandStatistics

        return BandStatistics.load(self.bands) if self.config().input.needs_statistics else None

    @property
    def mask_index(self) -> Path:
        return self.path / "mask_index.npz"

    @property
    def log(self) -> Path:
        return self.path / "log.csv"

    def checkpoints(self, keep: int = 1) -> CheckpointFiles:
        """Its checkpoints, of which it keeps the last `keep`."""
        from seg.runs.checkpoints import CheckpointFiles

        return CheckpointFiles(self.path / "checkpoints", keep)

    @property
    def best(self) -> Path:
        return self.checkpoints().best

    @property
    def last(self) -> Path:
        return self.checkpoints().last

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def evaluation(self, split: str) -> Path:
        return self.path / "evaluation" / split

    def config(self) -> Config:
        """The run's configuration."""
        return load_config(self.config_file)

    def data_files(self) -> list[Path]:
        """The local images and masks of its data; what of them lies in one folder, where they are no longer whole."""
        config = self.config()
        try:
            return list(local_paths(file for split in config.samples().values() for one in split for file in one.files))
        except SegError:  # an image without its mask, say, which is no reason to replace the others
            return [path for path in Path(config.data.root).rglob("*") if path.is_file()]

    def class_counts(self) -> ClassCounts:
        """The counts of the training masks.

        Raises:
            DataError: The file is missing or broken.
        """
        from seg.balance import ClassCounts

        return ClassCounts.load(self.counts, mend=self._mend)

    def class_weights(self, names: Sequence[str]) -> dict[str, float]:
        """The weight of each class.

        Raises:
            DataError: The file is missing or broken, or of other classes.
        """
        path = self.path / "class_weights.json"
        try:
            weights = json.loads(path.read_text("utf-8"))
            if tuple(weights) != tuple(names) or not all(isinstance(weight, float) for weight in weights.values()):
                raise ValueError(f"allowed: one number for each of {', '.join(names)}")
            return weights
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"{path}: the class weights cannot be read ({reason}); {self._mend}") from None

    @property
    def _mend(self) -> str:
        return f"to write it anew: python -m seg.train --resume {self.path}"

    def checkpoint(self, which: str) -> Path:
        """The checkpoint file of `best`, `last` or a path.

        Raises:
            DataError: It does not exist.
        """
        path = {"best": self.best, "last": self.last}.get(which, Path(which))
        if not path.is_file():
            raise DataError(f"{path}: no such checkpoint; allowed: best, last (of a run that trained) or a .keras file")
        return path

    def write_json(self, name: str, content: Any) -> None:
        self.write_text(name, json.dumps(content, indent=1) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the run in one step, so that a killed run leaves no half of one."""
        write_bytes(self.path / name, text.encode(), durable=True)


def open_model(path: Path, which: str | None) -> tuple[Path, RunDir | None]:
    """What a command's MODEL and --checkpoint name: the checkpoint, and the run it is of; None for a file by itself.

    Raises:
        DataError: There is no such run or checkpoint.
        ConfigError: `which` is given for a file.
    """
    if path.is_dir() or path.suffix != ".keras":
        run = RunDir.open(path)
        return run.checkpoint(which or "best"), run
    if which is not None:
        raise ConfigError("--checkpoint: has no effect with a .keras file; allowed: with a run folder")
    if not path.is_file():
        raise DataError(f"{path}: no such file; allowed: a folder that seg.train made, or a .keras file out of one")
    return path, None
