"""`python -m data_tools.make_scenes`: a folder of generated satellite-like scenes with rare classes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_tools.scenes.attributes import ATTRIBUTE_LABELS, scene_attributes
from data_tools.scenes.scene import MAX_SIZE, MIN_SIZE, SCENE_LABELS, SPLITS, draw_scene, scene_seed, write_scenes
from seg.data.files.images import write_png
from seg.data.files.outputs import check_folder, check_reports
from seg.errors import ConfigError, run_command
from seg.pictures.overlay import colourise, legend
from seg.progress import progress

GAP = 8  # white pixels between the preview's pictures


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.make_scenes",
        description="Draws scenes (fields, forest, water, roads, buildings, boats, solar panels) into OUT/images/SPLIT "
        "and OUT/masks/SPLIT; 60 % train, 20 % val, 20 % test. The same arguments draw the same pixels.",
        epilog="example: python -m data_tools.make_scenes data/scenes --count 80 --size 256 --seed 0",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder, or one drawn before")
    parser.add_argument("--count", type=int, default=80, help="scenes in all, at least 3 (default: 80)")
    parser.add_argument(
        "--size", type=int, default=256, help=f"side in pixels, {MIN_SIZE} to {MAX_SIZE} (default: 256)"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument(
        "--multi-label",
        action="store_true",
        help="masks of overlapping attributes (vegetation, trees, built, water_surface, small_object, near_water) "
        "in place of classes: OUT/masks/SPLIT/NAME.tif, a page an attribute",
    )
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="draws the first training scenes with labels")
    args = parser.parse_args(argv)
    return run_command(lambda: make_scenes(args.out, args.count, args.size, args.seed, args.preview, args.multi_label))


def make_scenes(
    out: Path, count: int, size: int, seed: int, preview: Path | None = None, multi_label: bool = False
) -> None:
    """Writes the scenes and, if wanted, the preview.

    Raises:
        ConfigError: `count` is too small for three splits.
        DataError: The size or seed is out of range, or `out` holds something else.
    """
    splits = split_counts(count)
    check_folder(out)
    check_reports([("--preview", preview)], lambda: [])
    with progress("drawing", count) as step:
        write_scenes(out, splits, size, seed, progress=step, multi_label=multi_label)
    print(
        f"{out}: " + ", ".join(f"{number} {split}" for split, number in splits.items()) + f" scenes of {size} x {size}"
    )
    if preview is not None:
        write_png(preview, preview_picture(size, seed, min(splits["train"], 2), multi_label))
        print(f"preview: {preview}")


def split_counts(count: int) -> dict[str, int]:
    """60 % train, 20 % val, 20 % test, at least one scene each."""
    if count < len(SPLITS):
        raise ConfigError(f"--count: got {count}, allowed: {len(SPLITS)} or more, one a split")
    val = test = max(1, count // 5)
    return {"train": count - val - test, "val": val, "test": test}


def preview_picture(size: int, seed: int, number: int, multi_label: bool = False) -> np.ndarray:
    """Image | labels of the first training scenes side by side, the legend below: (H, W, 3) uint8 RGB."""
    labels = ATTRIBUTE_LABELS if multi_label else SCENE_LABELS
    tiles: list[np.ndarray] = []
    for index in range(number):
        image, mask = draw_scene(size, scene_seed(seed, "train", index))
        mask = scene_attributes(mask) if multi_label else mask
        tiles += [image, np.full((size, GAP, 3), 255, np.uint8), colourise(mask, labels)]
        tiles += [np.full((size, GAP, 3), 255, np.uint8)]
    row = np.hstack(tiles[:-1])
    return np.vstack([row, legend(labels, row.shape[1])])


if __name__ == "__main__":
    sys.exit(main())
