"""One random crop transform of an image: which part of it is shown, how large, turned, mirrored and bent, in one warp.

albumentations' own chain (Affine, ElasticTransform, RandomCrop) warps whole images twice and zooms about the centre, so
that a zoom without a crop never shows the borders. Here the window lies anywhere in the zoomed image, evenly; a zoomed
image smaller than the window lies anywhere in it; or the window is centred on a pixel. A transform is drawn from an
image's size alone, before any of its pixels is read.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from seg.data.files.images import resize_image, resize_mask

ELASTIC_GRID = (3, 3)  # Ronneberger 2015, section 3.1
WHOLE_PIXEL = 1e-9  # what rounding leaves of a matrix that moves whole pixels
NEAREST = 0.25  # of a pixel: what lies so little outside the outermost pixels' centres is still shown by them
MOST_CHANNELS = 128  # that OpenCV 5 takes at once; above, warpAffine and flip raise and remap returns one band
LOCATING_STEPS = 20  # of a fixed-point iteration; displacements are smooth, so it converges in a few


@dataclass(frozen=True)
class Target:
    """A pixel that the window must show.

    Attributes:
        row: In the image as it is in the file.
        column: The same.
        jitter: In [0, 1]: how far from the window's centre it may lie, as a share of the way to the window's border.
    """

    row: int
    column: int
    jitter: float


@dataclass(frozen=True)
class CropTransform:
    """What an output pixel shows: the output pixel (x, y) is matrix @ (x, y, 1) + displacement of the shrunk image.

    Attributes:
        shape: (height, width) of the image in the file.
        flips: Whether it is mirrored top to bottom, and left to right, before all else.
        shrunk: (height, width) that area averaging shrinks it to, where the output is smaller than the file's pixels,
            so that nothing aliases.
        matrix: (2, 3), from output (x, y) to shrunk (x, y); None: the image is shown as it is, but for the flips.
        size: (height, width) of the output.
        bend: None, or displacements (rows, columns, 2) in shrunk pixels on a coarse grid over the output.
    """

    shape: tuple[int, int]
    flips: tuple[bool, bool]
    shrunk: tuple[int, int]
    matrix: np.ndarray | None
    size: tuple[int, int]
    bend: np.ndarray | None = None

    def of_image(self, image: np.ndarray) -> np.ndarray:
        """The transform of an image (H, W, B): linear interpolation, 0 outside."""
        image = self._flipped(image)
        if self.matrix is None:
            return image
        shrunk = resize_image(image, self.shrunk)
        return warp(shrunk, self.matrix, self.size, self.bend, cv2.INTER_LINEAR, 0).reshape(*self.size, image.shape[2])

    def of_mask(self, mask: np.ndarray, outside: int) -> np.ndarray:
        """The transform of a mask (H, W) or (H, W, K), or of its pixels' weights: nearest pixel, `outside` outside."""
        if mask.ndim == 3:  # plane by plane: OpenCV 5 rounds to other pixels where there are several channels
            planes = np.ascontiguousarray(np.moveaxis(mask, -1, 0))
            return np.stack([self.of_mask(plane, outside) for plane in planes], axis=-1)
        mask = self._flipped(mask)
        if self.matrix is None:
            return mask
        return warp(resize_mask(mask, self.shrunk), self.matrix, self.size, self.bend, cv2.INTER_NEAREST, outside)

    def source(self, row: float, column: float) -> tuple[float, float]:
        """The (row, column) of the file that an output position shows; pixel centres are whole numbers."""
        x, y = float(column), float(row)
        if self.matrix is not None:
            point = self.matrix @ (x, y, 1.0)
            if self.bend is not None:
                point = (
                    point
                    + displacement_field(self.bend, self.size)[_pixel(row, self.size[0]), _pixel(column, self.size[1])]
                )
            per_pixel = np.array([self.shape[1] / self.shrunk[1], self.shape[0] / self.shrunk[0]])
            x, y = (point + 0.5) * per_pixel - 0.5
        flipped = (self.shape[0] - 1 - y if self.flips[0] else y, self.shape[1] - 1 - x if self.flips[1] else x)
        return float(flipped[0]), float(flipped[1])

    def _flipped(self, array: np.ndarray) -> np.ndarray:
        if self.flips == (False, False):
            return array
        code = -1 if self.flips == (True, True) else int(self.flips[1])
        return by_channels(array, lambda part: cv2.flip(part, code))


@dataclass(frozen=True)
class CropTransformRanges:
    """The limits that crop transforms are drawn within; see `seg.data.views.transforms.Augmentation` for each."""

    rotate90: float
    scale: tuple[float, float]
    rotate: float
    elastic: float
    resize: tuple[int, int] | None
    crop: tuple[int, int] | None

    @property
    def active(self) -> bool:
        """Whether anything but flips can happen."""
        return bool(
            self.rotate90 or self.scale != (1.0, 1.0) or self.rotate or self.elastic or self.crop or self.resize
        )

    def draw(
        self,
        shape: tuple[int, int],
        flips: tuple[bool, bool],
        draw: random.Random,
        generator: np.random.Generator,
        target: Target | None = None,
    ) -> CropTransform:
        """A transform of an image of `shape`, from the two random streams; with a target, one that shows it.

        The target lies up to `jitter` from the window's centre. Near the image's border the window stays inside the
        image, as other windows do, unless that would lose the target (a turned corner).
        """
        if not self.active:
            return CropTransform(shape, flips, shape, None, shape)
        height, width = self.resize or shape
        size = self.crop or (height, width)
        scale = math.exp(draw.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        quarters = draw.randint(1, 3) if draw.random() < self.rotate90 else 0
        angle = math.radians(90 * quarters + draw.uniform(-self.rotate, self.rotate))
        turned = (width, height) if quarters % 2 else (height, width)
        # Whole pixels: a crop or a quarter turn alone must copy values, not blur them. Negative where it must pad.
        slack = [round(scale * whole - part) for whole, part in zip(turned, size, strict=True)]
        place: list[float]
        if target is None:
            place = [draw.randint(min(0, pixels), max(0, pixels)) for pixels in slack]
        else:
            place = [target.jitter * draw.uniform(-1.0, 1.0) for _ in slack]
        zoomed = (round(scale * height), round(scale * width))
        shrunk = (max(1, min(shape[0], zoomed[0])), max(1, min(shape[1], zoomed[1])))
        bend = None
        if self.elastic:
            bend = generator.normal(0.0, self.elastic, (*ELASTIC_GRID, 2)).astype(np.float32)

        def at(top: float, left: float) -> CropTransform:
            matrix = window_matrix(shrunk, (height, width), turned, scale, angle, top, left)
            return CropTransform(shape, flips, shrunk, matrix, size, bend)

        if target is None:
            return at(*place)
        # Half a pixel from the border at least, for `top` and `left` are rounded to whole pixels.
        wanted = [(length - 1) / 2 + off * max(0.0, length / 2 - 1) for off, length in zip(place, size, strict=True)]
        point = _shrunk_point(target, shape, flips, shrunk)
        origin = [round(number) for number in _origin(at(0, 0), point, wanted)]
        inside = [min(max(number, min(0, most)), max(0, most)) for number, most in zip(origin, slack, strict=True)]
        transform = at(*inside)
        return transform if inside == origin or _shows(transform, point) else at(*origin)


def _shrunk_point(
    target: Target, shape: tuple[int, int], flips: tuple[bool, bool], shrunk: tuple[int, int]
) -> np.ndarray:
    """The target's (x, y) in the mirrored and shrunk image."""
    row = shape[0] - 1 - target.row if flips[0] else target.row
    column = shape[1] - 1 - target.column if flips[1] else target.column
    return (np.array([column, row]) + 0.5) * [shrunk[1] / shape[1], shrunk[0] / shape[0]] - 0.5


def _origin(transform: CropTransform, point: np.ndarray, wanted: list[float]) -> tuple[float, float]:
    """The (top, left) of the window that shows `point` at the output position `wanted`; `frame` is the window at 0, 0.

    The window at (top, left) shows at p what the window at 0, 0 shows at p + (left, top), its bend apart.
    """
    assert transform.matrix is not None
    place = np.array([wanted[1], wanted[0]])
    shown = point - transform.matrix[:, 2]
    if transform.bend is not None:
        height, width = transform.size
        shown = (
            shown
            - displacement_field(transform.bend, transform.size)[_pixel(wanted[0], height), _pixel(wanted[1], width)]
        )
    left, top = np.linalg.solve(transform.matrix[:, :2], shown) - place
    return float(top), float(left)


def _shows(transform: CropTransform, point: np.ndarray) -> bool:
    """Whether `point` (x, y) of the shrunk image lies in the transform."""
    assert transform.matrix is not None
    linear, height, width = transform.matrix[:, :2], *transform.size
    shown = place = np.linalg.solve(linear, point - transform.matrix[:, 2])
    if transform.bend is not None:
        field = displacement_field(transform.bend, transform.size)
        for _ in range(LOCATING_STEPS):
            bent = field[_pixel(place[1], height), _pixel(place[0], width)]
            place = np.linalg.solve(linear, point - transform.matrix[:, 2] - bent)
        shown = place
        if np.abs(linear @ place + transform.matrix[:, 2] + bent - point).max() > 0.5:  # it did not converge
            return False
    return bool(((shown >= -NEAREST) & (shown <= (width - 1 + NEAREST, height - 1 + NEAREST))).all())


def _pixel(position: float, length: int) -> int:
    return min(max(round(float(position)), 0), length - 1)


def displacement_field(bend: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 2) displacements in (x, y), bicubic between those of the grid."""
    return cv2.resize(bend, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


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
        copied = _copied(pixels, matrix, size, outside)
        if copied is not None:
            return copied
        flags = interpolation | cv2.WARP_INVERSE_MAP
        return by_channels(
            pixels,
            lambda part: cv2.warpAffine(part, matrix, (width, height), flags=flags, borderValue=(outside,) * 4),
        )
    displacement = displacement_field(bend, size)
    y, x = np.ogrid[:height, :width]
    map_x = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + displacement[..., 0]).astype(np.float32)
    map_y = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + displacement[..., 1]).astype(np.float32)
    return by_channels(pixels, lambda part: cv2.remap(part, map_x, map_y, interpolation, borderValue=(outside,) * 4))


def by_channels(pixels: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`change`, a call of OpenCV, of (H, W) or (H, W, B) pixels with any number of bands; a last axis of 1 is kept."""
    if pixels.ndim == 2:
        return change(pixels)
    bands = pixels.shape[2]
    firsts = range(0, bands, MOST_CHANNELS)
    parts = [change(np.ascontiguousarray(pixels[..., first : first + MOST_CHANNELS])) for first in firsts]
    if len(parts) == 1:
        return parts[0].reshape(*parts[0].shape[:2], bands)
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=2)


def _copied(pixels: np.ndarray, matrix: np.ndarray, size: tuple[int, int], outside: int) -> np.ndarray | None:
    """What `warp` gives where whole pixels are moved, a crop, say, with quarter turns: 50 times as fast. Else None."""
    whole = np.rint(matrix)
    if np.abs(matrix - whole).max() > WHOLE_PIXEL:
        return None
    quarter = next((k for k, turn in enumerate(_QUARTER_TURNS) if np.array_equal(turn, whole[:, :2])), None)
    if quarter is None:
        return None
    corners = whole @ np.array([[0, size[1] - 1], [0, size[0] - 1], [1, 1]])  # the input (x, y) of opposite corners
    (left, top), (right, bottom) = corners.min(axis=1).astype(int), corners.max(axis=1).astype(int) + 1
    height, width = pixels.shape[:2]
    inside = pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if left < 0 or top < 0 or right > width or bottom > height:
        padded = np.full((bottom - top, right - left, *pixels.shape[2:]), outside, pixels.dtype)
        if inside.size:
            row, column = max(0, -top), max(0, -left)
            padded[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
        inside = padded
    return np.ascontiguousarray(np.rot90(inside, quarter))


# Output to input, of crop transforms turned counter-clockwise by 0, 90, 180 and 270 degrees.
_QUARTER_TURNS = tuple(
    np.array(turn) for turn in ([[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]])
)
