"""State dicts of torch.save, written here by Python's pickle with stand-ins for torch's classes."""

import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from seg.errors import DataError
from seg.models.torch_file import read_state_dict

WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
STEPS = np.array([7], np.int64)


class Storage:
    """What the pickle calls a storage: its class, key and size."""

    def __init__(self, kind, key, size):
        self.kind, self.key, self.size = kind, key, size


class Tensor:
    """What the pickle says of a tensor: a call of torch._utils._rebuild_tensor_v2."""

    def __init__(self, storage, start, shape, strides):
        self.arguments = (storage, start, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture
def torch_stand_in(monkeypatch):
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "ByteStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = types.FunctionType((lambda: None).__code__, {}, "_rebuild_tensor_v2")
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    utils._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


def pickled(content):
    """A pickle as torch writes it, storages told by the side."""
    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return ("storage", getattr(sys.modules["torch"], value.kind), value.key, "cpu", value.size)
            return None

    Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def state(size=24, shape=(2, 3, 4), strides=(12, 4, 1), start=0, kind="FloatStorage"):
    return OrderedDict(
        weight=Tensor(Storage(kind, "a", size), start, shape, strides),
        steps=Tensor(Storage("LongStorage", "b", 1), 0, (1,), (1,)),
    )


def old_format(content, data=(("a", WEIGHT), ("b", STEPS))):
    """Before torch 1.6."""
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    parts += [pickled(content), pickle.dumps([key for key, _ in data], 2)]
    parts += [struct.pack("<q", array.size) + array.tobytes() for _, array in data]
    return b"".join(parts)


def new_format(content, data=(("a", WEIGHT), ("b", STEPS)), compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled(content))
        for key, array in data:
            archive.writestr(f"model/data/{key}", array.tobytes())
    return buffer.getvalue()


@pytest.mark.parametrize("form", [old_format, new_format])
def test_arrays_by_name(torch_stand_in, tmp_path, form):
    path = tmp_path / "a.pth"
    path.write_bytes(form(state()))
    found = read_state_dict(path)
    assert list(found) == ["weight", "steps"]
    for name, expected in (("weight", WEIGHT), ("steps", STEPS)):
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype
    # Another order of the axes, and a part that begins later.
    path.write_bytes(form(state(shape=(3, 4), strides=(4, 1), start=12)))
    np.testing.assert_array_equal(read_state_dict(path)["weight"], WEIGHT[1])
    path.write_bytes(form(state(shape=(4, 3, 2), strides=(1, 4, 12))))
    np.testing.assert_array_equal(read_state_dict(path)["weight"], WEIGHT.T)


class Call:
    """Asks whoever unpickles it to make a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", [old_format, new_format])
def test_a_call_is_refused_and_not_made(torch_stand_in, tmp_path, form):
    path = tmp_path / "a.pth"
    path.write_bytes(form(OrderedDict(weight=Call(tmp_path / "made"))))
    with pytest.raises(DataError, match=r"a call of \w+\.mkdir is not followed"):
        read_state_dict(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: state(shape=(2, 3, 5), strides=(15, 5, 1)), "larger than its storage"),
        (lambda: state(start=1), "larger than its storage"),
        (lambda: state(strides=(12, 4, -1)), "larger than its storage"),
        (lambda: state(size=23), "announced|larger than its storage"),
        (lambda: state(kind="ByteStorage"), "a storage of torch ByteStorage is not read"),
        (lambda: state(size=1 << 50), "is not read"),
        (lambda: [1, 2], "holds a list"),
        (lambda: {"epoch": 3}, "'epoch' is no tensor"),
        (lambda: {"note": 1 + 2j}, "not followed"),
    ],
)
@pytest.mark.parametrize("form", [old_format, new_format])
def test_other_contents(torch_stand_in, tmp_path, form, content, message):
    path = tmp_path / "a.pth"
    path.write_bytes(form(content()))
    with pytest.raises(DataError, match=f"is no state dict that torch.save wrote, or is broken .*{message}"):
        read_state_dict(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("form", [old_format, new_format])
def test_files_cut_short(torch_stand_in, tmp_path, form, share):
    path = tmp_path / "a.pth"
    data = form(state())
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"a\.pth: is no state dict"):
        read_state_dict(path)


def test_other_files(torch_stand_in, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_state_dict(tmp_path / "none.pth")
    (tmp_path / "a.pth").write_bytes(new_format(state(), compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(DataError, match="is compressed"):
        read_state_dict(tmp_path / "a.pth")
