"""Errors meant for the person who runs a command.

A message names the file, key or value at fault, what was got and what is allowed. Commands print it without a
traceback and exit with code 2; library callers catch `SegError` or one of its two kinds.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


class SegError(Exception):
    """Something that the user can mend: the message says what and how."""


class ConfigError(SegError):
    """A configuration file, an override or a command-line value is wrong."""


class DataError(SegError):
    """An image, a mask, a sample list or a stored artefact is missing, broken or does not match the rest."""


class UnknownLabelError(DataError):
    """A mask holds a value or colour that is neither a class nor void."""


def run_command(command: Callable[[], int | None]) -> int:
    """Runs a command's body and turns a `SegError` into one message on stderr.

    Returns:
        The exit code: what the body returns, or 0; 2 for a `SegError`, 130 after Ctrl-C.
    """
    try:
        return command() or 0
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    # What the command left half-done is freed now: a stream of samples that one of its own threads collects as garbage,
    # at the interpreter's end say, would wait for itself.
    gc.collect()
    return code
