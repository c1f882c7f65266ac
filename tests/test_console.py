"""What commands print: names as they are, in a terminal or pipe of any encoding."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seg.console import text_console
from seg.tables import Table

NAMES = "runs/x[exp1] [/a] :boat: [red]road"


def test_names_are_no_markup(capsys):
    text_console().print(f"run {NAMES}")
    text_console().print(Table(("class", "[b]IoU"), [(NAMES, "0.5")]).rich(title="[x] title", caption="[/y] below"))
    printed = capsys.readouterr().out
    assert printed.startswith(f"run {NAMES}\n")
    assert printed.count(NAMES) == 2
    assert all(text in printed for text in ("[b]IoU", "[x] title", "[/y] below"))


def test_a_narrow_terminal_folds_cells_and_cuts_none(capsys):
    console = text_console()
    console.width = 24
    console.print(Table(("class", "share"), [("a_very_long_class_name_indeed", "0.123")]).rich())
    printed = capsys.readouterr().out
    assert "…" not in printed
    cells = "".join(line.split("│")[1].strip() for line in printed.splitlines() if line.startswith("│"))
    assert cells == "a_very_long_class_name_indeed"


def test_an_ascii_terminal_gets_escapes_and_ends_well(tmp_path):
    script = tmp_path / "command.py"
    script.write_text(
        """
from seg.console import text_console
from seg.errors import run_command
from seg.tables import Table
def command():
    print("straße")
    text_console().print(Table(("class",), [("水",)]).rich(title="§"))
raise SystemExit(run_command(command))
""",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("stra\\xdfe\n")
    assert "\\u6c34" in done.stdout and done.stdout.isascii()


def test_a_full_disk_behind_the_output_is_one_line():
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("needs /dev/full")
    script = "from seg.errors import run_command; raise SystemExit(run_command(lambda: print('x')))"
    with device.open("w") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "error: the output: No space left on device\n")


def test_a_reader_that_has_gone_is_no_error():
    script = "from seg.errors import run_command; raise SystemExit(run_command(lambda: print('x' * 10**6)))"
    read, write = os.pipe()
    os.close(read)
    with io.FileIO(write, "w") as gone:
        done = subprocess.run([sys.executable, "-c", script], stdout=gone, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")
