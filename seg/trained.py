"""A trained model in Python: what `seg.load` returns, and what its `predict` gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.files.reading import read_values
from seg.data.files.stored import Stored
from seg.data.views.preprocessing import Preprocessing
from seg.errors import DataError
from seg.inference.predictor import Predictor, stored_logits
from seg.inference.views import softmax_in_place
from seg.labels import LabelSet

DTYPES = ("uint8", "uint16", "int16", "float32")  # those of files


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        classes: (H, W) uint8, the most probable class, and `labels.ignore_index` where the image has no value; of
            classes that may overlap (H, W, C) uint8, 1 where present.
        probabilities: (H, W, C) float32 in [0, 1], summing to 1 over the classes unless they may overlap.
        labels: Names, colours and the void index.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    labels: LabelSet

    def probability(self, name: str) -> np.ndarray:
        """(H, W) float32 of the class of that name.

        Raises:
            KeyError: There is no such class.
        """
        if name not in self.labels.names:
            raise KeyError(f"class '{name}', allowed: {', '.join(self.labels.names)}")
        return self.probabilities[..., self.labels.names.index(name)]

    def colours(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the classes, black where void.

        Raises:
            ValueError: Classes may overlap, so that a pixel has no one colour.
        """
        if self.labels.multi_label:
            raise ValueError("classes may overlap, allowed: the colours of classes that do not")
        return self.labels.colour_table()[self.classes]


@dataclass(frozen=True)
class TrainedModel:
    """A network with all that it needs to know of images and classes.

    Attributes:
        network: The Keras model, from (N, H, W, bands) float32 to logits (N, H, W, C).
        labels: Its classes.
        preprocessing: What turns stored values into what the network sees.
    """

    network: Any
    labels: LabelSet
    preprocessing: Preprocessing

    @classmethod
    def load(cls, path: Path, checkpoint: str | None = None) -> TrainedModel:
        """See `seg.load`."""
        from seg.runs.hardware import start_tensorflow
        from seg.runs.model_file import read_description
        from seg.runs.run_dir import open_model

        file, _ = open_model(path, checkpoint)
        labels, preprocessing = read_description(file)
        start_tensorflow()
        from seg.training.segmenter import load_segmenter

        return cls(load_segmenter(file, labels.num_classes), labels, preprocessing)

    def predict(
        self, image: np.ndarray | Path | str, *, tile: int = 1024, overlap: int = 128, tta: str = "none"
    ) -> Prediction:
        """Classes and probabilities of an image of any size.

        Args:
            image: A file, or the values of one as it stores them: (H, W, bands), of one band (H, W) too, uint8, uint16,
                int16 or float32, RGB and not BGR. All bands of a file, of which those of the training are taken. NaN,
                infinity and the training's nodata value are no values. All is in memory at once, H x W x C float32:
                `seg.predict` is for rasters larger than that.
            tile: Larger images are predicted in tiles of this side, in pixels.
            overlap: Pixels that neighbouring tiles share, 0 to tile - 1.
            tta: The views whose probabilities are averaged: "none", "mirror", "flips" or "d4" (seg.inference.views).

        Raises:
            DataError: The file cannot be read, or the array has another form than the training's images.
            ValueError: `overlap` or `tta` is out of its range.
        """
        preprocessing = self.preprocessing
        if isinstance(image, np.ndarray):
            stored = self._stored(image)
            name, values, missing = stored.file, stored.values, stored.missing(preprocessing.nodata)
        else:
            name = Path(image)
            values, missing = read_values(name, preprocessing.wanted, None, preprocessing.nodata)
        predictor = Predictor(self.network, self.labels.num_classes, tile, overlap, tta)
        _, missing, logits = stored_logits(
            lambda inputs: predictor(inputs[None])[0], preprocessing, values, missing, name
        )
        classes = self.labels.predicted(logits)
        if missing is not None:
            classes[missing.all(axis=2)] = self.labels.ignore_index
        if self.labels.multi_label:
            return Prediction(classes, 1 / (1 + np.exp(-logits)), self.labels)
        return Prediction(classes, softmax_in_place(logits), self.labels)

    def _stored(self, image: np.ndarray) -> Stored:
        """An array as a file of it would be read."""
        values = image[..., None] if image.ndim == 2 else image
        selection = self.preprocessing.selection
        bands, need = self.preprocessing.bands, f"{self.preprocessing.bands} bands"
        fits = values.ndim == 3 and values.size > 0 and str(values.dtype) in DTYPES
        if selection is not None:
            bands, need = values.shape[-1], f"the bands of a file, of which {', '.join(map(str, selection))} are taken"
            fits = fits and bands >= max(selection)
        if not fits or values.shape[2] != bands:
            raise DataError(
                f"image: got an array of shape {image.shape} and dtype {image.dtype}; allowed: (H, W, bands) with "
                f"{need}, of dtype {', '.join(DTYPES)}"
            )
        if selection is not None:
            values = values[..., [number - 1 for number in selection]]
        nodata = (None,) * values.shape[2]
        return Stored(Path("image"), values, "array", "bands", 8 * values.dtype.itemsize, nodata=nodata)
