"""Ctrl-C, SIGTERM and SIGHUP while a model is fitted: noted, and obeyed at a step's end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from seg.errors import STOPPING, Stopped


class StopRequest:
    """Whether the training was asked to stop.

    Attributes:
        signal: Which signal asked; None: none has.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def obey(self) -> None:
        """Raises: Stopped: It was asked to."""
        if self.signal is not None:
            raise Stopped(self.signal)


@contextmanager
def stop_requests(tell: Callable[[str], None]) -> Iterator[StopRequest]:
    """Signals become a request, once; the second one ends the process at once, as it does by default.

    A signal that is ignored stays so, as SIGHUP under nohup.

    Args:
        tell: Gets a sentence when the request comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
        yield request
        return
    before = {number: signal.getsignal(number) for number in STOPPING}

    def note(number: int, _: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        for handled in before:
            if before[handled] != signal.SIG_IGN:
                signal.signal(handled, signal.SIG_DFL)
        tell(f"{request.signal.name}: saves and stops after this step; a second one stops at once")

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
