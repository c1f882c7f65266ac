"""The `input` section of a configuration: how the model sees images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from seg.data.views.clip import Clip
from seg.section import Count, Positive, Problem, Section, Size, Value

if TYPE_CHECKING:
    from seg.data.batches.pixel_cache import PixelCache
    from seg.data.samples.pairs import Sample
    from seg.data.views.band_statistics import BandStatistics
    from seg.data.views.preprocessing import Preprocessing


class MemoryCache(Section):
    """Decoded training images and masks are kept in memory."""

    name: Literal["memory"]
    limit_gib: Positive = Field(4.0, description="GiB of decoded pixels; what is over it is decoded each time")

    def build(self, reading: str) -> PixelCache:
        from seg.data.batches.pixel_cache import PixelCache

        return PixelCache(int(self.limit_gib * 2**30), reading, None)


class DiskCache(Section):
    """Decoded training images and masks are kept in files that are mapped into memory; runs share them."""

    name: Literal["disk"]
    limit_gib: Positive = Field(16.0, description="GiB of files in the folder; what is over it is decoded each time")
    folder: str | None = Field(None, description="left out: seg/decoded in the user's cache folder")

    def build(self, reading: str) -> PixelCache:
        from seg.balance.cache import user_cache_folder
        from seg.data.batches.pixel_cache import PixelCache

        folder = Path(self.folder) if self.folder else user_cache_folder() / "decoded"
        return PixelCache(int(self.limit_gib * 2**30), reading, folder)


class Input(Section):
    """From image file to the tensor that the model sees: (value / max_value - mean) / std."""

    bands: Count | Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        3, description="how many the files have (1: gray, 3: RGB), or the numbers, from 1, of those to use"
    )
    nodata: float | None = Field(
        None, description="value that means no data, whatever a raster names; such pixels are void and 0"
    )
    resize: Size | None = Field(None, description="[height, width] of every image and mask, before anything else")
    crop: Size | None = Field(None, description="[height, width] of random training crops; validation is never cropped")
    crops_per_image: Count = Field(1, description="crops drawn from an image in an epoch")
    max_value: Positive | None = Field(None, description="image value that becomes 1; left out: 255 or 65535 by dtype")
    mean: float = Field(0.5, description="subtracted from values in [0, 1]")
    std: Positive = Field(0.25, description="divides what is left")
    clip: Clip | None = Field(None, description="cuts values off; its ends become 0 and 1, in place of 0 and max_value")
    normalize: Literal["fixed", "counted"] = Field(
        "fixed", description="counted: each band's own mean and std over the labelled pixels of the training split"
    )

    cache: Annotated[MemoryCache | DiskCache, Field(discriminator="name")] | None = Field(
        None, description="keeps decoded training images and masks; left out: they are decoded in every epoch"
    )

    @property
    def num_bands(self) -> int:
        """How many bands the model sees."""
        return self.bands if isinstance(self.bands, int) else len(self.bands)

    @property
    def needs_statistics(self) -> bool:
        """Whether something of the images has to be counted before their values can be normalised."""
        return self.normalize == "counted" or (self.clip is not None and self.clip.percentiles is not None)

    def hyperparameters(self) -> dict[str, Value]:
        """What runs are compared by."""
        sizes = {"crop": self.crop, "resize": self.resize}
        return {key: "" if size is None else f"{size[0]} x {size[1]}" for key, size in sizes.items()}

    def may_miss_pixels(self, samples: Sequence[Sample]) -> bool:
        """Whether images may have pixels without data, which their masks do not know of: rasters and volumes may."""
        from seg.data.files.reading import reader

        return self.nodata is not None or not all(reader(sample.image).picture for sample in samples)

    def preprocessing(self, statistics: BandStatistics | None = None) -> Preprocessing:
        """From image file to model input.

        Args:
            statistics: Those of the training images, where `needs_statistics` says so.
        """
        from seg.data.views.preprocessing import Preprocessing, ValueRange

        bands = self.num_bands
        mean, std = (self.mean,) * bands, (self.std,) * bands
        value_range = None
        if self.needs_statistics:
            if statistics is None:
                raise ValueError(
                    "statistics: got None, allowed with input.normalize: counted or percentiles: the counted"
                )
            value_range, counted_mean, counted_std = statistics.scaling()
            if self.normalize == "counted":
                mean, std = counted_mean, counted_std
        elif self.clip is not None and self.clip.values is not None:
            low, high = self.clip.values
            value_range = ValueRange((low,) * bands, (high,) * bands, clip=True)
        return Preprocessing(
            bands=bands,
            resize=self.resize,
            max_value=self.max_value,
            mean=mean,
            std=std,
            selection=None if isinstance(self.bands, int) else self.bands,
            nodata=self.nodata,
            value_range=value_range,
        )

    def problems(self) -> Iterator[Problem]:
        if isinstance(self.bands, tuple) and len(set(self.bands)) < len(self.bands):
            yield "bands", f"got {list(self.bands)}, allowed: each band once"
        if self.clip is not None and self.max_value is not None:
            yield "max_value", f"got {self.max_value:g}, which has no effect with input.clip"
        for key in ("max_value", "mean", "std") if self.normalize == "counted" else ():
            if (value := getattr(self, key)) != type(self).model_fields[key].default:
                yield key, f"got {value:g}, which has no effect with input.normalize: counted"
        if self.crop is None and self.crops_per_image != 1:
            yield "crops_per_image", f"got {self.crops_per_image}, which has no effect without input.crop"
        if self.crop and self.resize and (self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]):
            yield "crop", f"got {list(self.crop)}, allowed: at most input.resize {list(self.resize)}"
        if self.crop and self.crop == self.resize and self.crops_per_image == 1:
            yield "crop", f"got {list(self.crop)}, which has no effect: images already have this size by input.resize"
