"""A run's checkpoints on disk: written whole, the last ones kept, verified before a training goes on from one."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg.data.files.storage import settle, temporary_name, told_unwritable
from seg.errors import DataError
from seg.runs.model_file import check_model_file, first_line

MEMBER = "training.npz"  # in the .keras file, beside what Keras writes
_POSITION = "position"


@dataclass(frozen=True)
class Position:
    """How far a training is.

    Attributes:
        epoch: Epochs that are done, their validation too.
        step: Steps that are done of the next one; all of an epoch's: only its validation is missing.
        seconds: What those steps took, for the log.
        halvings: How often the learning rate was halved because the training had diverged.
    """

    epoch: int
    step: int = 0
    seconds: float = 0.0
    halvings: int = 0


@dataclass(frozen=True)
class TrainingState:
    """What a resume needs beside the weights and the optimizer: the position, and the variables that Keras leaves out.

    Attributes:
        position: How far the training is.
        variables: By name: the metrics' sums, and how far random streams have come.
    """

    position: Position
    variables: dict[str, np.ndarray] = field(default_factory=dict)

    def add_to(self, path: Path) -> None:
        """Writes it into a .keras file."""
        content = io.BytesIO()
        position = np.array(json.dumps(asdict(self.position)))
        np.savez(content, **{_POSITION: position}, **{f"variable {name}": v for name, v in self.variables.items()})  # type: ignore[arg-type] # NumPy's stub takes the names for its own
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(MEMBER, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> TrainingState:
        """Reads what `add_to` wrote.

        Raises:
            DataError: The file has none.
        """
        try:
            with (
                zipfile.ZipFile(path) as archive,
                np.load(io.BytesIO(archive.read(MEMBER)), allow_pickle=False) as kept,
            ):
                position = Position(**json.loads(str(kept[_POSITION])))
                return cls(position, {name[9:]: kept[name] for name in kept.files if name != _POSITION})
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path}: has no readable {MEMBER} ({first_line(error)}), so a training cannot go on from it; "
                "allowed: a checkpoint that this version of seg.train saved"
            ) from None


class Found(NamedTuple):
    """A checkpoint that is whole."""

    path: Path
    state: TrainingState


class CheckpointFiles:
    """last.keras with the ones before it (last-1.keras, last-2.keras, ...), and best.keras.

    A checkpoint is on the disk before it gets its name, and the file before it keeps one until then. Waiting for the
    disk, copying and renaming are done by a thread of its own while the training goes on; one checkpoint at a time.
    """

    def __init__(self, folder: Path, keep: int = 1) -> None:
        """`keep`: how many of the last ones there are at most."""
        self.folder, self.keep = folder, keep
        self._pool = ThreadPoolExecutor(1, "checkpoints")  # its thread starts with the first checkpoint
        self._writing: Future[None] | None = None

    @property
    def best(self) -> Path:
        return self.folder / "best.keras"

    @property
    def last(self) -> Path:
        return self._last(0)

    def _last(self, age: int) -> Path:
        return self.folder / (f"last-{age}.keras" if age else "last.keras")

    def save(self, write: Callable[[Path], None], state: TrainingState, *, best: bool = False) -> None:
        """Makes a new last.keras, and of the same content best.keras if it is the best.

        Args:
            write: Writes a model to a path that ends in .keras; done when `save` returns.
            state: What is added to that.
            best: Whether it is the best.

        Raises:
            DataError: It cannot be written; also where that became known only after the call before.
        """
        self.wait()
        temporary = temporary_name(self.last, ".keras")
        try:
            with told_unwritable(self.last):
                write(temporary)
                state.add_to(temporary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._writing = self._pool.submit(self._place, temporary, best)

    def wait(self) -> None:
        """Until the checkpoint that is being written has its name; raises what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _place(self, temporary: Path, best: bool) -> None:
        try:
            with told_unwritable(self.last):
                settle(temporary)
                if best:
                    self._place_best(temporary)
                for age in range(self.keep - 1, 0, -1):
                    if self._last(age - 1).exists():
                        os.replace(self._last(age - 1), self._last(age))
                os.replace(temporary, self.last)
                settle(self.folder)
                for path in self.existing()[self.keep :]:  # of a time when more were kept
                    path.unlink()
        finally:
            temporary.unlink(missing_ok=True)

    def _place_best(self, temporary: Path) -> None:
        """A second name for the same bytes, which nobody ever changes in place; a copy where there are no links."""
        second = temporary_name(self.best, ".keras")
        try:
            try:
                os.link(temporary, second)
            except OSError:
                shutil.copyfile(temporary, second)
                settle(second)
            os.replace(second, self.best)
        finally:
            second.unlink(missing_ok=True)

    def existing(self) -> list[Path]:
        """The last checkpoints, the newest first."""
        ages = [path.stem.removeprefix("last-") for path in self.folder.glob("last-*.keras")]
        paths = [self.last, *(self._last(age) for age in sorted(int(age) for age in ages if age.isdecimal()))]
        return [path for path in paths if path.exists()]

    def newest(self, tell: Callable[[str], None]) -> Found | None:
        """The newest checkpoint that is whole; None where there is none at all.

        Args:
            tell: Gets a sentence about each newer one that is not.

        Raises:
            DataError: There are some, and none of them is whole.
        """
        problems = []
        for path in self.existing():
            try:
                check_model_file(path)
                found = Found(path, TrainingState.read(path))
            except DataError as error:
                problems.append(error)
                continue
            for problem in problems:
                tell(f"warning: {problem}")
            if path != self.last:
                lost = "it is damaged" if problems else "it is not there"
                tell(f"warning: {self.last}: {lost}; going on from the checkpoint before it, {path.name}")
            return found
        if problems:
            raise problems[0]
        return None
