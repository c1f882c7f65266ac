"""Masks in files of arrays: NumPy's .npy and MATLAB's .mat, read without unpickling anything."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.files.storage import read_bytes
from seg.data.files.stored import Stored
from seg.errors import ConfigError, DataError

SUFFIXES = (".mat", ".npy")


def read_array(file: Path, variable: str | None = None) -> Stored:
    """The values of a mask.

    Args:
        file: A .npy or .mat file.
        variable: Which of a .mat file, with dots into structures, as GTcls.Segmentation; None: its only array.

    Raises:
        DataError: It cannot be read, or holds no array of two axes.
        ConfigError: `variable` is given for a .npy, or left out where a file holds several.
    """
    if file.suffix.lower() == ".npy":
        if variable is not None:
            raise ConfigError(f"--variable: has no effect on {file}, allowed: with .mat files")
        try:
            array = np.load(io.BytesIO(read_bytes(file)), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            reason = "holds Python objects, which are not unpickled" if "pickle" in str(error) else f"({error})"
            raise DataError(f"{file}: cannot be read: {reason}; allowed: arrays of numbers") from None
    else:
        array = _variable(file, _matlab(file), variable)
    return _stored(file, array)


def _matlab(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return dict(loadmat(io.BytesIO(read_bytes(file)), struct_as_record=False, squeeze_me=True))
    except NotImplementedError:
        raise DataError(
            f"{file}: is MATLAB 7.3, which is HDF5; allowed: version 5 to 7, as save(..., '-v7') writes; in Python: "
            "np.save(NAME, h5py.File(FILE)[VARIABLE][()].T)"
        ) from None
    except Exception as error:  # scipy raises whatever a broken byte leads it to
        raise DataError(f"{file}: is no MATLAB file, or broken ({type(error).__name__}: {error})") from None


def _variable(file: Path, content: dict[str, Any], variable: str | None) -> Any:
    found = {name: value for name, value in content.items() if not name.startswith("__")}
    if variable is None:
        arrays = [name for name, value in found.items() if np.ndim(value) >= 2]
        if len(arrays) != 1:
            raise ConfigError(
                f"--variable: left out, and {file} holds {len(arrays)} arrays of the variables {', '.join(found)}; "
                "allowed: the name of one, with dots into structures"
            )
        return found[arrays[0]]
    value: Any = found
    for part in variable.split("."):
        names = list(value) if isinstance(value, dict) else list(getattr(value, "_fieldnames", ()))
        if part not in names:
            raise DataError(f"{file}: has no variable {variable} ({part}), allowed: {', '.join(names) or 'none'}")
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def _stored(file: Path, array: Any) -> Stored:
    values = np.asarray(array)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    of_colours = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if values.dtype.kind not in "uif" or not (values.ndim == 2 or of_colours) or values.size == 0:
        raise DataError(f"{file}: holds {values.dtype} of shape {values.shape}, allowed: numbers of shape (H, W)")
    if values.dtype == np.uint64:
        if values.max() > np.iinfo(np.int64).max:
            raise DataError(f"{file}: holds {values.max()}, allowed: values below 2^63")
        values = values.astype(np.int64)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return Stored(file, values, "array", "bands", values.dtype.itemsize * 8)
