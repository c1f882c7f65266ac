"""How a command ends: exit code and message, and no traceback for what the user can mend."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from seg.errors import ConfigError, DataError, SegError, run_command


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


def test_a_command_that_ends_well_returns_0_and_prints_nothing(capsys: pytest.CaptureFixture[str]):
    assert run_command(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ConfigError("a.yaml: 1 problem"), DataError("a.png: no mask")])
def test_an_error_of_the_user_returns_2_and_is_one_message_on_stderr(
    error: SegError, capsys: pytest.CaptureFixture[str]
):
    assert run_command(raising(error)) == 2
    assert capsys.readouterr() == ("", f"error: {error}\n")


def test_ctrl_c_returns_130(capsys: pytest.CaptureFixture[str]):
    assert run_command(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_what_the_operating_system_refuses_is_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert run_command(lambda: (tmp_path / "none/x").write_text("") and None) == 2
    assert capsys.readouterr() == ("", f"error: {tmp_path}/none/x: No such file or directory\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_clean_up_and_return_128_and_their_number(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
):
    cleaned = []

    def command() -> None:
        try:
            os.kill(os.getpid(), number)
            raise AssertionError("went on")
        finally:
            cleaned.append(True)

    before = signal.getsignal(number)
    assert run_command(command) == code
    assert cleaned == [True]
    assert capsys.readouterr() == ("", f"stopped by {number.name}\n")
    assert signal.getsignal(number) == before


def test_a_programming_mistake_keeps_its_traceback():
    with pytest.raises(ValueError, match="logits"):
        run_command(raising(ValueError("logits")))


def test_one_except_clause_catches_both_kinds():
    for kind in (ConfigError, DataError):
        with pytest.raises(SegError):
            raise kind
