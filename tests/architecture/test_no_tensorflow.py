"""Light parts stay light: config errors, counting and `--help` answer before anyone has waited for TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIGHT_MODULES = (
    "seg.config",
    "seg.balance",
    "seg.data.masks.reading",
    "seg.data.files.images",
    "seg.data.samples.pairs",
    "data_tools.scenes.scene",
    "seg.data.views.sources",
    "seg.data.batches.processes",
    "seg.data.views.band_statistics",
    "seg.balance.pairs",
    "seg.metrics.iou",
)
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for pattern in ("seg/*.py", "data_tools/*.py", "experiments/*.py")
    for path in ROOT.glob(pattern)
    if 'if __name__ == "__main__":' in path.read_text("utf-8")
)
REPORT = "import sys; print('heavy:', *sorted({name.split('.')[0] for name in sys.modules} & {'tensorflow', 'keras'}))"


def run_python(code: str) -> str:
    """Runs `code` in a new interpreter at the repository root; its output, which ends with the heavy imports found."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_help(command: str) -> str:
    return (
        f"import runpy, sys\nsys.argv = [{command!r}, '--help']\n"
        f"try:\n    runpy.run_module({command!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n    assert stop.code in (0, None), stop.code"
    )


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_a_light_module_leaves_tensorflow_alone(module: str):
    assert run_python(f"import {module}").splitlines() == ["heavy:"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_leaves_tensorflow_alone(command: str):
    lines = run_python(run_help(command)).splitlines()
    assert lines[0].startswith("usage: ")
    assert lines[-1] == "heavy:"


def test_every_data_tool_is_a_command():
    tools = {path.stem for path in (ROOT / "data_tools").glob("*.py")} - {"__init__"}
    assert {f"data_tools.{tool}" for tool in tools} <= set(COMMANDS)


def test_the_check_catches_a_heavy_import():
    # A stand-in named keras: the real one would cost this test ten seconds and prove no more.
    code = "import sys, types\nsys.modules['keras'] = types.ModuleType('keras')\nimport keras"
    assert run_python(code).splitlines() == ["heavy: keras"]
