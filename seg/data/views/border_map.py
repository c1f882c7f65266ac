"""The U-Net paper's border map: pixels in the gaps between objects weigh more, so that the gaps are learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from seg.data.files.storage import File

REACH = 6.0  # sigmas; what is further from a second object weighs less than exp(-18) = 1.5e-8 of w0, and is left out
CACHE_BYTES = 2**30  # of maps kept in memory; later masks are computed anew each time


def border_map(instances: np.ndarray, *, strength: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """w0 exp(-(d1 + d2)^2 / (2 sigma^2)) outside of the objects, 0 in them and where fewer than two are near.

    d1 and d2 are a pixel's distances to the nearest pixel of the nearest and of the second nearest object, so that
    d1 + d2 is, straight between two objects, the gap's width plus 1. Each object's distances are computed in its own
    neighbourhood only: the cost is that of one distance transform per object of (its size + 12 sigma)^2 pixels.

    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    arXiv:1505.04597, eq. 2, without its term w_c, which is what class weights are.

    Args:
        instances: (H, W) integers: 0 is no object, every other value one object.
        strength: w0, above 0.
        sigma: In pixels, above 0.

    Returns:
        (H, W) float32 in [0, w0].

    Raises:
        ValueError: The array is not as above, or `strength` or `sigma` is not above 0.
    """
    if instances.ndim != 2 or not np.issubdtype(instances.dtype, np.integer) or instances.min(initial=0) < 0:
        raise ValueError(
            f"instances: got {instances.dtype} of shape {instances.shape}, allowed: (H, W) integers, 0 or more"
        )
    for key, value in {"strength": strength, "sigma": sigma}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{key}: got {value}, allowed: above 0, finite")
    nearest = np.full(instances.shape, np.inf)
    second = np.full(instances.shape, np.inf)
    ids, ranks = np.unique(np.append(0, instances), return_inverse=True)  # ids may be far apart; 0 stays 0
    if len(ids) < 3:
        return np.zeros(instances.shape, np.float32)
    reach = math.ceil(REACH * sigma)
    ranks = ranks[1:].reshape(instances.shape)
    for rank, box in enumerate(ndimage.find_objects(ranks), start=1):
        around = tuple(slice(max(0, part.start - reach), part.stop + reach) for part in box)
        distance = ndimage.distance_transform_edt(ranks[around] != rank)
        second[around] = np.minimum(second[around], np.maximum(nearest[around], distance))
        nearest[around] = np.minimum(nearest[around], distance)
    weights = strength * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(instances == 0, weights, 0.0).astype(np.float32)


def objects(mask: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """The connected pixels of each class as instances, (H, W) int32: 0 is no object, then 1, 2, ...

    Pixels are connected by their sides alone, where components and objects are elsewhere connected by corners, too: two
    cells that meet in a corner are the narrowest gap there is, which the map exists to weigh, and as one object they
    would have none. Objects of two classes are two even where they touch.

    Args:
        mask: (H, W) class indices.
        classes: The classes whose connected pixels are objects.
    """
    instances = np.zeros(mask.shape, np.int32)
    for index in classes:
        found, _ = ndimage.label(mask == index)
        instances += np.where(found > 0, found + instances.max(initial=0), 0)
    return instances


@dataclass(frozen=True)
class BorderWeights:
    """1 + `border_map` of a mask's objects: a loss's weight of each pixel, kept in memory by the mask's path.

    The paper adds the map to w_c; here a class's weight multiplies it, w_c (1 + map): the same at w_c = 1.

    Attributes:
        classes: The classes whose connected pixels are objects.
        strength: As of `border_map`.
        sigma: The same.
    """

    classes: tuple[int, ...]
    strength: float
    sigma: float
    _kept: dict[File, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, path: File, mask: np.ndarray) -> np.ndarray:
        """(H, W) float32, at least 1, of the mask (H, W) that the file at `path` holds. Not to be written to."""
        weights = self._kept.get(path)
        if weights is None or weights.shape != mask.shape:
            weights = 1.0 + border_map(objects(mask, self.classes), strength=self.strength, sigma=self.sigma)
            if (len(self._kept) + 1) * weights.nbytes <= CACHE_BYTES:
                self._kept[path] = weights
        return weights
