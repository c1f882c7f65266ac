"""Imports only go down, siblings never import each other, nothing goes in circles, albumentations stays in one file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = ("seg", "data_tools", "experiments")

# A unit may import any unit of an earlier line, never one of its own line. Inside a unit imports are free of this rule.
LAYERS = (
    ("seg.errors",),
    ("seg.console", "seg.labels", "seg.progress", "seg.section", "seg.tables"),
    ("seg.data.files", "seg.models", "seg.losses", "seg.metrics", "seg.optimization"),
    ("seg.data.masks",),
    ("seg.data.samples",),
    ("seg.data.views",),
    ("seg.data.sampling",),
    ("seg.data.batches", "seg.balance"),
    ("seg.pictures",),
    ("seg.config",),
    ("seg.runs",),
    ("seg.training", "seg.inference"),
    ("seg.train", "seg.evaluate", "seg.predict", "seg.trained"),
    ("data_tools.annotations", "data_tools.checks", "data_tools.datasets", "data_tools.balance", "data_tools.scenes"),
    ("data_tools",),
    ("experiments",),
)
PARENTS = ("seg", "seg.data")  # their __init__.py stand in no line: they import nothing of the project, but for
FRONT_DOOR = ("seg", "seg.trained")  # what `seg.load` returns
UNITS = {unit: level for level, units in enumerate(LAYERS) for unit in units}


def project_sources() -> dict[str, str]:
    """Module name -> source text; a package goes by its own name."""
    sources = {}
    for top in TOP_LEVEL:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")
    return sources


def imported_modules(module: str, source: str, modules: set[str]) -> set[str]:
    """Every module that `module` imports, in functions and under TYPE_CHECKING too.

    `from a import b` counts as a.b where that is a module.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: relative import; write the module's full name"
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                found.add(member if member in modules else str(node.module))
    return found


def unit_of(module: str) -> str | None:
    """The line entry of LAYERS that a module belongs to."""
    return next((unit for unit in UNITS if module == unit or module.startswith(unit + ".")), None)


def layer_violations(sources: dict[str, str]) -> list[str]:
    problems = []
    for module, source in sources.items():
        importer = unit_of(module)
        if importer is None and module not in PARENTS:
            problems.append(f"{module} stands in no line of LAYERS")
            continue
        for imported in sorted(imported_modules(module, source, set(sources))):
            if imported.split(".")[0] not in TOP_LEVEL:
                continue
            target = unit_of(imported)
            if (module, imported) == FRONT_DOOR:
                continue
            if target is None or importer is None:
                problems.append(f"{module} imports {imported}, which stands in no line of LAYERS")
            elif target != importer and UNITS[target] >= UNITS[importer]:
                problems.append(f"{module} imports {imported}, which is not below it")
    return problems


def import_cycles(sources: dict[str, str]) -> list[str]:
    graph = {module: imported_modules(module, text, set(sources)) & set(sources) for module, text in sources.items()}
    cycles, done = [], set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            cycles.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for imported in sorted(graph[module]):
                visit(imported, [*path, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return cycles


def test_imports_only_go_down():
    assert layer_violations(project_sources()) == []


def test_every_line_of_the_layers_names_what_there_is():
    modules = project_sources()
    assert [unit for unit in UNITS if not any(unit_of(module) == unit for module in modules)] == []


def test_imports_form_no_cycle():
    assert import_cycles(project_sources()) == []


def test_only_transforms_imports_albumentations():
    # And the benchmark that times it as a peer.
    sources = project_sources()
    importers = [
        module
        for module, text in sources.items()
        if any(name.split(".")[0] in ("albumentations", "albucore") for name in imported_modules(module, text, set()))
    ]
    assert [
        module
        for module in importers
        if module not in ("seg.data.views.transforms", "experiments.benchmarks.input_pipeline")
    ] == []


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("seg.labels", "from seg.config import Config", "seg.labels imports seg.config, which is not below it"),
        ("seg.losses.dice", "import seg.metrics.iou", "seg.losses.dice imports seg.metrics.iou, which is not below it"),
        (
            "seg.metrics.iou",
            "def f():\n    from seg import config",
            "seg.metrics.iou imports seg.config, which is not below it",
        ),
        ("seg.train", "from seg.evaluate import main", "seg.train imports seg.evaluate, which is not below it"),
        (
            "seg.data.masks.reading",
            "from seg.config import Config",
            "seg.data.masks.reading imports seg.config, which is not below it",
        ),
        ("seg.train", "from data_tools import check", "seg.train imports data_tools, which is not below it"),
        (
            "data_tools.checks.pairs",
            "import data_tools.datasets.tiling",
            "data_tools.checks.pairs imports data_tools.datasets.tiling, which is not below it",
        ),
        ("seg.extras", "", "seg.extras stands in no line of LAYERS"),
        ("seg", "import seg.train", "seg imports seg.train, which stands in no line of LAYERS"),
        ("seg.config", "import seg", "seg.config imports seg, which stands in no line of LAYERS"),
    ],
)
def test_the_layer_check_catches(module: str, source: str, problem: str):
    sources = dict.fromkeys(("seg.config", "seg.metrics.iou", "seg.evaluate", "seg.train"), "")
    assert layer_violations(sources | {module: source}) == [problem]


def test_the_layer_check_allows_what_is_below_and_inside():
    assert layer_violations({
        "seg": '__version__ = "1"',
        "seg.losses.dice": "from seg.losses import pixels\nfrom seg.errors import DataError\nimport keras",
        "seg.losses.pixels": "",
        "data_tools.check": "from seg.train import main",
    }) == []  # fmt: skip


def test_the_cycle_check_catches_a_cycle():
    sources = {
        "seg.data.a": "import seg.data.b",
        "seg.data.b": "from seg.data import c",
        "seg.data.c": "import seg.data.a",
    }
    assert import_cycles(sources) == ["seg.data.a -> seg.data.b -> seg.data.c -> seg.data.a"]


def test_relative_imports_are_refused():
    with pytest.raises(AssertionError, match=r"seg\.labels, line 1: relative import; write the module's full name"):
        imported_modules("seg.labels", "from .errors import ConfigError", set())
