"""What the images of a training were like, kept with its model, and whether others are: type, bands, values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg.data.files.reading import read_values, reader
from seg.data.files.storage import File, holder
from seg.data.files.stored import Bands
from seg.data.files.windows import Window
from seg.errors import DataError

SAMPLED = 32  # images whose values are looked at, evenly spread over the list
SIDE = 1024  # pixels of the middle that is looked at of a large raster
FAR = 4.0  # standard deviations of the training's values between two means
FLAT = 20.0  # times as wide or as narrow; one image may be flat, of many images together hardly


@dataclass(frozen=True)
class SeenImages:
    """Of some images.

    Attributes:
        dtypes: Names of the types of their values, sorted.
        bands: How many bands their files have, alpha not counted; sorted.
        mean: Of each band that is used, in the files' unit, over a sample of the images.
        std: The same.
    """

    dtypes: tuple[str, ...]
    bands: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def check(self, file: File) -> None:
        """Refuses an image of another type or number of bands.

        Raises:
            DataError: Names the file, what it holds and what these images hold.
        """
        dtype, bands = reader(file).image_form
        if bands not in self.bands:
            raise DataError(
                f"{file}: has {bands} band(s), but the model was trained on images of {_or(self.bands)}; allowed: as "
                "in training (is it a mask?)"
            )
        if dtype not in self.dtypes:
            raise DataError(
                f"{file}: holds {dtype} values, but the model was trained on {_or(self.dtypes)}; allowed: as in "
                "training, in the same unit"
            )

    def unlike(self, others: SeenImages) -> str:
        """How the values of other images differ from these, a sentence; "" where they do not."""
        for band, (mean, std, other, spread) in enumerate(
            zip(self.mean, self.std, others.mean, others.std, strict=True), 1
        ):
            if std <= 0:
                continue
            apart = abs(other - mean) / std
            if apart > FAR or not 1 / FLAT <= spread / std <= FLAT:
                return (
                    f"the images' values are unlike the training's: band {band} has mean {other:.4g} and standard "
                    f"deviation {spread:.4g}, in training {mean:.4g} and {std:.4g} ({apart:.1f} standard deviations "
                    "apart); are they in the same unit?"
                )
        return ""


def seen_images(files: Sequence[File], bands: Bands, nodata: float | None = None) -> SeenImages:
    """What images are like: types and bands of all of them by their headers, mean and std of a sample.

    Args:
        files: At least one image.
        bands: Those that are used, as `seg.data.files.reading.read_values` takes them.
        nodata: The value that means no data; None: the one that a raster names.

    Raises:
        DataError: A file cannot be read.
    """
    forms = [reader(file).image_form for file in {holder(file): file for file in files}.values()]
    sums = np.zeros((3, bands if isinstance(bands, int) else len(bands)))
    for place in np.unique(np.linspace(0, len(files) - 1, SAMPLED).astype(int)):
        sums += _sums(files[place], bands, nodata)
    count = np.maximum(sums[0], 1)
    mean = sums[1] / count
    std = np.sqrt(np.maximum(sums[2] / count - mean**2, 0))
    return SeenImages(
        tuple(sorted({dtype for dtype, _ in forms})),
        tuple(sorted({number for _, number in forms})),
        tuple(mean.tolist()),
        tuple(std.tolist()),
    )


def _sums(file: File, bands: Bands, nodata: float | None) -> np.ndarray:
    """(3, B) float64: number, sum and sum of squares of the values that are not missing."""
    source = reader(file)
    window = None
    if source.block is not None:
        height, width = source.shape
        size = min(SIDE, height), min(SIDE, width)
        window = Window((height - size[0]) // 2, (width - size[1]) // 2, *size)
    values, missing = read_values(file, bands, window, nodata)
    there = np.isfinite(values) if missing is None else ~missing & np.isfinite(values)
    kept = np.where(there, values, 0).astype(np.float64)
    return np.stack([there.sum(axis=(0, 1)), kept.sum(axis=(0, 1)), (kept**2).sum(axis=(0, 1))])


def _or(some: Sequence[object]) -> str:
    return " or ".join(map(str, some))
