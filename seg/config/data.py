"""The sections `data`, `input` and `augmentation` of a configuration: where samples lie and how the model sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from seg.config.section import Percentile, Positive, Probability, Problem, Section, Size


class Slices(Section):
    """Volumes (NIfTI, TIFFs of several pages) read as slices; all slices of a volume are in one split."""

    axis: Literal[0, 1, 2] = Field(
        description="array axis, as stored, that slices follow one another along: of NIfTI i, j, k; of TIFF page, row, "
        "column"
    )


class FolderData(Section):
    """A folder of images and one of masks for each split; pairs share their file stem."""

    name: Literal["folders"]
    root: str
    images: str = Field("images/{split}", description="under root; {split} becomes train, val, test")
    masks: str = Field("masks/{split}", description="under root; {split} becomes train, val, test")
    mask_suffix: str = Field("", description="what a mask's stem has behind its image's, for example _mask")
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")

    def problems(self) -> Iterator[Problem]:
        for key in ("images", "masks"):
            if "{split}" not in getattr(self, key):
                yield key, f"got '{getattr(self, key)}', allowed: a folder with {{split}} in it"


class TableData(Section):
    """A CSV with the columns image, mask, split and, if samples belong together, group."""

    name: Literal["table"]
    root: str = Field(description="folder that the table's paths start from")
    table: str = Field(description="the CSV file, under root")
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")


class FractionData(Section):
    """One folder of images, one of masks, and a rule that splits them."""

    name: Literal["fractions"]
    root: str
    images: str = "images"
    masks: str = "masks"
    mask_suffix: str = ""
    train: Positive = 0.7
    val: Positive = 0.15
    test: Annotated[float, Field(ge=0)] = 0.15
    seed: int = Field(0, description="which blocks go to which split; not the run's seed, so that runs share a split")
    block_size: Annotated[int, Field(ge=1)] = Field(
        1, description="consecutive names that stay together, for neighbouring tiles or slices"
    )
    slices: Slices | None = Field(None, description="images and masks are volumes; left out: they are pictures")

    def fractions(self) -> dict[str, float]:
        """The share of each split that gets samples."""
        shares = {"train": self.train, "val": self.val, "test": self.test}
        return {split: share for split, share in shares.items() if share > 0}

    def problems(self) -> Iterator[Problem]:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            yield "train", f"train + val + test is {total:g}, allowed: 1"


class Clip(Section):
    """Values are cut off at a low and a high end, which become 0 and 1, before mean and std."""

    values: tuple[float, float] | None = Field(None, description="[low, high] of all bands, as stored")
    percentiles: tuple[Percentile, Percentile] | None = Field(
        None, description="[low, high] of each band, counted over the labelled pixels of the training split"
    )

    def problems(self) -> Iterator[Problem]:
        if (self.values is None) == (self.percentiles is None):
            yield "values", "allowed: either values or percentiles"
        for key in ("values", "percentiles"):
            pair = getattr(self, key)
            if pair is not None and not pair[0] < pair[1]:
                yield key, f"got {list(pair)}, allowed: [low, high]"


class MemoryCache(Section):
    """Decoded training images and masks are kept in memory."""

    name: Literal["memory"]
    limit_gib: Positive = Field(4.0, description="GiB of decoded pixels; what is over it is decoded each time")


class DiskCache(Section):
    """Decoded training images and masks are kept in files that are mapped into memory; runs share them."""

    name: Literal["disk"]
    limit_gib: Positive = Field(16.0, description="GiB of files in the folder; what is over it is decoded each time")
    folder: str | None = Field(None, description="left out: seg/decoded in the user's cache folder")


class Input(Section):
    """From image file to the tensor that the model sees: (value / max_value - mean) / std."""

    bands: Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (
        Field(3, description="how many the files have (1: gray, 3: RGB), or the numbers, from 1, of those to use")
    )
    nodata: float | None = Field(
        None, description="value that means no data, whatever a raster names; such pixels are void and 0"
    )
    resize: Size | None = Field(None, description="[height, width] of every image and mask, before anything else")
    crop: Size | None = Field(None, description="[height, width] of random training crops; validation is never cropped")
    crops_per_image: Annotated[int, Field(ge=1)] = Field(1, description="crops drawn from an image in an epoch")
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


class Augmentation(Section):
    """Random changes of training images; everything is off unless stated."""

    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    rotate90: Probability = Field(0.0, description="probability of a random number of quarter turns")
    scale: tuple[Positive, Positive] = Field((1.0, 1.0), description="smallest and largest zoom factor")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="largest turn in degrees, either way")
    brightness: Probability = Field(0.0, description="largest change, as a share of the value range")
    contrast: Probability = Field(0.0, description="largest relative change")
    colour_jitter: Probability = Field(0.0, description="largest relative change of saturation and hue; 8-bit RGB only")
    elastic: Annotated[float, Field(ge=0)] = Field(0.0, description="strength of the elastic distortion in pixels")

    def problems(self) -> Iterator[Problem]:
        if self.scale[0] > self.scale[1]:
            yield "scale", f"got {list(self.scale)}, allowed: [smallest, largest]"
