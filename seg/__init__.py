"""seg: semantic segmentation for imbalanced masks, from mask files to class weights to per-class IoU.

Example:
    >>> import seg
    >>> model = seg.load("runs/quickstart-20260101-120000")
    >>> prediction = model.predict("data/scenes/images/test/0000.png")
    >>> prediction.classes.shape, prediction.probability("boat").max()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg.trained import TrainedModel


def load(path: Path | str, checkpoint: str | None = None) -> TrainedModel:
    """A trained model, ready to predict; TensorFlow starts here and not at `import seg`.

    Args:
        path: A folder that seg.train made, or a .keras file out of one.
        checkpoint: Of a folder: "best" (the default), "last", or the path of a .keras file.

    Returns:
        A model whose `predict` takes a file or an array and gives classes and probabilities.

    Raises:
        seg.errors.DataError: There is no such run or file, or it is none that seg.train saved.
        seg.errors.ConfigError: `checkpoint` is given for a file.
    """
    from seg.trained import TrainedModel

    return TrainedModel.load(Path(path), checkpoint)
