"""Errors meant for the person who runs a command.

A message names the file, key or value at fault, what was got and what is allowed. Commands print it without a
traceback and exit with code 2; library callers catch `SegError` or one of its two kinds.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what asks a command to end


class SegError(Exception):
    """Something that the user can mend: the message says what and how."""


class ConfigError(SegError):
    """A configuration file, an override or a command-line value is wrong."""


class DataError(SegError):
    """An image, a mask, a sample list or a stored artefact is missing, broken or does not match the rest."""


class UnknownLabelError(DataError):
    """A mask holds a value or colour that is neither a class nor void."""


class OutputError(DataError):
    """A result cannot be written: no fault of the file that was being worked on, and no reason to skip it."""


class Stopped(BaseException):
    """A signal asked the command to end.

    Attributes:
        signal: Which.
    """

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(f"stopped by {by.name}")
        self.signal = by


def run_command(command: Callable[[], int | None]) -> int:
    """Runs a command's body and turns a `SegError` into one message on stderr.

    Returns:
        The exit code: what the body returns, or 0; 2 for a `SegError`; 128 and the number of the signal that ended it:
        130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding lacks shall not end a training
            stream.reconfigure(errors="backslashreplace")
    try:
        with _stopped_by_signals():
            code = command() or 0
        sys.stdout.flush()
        return code
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # who read the output has enough of it, as `head` does
        code = 128 + signal.SIGPIPE
        _drop_output()
    except OSError as error:  # what no one nearer to it has put into words
        print(f"error: {error.filename or 'the output'}: {error.strerror or error}", file=sys.stderr)
        code = 2
        _drop_output()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        code = 128 + stopped.signal
    # What the command left half-done is freed now: a stream of samples that one of its own threads collects as garbage,
    # at the interpreter's end say, would wait for itself.
    gc.collect()
    return code


def _drop_output() -> None:
    """What is still to be printed goes nowhere: at the interpreter's end it would be a second error."""
    if sys.stdout is sys.__stdout__:  # what stands in its place has no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Stopped`, so that what was begun is cleaned up; one that is ignored stays so."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(signal.Signals(number))

    if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING if number != signal.SIGINT}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
