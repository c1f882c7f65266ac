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
from seg.errors import ConfigError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the network for its newest version

import albumentations  # noqa: E402
from albumentations.core.type_definitions import Targets  # noqa: E402

cv2.setNumThreads(0)  # the pipeline already runs one image a thread

ELASTIC_GRID = (3, 3)  # Ronneberger 2015, section 3.1
HUE_PER_JITTER = 0.25  # jitter 0.2 turns the hue by up to 0.05 of the circle, 18 degrees: leaves stay green


@dataclass(frozen=True)
class Augmentation:
    """Draws one random version of an image and its mask; every default is 'off'.

    The order is flips, then one warp (resize, quarter turn, scale, rotation, elastic, crop), then colour. What the warp
    brings in from outside the image is 0 in the image and `ignore_index` in the mask.

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
        bands: Bands of the images, 1 or 3.

    Raises:
        ConfigError: `colour_jitter` is set for gray images.
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
    _per_thread: threading.local = field(default_factory=threading.local, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.colour_jitter and self.bands != 3:
            raise ConfigError(
                f"augmentation.colour_jitter: got {self.colour_jitter} for images of {self.bands} band, "
                "allowed: 0, or images of 3 bands"
            )
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale: got {self.scale}, allowed: 0 < smallest <= largest")

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, seed: int, pixel_weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        """One random version, fixed by (image, mask, seed): the same in every thread and after any earlier call.

        Args:
            image: (H, W, bands) uint8, or float32 in [0, 1].
            mask: (H, W) uint8 class indices or `ignore_index`; or (H, W, K), whose planes move alike.
            seed: Any integer >= 0.
            pixel_weights: (H, W) float32 or None: moved as the mask is, pixel by pixel; meaningless where the mask
                becomes void. They change no random draw.

        Returns:
            Image and mask, and the weights where they are given, contiguous, of the same dtypes, sized `crop`, else
            `resize`, else as they came.
        """
        if image.shape != (*mask.shape[:2], self.bands) or image.dtype not in (np.uint8, np.float32):
            raise ValueError(f"got image {image.shape} {image.dtype} and mask {mask.shape} for {self.bands} bands")
        compose = self._compose()
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        weights = {} if pixel_weights is None else {"pixel_weights": pixel_weights}
        drawn = compose(image=image, mask=mask, **weights)
        size = drawn["mask"].shape[:2]
        new_image = drawn["image"].reshape(*size, self.bands)  # OpenCV drops a single band's axis, and a single plane's
        new_mask = drawn["mask"].reshape(*size, *mask.shape[2:])
        if new_image.dtype == np.float32 and (self.brightness or self.contrast or self.colour_jitter):
            new_image = np.clip(new_image, 0.0, 1.0)  # as uint8 images saturate
        return tuple(np.ascontiguousarray(array) for array in (new_image, new_mask, *(drawn[key] for key in weights)))

    def _compose(self) -> albumentations.Compose:
        """This thread's pipeline: its transforms hold the random state, so threads cannot share one."""
        if not hasattr(self._per_thread, "compose"):
            self._per_thread.compose = albumentations.Compose(
                self._transforms(), additional_targets={"pixel_weights": "mask"}
            )
        return self._per_thread.compose

    def _transforms(self) -> list[albumentations.BasicTransform]:
        transforms: list[albumentations.BasicTransform] = []
        if self.horizontal_flip:
            transforms.append(albumentations.HorizontalFlip(p=self.horizontal_flip))
        if self.vertical_flip:
            transforms.append(albumentations.VerticalFlip(p=self.vertical_flip))
        if self.rotate90 or self.scale != (1.0, 1.0) or self.rotate or self.elastic or self.crop or self.resize:
            window = (self.rotate90, self.scale, self.rotate, self.elastic, self.resize, self.crop)
            transforms.append(RandomWindow(*window, self.ignore_index))
        if self.brightness or self.contrast:
            transforms.append(albumentations.RandomBrightnessContrast(self.brightness, self.contrast, p=1.0))
        if self.colour_jitter:
            saturation = (max(0.0, 1.0 - self.colour_jitter), 1.0 + self.colour_jitter)
            hue = min(0.5, self.colour_jitter * HUE_PER_JITTER)
            transforms.append(albumentations.ColorJitter((1.0, 1.0), (1.0, 1.0), saturation, (-hue, hue), p=1.0))
        return transforms


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
    ) -> None:
        super().__init__(p=1.0)
        self.rotate90, self.scale, self.rotate, self.elastic = rotate90, scale, rotate, elastic
        self.resize, self.crop = resize, crop
        self.ignore_index = ignore_index

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the warp: the size to shrink to, the (2, 3) matrix from output to shrunk pixels, the output size, the
        displacements."""
        draw = self.py_random
        height, width = self.resize or params["shape"][:2]
        size = self.crop or (height, width)
        scale = math.exp(draw.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        quarters = draw.randint(1, 3) if draw.random() < self.rotate90 else 0
        angle = math.radians(90 * quarters + draw.uniform(-self.rotate, self.rotate))
        turned = (width, height) if quarters % 2 else (height, width)
        # Whole pixels: a crop or a quarter turn alone must copy values, not blur them. Negative where it must pad.
        slack = [round(scale * whole - part) for whole, part in zip(turned, size, strict=True)]
        top, left = (draw.randint(min(0, pixels), max(0, pixels)) for pixels in slack)
        zoomed = (round(scale * height), round(scale * width))
        shrunk = tuple(max(1, min(pair)) for pair in zip(params["shape"][:2], zoomed, strict=True))
        matrix = window_matrix(shrunk, (height, width), turned, scale, angle, top, left)
        bend = None
        if self.elastic:
            bend = self.random_generator.normal(0.0, self.elastic, (*ELASTIC_GRID, 2)).astype(np.float32)
        return {"shrunk": shrunk, "matrix": matrix, "size": size, "bend": bend}

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Warps an image (H, W, B), linear interpolation, 0 outside."""
        return warp(
            resize_image(img, params["shrunk"]), params["matrix"], params["size"], params["bend"], cv2.INTER_LINEAR, 0
        )

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        """Warps a mask (H, W) or (H, W, K), or its pixels' weights, nearest pixel, void outside."""
        shrunk = resize_mask(mask, params["shrunk"])
        warped = [
            warp(plane, params["matrix"], params["size"], params["bend"], cv2.INTER_NEAREST, self.ignore_index)
            for plane in (np.ascontiguousarray(np.moveaxis(shrunk, -1, 0)) if mask.ndim == 3 else shrunk[None])
        ]  # one by one: OpenCV 5 rounds to other pixels where there are several channels
        return np.stack(warped, axis=-1) if mask.ndim == 3 else warped[0]


def window_matrix(
    shape: tuple[int, int],
    resized: tuple[int, int],
    turned: tuple[int, int],
    scale: float,
    angle: float,
    top: float,
    left: float,
) -> np.ndarray:
    """(2, 3) matrix from output (x, y) to input (x, y) of a zoom and turn about the centre, seen through a window.

    Args:
        shape: (height, width) of the input.
        resized: The same after the resizing that is part of the warp.
        turned: The same after the quarter turns, whose zoomed version the window is cut from.
        scale: Zoom; 2 shows everything twice as large.
        angle: Turn in radians, counter-clockwise as seen.
        top: First row of the window in the zoomed, turned image; negative pads.
        left: Its first column.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    per_pixel = np.array([[shape[1] / resized[1]], [shape[0] / resized[0]]]) / scale  # input pixels an output pixel
    linear = per_pixel * np.array([[cos, -sin], [sin, cos]])
    centre = np.array([shape[1], shape[0]]) / 2  # in a pixel's corner coordinates: index + 0.5
    window_centre = scale * np.array([turned[1], turned[0]]) / 2 - np.array([left, top])
    shift = centre - 0.5 - linear @ (window_centre - 0.5)
    return np.column_stack([linear, shift])


def warp(
    pixels: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    bend: np.ndarray | None,
    interpolation: int,
    outside: int,
) -> np.ndarray:
    """Samples `pixels` at matrix @ (x, y, 1) + displacement for every output pixel.

    Args:
        pixels: (H, W) or (H, W, B) uint8 or float32.
        matrix: (2, 3), output to input, in (x, y).
        size: (height, width) of the output.
        bend: None, or displacements (rows, columns, 2) in input pixels on a coarse grid, bicubic between.
        interpolation: OpenCV's constant.
        outside: What pixels from outside become.
    """
    height, width = size
    if bend is None:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(pixels, matrix, (width, height), flags=flags, borderValue=(outside,) * 4)
    displacement = cv2.resize(bend, (width, height), interpolation=cv2.INTER_CUBIC)  # (H, W, 2)
    y, x = np.ogrid[:height, :width]
    map_x = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + displacement[..., 0]).astype(np.float32)
    map_y = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + displacement[..., 1]).astype(np.float32)
    return cv2.remap(pixels, map_x, map_y, interpolation, borderValue=(outside,) * 4)
