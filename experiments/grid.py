"""The grid of a comparison: variants x seeds of one configuration, every one of them checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg.config import Config, load_config
from seg.config.messages import shown, unknown_key
from seg.config.yaml import read_yaml
from seg.errors import ConfigError

KEYS = ("config", "split", "checkpoint", "seeds", "overrides", "variants")
CHECKPOINTS = ("best", "last")
SPLITS = ("train", "val", "test")
Problem = tuple[str, str]  # (key, what is wrong with it and what is allowed)


@dataclass(frozen=True)
class Cell:
    """One run of the grid: `config_file` with `overrides` (the seed among them) is `config`, trained in `folder`; its
    `checkpoint` (best | last) is what is compared."""

    variant: str
    seed: int
    config_file: Path
    overrides: tuple[str, ...]
    config: Config
    folder: Path
    checkpoint: str


def load_cells(path: Path, out: Path, overrides: Sequence[str] = ()) -> tuple[list[Cell], str]:
    """The cells of a grid file, variant by variant, and the split to compare them on.

    Raises:
        ConfigError: With every problem of the grid, or of every variant's configuration.
    """
    grid = read_yaml(path)
    problems = list(dict.fromkeys(_problems(grid)))
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ConfigError("\n".join([f"{path}: {count}", *(f"  {key}: {text}" for key, text in problems)]))
    cells: list[Cell] = []
    errors: list[str] = []
    for variant, own in grid["variants"].items():
        shared = (*grid.get("overrides", []), *own, *overrides)
        try:
            for seed in grid["seeds"]:
                given = (f"seed={seed}", *shared)
                config = load_config(grid["config"], given)
                folder, checkpoint = out / f"{variant}-seed{seed}", grid.get("checkpoint", "best")
                cells.append(Cell(variant, seed, Path(grid["config"]), given, config, folder, checkpoint))
        except ConfigError as error:  # the same with every seed
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(dict.fromkeys(errors)))
    _check_comparable(cells)
    return cells, grid["split"]


def _check_comparable(cells: Sequence[Cell]) -> None:
    """Refuses variants with other classes, whose IoUs share no table, and variants that are the same."""
    first = cells[0]
    seen: list[Cell] = []
    for cell in cells:
        if cell.config.seed != cell.seed:
            raise ConfigError(f"override of seed: got {cell.config.seed}, allowed: none; the grid's seeds set it")
        if cell.config.labels.class_names != first.config.labels.class_names:
            raise ConfigError(f"variants.{cell.variant}: labels.names differ from those of {first.variant}")
        same = next((other for other in seen if other.config == cell.config), None)
        if same is not None:
            raise ConfigError(
                f"variants.{cell.variant}: the same configuration as {same.variant}; allowed: a difference"
            )
        seen.append(cell)


def _problems(grid: Mapping[str, Any]) -> Iterator[Problem]:
    """Everything that is wrong with a grid by itself."""
    yield from ((str(key), unknown_key(str(key), KEYS)) for key in grid if key not in KEYS)
    for key in ("config", "split", "seeds", "variants"):
        if key not in grid:
            yield key, "missing, and there is no default"
    config, split, seeds = (grid.get(key) for key in ("config", "split", "seeds"))
    if "config" in grid and not isinstance(config, str):
        yield "config", f"got {shown(config)}, allowed: the path of a configuration file"
    if "split" in grid and split not in SPLITS:
        yield "split", f"got {shown(split)}, allowed: {', '.join(SPLITS)}"
    if grid.get("checkpoint", "best") not in CHECKPOINTS:
        yield "checkpoint", f"got {shown(grid['checkpoint'])}, allowed: {', '.join(CHECKPOINTS)}"
    if "seeds" in grid and not _are_seeds(seeds):
        yield "seeds", f"got {shown(seeds)}, allowed: a list of different whole numbers from 0 to {2**31 - 1}"
    if "overrides" in grid:
        yield from _override_problems("overrides", grid["overrides"])
    if "variants" in grid:
        yield from _variant_problems(grid["variants"])


def _are_seeds(seeds: Any) -> bool:
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        return False
    return len(set(seeds)) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)


def _variant_problems(variants: Any) -> Iterator[Problem]:
    if not isinstance(variants, dict) or not variants:
        yield "variants", f"got {shown(variants)}, allowed: a mapping of names to lists of overrides"
        return
    for name, overrides in variants.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            yield f"variants.{name}", "allowed as a name: letters, digits, '.', '_' and '-', a letter or digit first"
        yield from _override_problems(f"variants.{name}", overrides)


def _override_problems(key: str, overrides: Any) -> Iterator[Problem]:
    if not isinstance(overrides, list):
        yield key, f"got {shown(overrides)}, allowed: a list of key.sub=value"
        return
    for override in overrides:
        if not isinstance(override, str) or "=" not in override:
            yield key, f"got {shown(override)} in the list, allowed: key.sub=value"
        elif override.partition("=")[0] == "seed":
            yield key, f"got '{override}', allowed: no seed here; the grid's seeds set it"
