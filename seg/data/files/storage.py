"""Files where they lie: local paths, and by fsspec those in object stores and archives (s3://, gs://, zip://, ...).

A local file is a `pathlib.Path`, anything with a URL a `RemoteFile` that `list_files` made, one slice of a volume a
`VolumeSlice`, and a mask that counts in a part of it only a `LimitedMask`. Everything else of the project takes any of
them and asks here for the bytes, the size and the state.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seg.errors import ConfigError, DataError, OutputError

# What the stores call the thing that changes with a file's content, the surest first.
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "CRC", "LastModified", "last_modified", "mtime", "created")

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.(tmp|keras)")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file behind an fsspec filesystem.

    Attributes:
        filesystem: The fsspec filesystem; it pickles, so the file can be sent to another process.
        path: The file's path in it.
        folder: The URL that was listed.
        name: The path relative to that URL, with forward slashes.
        size: Bytes.
        version: Text that changes with the content (a checksum or a time); empty where the store tells none.
    """

    filesystem: Any
    path: str
    folder: str
    name: str
    size: int
    version: str

    def __str__(self) -> str:
        """Where it lies, for messages; a chained URL (zip://::file.zip) has no other short form."""
        return f"{self.folder}: {self.name}"


@dataclass(frozen=True, slots=True, order=True)
class VolumeSlice:
    """One slice of a volume file, which `seg.data.files.volumes` reads; it stands wherever an image or mask file does.

    Attributes:
        path: The volume: NIfTI or a TIFF of several pages.
        axis: The array axis, as stored, that the slices follow one another along.
        index: Which of them, from 0.
    """

    path: Path
    axis: int
    index: int

    def __str__(self) -> str:
        return f"{self.path} (slice {self.index} along axis {self.axis})"

    @property
    def name(self) -> str:
        return f"{self.path.name}#{self.axis}:{self.index}"

    @property
    def stem(self) -> str:
        """A name for what is made of the slice: brain.nii.gz -> brain_0017."""
        return f"{self.path.name.partition('.nii')[0].removesuffix(self.path.suffix)}_{self.index:04d}"

    def resolve(self) -> VolumeSlice:
        """The same slice of the resolved path."""
        return VolumeSlice(self.path.resolve(), self.axis, self.index)


@dataclass(frozen=True, slots=True)
class LimitedMask:
    """A mask file that tells something in a part of it only, or of some classes; it stands wherever a mask file does.

    Attributes:
        mask: The mask file.
        valid: The validity mask, of the mask's size; None: all of it is valid.
        values: Its values that mean valid; None: all but 0.
        annotated: The names of the classes that were annotated; None: all.
    """

    mask: Path | VolumeSlice
    valid: Path | VolumeSlice | None = None
    values: tuple[int, ...] | None = None
    annotated: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self._limited(str(self.mask), str(self.valid))

    def _limited(self, mask: str, valid: str) -> str:
        parts = []
        if self.valid is not None:
            parts.append(f"valid: {valid}" + (f" = {', '.join(map(str, self.values))}" if self.values else ""))
        if self.annotated is not None:
            parts.append(f"annotated: {', '.join(self.annotated)}")
        return f"{mask} ({'; '.join(parts)})"

    @property
    def name(self) -> str:
        return self.mask.name

    @property
    def stem(self) -> str:
        return self.mask.stem

    def resolve(self) -> Path | VolumeSlice:
        """The mask file, resolved."""
        return self.mask.resolve()

    def relative_name(self, root: Path) -> str:
        """As the function of this name, with what limits it: another validity mask makes it another mask."""
        valid = "" if self.valid is None else relative_name(self.valid, root)
        return self._limited(relative_name(self.mask, root), valid)


File = Path | RemoteFile | VolumeSlice | LimitedMask


def holder(file: File) -> Path | RemoteFile:
    """The file that holds it: of a slice its volume, of a limited mask the mask's, of any other itself."""
    if isinstance(file, LimitedMask):
        return holder(file.mask)
    return file.path if isinstance(file, VolumeSlice) else file


def mask_file(file: File) -> Path | RemoteFile | VolumeSlice:
    """The mask without what limits it."""
    return file.mask if isinstance(file, LimitedMask) else file


def is_url(text: str) -> bool:
    """Whether `text` is a URL such as s3://bucket/masks or zip://masks::archive.zip, and no local path."""
    return "://" in text


def is_hidden(name: str) -> bool:
    """Whether a file's name says that no one means it: .DS_Store, and ._a.png, which macOS writes beside a.png."""
    return name.startswith(".")


def list_files(folder: str, suffixes: Collection[str]) -> list[File]:
    """All files under a folder or URL, but hidden ones, whose names end in one of `suffixes` (lower case, with the
    dot), sorted.

    Raises:
        DataError: There is no such folder, or it cannot be listed.
        ConfigError: A URL needs a package that is not installed.
    """
    if is_url(folder):
        return list(_list_remote(folder, tuple(suffixes)))
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder of masks")
    found: list[File] = [
        Path(parent, name) for parent, _, names in os.walk(folder) for name in names if not is_hidden(name)
    ]
    return sorted((file for file in found if str(file).lower().endswith(tuple(suffixes))), key=str)


def _list_remote(url: str, suffixes: tuple[str, ...]) -> list[RemoteFile]:
    try:
        import fsspec
    except ImportError:
        raise ConfigError(f"{url}: needs fsspec; to install it: pip install 'seg[remote]'") from None
    try:
        filesystem, root = fsspec.url_to_fs(url)
        found: dict[str, dict[str, Any]] = filesystem.find(root, detail=True)
    except ImportError as error:  # fsspec's message names the package, e.g. s3fs
        raise ConfigError(f"{url}: {error}") from None
    except Exception as error:  # every store has its own: no bucket, no credentials, no such archive
        raise DataError(f"{url}: cannot be listed ({type(error).__name__}: {error})") from None
    if not found:
        raise DataError(f"{url}: no files there")
    files = []
    for path, info in found.items():
        if path.lower().endswith(suffixes) and not is_hidden(path.rpartition("/")[2]):
            name = path[len(root) :].lstrip("/") if path.startswith(root) else path
            version = next((str(info[key]) for key in _VERSION_KEYS if info.get(key)), "")
            files.append(RemoteFile(filesystem, path, url, name, int(info["size"]), version))
    return sorted(files, key=lambda file: file.name)


def read_bytes(file: File) -> bytes:
    """The whole file; a DataError naming it where that fails, or where `file` is a part of one."""
    if isinstance(file, LimitedMask):
        return read_bytes(file.mask)
    if isinstance(file, VolumeSlice):
        raise DataError(
            f"{file}: is a slice and no file of its own; allowed: a reader of volumes (seg.data.files.volumes)"
        )
    try:
        if isinstance(file, RemoteFile):
            return file.filesystem.cat_file(file.path)
        with open(file, "rb", buffering=0, opener=_regular) as opened:  # noqa: PTH123 - twice as fast as read_bytes
            return opened.readall()
    except OSError as error:
        raise unreadable(file, error) from error
    except Exception as error:  # the stores' own errors
        raise DataError(f"{file}: cannot be read ({type(error).__name__}: {error})") from error


def _regular(path: str, flags: int) -> int:
    """Opens a file, and no pipe or device, which might be waited for for ever."""
    opened = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(opened).st_mode) and not stat.S_ISDIR(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError("is a pipe or a device, allowed: a file")
    return opened


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Writes a file whole or not at all: under a temporary name, renamed. Makes the folder where it is missing.

    `durable`: see `written_whole`.

    Raises:
        DataError: It cannot be written.
    """
    make_folder(path.parent)
    with written_whole(path, durable=durable) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written_whole(path: Path, suffix: str = ".tmp", *, durable: bool = False) -> Iterator[Path]:
    """For whoever writes by name: gives a temporary one, which becomes `path` at the end, or is removed after an error.

    Args:
        path: The file, which may exist, in a folder that does.
        suffix: Of the temporary name, for writers that ask for one.
        durable: Also after a power cut `path` is the old file or the whole new one. For what a training cannot be
            without: it costs the wait for the disk, which thousands of predictions should not pay one by one.

    Raises:
        DataError: The operating system refuses: the disk is full, the folder is read-only or gone.
    """
    temporary = temporary_name(path, suffix)
    try:
        with told_unwritable(path):
            yield temporary
            if durable:
                settle(temporary)
            os.replace(temporary, path)
            if durable:
                settle(path.parent)
    finally:
        with suppress(OSError):  # the error that is on its way says more
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, where they are missing; a DataError naming it where that fails."""
    with told_unwritable(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise OutputError(f"{path}: is no folder; allowed: a folder, or a new name") from None


@contextmanager
def told_unwritable(path: Path) -> Iterator[None]:
    """What the operating system refuses in here becomes a DataError that names `path`."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error.__cause__ or error).strip().partition("\n")[0]
        raise OutputError(f"{path}: cannot be written ({reason or type(error).__name__})") from error


def settle(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk. A file is settled before it is renamed, and its
    folder after: else a power cut can leave an empty file under the new name, or the old names."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def temporary_name(path: Path, suffix: str = ".tmp") -> Path:
    """A hidden name beside `path` that nobody else has, on no machine: it carries the host's name and a random part."""
    start = os.fsencode(path.name)[:100].decode(errors="ignore")  # a name may have 255 bytes
    return path.with_name(f".{start}.{socket.gethostname()[:40]}.{uuid.uuid4().hex}{suffix}")


def remove_temporaries(folder: Path) -> None:
    """Removes the files of a folder that have a `temporary_name`. Whoever calls knows that their writers have ended."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def unreadable(file: File, error: OSError) -> DataError:
    """The error for a file that the operating system does not give."""
    return DataError(f"{file}: cannot be read ({error.strerror or error})")


class FileState(NamedTuple):
    """What changes when a file is written to.

    Attributes:
        size: Bytes.
        version: Changes with every write, also one that keeps the size and sets back the time: for a local file mtime,
            ctime and inode. Empty: not known.
        changed_ns: When it last changed, in nanoseconds since 1970; 0: not known.
    """

    size: int
    version: str
    changed_ns: int


def file_state(file: File) -> FileState:
    """The state of a file now.

    Raises:
        DataError: The file is missing.
    """
    if isinstance(file, RemoteFile):
        return FileState(file.size, file.version, 0)
    if isinstance(file, VolumeSlice):
        return file_state(file.path)
    if isinstance(file, LimitedMask):
        mask = file_state(file.mask)
        if file.valid is None:
            return mask
        valid = file_state(file.valid)
        return FileState(
            mask.size + valid.size, f"{mask.version} {valid.version}", max(mask.changed_ns, valid.changed_ns)
        )
    try:
        state = file.stat()
    except OSError as error:
        raise unreadable(file, error) from None
    version = f"{state.st_mtime_ns}.{state.st_ctime_ns}.{state.st_ino}"
    return FileState(state.st_size, version, max(state.st_mtime_ns, state.st_ctime_ns))


def common_folder(files: Sequence[File]) -> Path:
    """The folder that all local files lie under."""
    local = [path.absolute().parent for path in map(holder, files) if isinstance(path, Path)]
    return Path(os.path.commonpath(local)) if local else Path()


def relative_name(file: File, root: Path) -> str:
    """The path of `file` relative to `root`, with forward slashes; of a remote file, to the URL that was listed."""
    if isinstance(file, RemoteFile):
        return file.name
    if isinstance(file, LimitedMask):
        return file.relative_name(root)
    if isinstance(file, VolumeSlice):
        return f"{relative_name(file.path, root)}#{file.axis}:{file.index}"
    path, folder = os.fspath(file), f"{root}{os.sep}"
    if path.startswith(folder) and os.pardir not in path:  # ten times as fast as relpath, which asks for the cwd
        return path[len(folder) :].replace(os.sep, "/")
    return Path(os.path.relpath(path, folder)).as_posix()
