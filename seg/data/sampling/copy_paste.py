"""Copies objects of rare classes from other training images into a frame, image and mask alike.

As Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, CVPR 2021,
arXiv:2012.07177, for semantic masks: an object is a connected component of its class, pasted as it is, without blending
its edge. Objects are pasted into the file's pixels at a place that the frame shows, before the one warp, so they are
zoomed, turned and coloured as the rest of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from seg.data.files.images import unit_range
from seg.data.files.storage import File
from seg.data.sampling.mask_index import AREA, CLASS, COLUMN, HEIGHT, LEFT, MASK, ROW, TOP, WIDTH, MaskIndex
from seg.data.views.framing import Frame
from seg.errors import DataError

_STREAM = 2  # of a draw's seed; 1 chooses the crop's target
TRIES = 10  # places and objects tried for each paste, then it is left out

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class CopyPaste:
    """Pastes objects of some classes into some of the draws.

    An object never covers void, a pixel of a class that is pasted, or, where `onto` says so, another class than those
    it lists; and it lies whole in the image. After `TRIES` vain tries it is left out.

    Attributes:
        files: The training masks.
        index: Of them, with the components of the classes.
        weights: (C,) not negative: how often an object is of each class.
        probability: In (0, 1], that anything is pasted into a draw.
        objects: Fewest and most objects pasted then.
        onto: Class -> the classes that its objects may cover; a class that is left out: any but `classes`.
        ignore_index: The mask value of void.
        mirror: Whether an object may be mirrored top to bottom, and left to right, each with probability 1/2.
    """

    files: Sequence[File]
    index: MaskIndex
    weights: tuple[float, ...]
    probability: float
    objects: tuple[int, int]
    onto: Mapping[int, tuple[int, ...]]
    ignore_index: int
    mirror: tuple[bool, bool]
    _rows: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)
    _allowed: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        classes = np.flatnonzero(self.weights).tolist()
        for label in classes:
            self._rows[label] = np.flatnonzero(self.index.components[:, CLASS] == label)
            allowed = np.zeros(256, bool)
            allowed[: len(self.weights)] = True
            if label in self.onto:
                allowed[:] = False
                allowed[list(self.onto[label])] = True
            allowed[classes] = False
            allowed[self.ignore_index] = False
            self._allowed[label] = allowed

    def __call__(
        self, pair: Pair, sample: int, seed: int, frame: Frame, load: Callable[[int], Pair]
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """The pair with objects of other images pasted into what `frame` shows.

        Args:
            pair: Image (H, W, B) and mask (H, W) as in the file; left as they are.
            sample: Their index; objects come from others.
            seed: The draw's.
            frame: Of this draw.
            load: Index of a training sample -> its image and mask.

        Returns:
            Image, mask, and how many objects were pasted; fixed by the arguments.

        Raises:
            DataError: A mask has changed since it was indexed.
        """
        generator = np.random.default_rng((seed, _STREAM))
        if generator.random() >= self.probability:
            return *pair, 0
        image, mask = pair
        pasted = 0
        shares = np.array(self.weights) / sum(self.weights)
        for _ in range(int(generator.integers(self.objects[0], self.objects[1], endpoint=True))):
            label = int(generator.choice(len(shares), p=shares))
            row = self._donor(label, sample, generator)
            if row is None:
                continue
            cut = cut_out(*load(int(row[MASK])), row)
            if cut is None:
                raise DataError(
                    f"{self.files[row[MASK]]}: has changed since the training masks were indexed; allowed: masks that "
                    "stay as they are while a run uses them"
                )
            flips = [wanted and generator.random() < 0.5 for wanted in self.mirror]
            patch, pixels = (array[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1] for array in cut)
            corner = self._place(mask, pixels, label, frame, generator)
            if corner is None:
                continue
            if not pasted:
                image, mask = image.copy(), mask.copy()
            image = paste(image, mask, patch, pixels, label, corner)
            pasted += 1
        return image, mask, pasted

    def _donor(self, label: int, sample: int, generator: np.random.Generator) -> np.ndarray | None:
        """A row of the index's components, of the class and of another image; None if chance finds none."""
        rows = self._rows[label]
        for _ in range(TRIES):
            row = self.index.components[rows[generator.integers(len(rows))]]
            if row[MASK] != sample:
                return row
        return None

    def _place(
        self, mask: np.ndarray, patch: np.ndarray, label: int, frame: Frame, generator: np.random.Generator
    ) -> tuple[int, int] | None:
        """(top, left) of a place for the patch, its centre evenly over the frame; None if chance finds none."""
        height, width = patch.shape
        for _ in range(TRIES):
            row, column = frame.source(*(generator.random(2) * frame.size - 0.5))
            top, left = round(row - (height - 1) / 2), round(column - (width - 1) / 2)
            if top < 0 or left < 0 or top + height > mask.shape[0] or left + width > mask.shape[1]:
                continue
            covered = mask[top : top + height, left : left + width][patch]
            if self._allowed[label][covered].all():
                return top, left
        return None


def cut_out(image: np.ndarray, mask: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The box of one component (a row of `MaskIndex.components`): its image (h, w, B), and (h, w) bool: its pixels.

    None where the mask has no such component: it is another than was indexed.
    """
    box = (slice(row[TOP], row[TOP] + row[HEIGHT]), slice(row[LEFT], row[LEFT] + row[WIDTH]))
    own = cv2.inRange(np.ascontiguousarray(mask[box]), int(row[CLASS]), int(row[CLASS]))
    _, numbered = cv2.connectedComponents(own, connectivity=8)
    whole = own.shape == (row[HEIGHT], row[WIDTH])
    number = numbered[row[ROW] - row[TOP], row[COLUMN] - row[LEFT]] if whole else 0
    pixels = numbered == number
    if number == 0 or np.count_nonzero(pixels) != row[AREA]:
        return None
    return image[box], pixels


def paste(
    image: np.ndarray, mask: np.ndarray, patch: np.ndarray, pixels: np.ndarray, label: int, corner: tuple[int, int]
) -> np.ndarray:
    """Sets the patch's pixels in `mask`, in place, and in `image`, which is returned; in place if the dtypes agree.

    Args:
        image: (H, W, B) uint8 or float32 in [0, 1].
        mask: (H, W) uint8.
        patch: (h, w, B) uint8 or float32.
        pixels: (h, w) bool: which of them.
        label: What they are.
        corner: (top, left) of the patch.
    """
    if patch.dtype != image.dtype:
        image, patch = (each if each.dtype == np.float32 else unit_range(each) for each in (image, patch))
    box = (slice(corner[0], corner[0] + pixels.shape[0]), slice(corner[1], corner[1] + pixels.shape[1]))
    image[box][pixels] = patch[pixels]
    mask[box][pixels] = label
    return image
