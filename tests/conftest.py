"""Runs before any test module: quiet and offline libraries, the same random numbers in every run."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # C++ information drowns the test report
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as seg.train has it: see start_tensorflow
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks PyPI for a newer version at import otherwise

# No deadline: the first example often pays for tracing a graph. The same examples in every run, so that a red run is of
# the change it tests; `pytest --hypothesis-profile=explore` draws others.
hypothesis.settings.register_profile("seg", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, derandomize=False)
hypothesis.settings.load_profile("seg")


COLLECTED = pytest.StashKey[set[Path]]()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    parent.config.stash.setdefault(COLLECTED, set()).add(file_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        skip = pytest.mark.skip(reason=f"is about TensorFlow, and KERAS_BACKEND is {backend}")
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(skip)


@pytest.fixture
def collected_files(pytestconfig: pytest.Config) -> set[Path]:
    """The files that this run of pytest looked for tests in."""
    return pytestconfig.stash[COLLECTED]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seeds Python, NumPy and, only where a test module has imported it, Keras with TensorFlow."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
        sys.modules["keras"].config.set_dtype_policy("float32")  # a run of seg.train leaves its own
    else:
        random.seed(0)
        np.random.seed(0)


TINY_CONFIG = """
name: tiny
labels: {{names: [field, forest, water, road, building, boat, solar_panel]}}
data: {{name: folders, root: {root}/scenes}}
input: {{crop: [32, 32]}}
augmentation: {{horizontal_flip: 0.5, brightness: 0.1}}
class_weights: {{scheme: inverse_sqrt, online: 0.9}}
pixel_weights: {{name: border, classes: [building, boat]}}
model: {{name: unet, depth: 1, base_filters: 2, dropout: 0.3}}
loss: [{{name: cross_entropy}}, {{name: dice, weighted: false}}]
schedule: {{name: cosine, warmup_epochs: 1}}
training: {{epochs: 2, batch_size: 2, precision: float32}}
output: {{root: {root}/runs, overlays: 1}}
"""


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that trains in seconds, with dropout, augmentation, online class weights, pixel weights and a
    schedule for resuming to reproduce."""
    from data_tools.scenes.scene import write_scenes

    folder = tmp_path_factory.mktemp("tiny")
    write_scenes(folder / "scenes", {"train": 4, "val": 2, "test": 2}, size=64, seed=0)
    (folder / "tiny.yaml").write_text(TINY_CONFIG.format(root=folder), encoding="utf-8")
    return folder / "tiny.yaml"


@pytest.fixture(scope="session")
def trained_run(tiny_config: Path) -> Path:
    """The folder of one finished run of `tiny_config`; tests that change it work on a copy."""
    from seg import train

    run = tiny_config.parent / "trained"
    assert train.main(["--config", str(tiny_config), "--run-dir", str(run)]) == 0
    return run


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """(shape, dtype, seed) -> values over the whole range of an integer type, about 0 for floats."""

    def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        if np.dtype(dtype).kind == "f":
            return rng.normal(0, 100, shape).astype(dtype)
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)

    return draw


@pytest.fixture
def write_raster() -> Callable[..., Path]:
    """(path, (H, W[, B]) values, ...) -> the path of a GeoTIFF: 10 m a pixel, tiles of 64, unless told otherwise."""
    import rasterio

    def write(path: Path, pixels: np.ndarray, crs: str | None = "EPSG:32633", **profile: object) -> Path:
        bands = pixels[..., None] if pixels.ndim == 2 else pixels
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width, count = bands.shape
        size = {"height": height, "width": width, "count": count, "dtype": bands.dtype}
        place = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
        defaults = {"tiled": True, "blockxsize": 64, "blockysize": 64, "transform": place, "crs": crs}
        chosen = {key: value for key, value in {**defaults, **profile}.items() if value is not None}
        with rasterio.open(path, "w", driver="GTiff", **size, **chosen) as file:
            file.write(bands.transpose(2, 0, 1))
        return path

    return write
