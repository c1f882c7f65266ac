"""Who trains a run: one process, known by its host, its id and when it started.

The lock is a file of the run folder that is made exclusively, which file systems keep, network ones too; flock, which
many of those ignore, is not used. A process of this host is looked up. One of another host cannot be, so an owner shows
every few seconds that it lives, by the file's time: the clock of the server that holds the folder, for all alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from seg.data.files.storage import temporary_name
from seg.errors import DataError

NAME = "run.lock"
BEAT = 10.0  # seconds between two signs of life
SILENCE = 90.0  # without one for so long, an owner on another host has ended: NFS may hide a new time for 60 s


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: Name of its machine.
        namespace: What its id is counted in: the boot of the machine and, in a container, the container.
        pid: Its id.
        started: When it started, which tells it from a later process with the same id.
    """

    host: str
    namespace: str
    pid: int
    started: str | None

    @classmethod
    def this_process(cls) -> Owner:
        """The process that asks."""
        return cls(socket.gethostname(), _namespace(), os.getpid(), _start_time(os.getpid()))

    def __str__(self) -> str:
        """For messages."""
        return f"process {self.pid} on {self.host}"

    def lives(self) -> bool | None:
        """Whether it still runs; None: not to be seen from here."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()):
            return None
        return _start_time(self.pid) == self.started


def new_lock(folder: Path) -> None:
    """Locks a folder for this process; a FileExistsError where it is locked, other OSErrors where that cannot be."""
    _write(folder / NAME, Owner.this_process())


@contextmanager
def locked(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a run, which this process may have made; also after an owner that has ended without giving it
    back. A process that loses it nevertheless, because it stood still, ends at once: two must never write.

    Args:
        folder: The run's.
        tell: Takes a line for the user, where it must be waited for a sign of life.

    Raises:
        DataError: The run is being trained, or its folder cannot be written to.
    """
    path, owner = folder / NAME, Owner.this_process()
    _take(path, owner, tell)
    ended = threading.Event()
    thread = threading.Thread(target=_show_life, args=(path, owner, ended), name="run lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):  # the folder may be gone, or read-only now; the lock is stale then
            if _read(path) == owner:
                path.unlink()


def _take(path: Path, owner: Owner, tell: Callable[[str], None]) -> None:
    while True:
        try:
            return _write(path, owner)
        except FileExistsError:
            pass
        except OSError as error:
            raise DataError(f"{path.parent}: the run cannot be locked ({error.strerror})") from None
        before = _read(path)
        if before == owner:
            return None
        if _runs(path, before, tell):
            raise DataError(
                f"{path.parent}: is being trained by {before or 'another process'}; allowed: once that has ended "
                f"(only if you know that it has: remove {path})"
            )
        _remove(path, before)


def _show_life(path: Path, owner: Owner, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        try:
            found = _read(path)
            if found is not None and found != owner:
                print(f"error: {path}: {found} has taken the run over while this one stood still", file=sys.stderr)
                os._exit(2)
            if found is None:  # removed by hand, say
                _write(path, owner)
            os.utime(path)
        except OSError:  # a server that does not answer now may answer later
            continue


def _write(path: Path, owner: Owner) -> None:
    """Makes the file; a FileExistsError where there is one."""
    opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        os.write(opened, json.dumps(asdict(owner)).encode())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(opened)


def _read(path: Path) -> Owner | None:
    """The owner; None where there is no lock, or none that can be read."""
    try:
        return Owner(**json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def _runs(path: Path, owner: Owner | None, tell: Callable[[str], None]) -> bool:
    """Whether the owner lives; of one that cannot be seen from here, whether it shows a sign of life."""
    lives = owner.lives() if owner else None
    if lives is not None:
        return lives
    last = _changed(path)
    silent = _server_time(path) - last
    if silent < SILENCE:
        held = f"is of {owner}" if owner else "cannot be read"
        tell(f"{path}: {held}; waiting up to {SILENCE - silent:.0f} s for a sign that the run is being trained")
    while silent < SILENCE:
        time.sleep(BEAT / 2)
        if _changed(path) != last:
            return path.exists()
        silent = _server_time(path) - last
    return False


def _changed(path: Path) -> float:
    """The file's time; it is opened, because a network file system may answer from memory otherwise."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return 0.0


def _server_time(path: Path) -> float:
    """Now, by the clock that the file's time is of."""
    probe = temporary_name(path)
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _remove(path: Path, owner: Owner | None) -> None:
    """Removes the lock of `owner`, and of nobody who has taken it meanwhile.

    One process at a time may: the one that makes a file named after that owner. It looks again, and what it sees then
    stays, for the owner has ended and nobody else removes its lock.
    """
    claim = path.with_name(f"{path.name}.{hashlib.blake2b(repr(owner).encode(), digest_size=8).hexdigest()}")
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        made = _changed(claim)
        if made and _server_time(path) - made > BEAT:  # by a process that has ended over it
            claim.unlink(missing_ok=True)
        time.sleep(0.05)
        return
    try:
        fresh = owner is None and _server_time(path) - _changed(path) < SILENCE  # is being written just now
        if _read(path) == owner and not fresh:
            path.unlink(missing_ok=True)
    finally:
        claim.unlink(missing_ok=True)


@cache
def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path: pid:[4026531836]
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """When a process started, as its system says it; None where there is none."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = stat.rpartition(")")[2].split()  # the name before may hold anything
        return None if state in "ZX" else fields[18]  # a zombie has ended; field 22: clock ticks since the boot
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return asked.stdout.strip() or None
