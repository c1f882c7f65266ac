"""Cuts large rasters and their masks into tiles, with their place on earth and a manifest.

python -m data_tools.tile_rasters scenes/images scenes/masks --out tiles --size 512 --overlap 64 --void 255
python -m data_tools.tile_rasters ortho.tif labels.tif --out tiles --size 1024 --min-labelled 0.1 --void 0,0,0
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rasterio.errors import NotGeoreferencedWarning

from data_tools.datasets.manifest import whole_file
from data_tools.datasets.tiling import Tile, TilePlan, check_source, cut_rows
from seg.config import load_config
from seg.data.files import volumes
from seg.data.files.outputs import check_folder, check_reports
from seg.data.files.reading import IMAGE_SUFFIXES
from seg.data.files.storage import temporary_name, told_unwritable, write_bytes
from seg.data.files.threads import in_order
from seg.data.samples.pairs import natural_key, paired_samples
from seg.errors import ConfigError, DataError, run_command
from seg.progress import progress
from seg.tables import Table

COLUMNS = ("image", "mask", "group", "tile_row", "tile_col", "row", "col", "height", "width", "labelled")
RASTER_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in volumes.SUFFIXES)
MANIFEST = "tiles.csv"
Pair = tuple[Path, Path | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 for an error."""
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.tile_rasters",
        description="Cuts rasters (GeoTIFF of any bands and type, PNG, JPEG) and masks on the same grid into "
        "OUT/images and OUT/masks, window by window; OUT/tiles.csv lists them with their source and place. GeoTIFF "
        "tiles keep CRS, transform, nodata and bands. Tiles without a labelled pixel are left out.",
        epilog="example: python -m data_tools.tile_rasters images masks --out tiles --size 512 --void 255",
    )
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a raster, or a folder of them")
    parser.add_argument("masks", type=Path, nargs="?", metavar="MASKS", help="its mask, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--mask-suffix", default="", help="what a mask's stem has behind its image's")
    parser.add_argument("--size", type=int, nargs="+", default=[512], metavar="N", help="side, or height and width")
    parser.add_argument("--overlap", type=int, default=0, metavar="N", help="pixels that neighbours share (default: 0)")
    parser.add_argument(
        "--edge", choices=("shift", "pad"), default="shift",
        help="last tiles: moved inwards (default), or filled up with nodata and void",
    )  # fmt: skip
    parser.add_argument(
        "--min-labelled", type=float, default=0.0, metavar="F", help="smallest labelled share of a tile"
    )
    parser.add_argument("--void", nargs="+", metavar="V", help="mask values that mean void, as in 255 or 0,0,0")
    parser.add_argument("--config", type=Path, metavar="FILE", help="says what void is, by its labels")
    parser.add_argument("--compress", choices=("deflate", "lzw", "zstd"), default="deflate", help="of GeoTIFF tiles")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers")
    arguments = parser.parse_intermixed_args(argv)
    with warnings.catch_warnings():  # here, where no thread runs yet; PNG, JPEG and many masks have no place on earth
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    plan = _plan(arguments)
    pairs = _pairs(arguments)
    if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
        raise DataError(f"{arguments.out}: is not empty, allowed: a new or empty folder")
    check_folder(arguments.out)
    check_reports([("--json", arguments.json)], lambda: [path for pair in pairs for path in pair if path is not None])
    grids = {pair: check_source(*pair, plan) for pair in pairs}
    # All of it under another name first: an error or Ctrl-C leaves nothing that looks like a data set.
    partial = temporary_name(arguments.out)
    try:
        tiles = _cut(grids, partial, plan, arguments.threads)
        if not any(tiles.values()):
            raise DataError(
                f"{arguments.images}: no tile is labelled enough, allowed: a smaller --min-labelled or --size"
            )
        write_bytes(partial / MANIFEST, _manifest(tiles, partial, plan))
        with told_unwritable(arguments.out):
            if arguments.out.exists():
                arguments.out.rmdir()
            partial.rename(arguments.out)
    except DataError as error:  # which may name a file of the folder that is gone now
        raise DataError(str(error).replace(str(partial), str(arguments.out))) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    summary = _summary(tiles, grids)
    for source in summary["sources"]:
        print(f"{source['source']}: {source['tiles']} of {source['tiles'] + source['left_out']} tiles")
    print(
        f"{summary['tiles']:,} tiles of {plan.size[0]} x {plan.size[1]}, {summary['left_out']:,} left out, "
        f"labelled share {summary['labelled']:.3f}; wrote {arguments.out / MANIFEST}"
    )
    if arguments.masks is not None:
        block = f"--block 4 --buffer {2 if 2 * plan.overlap > min(plan.size) else 1}"
        print(f"split    python -m data_tools.split_dataset --tiles {arguments.out / MANIFEST} {block} --out ...")
    if arguments.json is not None:
        write_bytes(arguments.json, (json.dumps(summary, indent=1, ensure_ascii=False) + "\n").encode())
        print(f"wrote {arguments.json}")


def _plan(arguments: argparse.Namespace) -> TilePlan:
    if len(arguments.size) > 2:
        raise ConfigError(f"--size: got {len(arguments.size)} numbers, allowed: one, or height and width")
    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"--threads: got {arguments.threads}, allowed: 1 or more")
    void: tuple[tuple[int, ...], ...] = ()
    if arguments.config is not None:
        if arguments.void is not None:
            raise ConfigError("--void: has no effect with --config, which says it")
        labels = load_config(arguments.config, trains=False).labels
        void = labels.encoding.void_values(labels)
    elif arguments.void is not None:
        void = tuple(_value(text) for text in arguments.void)
    if arguments.masks is None and (void or arguments.mask_suffix):
        option = "--mask-suffix" if arguments.mask_suffix else "--config" if arguments.config else "--void"
        raise ConfigError(f"{option}: has no effect without MASKS")
    size = (arguments.size[0], arguments.size[-1])
    return TilePlan(size, arguments.overlap, arguments.edge, arguments.min_labelled, void, arguments.compress)


def _value(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"--void: got '{text}', allowed: a number, or one a band as in 0,0,0")
    return tuple(int(part) for part in parts)


def _pairs(arguments: argparse.Namespace) -> list[Pair]:
    images, masks = arguments.images, arguments.masks
    for path in (images, masks):
        if path is not None and not path.exists():
            raise DataError(f"{path}: no such file or folder")
    if masks is not None and images.is_dir() != masks.is_dir():
        raise DataError(f"{images} and {masks}: one is a folder, allowed: two folders or two files")
    if not images.is_dir():
        return [(images, masks)]
    if masks is not None:
        pairs = paired_samples(images, masks, arguments.mask_suffix)
        return [(whole_file(one.image), whole_file(one.mask)) for one in pairs]
    found = [path for path in images.iterdir() if path.suffix.lower() in RASTER_SUFFIXES]
    if not found:
        raise DataError(f"{images}: holds no file with a suffix of {' '.join(RASTER_SUFFIXES)}")
    stems = [path.stem for path in found]
    twice = sorted({path.name for path in found if stems.count(path.stem) > 1})
    if twice:
        raise DataError(f"{images}: {', '.join(twice)} share a stem, allowed: one raster a stem")
    return [(path, None) for path in sorted(found, key=lambda path: natural_key(path.name))]


def _cut(grids: dict[Pair, tuple[int, int]], out: Path, plan: TilePlan, threads: int | None) -> dict[Pair, list[Tile]]:
    """The tiles of each raster, cut by threads, each of which opens its own handles: a row of a GeoTIFF at a time."""
    jobs: list[tuple[Pair, Sequence[int]]] = []
    for pair, (rows, _) in grids.items():
        by_row = all(path is None or path.suffix.lower() in (".tif", ".tiff") for path in pair)
        jobs += [(pair, [row]) for row in range(rows)] if by_row else [(pair, range(rows))]

    def cut(job: tuple[Pair, Sequence[int]]) -> list[Tile]:
        (image, mask), rows = job
        return cut_rows(image, mask, out, image.stem, rows, plan)

    tiles: dict[Pair, list[Tile]] = {pair: [] for pair in grids}
    with progress("cutting", sum(number for number, _ in grids.values())) as step:
        for (pair, cut_here), found in zip(jobs, in_order(cut, jobs, threads or os.cpu_count() or 1), strict=True):
            tiles[pair] += found
            step(len(cut_here))
    return tiles


def _manifest(tiles: dict[Pair, list[Tile]], folder: Path, plan: TilePlan) -> bytes:
    rows = []
    for (image, _), found in tiles.items():
        for tile in found:
            files = [path.relative_to(folder).as_posix() if path else "" for path in (tile.image, tile.mask)]
            rows.append([*files, image.stem, *tile.place, *tile.offset, *plan.size, f"{tile.labelled:.6f}"])
    return Table(COLUMNS, rows).csv().encode()


def _summary(tiles: dict[Pair, list[Tile]], grids: dict[Pair, tuple[int, int]]) -> dict[str, Any]:
    sources = [
        {"source": str(pair[0]), "tiles": len(found), "left_out": grids[pair][0] * grids[pair][1] - len(found)}
        for pair, found in tiles.items()
    ]
    everything = [tile for found in tiles.values() for tile in found]
    return {
        "tiles": len(everything),
        "left_out": sum(rows * columns for rows, columns in grids.values()) - len(everything),
        "labelled": sum(tile.labelled for tile in everything) / len(everything),
        "sources": sources,
    }


if __name__ == "__main__":
    sys.exit(main())
