"""The code stays small enough to read whole, and says what it does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

FILES = sorted(path for top in ("seg", "data_tools", "experiments") for path in (ROOT / top).rglob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def long_functions(tree: ast.Module) -> list[str]:
    lengths = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions(tree)}
    return [f"{name} has {length} lines" for name, length in lengths.items() if length > MAX_FUNCTION_LINES]


def undocumented(tree: ast.Module) -> list[str]:
    """Public functions and classes at the top of a module without a docstring, and the module itself."""
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    return [getattr(node, "name", "the module") for node in [tree, *public] if not ast.get_docstring(node)]


@every_file
def test_a_file_is_short(path: Path):
    assert len(path.read_text("utf-8").splitlines()) <= MAX_FILE_LINES


@every_file
def test_functions_are_short(path: Path):
    assert long_functions(ast.parse(path.read_text("utf-8"))) == []


@every_file
def test_a_file_name_says_what_it_owns(path: Path):
    assert not VAGUE_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)


@every_file
def test_whatever_is_public_has_a_docstring(path: Path):
    assert undocumented(ast.parse(path.read_text("utf-8"))) == []


def test_the_length_check_counts_from_def_to_last_line():
    body = "\n".join("    x = 1" for _ in range(MAX_FUNCTION_LINES))
    tree = ast.parse(f"def fits():\n{body[: -len('    x = 1')]}\n\ndef long():\n{body}\n")
    assert long_functions(tree) == [f"long has {MAX_FUNCTION_LINES + 1} lines"]


def test_the_docstring_check_catches_functions_classes_and_modules():
    assert undocumented(ast.parse("def f(): ...\nclass C: ...\ndef _private(): ...")) == ["the module", "f", "C"]
