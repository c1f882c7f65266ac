"""Masks in .npy and .mat files: what is read, that nothing is unpickled, and that ids are never cast."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from data_tools.convert_masks import main
from data_tools.datasets.arrays import read_array
from seg.data.files.reading import read_values
from seg.data.masks.encodings import IndexEncoding
from seg.data.masks.reading import decode_stored
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

MASK = np.arange(12).reshape(3, 4) % 3


def npy(root: Path, array: np.ndarray) -> Path:
    np.save(root / "m.npy", array)
    return root / "m.npy"


@pytest.mark.parametrize("dtype", ["uint8", "int8", ">u2", "int64", "uint64", "float64", "bool"])
def test_npy(tmp_path, dtype):
    expected = MASK.astype(dtype)
    assert (read_array(npy(tmp_path, expected)).values == expected).all()
    assert (read_array(npy(tmp_path, expected[..., None])).values == expected).all()


def test_mat(tmp_path):
    path = tmp_path / "m.mat"
    savemat(path, {"mask": MASK.astype(np.uint8), "note": "by hand"})
    assert (read_array(path).values == MASK).all()
    savemat(path, {"GTcls": {"Segmentation": MASK.astype(np.uint8), "Boundaries": 0}})
    assert (read_array(path, "GTcls.Segmentation").values == MASK).all()
    savemat(path, {"a": MASK, "b": MASK})
    with pytest.raises(ConfigError, match=r"--variable: left out, and .*m.mat holds 2 arrays of the variables a, b"):
        read_array(path)
    with pytest.raises(DataError, match=r"has no variable c \(c\), allowed: a, b"):
        read_array(path, "c")


def test_mat_7_3_says_what_to_do(tmp_path):
    path = tmp_path / "m.mat"
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    path.write_bytes(head + b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(DataError, match=r"m.mat: is MATLAB 7.3, which is HDF5; allowed: .*'-v7'.*h5py"):
        read_array(path)


def test_nothing_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "evil").touch, ())

    np.save(tmp_path / "m.npy", np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(DataError, match="holds Python objects, which are not unpickled"):
        read_array(tmp_path / "m.npy")
    (tmp_path / "m.npy").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match="m.npy: cannot be read"):
        read_array(tmp_path / "m.npy")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4)), r"holds float64 of shape \(2, 3, 4\), allowed: numbers of shape \(H, W\)"),
        (np.zeros(3), r"of shape \(3,\)"),
        (np.zeros((2, 2), complex), "holds complex128"),
        (np.full((2, 2), 2**64 - 1, np.uint64), "holds 18446744073709551615, allowed: values below 2"),
    ],
)
def test_what_is_no_mask(tmp_path, array, message):
    with pytest.raises(DataError, match=message):
        read_array(npy(tmp_path, array))


@pytest.mark.parametrize("value", [-1, 256, 2**32])
def test_ids_are_looked_at_before_they_are_cast(tmp_path, value):
    stored = read_array(npy(tmp_path, np.array([[0, value]], np.int64)))
    with pytest.raises(DataError, match=f"label value {value} in 1 pixels"):
        decode_stored(stored, LabelSet.from_names(["a", "b"]), IndexEncoding())


def test_the_command_reads_them_beside_pictures(tmp_path):
    (tmp_path / "masks").mkdir()
    npy(tmp_path / "masks", MASK)
    savemat(tmp_path / "masks/n.mat", {"mask": MASK[::-1]})
    assert main([str(tmp_path / "masks"), "--num-classes", "3", "--out", str(tmp_path / "out")]) == 0
    assert (read_values(tmp_path / "out/m.png", 1)[0][..., 0] == MASK).all()
    assert (read_values(tmp_path / "out/n.png", 1)[0][..., 0] == MASK[::-1]).all()
