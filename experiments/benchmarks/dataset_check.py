"""How fast a dataset is checked, and how memory grows: `python -m experiments.benchmarks.dataset_check`.

Pairs are cuts of generated scenes, 256 x 256, JPEG images and PNG masks. Beside `check_dataset` stands the bare loop
that only decodes both files with OpenCV in as many threads, and beside the search for near duplicates comparing all
hashes. Both in CPU seconds, which another load on the machine changes less than the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from data_tools.checks.duplicates import near
from data_tools.checks.perceptual_hash import PerceptualHash
from data_tools.scenes.scene import SCENE_LABELS, draw_scene

SIDE, SCENES, SCENE_SIDE, THREADS = 256, 24, 768, 2
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def main() -> None:
    """Draws the pairs into a temporary folder, runs everything, prints one line each."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.dataset_check", description=main.__doc__)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--hashes", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="keeps the pairs here (default: a temporary folder)")
    arguments = parser.parse_args()
    search(arguments.hashes)
    with tempfile.TemporaryDirectory() as temporary:
        for pairs in (arguments.pairs // 10, arguments.pairs):
            root = (arguments.folder or Path(temporary)) / str(pairs)
            if not root.is_dir():
                write_pairs(root, pairs)
            for what, code in (("decode both files", DECODE), ("check_dataset", CHECK)):
                print(
                    measured(f"{what}, {pairs:,} pairs", code.format(root=str(root), names=SCENE_LABELS.names), pairs)
                )


def write_pairs(root: Path, pairs: int) -> None:
    """Random cuts of a few large scenes, turned and mirrored."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(SCENE_SIDE, seed) for seed in range(SCENES)]
    splits = rng.choice(list(SHARES), pairs, p=list(SHARES.values()))
    for split in SHARES:
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
    for place, split in enumerate(splits):
        image, mask = scenes[rng.integers(SCENES)]
        top, left = rng.integers(0, SCENE_SIDE - SIDE, 2)
        turns, mirrored = int(rng.integers(4)), int(rng.integers(2))
        for kind, array, suffix in (("images", image[..., ::-1], "jpg"), ("masks", mask, "png")):
            cut = np.rot90(array[top : top + SIDE, left : left + SIDE], turns)
            cv2.imwrite(
                str(root / kind / str(split) / f"{place}.{suffix}"),
                np.ascontiguousarray(cut[::-1] if mirrored else cut),
            )


CHECK = """
from data_tools.check_dataset import main
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    main([{root!r}, "--class-names", ",".join({names!r}), "--threads", "2"])
"""
DECODE = """
import cv2
from pathlib import Path
from seg.data.samples.pairs import samples_from_folders
from seg.data.files.threads import in_order
cv2.setNumThreads(0)
samples = [s for some in samples_from_folders(Path({root!r})).values() for s in some]
for _ in in_order(lambda s: (cv2.imread(str(s.image)), cv2.imread(str(s.mask), 0)) and None, samples, 2):
    pass
"""
USAGE = """
import resource, json
_u = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss, which holds what the parent had when it forked.
_peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([_u.ru_utime + _u.ru_stime, _peak / 1024]))
"""


def measured(what: str, code: str, pairs: int) -> str:
    """Runs `code` in an interpreter of its own: CPU seconds, seconds, peak memory."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + USAGE], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    cpu, peak = json.loads(done.stdout.splitlines()[-1])
    rate = f"{pairs / cpu:,.0f} pairs a CPU second, {pairs / seconds:,.0f} a second with {THREADS} threads"
    return f"{what}: {cpu:.1f} CPU s, {seconds:.1f} s: {rate}; peak {peak:,.0f} MB"


def search(number: int) -> None:
    """The near duplicates of hashes of random cuts between 70 % and 30 % of them, by the index and by comparing all."""
    rng = np.random.default_rng(0)
    scenes = [cv2.cvtColor(draw_scene(SCENE_SIDE, seed)[0], cv2.COLOR_RGB2GRAY) for seed in range(SCENES)]

    def cut(_: int) -> PerceptualHash:
        top, left = rng.integers(0, SCENE_SIDE - SIDE, 2)
        gray = scenes[rng.integers(SCENES)][top : top + SIDE, left : left + SIDE].astype(np.float32)
        cells = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
        bits = np.packbits(cells[:, 1:] > cells[:, :-1])
        return PerceptualHash(int.from_bytes(bits.tobytes(), "big"), THUMBNAIL)

    hashes = [cut(place) for place in range(number)]
    train, rest = hashes[: number * 7 // 10], hashes[number * 7 // 10 :]
    print(f"near duplicates among {number:,} hashes, 8 bits:")
    index = cpu_seconds(lambda: near(rest, train, 8, 1.1))  # no pair correlates above 1: the search alone
    one, other = (np.array([entry.hash for entry in some], np.uint64) for some in (rest, train))

    def compare_all() -> int:
        return sum(
            int(np.count_nonzero(np.bitwise_count(one[start : start + 64, None] ^ other) <= 8))
            for start in range(0, len(one), 64)
        )

    everything = cpu_seconds(compare_all)
    print(f"  by the index {index:.1f} CPU s; comparing all {everything:.1f} CPU s; {everything / index:.1f} times")


THUMBNAIL = np.arange(256, dtype=np.int8)


def cpu_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The median of some runs."""
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_SELF)
        work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


if __name__ == "__main__":
    main()
