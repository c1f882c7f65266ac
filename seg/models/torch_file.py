"""Arrays out of a file that torch.save wrote, without torch and without running anything that stands in it.

Such a file is a pickle, a program for a small stack machine, which may call any function of Python. Here the program
is only listed (`pickletools.genops` runs nothing) and its few harmless instructions are followed by hand: those that
build numbers, text, tuples and dictionaries, and three calls, the empty OrderedDict, "this part of that storage is a
tensor" and "this tensor is a parameter". Anything else is refused.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from seg.errors import DataError

_MAGIC = 0x1950A86A20F9469CFC6C  # of files before torch 1.6, which are no zip archive
_DTYPES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_ORDERED_DICT, _TENSOR, _PARAMETER = (
    "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
)  # fmt: skip
_MARK = object()


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name.

    Args:
        path: A .pth or .pt file of a dictionary from names to tensors, of either of torch's two formats.

    Raises:
        DataError: The file is missing, cut short or something else, or holds an instruction that is not followed.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _from_archive(zipfile.ZipFile(file))
            file.seek(0)
            return _from_stream(file, path.stat().st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # what a broken byte leads pickletools and zipfile to
        raise DataError(f"{path}: is no state dict that torch.save wrote, or is broken ({error})") from None


@dataclass(frozen=True)
class _Storage:
    """A block of numbers in the file."""

    key: str
    dtype: str
    size: int

    @property
    def length(self) -> int:
        """In bytes."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _Tensor:
    """A part of a storage."""

    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers

    def __post_init__(self) -> None:
        last = self.start + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if min((self.start, *self.shape, *self.strides)) < 0 or (0 not in self.shape and last >= self.storage.size):
            raise ValueError("a tensor is larger than its storage")

    def array(self, data: bytes) -> np.ndarray:
        numbers = np.frombuffer(data, self.storage.dtype)
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(numbers[self.start :], self.shape, strides))


def _from_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """torch 1.6 and later: NAME/data.pkl and a file a storage."""
    (program,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    folder = program.removesuffix("data.pkl")
    tensors = _tensors(_followed(io.BytesIO(_member(archive, program))))
    data = {key: _member(archive, f"{folder}data/{key}") for key in {one.storage.key for one in tensors.values()}}
    for tensor in tensors.values():
        _check_size(tensor.storage, len(data[tensor.storage.key]))
    return {name: tensor.array(data[tensor.storage.key]) for name, tensor in tensors.items()}


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file of the archive, which torch never compresses: it is no larger than what is there."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


def _from_stream(file: BinaryIO, length: int) -> dict[str, np.ndarray]:
    """Before torch 1.6: five pickles (a magic number, a version, the system, the tensors, the order of the storages),
    then the storages, each behind its size."""
    if _followed(file) != _MAGIC:
        raise ValueError("the first number is another")
    _followed(file), _followed(file)
    tensors = _tensors(_followed(file))
    known = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    data = {}
    for key in _followed(file):
        size = int.from_bytes(file.read(8), "little")
        if size != known[key].size:
            raise ValueError(f"a storage of {size} numbers, where {known[key].size} are announced")
        data[key] = file.read(min(known[key].length, length))
        _check_size(known[key], len(data[key]))
    return {name: tensor.array(data[tensor.storage.key]) for name, tensor in tensors.items()}


def _check_size(storage: _Storage, length: int) -> None:
    if length != storage.length:
        raise ValueError(f"a storage of {length} bytes, where {storage.length} are announced")


def _tensors(content: Any) -> dict[str, _Tensor]:
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}")
    others = [name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, _Tensor))]
    if others:
        raise ValueError(f"'{others[0]}' is no tensor")
    return content


def _followed(file: BinaryIO) -> Any:
    """What the next pickle of the file builds."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        place = len(stack) - 1 - stack[::-1].index(_MARK)
        items = stack[place + 1 :]
        del stack[place:]
        return items

    def set_items(pairs: list[Any]) -> None:
        stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def last(number: int) -> list[Any]:
        items = stack[len(stack) - number :]
        del stack[len(stack) - number :]
        return items

    done: Mapping[str, Callable[[Any], object]] = {
        "PROTO": lambda _: None,
        "FRAME": lambda _: None,
        "MARK": lambda _: stack.append(_MARK),
        "NONE": lambda _: stack.append(None),
        "NEWTRUE": lambda _: stack.append(True),
        "NEWFALSE": lambda _: stack.append(False),
        "EMPTY_DICT": lambda _: stack.append({}),
        "EMPTY_LIST": lambda _: stack.append([]),
        "EMPTY_TUPLE": lambda _: stack.append(()),
        "TUPLE": lambda _: stack.append(tuple(since_mark())),
        "TUPLE1": lambda _: stack.append(tuple(last(1))),
        "TUPLE2": lambda _: stack.append(tuple(last(2))),
        "TUPLE3": lambda _: stack.append(tuple(last(3))),
        "SETITEM": lambda _: set_items(last(2)),
        "SETITEMS": lambda _: set_items(since_mark()),
        "APPEND": lambda _: stack[-2].append(stack.pop()),
        "APPENDS": lambda _: (lambda items: stack[-1].extend(items))(since_mark()),
        "MEMOIZE": lambda _: memo.__setitem__(len(memo), stack[-1]),
        "GLOBAL": lambda name: stack.append(_Name(name)),
        "BINPERSID": lambda _: stack.append(_storage(*stack.pop())),
        "REDUCE": lambda _: stack.append(_called(*last(2))),
        "BUILD": lambda _: last(1),  # attributes of an OrderedDict: versions of layers
        **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda place: memo.__setitem__(place, stack[-1])),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda place: stack.append(memo[place])),
        **dict.fromkeys(
            ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"), stack.append
        ),
    }
    for instruction, argument, _ in pickletools.genops(file):
        if instruction.name == "STOP":
            (result,) = stack
            return result
        if instruction.name not in done:
            raise ValueError(f"the instruction {instruction.name} is not followed")
        done[instruction.name](argument)
    raise ValueError("it has no end")


class _Name(str):
    """The name of a function or class."""


def _storage(kind: str, name: _Name, key: str, _: str, size: int, *rest: Any) -> _Storage:
    module, _, storage = name.partition(" ")
    if kind != "storage" or module != "torch" or storage not in _DTYPES or not 0 <= size < 1 << 40:
        raise ValueError(f"a {kind} of {name} is not read")
    return _Storage(key, _DTYPES[storage], size)


def _called(name: _Name, arguments: tuple[Any, ...]) -> Any:
    """What a call that the file asks for would give, of those that are known to be harmless."""
    if not isinstance(name, _Name):
        raise ValueError(f"a call of {name!r:.40} is not followed")
    if name == _ORDERED_DICT and not arguments:
        return {}
    if name == _PARAMETER:
        return arguments[0]
    if name == _TENSOR:
        storage, start, shape, strides = arguments[:4]
        return _Tensor(storage, start, tuple(shape), tuple(strides))
    raise ValueError(f"a call of {name.replace(' ', '.')} is not followed")
