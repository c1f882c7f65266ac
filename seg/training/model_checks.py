"""What of a model is looked at before it is believed: how much it asks for, and whether its weights are numbers."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
from keras import ops

from seg.errors import DataError
from seg.runs.model_file import WEIGHTS


def check_declared(path: Path) -> None:
    """Refuses a file whose configuration asks for more weights than the file has bytes, before any is made.

    Raises:
        DataError: It does.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        stored = archive.getinfo(WEIGHTS).file_size
    # Under this scope Keras gives a variable its shape and no memory. It remembers such variables for the thread, to
    # make them later, so the thread is one that ends here.
    with ThreadPoolExecutor(1) as pool:
        declared = pool.submit(_declared_bytes, config).result()
    if declared > stored:
        raise DataError(
            f"{path}: its configuration asks for weights of {declared:,} bytes, allowed: at most the {stored:,} that "
            "the file has"
        )


def _declared_bytes(config: dict[str, Any]) -> int:
    with keras.StatelessScope(initialize_variables=False):
        model = keras.saving.deserialize_keras_object({**config, "compile_config": None}, safe_mode=True)
        return sum(4 * math.prod(variable.shape) for variable in model.weights)


def all_finite(variables: Sequence[Any]) -> bool:
    """Whether every value of some Keras variables is a number, by one reduction on the device."""
    values = [ops.convert_to_tensor(v) for v in variables if keras.backend.is_float_dtype(v.dtype)]
    return bool(_finite(values))


def _finite(values: Sequence[Any]) -> Any:
    return ops.all(ops.stack([ops.all(ops.isfinite(value)) for value in values]))
