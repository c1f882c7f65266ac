import os
import signal
import subprocess
import sys

import pytest

from seg.errors import Stopped
from seg.training.signals import stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_obeyed_when_it_is_time(number):
    told, before = [], signal.getsignal(number)
    with stop_requests(told.append) as stop:
        stop.obey()
        os.kill(os.getpid(), number)
        assert told == [f"{number.name}: saves and stops after this step; a second one stops at once"]
        assert signal.getsignal(number) == signal.SIG_DFL
        with pytest.raises(Stopped) as raised:
            stop.obey()
    assert raised.value.signal == number
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests(print) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.obey()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal, time\n"
        "from seg.training.signals import stop_requests\n"
        "with stop_requests(print):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == -signal.SIGTERM
