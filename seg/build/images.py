"""How image values become the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seg.config.tree import Config
from seg.data.files.reading import reader
from seg.data.samples.pairs import Sample

if TYPE_CHECKING:
    from seg.data.views.band_statistics import BandStatistics, Clip
    from seg.data.views.preprocessing import Preprocessing


def clip(config: Config) -> Clip | None:
    """What values are cut off at."""
    from seg.data.views.band_statistics import Clip

    section = config.input.clip
    return None if section is None else Clip(section.values, section.percentiles)


def needs_statistics(config: Config) -> bool:
    """Whether something of the images has to be counted before their values can be normalised."""
    section = config.input
    return section.normalize == "counted" or (section.clip is not None and section.clip.percentiles is not None)


def may_miss_pixels(config: Config, samples: Sequence[Sample]) -> bool:
    """Whether images may have pixels without data, which their masks do not know of: rasters and volumes may."""
    return config.input.nodata is not None or not all(reader(sample.image).picture for sample in samples)


def preprocessing(config: Config, statistics: BandStatistics | None = None) -> Preprocessing:
    """From image file to model input.

    Args:
        config: The configuration.
        statistics: Those of the training images, where `needs_statistics` says so.
    """
    from seg.data.views.preprocessing import Preprocessing, ValueRange

    section = config.input
    bands = section.num_bands
    mean, std = (section.mean,) * bands, (section.std,) * bands
    value_range = None
    if needs_statistics(config):
        if statistics is None:
            raise ValueError("statistics: got None, allowed with input.normalize: counted or percentiles: the counted")
        value_range, counted_mean, counted_std = statistics.scaling()
        if section.normalize == "counted":
            mean, std = counted_mean, counted_std
    elif section.clip is not None and section.clip.values is not None:
        low, high = section.clip.values
        value_range = ValueRange((low,) * bands, (high,) * bands, clip=True)
    return Preprocessing(
        bands=bands,
        resize=section.resize,
        max_value=section.max_value,
        mean=mean,
        std=std,
        selection=None if isinstance(section.bands, int) else section.bands,
        nodata=section.nodata,
        value_range=value_range,
    )
