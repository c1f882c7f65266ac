"""How a command ends: exit code and message, and no traceback for what the user can mend."""

from __future__ import annotations

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


def test_a_programming_mistake_keeps_its_traceback():
    with pytest.raises(ValueError, match="logits"):
        run_command(raising(ValueError("logits")))


def test_one_except_clause_catches_both_kinds():
    for kind in (ConfigError, DataError):
        with pytest.raises(SegError):
            raise kind
