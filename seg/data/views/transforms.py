"""Random changes to an image and its mask: the one file that imports albumentations.

Two traps of albumentations 2.0.8 are closed here. Its warps paint the pixels from outside the image into masks as 0, a
real class: here they become void. Its `Compose.set_random_seed` starts every transform from the SAME seed, so a
horizontal and a vertical flip, drawing alike, would always come together: here all transforms draw from one stream.
"""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pydantic import PrivateAttr

from seg.data.files.storage import File
from seg.data.views.augmentation import AugmentationSettings
from seg.data.views.crop_transform import CropTransform, CropTransformRanges, Target
from seg.data.views.sources import Pixels, SampleSource
from seg.data.views.warps import read_crop
from seg.errors import ConfigError, DataError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the network for its newest version

import albumentations  # noqa: E402

cv2.setNumThreads(0)  # the pipeline already runs one image a thread

# What images other than 3-band 8-bit ones may have.
ANY_BANDS = ("horizontal_flip", "vertical_flip", "rotate90", "scale", "rotate", "elastic", "brightness", "contrast")
HUE_PER_JITTER = 0.25  # jitter 0.2 turns the hue by up to 0.05 of the circle, 18 degrees: leaves stay green


class Augmentation(AugmentationSettings):
    """Draws one random version of an image and its mask; every default is 'off'.

    The order is flips, then one warp (resize, quarter turn, scale, rotation, elastic, crop), then colour. What the warp
    brings in from outside the image is 0 in the image and `ignore_index` in the mask.

    Images of any number of bands and of any value range are taken; brightness and contrast change values in units of
    that range (`seg.data.views.preprocessing`), `colour_jitter` needs the hues of 3-band 8-bit images.

    Scales are drawn evenly in their logarithm. Brightness and contrast are albumentations' limits. A colour jitter s
    changes the saturation by a factor in 1 +- s and turns the hue by +- s/4 of the circle. Elastic is the standard
    deviation, in pixels, of the displacements on a 3 x 3 grid over the output, smooth between (Ronneberger et al.,
    'U-Net', MICCAI 2015, arXiv:1505.04597, uses 10).

    Attributes:
        crop: (height, width) of the random window to cut; None keeps the image's size. A smaller image is padded.
        resize: (height, width) that the image is resized to before all this; None: it is not. Done here, in the same
            warp, because a zoom into an image resized before shows a blur where the file has detail.
        ignore_index: The mask value of void.
        bands: Bands of the images.
        saturate: Float images end at 0 and 1, as 8-bit ones do at 0 and 255; False where values lie beyond their range.

    Raises:
        ConfigError: `colour_jitter` is set for images of other than 3 bands.
        ValueError: A value is out of its range.
    """

    crop: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    ignore_index: int = 255
    bands: int = 3
    saturate: bool = True
    _per_thread: threading.local = PrivateAttr(default_factory=threading.local)

    def model_post_init(self, context: Any) -> None:
        """Refuses settings that do not go together."""
        for key, problem in self.problems():
            raise ValueError(f"{key}: {problem}")
        if self.colour_jitter and self.bands != 3:
            raise ConfigError(
                f"augmentation.colour_jitter: got {self.colour_jitter} for images of {self.bands} "
                f"band{'s' if self.bands > 1 else ''}, allowed: 0, or 3-band 8-bit images; "
                f"for others: {', '.join(ANY_BANDS)}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without the transforms of its threads."""
        return _unpickled, (self.model_dump(),)

    @property
    def ranges(self) -> CropTransformRanges:
        """The geometric part but for the flips."""
        return CropTransformRanges(self.rotate90, self.scale, self.rotate, self.elastic, self.resize, self.crop)

    def draw(self, shape: tuple[int, int], seed: int, target: Target | None = None) -> Draw:
        """The random choices of one version, before any pixel is read; fixed by (shape, seed, target).

        Args:
            shape: (height, width) of the image in the file.
            seed: Any integer >= 0.
            target: A pixel that the crop must show, or None: the crop lies anywhere.
        """
        generator, draw = np.random.default_rng(seed), random.Random(seed)
        draw.random()  # albumentations.Compose drew one for itself; kept, so that a seed draws what it always drew
        horizontal = _happens(self.horizontal_flip, draw)
        vertical = _happens(self.vertical_flip, draw)
        return Draw(self.ranges.draw(shape, (vertical, horizontal), draw, generator, target), generator, draw)

    def __call__(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        seed: int,
        pixel_weights: np.ndarray | None = None,
        target: Target | None = None,
    ) -> tuple[np.ndarray, ...]:
        """One random version, fixed by (image, mask, seed): the same in every thread and after any earlier call.

        Args:
            image: (H, W, bands) uint8, or float32 in [0, 1].
            mask: (H, W) uint8 class indices or `ignore_index`; or (H, W, K), whose planes move alike.
            seed: Any integer >= 0.
            pixel_weights: (H, W) float32 or None: moved as the mask is, pixel by pixel; meaningless where the mask
                becomes void. They change no random draw.
            target: As in `draw`.

        Returns:
            Image and mask, and the weights where they are given, contiguous, of the same dtypes, sized `crop`, else
            `resize`, else as they came.
        """
        return self.apply(self.draw(mask.shape[:2], seed, target), image, mask, pixel_weights)

    def apply(
        self, draw: Draw, image: np.ndarray, mask: np.ndarray, pixel_weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        """What `draw` drew, done to an image and its mask. Once a draw: the colours are drawn from its streams."""
        if image.shape != (*mask.shape[:2], self.bands) or image.dtype not in (np.uint8, np.float32):
            raise ValueError(f"got image {image.shape} {image.dtype} and mask {mask.shape} for {self.bands} bands")
        maps = [draw.transform.of_mask(each, self.ignore_index) for each in (mask, pixel_weights) if each is not None]
        shown = self._coloured(draw.transform.of_image(image), draw)
        return tuple(np.ascontiguousarray(array) for array in (shown, *maps))

    def of_source(self, source: SampleSource, seed: int, target: Target | None = None) -> tuple[Pixels, np.ndarray]:
        """The version that a call with the whole sample would give, of which only what it shows is read.

        The draws are those of the call, so that a crop is the same whichever way it is read; values differ by the
        rounding of interpolated coordinates.

        Args:
            source: The sample.
            seed: Any integer >= 0.
            target: As in `draw`.

        Returns:
            The pixels, contiguous, and (h, w, B) bool: true where a value is missing or from outside the image.

        Raises:
            DataError: `colour_jitter` is set, and the image does not hold 8-bit values; or it cannot be read.
        """
        draw = self.draw(source.shape, seed, target)
        pixels, missing = read_crop(source, draw.transform, self.ignore_index)
        self.check_stored(np.dtype(pixels.stored), source.sample.image)
        return pixels._replace(image=np.ascontiguousarray(self._coloured(pixels.image, draw))), missing

    def check_stored(self, dtype: np.dtype, file: File) -> None:
        """Refuses images whose values `colour_jitter` cannot take.

        Raises:
            DataError: It is set, and the file holds other than 8-bit values.
        """
        if self.colour_jitter and dtype != np.uint8:
            raise DataError(
                f"{file}: holds {dtype} values, which augmentation.colour_jitter does not take (3-band 8-bit images "
                f"only); allowed: {', '.join(ANY_BANDS)}"
            )

    def _coloured(self, image: np.ndarray, draw: Draw) -> np.ndarray:
        """The image with other colours."""
        transforms = self._colour_transforms()
        # Called one by one and not by albumentations.Compose, whose checks take 0.5 ms of every image.
        for transform in transforms:
            transform.set_random_state(draw.generator, draw.random)
            image = transform(image=image)["image"]
        image = image.reshape(*draw.transform.size, self.bands)
        if transforms and image.dtype == np.float32 and self.saturate:
            image = np.clip(image, 0.0, 1.0)  # as uint8 images saturate
        return image

    def _colour_transforms(self) -> list[albumentations.BasicTransform]:
        """This thread's transforms: they hold the random state, so threads cannot share them."""
        if not hasattr(self._per_thread, "colours"):
            transforms: list[albumentations.BasicTransform] = []
            if self.brightness or self.contrast:
                kind = albumentations.RandomBrightnessContrast if self.saturate else OpenBrightnessContrast
                transforms.append(kind(self.brightness, self.contrast, p=1.0))
            if self.colour_jitter:
                saturation = (max(0.0, 1.0 - self.colour_jitter), 1.0 + self.colour_jitter)
                hue = min(0.5, self.colour_jitter * HUE_PER_JITTER)
                transforms.append(albumentations.ColorJitter((1.0, 1.0), (1.0, 1.0), saturation, (-hue, hue), p=1.0))
            self._per_thread.colours = transforms
        return self._per_thread.colours


def _unpickled(settings: dict[str, Any]) -> Augmentation:
    return Augmentation(**settings)


class OpenBrightnessContrast(albumentations.RandomBrightnessContrast):
    """The same draws; float values beyond [0, 1] are not cut off."""

    def apply(self, img: np.ndarray, alpha: float, beta: float, **params: Any) -> np.ndarray:
        """alpha value + beta."""
        if img.dtype != np.float32:
            return super().apply(img, alpha, beta, **params)
        return img * np.float32(alpha) + np.float32(beta)


@dataclass(frozen=True)
class Draw:
    """The choices made for one version of an image, and the streams that the rest of it is drawn from."""

    transform: CropTransform
    generator: np.random.Generator
    random: random.Random


def _happens(probability: float, draw: random.Random) -> bool:
    """As albumentations decides: nothing is drawn for what is certain."""
    return probability > 0 and (probability >= 1 or draw.random() < probability)
