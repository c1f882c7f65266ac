"""A raster of 20,000 x 20,000 x 4 uint16 is trained on, by the command, in less memory than it holds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from seg.data.views.preprocessing import ValueRange
from seg.runs.model_file import read_description

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 2 * 2**30  # bytes; the image alone is 3.2e9, its mask 0.4e9
CONFIG = """
name: huge
labels: {{names: [ground, water, roof]}}
data: {{name: folders, root: {root}}}
input: {{bands: 4, crop: [256, 256], crops_per_image: 32, normalize: counted, clip: {{percentiles: [0.5, 99.5]}}}}
augmentation: {{horizontal_flip: 0.5, rotate90: 0.5, scale: [0.5, 2.0], rotate: 20, brightness: 0.1, contrast: 0.1}}
class_weights: {{scheme: inverse_sqrt}}
loss: [{{name: cross_entropy}}]
model: {{name: unet, depth: 2, base_filters: 8}}
training: {{epochs: 1, batch_size: 4, precision: float32, workers: 2}}
output: {{overlays: 1}}
"""


def texture(side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One tile (4, side, side) uint16, whose bands tell the classes apart, and its mask (side, side)."""
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, 3, (8, 8)), np.ones((side // 8, side // 8), int))
    bands = [1000 + 300 * band + 700 * ((mask + band) % 3) for band in range(4)]
    image = np.stack(bands) + np.kron(rng.integers(0, 200, (4, side // 4, side // 4)), np.ones((1, 4, 4), int))
    return image.astype(np.uint16), mask.astype(np.uint8)


def write_pair(root: Path, split: str, side: int, tile: int = 512) -> None:
    """An image and its mask of repeated texture, tiled and compressed; the first rows of tiles have no data."""
    image, mask = texture(tile, 0 if split == "train" else 1)
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
    shared = {"width": side, "height": side, "crs": "EPSG:32633", "transform": place, "driver": "GTiff"}
    shared |= {"tiled": True, "blockxsize": tile, "blockysize": tile, "compress": "deflate", "zlevel": 1}
    across = -(-side // tile)
    for folder, pixels, more in (
        ("images", image, {"count": 4, "dtype": "uint16", "nodata": 0, "bigtiff": "if_safer"}),
        ("masks", mask[None], {"count": 1, "dtype": "uint8", "nodata": 255}),
    ):
        path = root / folder / split / f"{split}.tif"
        path.parent.mkdir(parents=True)
        row = np.tile(pixels, (1, 1, across))[:, :, :side]
        with rasterio.open(path, "w", **shared, **more) as file:
            for number, top in enumerate(range(0, side, tile)):
                part = row[:, : min(tile, side - top)]
                if folder == "images" and number == 0:
                    part = np.zeros_like(part)
                file.write(part, window=rasterio.windows.Window(0, top, side, part.shape[1]))


def train(root: Path, *overrides: str) -> tuple[str, int]:
    """What `python -m seg.train` prints, and the most memory it had, in bytes."""
    (root / "huge.yaml").write_text(CONFIG.format(root=root), encoding="utf-8")
    command = [sys.executable, "-m", "seg.train", "--config", str(root / "huge.yaml"), "--run-dir", str(root / "run")]
    process = subprocess.Popen(
        [*command, *overrides], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output
    return output, usage.ru_maxrss * 1024


def check_run(root: Path, side: int, tile: int = 512) -> None:
    """The counts are those of the texture: every pixel but the first row of tiles, whose image has no data."""
    counts = json.loads((root / "run" / "counts.json").read_text())
    _, mask = texture(tile, 0)
    across = -(-side // tile)
    labelled = np.tile(mask, (across, across))[tile:side, :side]
    assert counts["pixel_counts"] == np.bincount(labelled.ravel(), minlength=3).tolist()
    assert counts["void_pixels"] == tile * side
    bands = json.loads((root / "run" / "bands.json").read_text())
    image, _ = texture(tile, 0)
    seen = np.tile(image, (1, across, across))[:, tile:side, :side].reshape(4, -1)
    ends = np.percentile(seen, [0.5, 99.5], axis=1, method="inverted_cdf")
    np.testing.assert_array_equal([bands["low"], bands["high"]], ends)
    clipped = np.clip(seen, *ends[:, :, None])
    np.testing.assert_allclose(bands["mean"], clipped.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(bands["std"], clipped.std(axis=1), rtol=1e-9)
    _, preprocessing = read_description(root / "run" / "checkpoints" / "best.keras")  # the model file alone knows them
    assert preprocessing.value_range == ValueRange(tuple(bands["low"]), tuple(bands["high"]), clip=True)
    unit = (clipped - ends[0][:, None]) / np.diff(ends, axis=0).T
    np.testing.assert_allclose(preprocessing.mean, unit.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(preprocessing.std, unit.std(axis=1), rtol=1e-6)


def test_a_small_one(tmp_path: Path) -> None:
    """The same road with 1,300 x 1,300 pixels, of which the validation takes nine tiles."""
    for split in ("train", "val"):
        write_pair(tmp_path, split, 1300)
    output, _ = train(tmp_path, "input.crops_per_image=8")
    check_run(tmp_path, 1300)
    assert re.search(r"mean IoU 0\.\d+ over 3 of 3 classes", output)


@pytest.mark.slow
def test_20000_pixels_a_side(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 20_000)
    write_pair(tmp_path, "val", 1300)
    with rasterio.open(tmp_path / "images/train/train.tif") as file:
        assert (file.height, file.width, file.count, file.dtypes[0]) == (20_000, 20_000, 4, "uint16")
    output, peak = train(tmp_path)
    print(output)
    print(f"peak {peak / 2**20:.0f} MiB")
    counts = json.loads((tmp_path / "run" / "counts.json").read_text())
    assert sum(counts["pixel_counts"]) == (20_000 - 512) * 20_000
    assert peak < LIMIT
