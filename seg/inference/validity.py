"""Validity masks of images to predict, which have no masks: outside them a prediction is void."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg.data.files.limited import valid_pixels
from seg.data.files.reading import image_size, reader
from seg.data.files.storage import File, VolumeSlice, holder
from seg.data.files.windows import Window
from seg.data.samples.pairs import few, stem
from seg.errors import ConfigError, DataError


@dataclass(frozen=True)
class Validity:
    """Reads where an image counts.

    Attributes:
        masks: Image file -> validity mask.
        values: What a validity mask holds where the image counts; None: all but 0.
    """

    masks: Mapping[File, Path]
    values: tuple[int, ...] | None = None

    @classmethod
    def of_pattern(cls, pattern: str, images: Sequence[Path], values: tuple[int, ...] | None = None) -> Validity:
        """The validity masks that a pattern with {stem} names.

        Raises:
            ConfigError: The pattern has no {stem}.
            DataError: A file is missing.
        """
        if "{stem}" not in pattern:
            raise ConfigError(f"--valid: got '{pattern}', allowed: a path with {{stem}}, as in fov/{{stem}}_mask.gif")
        masks: dict[File, Path] = {image: Path(pattern.replace("{stem}", stem(image))) for image in images}
        missing = [str(path) for path in masks.values() if not path.is_file()]
        if missing:
            raise DataError(
                f"--valid: {len(missing)} of {len(masks)} validity masks do not exist: {few(missing)}; allowed: one "
                "for each image"
            )
        return cls(masks, values)

    def __call__(self, image: File, window: Window | None) -> np.ndarray:
        """(h, w) bool: where a window of an image counts.

        Raises:
            DataError: The validity mask cannot be read, or has another size than the image.
        """
        path = self.masks[holder(image)]
        mask: File = VolumeSlice(path, image.axis, image.index) if isinstance(image, VolumeSlice) else path
        source, size = reader(mask), image_size(image)
        if source.shape != size:
            raise DataError(
                f"{mask}: is {source.shape[0]} x {source.shape[1]} (height x width), but {image}, whose validity mask "
                f"it is, is {size[0]} x {size[1]}; allowed: the same size"
            )
        return valid_pixels(source.read(window), self.values)
