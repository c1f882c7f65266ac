"""How mask_frequencies behaves with many masks: start-up, memory, the cache, worker processes.

python -m experiments.benchmarks.mask_scale [--masks 100000]

Runs the command as its user would and reports its wall time and peak memory (of the largest process). The masks are
hard links to 200 different ones of 512 x 512, so that a hundred thousand fit anywhere; the page cache is warm. Linux
only: it reads /proc.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.benchmarks.mask_counting import generated_mask
from seg.data.masks.reading import write_mask

DIFFERENT = 200
PER_FOLDER = 1000
ADDED = 10
POLL_SECONDS = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in several ways and prints one table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.mask_scale", description=__doc__)
    parser.add_argument("--masks", type=int, default=100_000)
    many = parser.parse_args(argv).masks
    table = Table(title=f"mask_frequencies, 512 x 512 masks, {os.cpu_count()} cores")
    for heading in ("masks", "options", "seconds", "masks / s", "peak MB"):
        table.add_column(heading, justify="left" if heading == "options" else "right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        few = many // 10
        _link(folder / "one", 1)
        _link(folder / "few", few)
        _link(folder / "many", many)
        runs: list[tuple[str, int, list[str]]] = [
            ("one", 1, ["--no-cache"]),  # the first fills the caches of the operating system and of numba
            ("one", 1, ["--no-cache"]),
            ("few", few, ["--no-cache", "--threads", "1"]),
            ("few", few, ["--no-cache", "--threads", "2"]),
            ("many", many, ["--no-cache", "--threads", "2"]),
            ("few", few, ["--workers", "1"]),
            ("few", few, ["--workers", "2"]),
            ("many", many, ["--workers", "1"]),
            ("many", many, ["--workers", "2"]),
            ("many", many, ["--threads", "2"]),
            ("many", many + ADDED, ["--threads", "2"]),
        ]
        for index, (masks, number, options) in enumerate(runs):
            if number > many:
                _link(folder / "many" / "added", ADDED)
            seconds, megabytes = _run(folder / masks, options)
            if index:
                note = f"  ({ADDED} new, the rest cached)" if number > many else ""
                rate = f"{number / seconds:,.0f}"
                table.add_row(f"{number:,}", " ".join(options) + note, f"{seconds:.2f}", rate, f"{megabytes:.0f}")
    Console(width=110).print(table)
    return 0


def _link(folder: Path, number: int) -> None:
    """Makes `number` masks under `folder`, links to the first `DIFFERENT`."""
    originals = []
    for index in range(number):
        path = folder / f"{index // PER_FOLDER:04}" / f"{index:06}.png"
        if index < DIFFERENT:
            write_mask(path, generated_mask(512, index))
            originals.append(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(originals[index % DIFFERENT])


def _run(folder: Path, options: list[str]) -> tuple[float, float]:
    """(wall seconds, peak resident megabytes of the command or of its largest worker)."""
    words = [sys.executable, "-m", "data_tools.mask_frequencies", str(folder), "--num-classes", "8", *options]
    start = time.perf_counter()
    peak = 0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, *(_peak_kilobytes(number) for number in (process.pid, *_children(process.pid))))
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {process.returncode}")
    return time.perf_counter() - start, peak / 1024


def _children(process: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _peak_kilobytes(process: int) -> int:
    """The most it ever had resident (VmHWM); getrusage's would count what its parent had before exec, too."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    raise SystemExit(main())
