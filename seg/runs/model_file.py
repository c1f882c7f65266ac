"""A model file that needs no run folder: its classes, and how images become what it takes, travel inside.

To predict from the file alone:

    model = load_segmenter(path)
    labels, preprocessing = read_description(path)
    image = preprocessing.prepare(preprocessing.read(Path("tile.png")))  # (H, W, bands) float32
    mask = labels.predicted(model.predict(image[None])[0])  # (H, W) uint8

(`load_segmenter` is of seg/training/segmenter.py.)
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg.data.files.storage import written_whole
from seg.data.views.preprocessing import Preprocessing, ValueRange
from seg.errors import DataError
from seg.labels import LabelSet

if TYPE_CHECKING:  # a description is read before TensorFlow is started
    import keras

MEMBER = "seg.json"  # in the .keras file, a zip archive; Keras leaves alone what it does not know


def save_model(model: keras.Model, path: Path, description: str | None = None) -> None:
    """Saves under a temporary name and renames, so that a kill in the middle leaves the old file.

    Args:
        model: Any Keras model.
        path: A .keras file.
        description: What `describe` gave; None: the file has none.
    """
    with written_whole(path, suffix=".keras") as temporary:
        model.save(temporary)
        if description is not None:
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(MEMBER, description)


def describe(labels: LabelSet, preprocessing: Preprocessing) -> str:
    """The classes and the preprocessing as JSON; numbers keep all their digits."""
    return json.dumps({"labels": dataclasses.asdict(labels), "preprocessing": dataclasses.asdict(preprocessing)})


def read_description(path: Path) -> tuple[LabelSet, Preprocessing]:
    """The classes of a saved model, and what it was trained to see: bands, size, value range, mean and std.

    Raises:
        DataError: The file is none that `seg.train` saved, or its description is broken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(MEMBER))
        return LabelSet(**_tuples(content["labels"])), _preprocessing(_tuples(content["preprocessing"]))
    except Exception as error:  # no archive, no JSON, other fields: it is no checkpoint of ours
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{path}: has no readable {MEMBER} ({first_line}); allowed: a checkpoint that seg.train saved"
        ) from None


def _preprocessing(fields: dict[str, Any]) -> Preprocessing:
    value_range = fields.pop("value_range")
    return Preprocessing(**fields, value_range=None if value_range is None else ValueRange(**_tuples(value_range)))


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists, and lists of lists, as the tuples they were."""
    return {key: _tuple(value) for key, value in fields.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
