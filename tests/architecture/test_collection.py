"""Every test file is run: pytest passes over folders of certain names (build, dist, venv ...) without a word."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def test_the_files_collected_are_the_files_that_exist(pytestconfig: pytest.Config, collected_files: set[Path]):
    asked = [(pytestconfig.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in pytestconfig.args]
    exist = {file for file in TESTS.rglob("test_*.py") if any(file.is_relative_to(path) for path in asked)}
    assert exist - collected_files == set()


def test_no_folder_has_a_name_that_pytest_passes_over(pytestconfig: pytest.Config):
    patterns = pytestconfig.getini("norecursedirs")
    folders = [file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")]
    assert [
        str(folder) for folder in folders if any(fnmatch(part, one) for part in folder.parts for one in patterns)
    ] == []
