"""Random changes to an image and its mask: the one file that imports albumentations.

Two traps of albumentations 2.0.8 are closed here. Its warps paint the pixels from outside the image into masks as 0, a
real class: here they become void. Its `Compose.set_random_seed` starts every transform from the SAME seed, so a
horizontal and a vertical flip, drawing alike, would always come together: here all transforms draw from one stream.
"""

from __future__ import annotations

import math
import os
import random
import threading
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from seg.data.images import resize_image, resize_mask
from seg.data.sources import Pixels, SampleSource
from seg.data.storage import File
from seg.data.warps import warp, warp_source
from seg.data.warps import window_matrix as window_matrix
from seg.errors import ConfigError, DataError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the network for its newest version

import albumentations  # noqa: E402
from albumentations.core.type_definitions import Targets  # noqa: E402

cv2.setNumThreads(0)  # the pipeline already runs one image a thread

ELASTIC_GRID = (3, 3)  # Ronneberger 2015, section 3.1
# What images other than 3-band 8-bit ones may have.
ANY_BANDS = ("horizontal_flip", "vertical_flip", "rotate90", "scale", "rotate", "elastic", "brightness", "contrast")
HUE_PER_JITTER = 0.25  # jitter 0.2 turns the hue by up to 0.05 of the circle, 18 degrees: leaves stay green


@dataclass(frozen=True)
class Augmentation:
    """Draws one random version of an image and its mask; every default is 'off'.

    The order is flips, then one warp (resize, quarter turn, scale, rotation, elastic, crop), then colour. What the warp
    brings in from outside the image is 0 in the image and `ignore_index` in the mask.

    Images of any number of bands and of any value range are taken; brightness and contrast change values in units of
    that range (`seg.data.preprocessing`), `colour_jitter` needs the hues of 3-band 8-bit images.

    Attributes:
        horizontal_flip: Probability in [0, 1].
        vertical_flip: Probability in [0, 1].
        rotate90: Probability in [0, 1] of turning by 90, 180 or 270 degrees.
        scale: Smallest and largest zoom, e.g. (0.5, 2.0); drawn evenly in its logarithm.
        rotate: Largest turn in degrees, either way.
        brightness: Largest change, as a share of the value range (albumentations' brightness_limit).
        contrast: Largest change of the factor around 1 (albumentations' contrast_limit).
        colour_jitter: s changes the saturation by a factor in 1 +- s and turns the hue by +- s/4 of the circle.
        elastic: Standard deviation, in pixels, of the displacements on a 3 x 3 grid over the output, smooth between
            (Ronneberger et al., 'U-Net', MICCAI 2015, arXiv:1505.04597, uses 10).
        crop: (height, width) of the random window to cut; None keeps the image's size. A smaller image is padded.
        resize: (height, width) that the image is resized to before all this; None: it is not. Done here, in the same
            warp, because a zoom into an image resized before shows a blur where the file has detail.
        ignore_index: The mask value of void.
        bands: Bands of the images.
        saturate: Float images end at 0 and 1, as 8-bit ones do at 0 and 255; False where values lie beyond their range.

    Raises:
        ConfigError: `colour_jitter` is set for images of other than 3 bands.
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    rotate90: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour_jitter: float = 0.0
    elastic: float = 0.0
    crop: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    ignore_index: int = 255
    bands: int = 3
    saturate: bool = True
    _per_thread: threading.local = field(default_factory=threading.local, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.colour_jitter and self.bands != 3:
            raise ConfigError(
                f"augmentation.colour_jitter: got {self.colour_jitter} for images of {self.bands} "
                f"band{'s' if self.bands > 1 else ''}, allowed: 0, or 3-band 8-bit images; "
                f"for others: {', '.join(ANY_BANDS)}"
            )
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale: got {self.scale}, allowed: 0 < smallest <= largest")

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, seed: int, pixel_weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        """One random version, fixed by (image, mask, seed): the same in every thread and after any earlier call.

        Args:
            image: (H, W, bands) uint8, or float32 in [0, 1].
            mask: (H, W) uint8 class indices or `ignore_index`.
            seed: Any integer >= 0.
            pixel_weights: (H, W) float32 or None: moved as the mask is, pixel by pixel; meaningless where the mask
                becomes void. They change no random draw.

        Returns:
            Image and mask, and the weights where they are given, contiguous, of the same dtypes, sized `crop`, else
            `resize`, else as they came.
        """
        if image.shape != (*mask.shape, self.bands) or image.dtype not in (np.uint8, np.float32):
            raise ValueError(f"got image {image.shape} {image.dtype} and mask {mask.shape} for {self.bands} bands")
        compose = self._compose(from_source=False)
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        weights = {} if pixel_weights is None else {"pixel_weights": pixel_weights}
        drawn = compose(image=image, mask=mask, **weights)
        new_image = drawn["image"].reshape(*drawn["mask"].shape, self.bands)  # OpenCV drops a single band's axis
        return tuple(
            np.ascontiguousarray(array)
            for array in (self._saturated(new_image), drawn["mask"], *(drawn[key] for key in weights))
        )

    def of_source(self, source: SampleSource, seed: int) -> tuple[Pixels, np.ndarray]:
        """The version that a call with the whole image would give, of which only what it shows is read.

        The draws are those of the call, so that a crop is the same whichever way it is read; values differ by the
        rounding of interpolated coordinates.

        Args:
            source: The sample.
            seed: Any integer >= 0.

        Returns:
            The pixels, contiguous, and (h, w, B) bool: true where a value is missing or from outside the image.

        Raises:
            DataError: `colour_jitter` is set, and the image does not hold 8-bit values; or it cannot be read.
        """
        compose = self._compose(from_source=True)
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        read: list[Pixels] = []
        corners = np.arange(4, dtype=np.uint8).reshape(2, 2)  # flipped in the image's place, they tell how
        drawn = compose(image=corners, mask=corners, source=source, read=read)
        pixels = read[0]
        self.check_stored(np.dtype(pixels.stored), source.sample.image)
        image = self._saturated(drawn["image"].reshape(*pixels.mask.shape, self.bands))
        assert pixels.missing is not None  # RandomWindow always gives it
        return pixels._replace(image=np.ascontiguousarray(image)), pixels.missing

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

    def _saturated(self, image: np.ndarray) -> np.ndarray:
        """Float images end where 8-bit ones do."""
        if image.dtype == np.float32 and self.saturate and (self.brightness or self.contrast or self.colour_jitter):
            return np.clip(image, 0.0, 1.0)
        return image

    def _compose(self, from_source: bool) -> albumentations.Compose:
        """This thread's pipeline: its transforms hold the random state, so threads cannot share one."""
        name = "from_source" if from_source else "of_arrays"
        if not hasattr(self._per_thread, name):
            transforms = self._transforms(from_source)
            targets = {"pixel_weights": "mask"}
            setattr(self._per_thread, name, albumentations.Compose(transforms, additional_targets=targets))
        return getattr(self._per_thread, name)

    def _transforms(self, from_source: bool) -> list[albumentations.BasicTransform]:
        transforms: list[albumentations.BasicTransform] = []
        if self.horizontal_flip:
            transforms.append(albumentations.HorizontalFlip(p=self.horizontal_flip))
        if self.vertical_flip:
            transforms.append(albumentations.VerticalFlip(p=self.vertical_flip))
        warped = self.rotate90 or self.scale != (1.0, 1.0) or self.rotate or self.elastic or self.crop or self.resize
        if warped or from_source:
            window = (self.rotate90, self.scale, self.rotate, self.elastic, self.resize, self.crop)
            transforms.append(RandomWindow(*window, self.ignore_index, draws=bool(warped)))
        if self.brightness or self.contrast:
            kind = albumentations.RandomBrightnessContrast if self.saturate else OpenBrightnessContrast
            transforms.append(kind(self.brightness, self.contrast, p=1.0))
        if self.colour_jitter:
            saturation = (max(0.0, 1.0 - self.colour_jitter), 1.0 + self.colour_jitter)
            hue = min(0.5, self.colour_jitter * HUE_PER_JITTER)
            transforms.append(albumentations.ColorJitter((1.0, 1.0), (1.0, 1.0), saturation, (-hue, hue), p=1.0))
        return transforms


class OpenBrightnessContrast(albumentations.RandomBrightnessContrast):
    """The same draws; float values beyond [0, 1] are neither cut off before nor after."""

    def apply(self, img: np.ndarray, alpha: float, beta: float, **params: Any) -> np.ndarray:
        """alpha value + beta."""
        if img.dtype != np.float32:
            return super().apply(img, alpha, beta, **params)
        return img * np.float32(alpha) + np.float32(beta)


class RandomWindow(albumentations.DualTransform):
    """Resizes, turns, zooms, bends and crops in ONE warp: pixels are interpolated once, and only those of the window.

    Where the result is smaller than the file's pixels, area averaging shrinks the image first, so that nothing aliases.

    albumentations' own chain (Affine, ElasticTransform, RandomCrop) warps whole images twice and zooms about the
    centre, so that a zoom without a crop never shows the borders. Here the window lies anywhere in the zoomed image,
    evenly; a zoomed image smaller than the window lies anywhere in it.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        rotate90: float,
        scale: tuple[float, float],
        rotate: float,
        elastic: float,
        resize: tuple[int, int] | None,
        crop: tuple[int, int] | None,
        ignore_index: int,
        draws: bool = True,
    ) -> None:
        super().__init__(p=1.0)
        self.draws = draws  # False: reads the whole image, and leaves the random stream to the other transforms
        self.rotate90, self.scale, self.rotate, self.elastic = rotate90, scale, rotate, elastic
        self.resize, self.crop = resize, crop
        self.ignore_index = ignore_index

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the warp: the size to shrink to, the (2, 3) matrix from output to shrunk pixels, the output size, the
        displacements."""
        draw = self.py_random if self.draws else random.Random(0)
        source = data.get("source")
        shape = params["shape"][:2] if source is None else source.shape
        height, width = self.resize or shape
        size = self.crop or (height, width)
        scale = math.exp(draw.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        quarters = draw.randint(1, 3) if draw.random() < self.rotate90 else 0
        angle = math.radians(90 * quarters + draw.uniform(-self.rotate, self.rotate))
        turned = (width, height) if quarters % 2 else (height, width)
        # Whole pixels: a crop or a quarter turn alone must copy values, not blur them. Negative where it must pad.
        slack = [round(scale * whole - part) for whole, part in zip(turned, size, strict=True)]
        top, left = (draw.randint(min(0, pixels), max(0, pixels)) for pixels in slack)
        zoomed = (round(scale * height), round(scale * width))
        shrunk = tuple(max(1, min(pair)) for pair in zip(shape, zoomed, strict=True))
        matrix = window_matrix(shrunk, (height, width), turned, scale, angle, top, left)
        bend = None
        if self.elastic:
            bend = self.random_generator.normal(0.0, self.elastic, (*ELASTIC_GRID, 2)).astype(np.float32)
        if source is not None:
            data["read"].append(warp_source(source, data["image"], shrunk, matrix, size, bend, self.ignore_index))
        return {"shrunk": shrunk, "matrix": matrix, "size": size, "bend": bend, "read": data.get("read")}

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Warps an image (H, W, B), linear interpolation, 0 outside."""
        if params["read"]:
            return params["read"][0].image
        return warp(
            resize_image(img, params["shrunk"]), params["matrix"], params["size"], params["bend"], cv2.INTER_LINEAR, 0
        )

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        """Warps a mask (H, W), or its pixels' weights, nearest pixel, void outside."""
        if params["read"]:
            return params["read"][0].mask
        return warp(
            resize_mask(mask, params["shrunk"]),
            params["matrix"],
            params["size"],
            params["bend"],
            cv2.INTER_NEAREST,
            self.ignore_index,
        )
