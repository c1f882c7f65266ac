"""A trained model on whole images of any size: in batches, in tiles where they are large, in several views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from seg.data.files.images import resize_image
from seg.data.files.storage import File
from seg.data.views.preprocessing import Preprocessing
from seg.inference.sliding_window import predict_logits
from seg.inference.views import predict_views

MAX_NUMBERS = 1 << 26  # logits of one forward pass: 256 MiB, whatever the batch size of the training


def stored_logits(
    predict: Callable[[np.ndarray], np.ndarray],
    preprocessing: Preprocessing,
    values: np.ndarray,
    missing: np.ndarray | None,
    file: File,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The logits of an image that is in memory as its file stores it.

    Args:
        predict: From what the model sees (H, W, B) float32 to logits (H, W, C).
        preprocessing: That of the training.
        values: (h, w, B) as stored.
        missing: (h, w, B) bool, or None.
        file: For messages.

    Returns:
        What `Preprocessing.unit` makes of the values, what is missing, and the logits (h, w, C) at the image's size.
    """
    image, missing = preprocessing.unit(values, missing, file)
    resized = preprocessing.resize is not None
    inputs = preprocessing.prepare(preprocessing.resized(image), None if resized else missing)
    return image, missing, resize_image(predict(inputs), image.shape[:2])


@dataclass(frozen=True)
class Predictor:
    """From images to logits.

    Attributes:
        model: A Keras model from (N, H, W, B) float32 of any H, W to logits (N, H, W, C).
        num_classes: C.
        tile: Images with a longer side are predicted in tiles of this side, see `seg.inference.sliding_window`.
        overlap: Pixels shared by neighbouring tiles.
        tta: The views that are averaged, see `seg.inference.views`.
    """

    model: Any
    num_classes: int
    tile: int = 1024
    overlap: int = 128
    tta: str = "none"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, B) float32 -> logits (N, H, W, C) float32; with several views, the log of the mean probability."""
        return predict_views(self._logits, images, self.tta)

    def over(self, batches: Iterable[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(logits (H, W, C) float32, labels (H, W) uint8) of each image of batches (images, labels), in their order.

        At most `MAX_NUMBERS` logits, or those of one image, are in memory here at a time.
        """
        for images, labels in batches:
            images, labels = np.asarray(images), np.asarray(labels)
            step = max(1, MAX_NUMBERS // (images[0, ..., 0].size * self.num_classes))
            for start in range(0, len(images), step):
                yield from zip(self(images[start : start + step]), labels[start : start + step], strict=True)

    def _logits(self, images: np.ndarray) -> np.ndarray:
        if max(images.shape[1:3]) <= self.tile:
            return np.asarray(self.model.predict_on_batch(images), np.float32)
        return np.stack([predict_logits(self.model, image, tile=self.tile, overlap=self.overlap) for image in images])
