"""Asked before a command works: whether its results can be written, and that they replace nothing that it reads."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from seg.data.files.storage import File, LimitedMask, holder
from seg.errors import ConfigError, DataError

REPORTS = (".json", ".csv", ".md", ".markdown", ".html", ".htm", ".png")  # what an option for one report may replace


def check_folder(path: Path) -> None:
    """Refuses a folder for results that cannot be made or written to.

    Raises:
        DataError: It is a file, lies under one, or is read-only.
    """
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists() or folder.is_symlink())
    if not there.is_dir():
        raise DataError(f"{there}: is no folder; allowed: a folder, or a new name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DataError(f"{there}: cannot be written ({os.strerror(errno.EACCES)}, or a read-only file system)")


def check_reports(reports: Iterable[tuple[str, Path | None]], sources: Callable[[], Iterable[File]]) -> None:
    """Refuses single files for results that cannot be written, are read by the command, or another kind of file.

    An earlier report is replaced: who names a file for a report wants the new one.

    Args:
        reports: (option, path) of each; None: not wanted.
        sources: The files that the command reads; asked for where a report exists.

    Raises:
        ConfigError: Two options name one file, or one names a folder, a source or a file that is no report.
        DataError: The folder cannot be written to.
    """
    seen: dict[Path, str] = {}
    for option, path in reports:
        if path is None:
            continue
        if path.resolve() in seen:
            raise ConfigError(f"{seen[path.resolve()]} and {option}: both are {path}, allowed: two files")
        seen[path.resolve()] = option
        check_folder(path.parent)
        if not path.exists():
            continue
        if not path.is_file():
            raise ConfigError(f"{option}: {path} is no file; allowed: a file name")
        if path.suffix.lower() not in REPORTS:
            raise ConfigError(f"{option}: {path} exists and is no report; allowed: a new name, or {' '.join(REPORTS)}")
        if _identity(path) in _identities(sources()):
            raise ConfigError(f"{option}: {path} is one of the files that are read; allowed: another name")


def check_targets(targets: Sequence[Path], sources: Callable[[], Iterable[File]], overwrite: bool) -> None:
    """Refuses targets that exist, unless they may be replaced; never may a file that the command reads, whatever its
    name is: a link, a path by another folder.

    Args:
        targets: The files to be written.
        sources: The files that must not be replaced; asked for where a target exists.
        overwrite: Whether others may.

    Raises:
        DataError: Names the first of them.
    """
    existing = [path for path in targets if path.exists() or path.is_symlink()]
    if not existing:
        return
    protected = _identities(sources())
    for path in existing:
        if _identity(path) in protected:
            raise DataError(f"{path}: is one of the data's own files, which are never replaced; allowed: another --out")
    if not overwrite:
        more = f", and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise DataError(f"{existing[0]}: exists{more}; allowed: another --out, or --overwrite to replace them")


def local_paths(files: Iterable[File]) -> Iterable[Path]:
    """The local files among them, of volumes and limited masks those that hold them."""
    for file in files:
        parts = (file.mask, file.valid) if isinstance(file, LimitedMask) else (file,)
        yield from (path for part in parts if part is not None and isinstance(path := holder(part), Path))


def _identities(files: Iterable[File]) -> set[tuple[int, int]]:
    return {one for path in local_paths(files) if (one := _identity(path)) is not None}


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common, links followed."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
