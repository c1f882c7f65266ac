"""The one progress bar of all commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn


class Step(Protocol):
    """Says that so many more are done."""

    def __call__(self, count: int = 1) -> None: ...


def progress_bar(console: Console | None = None, *columns: ProgressColumn) -> Progress:
    """What is done, a bar, how many of how many and the time left; gone at the end, and nothing where no terminal is.

    Args:
        console: Where; None: the standard error stream, so that the output can be piped.
        columns: To stand before the time left.
    """
    console = console or Console(stderr=True)
    what = TextColumn("{task.description}", markup=False)
    return Progress(
        what, BarColumn(), MofNCompleteColumn(), *columns, TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


@contextmanager
def progress(what: str, total: int, console: Console | None = None) -> Iterator[Step]:
    """A function to call after each of `total` things, or after several with their number, behind a bar."""
    with progress_bar(console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count=1: bar.advance(task, count)
