"""`python -m experiments.compare GRID.yaml`: trains and evaluates variants of a configuration, and tables their IoUs.

    # GRID.yaml
    config: configs/quickstart.yaml
    split: val
    checkpoint: last  # left out: best, the epoch with the best validation score
    seeds: [0, 1]
    overrides: [training.epochs=5]  # of every variant
    variants:
      uniform: [class_weights.scheme=uniform]
      inverse_sqrt: [class_weights.scheme=inverse_sqrt]

Started again, it goes on where it was stopped: what is evaluated is read, what has begun is resumed.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.grid import Cell, load_cells
from seg.console import text_console
from seg.data.files.storage import write_bytes
from seg.errors import ConfigError, DataError, run_command
from seg.runs.run_dir import RunDir
from seg.tables import Table

console = text_console(soft_wrap=True)


@dataclass(frozen=True)
class Result:
    """What a cell came to: `iou` by class name; NaN where a score is undefined."""

    cell: Cell
    mean_iou: float
    minutes: float
    iou: dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compare",
        description="Trains every variant of a grid with every seed, one after another, evaluates them and writes "
        "OUT/results.csv and OUT/results.md. A comparison that was stopped goes on where it was.",
        epilog="example: python -m experiments.compare experiments/weights/grid.yaml training.epochs=2",
    )
    parser.add_argument(
        "grid", type=Path, metavar="GRID.yaml", help="keys: config, split, checkpoint, seeds, overrides, variants"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of runs and results; left out: runs/<GRID's folder>-<its name>"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="for every variant, after the grid's own")
    args = parser.parse_intermixed_args(argv)
    out = args.out or Path("runs") / f"{args.grid.resolve().parent.name}-{args.grid.stem}"
    return run_command(lambda: compare(args.grid, out, args.overrides))


def compare(grid: Path, out: Path, overrides: Sequence[str] = ()) -> None:
    """Runs what is left of a grid, prints the table and writes the results.

    Nothing is trained before the configuration, the data and the run folder of every cell have been looked at.

    Raises:
        ConfigError: The grid or the configuration of a cell is wrong, or a run folder has another one.
        DataError: The data is at fault, or a run failed.
    """
    cells, split = load_cells(grid, out, overrides)
    _check_folders(cells)
    _check_split(cells, split)
    results = []
    for number, cell in enumerate(cells, 1):
        console.print(f"--- {number}/{len(cells)}: {cell.variant}, seed {cell.seed} ---")
        run_cell(cell, split)
        results.append(read_result(cell, split))
    head, *rows = table_rows(results)
    table = Table(head, rows)
    heading = f"{grid}, split {split}, {cells[0].checkpoint} checkpoint"
    write_bytes(out / "results.csv", results_csv(results).encode())
    write_bytes(out / "results.md", f"{heading}\n\n{table.markdown()}".encode())
    console.print(table.rich(title=f"IoU, split {split}"))
    console.print(f"written to {out / 'results.csv'} and results.md")


def _check_folders(cells: Sequence[Cell]) -> None:
    """Refuses folders of runs that are no runs of this grid."""
    differing = [
        str(cell.folder) for cell in cells if cell.folder.exists() and RunDir.open(cell.folder).config() != cell.config
    ]
    if differing:
        raise ConfigError(
            f"{', '.join(differing)}: config.yaml differs from what the grid says now; "
            "allowed: the same configuration, another --out, or remove the folder"
        )


def _check_split(cells: Sequence[Cell], split: str) -> None:
    """Refuses a split that some data does not have, which would else come out after its training."""
    for cell in {(cell.config.data, cell.config.labels.model_dump_json()): cell for cell in cells}.values():
        splits = cell.config.samples()
        if split not in splits:
            raise ConfigError(
                f"split: got '{split}', which the data of {cell.variant} does not have; allowed: {', '.join(splits)}"
            )


def run_cell(cell: Cell, split: str) -> None:
    """Trains and evaluates a cell, as far as that has not been done."""
    run = RunDir(cell.folder)
    if _is_evaluated(cell, split):
        console.print(f"done before, in {cell.folder}")
        return
    start = ["--resume"] if cell.folder.exists() else ["--config", str(cell.config_file), *cell.overrides, "--run-dir"]
    run_module(cell, "seg.train", [*start, str(run.path)])
    run_module(cell, "seg.evaluate", [str(run.path), "--split", split, "--checkpoint", cell.checkpoint])


def run_module(cell: Cell, module: str, arguments: Sequence[str]) -> None:
    """`python -m module arguments` in a process of its own, so that cells share no state."""
    code = subprocess.run([sys.executable, "-m", module, *arguments]).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code != 0:
        raise DataError(f"{cell.variant}, seed {cell.seed}: {module} ended with exit code {code}; its message is above")


def _is_evaluated(cell: Cell, split: str) -> bool:
    """Whether the scores of the grid's checkpoint are there, and not those of the other one."""
    file = _metrics_file(cell, split)
    return file.exists() and json.loads(file.read_text(encoding="utf-8"))["checkpoint"] == f"{cell.checkpoint}.keras"


def _metrics_file(cell: Cell, split: str) -> Path:
    return RunDir(cell.folder).evaluation(split) / "metrics.json"


def read_result(cell: Cell, split: str) -> Result:
    """The scores that seg.evaluate wrote, and the time that log.csv adds up to."""
    metrics = json.loads(_metrics_file(cell, split).read_text(encoding="utf-8"))
    with RunDir(cell.folder).log.open(newline="", encoding="utf-8") as file:
        seconds = sum(float(row["seconds"]) for row in csv.DictReader(file))
    iou = {name: _score(values["iou"]) for name, values in metrics["classes"].items()}
    return Result(cell, _score(metrics["mean_iou"]), seconds / 60, iou)


def _score(value: float | None) -> float:
    return float("nan") if value is None else value


def table_rows(results: Sequence[Result]) -> list[list[str]]:
    """A head, a row a class, then mean IoU and minutes; a column a variant, over its seeds."""
    variants = list(dict.fromkeys(result.cell.variant for result in results))
    columns = [[result for result in results if result.cell.variant == variant] for variant in variants]
    rows = [["class", *variants]]
    for name in results[0].iou:
        rows.append([name, *(spread([result.iou[name] for result in column]) for column in columns)])
    means = [f"{spread([result.mean_iou for result in column])} (n = {len(column)})" for column in columns]
    minutes = [spread([result.minutes for result in column], digits=1) for column in columns]
    return [*rows, ["mean IoU", *means], ["training minutes", *minutes]]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """`mean ± std` (n - 1 in the denominator) of the defined values; the mean alone of one, `-` of none."""
    defined = [value for value in values if not np.isnan(value)]
    if not defined:
        return "-"
    mean = f"{np.mean(defined):.{digits}f}"
    return f"{mean} ± {np.std(defined, ddof=1):.{digits}f}" if len(defined) > 1 else mean


def results_csv(results: Sequence[Result]) -> str:
    """A row a cell: variant, seed, mean_iou, minutes, iou/<class> (empty where undefined)."""
    rows = []
    for result in results:
        scores = ["" if np.isnan(score) else score for score in (result.mean_iou, *result.iou.values())]
        rows.append([result.cell.variant, result.cell.seed, scores[0], round(result.minutes, 3), *scores[1:]])
    return Table(["variant", "seed", "mean_iou", "minutes", *(f"iou/{name}" for name in results[0].iou)], rows).csv()


if __name__ == "__main__":
    sys.exit(main())
