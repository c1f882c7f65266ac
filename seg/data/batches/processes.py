"""The batches of a training, made by worker processes: each has a Python, and so a lock, of its own."""

from __future__ import annotations

import io
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import time
import weakref
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from types import FunctionType
from typing import Any

import numpy as np

from seg.data.batches.loading import Plan, TrainingLoader
from seg.data.batches.pixel_cache import Kept, SharedPixelCache
from seg.data.batches.slots import Layout, mapped, unnamed_file
from seg.data.batches.threads import aligned
from seg.errors import SegError

AHEAD = 2  # batches asked for beyond one a worker: what is being copied out of its slot while the next is made
ENDING = 2.0  # seconds that workers have to notice that nobody asks any more


class ProcessLoader:
    """From the plans of a batch to its arrays, made by one of several processes; safe for threads.

    Workers start at once and without TensorFlow, are ready after about a second, and end with this process, however it
    ends, or when the loader is forgotten. Each makes a whole batch at a time in a slot of shared memory, from where it
    is copied.

    Attributes:
        calls: How many calls at a time keep all workers busy.
    """

    def __init__(self, load: TrainingLoader, batch_size: int, workers: int) -> None:
        """Starts the workers.

        Raises:
            SegError: The system does not let them start.
            NotImportable: Something of `load`, as a function for pixel weights, is only to be had in this process.
        """
        self._preprocessing, self.calls = load.preprocessing, workers + AHEAD
        self._layout = Layout(load.size, load.preprocessing.bands, load.mask_axes, load.weighted, batch_size)
        divided = load.divided(workers)
        payload = _pickled((divided, self._layout, workers))
        shared = divided.cache.limit * workers if isinstance(divided.cache, SharedPixelCache) else 0
        files = unnamed_file(self.calls * self._layout.bytes), unnamed_file(shared)
        self._memory = mapped(files[0])
        self._team = _Team()
        weakref.finalize(self, self._team.end)
        try:
            for number in range(workers):
                self._team.add(Worker(number, files, payload))
        except OSError as error:
            raise SegError(
                f"training.workers: got {workers}, and the system lets no more processes start ({error.strerror}); "
                "allowed: fewer, or training.loading: threads"
            ) from None
        finally:
            for file in files:
                os.close(file)
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.calls):
            self._slots.put(slot)

    def __call__(self, plans: list[Plan]) -> tuple[np.ndarray, ...]:
        """(images (N, H, W, bands) float32, masks (N, H, W[, K]) uint8[, weights (N, H, W) float32]).

        Raises:
            SegError: A worker has died.
            Exception: What loading a sample raised.
        """
        slot = self._slots.get()
        try:
            return self._copied(slot, self._team.ask(slot, plans))
        finally:
            self._slots.put(slot)

    def _copied(self, slot: int, dtypes: list[str]) -> tuple[np.ndarray, ...]:
        layout = self._layout
        memory = self._memory[slot * layout.bytes : (slot + 1) * layout.bytes]
        images = aligned((layout.count, *layout.size, layout.bands))
        for index, dtype in enumerate(dtypes):
            image = layout.image(memory, index, np.dtype(dtype))
            if image.dtype == np.uint8:
                self._preprocessing.prepare(image, out=images[index])
            else:
                images[index] = image
        return images, *(each.copy() for each in layout.maps(memory))


class NotImportable(ValueError):  # noqa: N818 - it says what is wrong
    """Another process cannot import what it would need."""


def _pickled(content: Any) -> bytes:
    file = io.BytesIO()
    try:
        _Pickler(file).dump(content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # by what it is and by its version of Python
        raise NotImportable(
            f"loading: got 'processes' with something that other processes cannot import ({error}); allowed: functions "
            "and classes of a module, or 'threads'"
        ) from None
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Refuses what the user's script itself defines, which workers do not run."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType) and obj.__module__ == "__main__":
            raise pickle.PicklingError(f"{obj.__qualname__} of the script that was started")
        return NotImplemented


class _Team:
    """The workers, and what they have kept for each other. Knows no loader, so that a loader can be forgotten."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._kept: list[Kept] = []
        self._ending = False

    def add(self, worker: Worker) -> None:
        self._workers.append(worker)
        self._idle.put(worker)

    def ask(self, slot: int, plans: list[Plan]) -> list[str]:
        """Has an idle worker write a batch to a slot; returns its images' dtypes."""
        worker = self._idle.get()
        try:
            kept, worker.told = self._kept[worker.told :], len(self._kept)
            answer, new = worker.ask(slot, plans, kept)
        except SegError:
            if self._ending:  # Python is at its end, and no one will see this batch; TensorFlow would report an error
                return ["|u1"] * len(plans)
            raise
        finally:
            self._idle.put(worker)  # a dead one, too: whoever asks it next is told
        self._kept += new
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """Ends the workers; the samples that they are at are the last, and no one will see them."""
        self._ending = True
        for worker in self._workers:
            worker.leave()
        limit = time.monotonic() + ENDING
        for worker in self._workers:
            worker.end(limit)


class Worker:
    """A process that runs `seg.data.batches.worker`, and the socket to it; asked by one thread at a time.

    Attributes:
        told: How much of what other workers have kept it knows.
    """

    def __init__(self, number: int, files: tuple[int, int], payload: bytes) -> None:
        """Starts it; `payload`, its first message, is sent when it is first asked, for by then it listens."""
        self.told, self._payload = 0, payload
        self._socket, theirs = socket.socketpair()
        self._connection = Connection(os.dup(self._socket.fileno()))
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100 - also of ''
        inherited = (theirs.fileno(), *files)
        arguments = [str(each) for each in (*inherited, number)]
        with theirs, ExitStack() as stack:
            stack.callback(self._socket.close)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "seg.data.batches.worker", *arguments],
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                # One thread each: the libraries' own would only compete for the cores.
                env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # a terminal's Ctrl-C is for the training alone
            )
            stack.pop_all()  # it is kept open where there is a process

    def ask(self, slot: int, plans: list[Plan], kept: list[Kept]) -> tuple[list[str] | Exception, list[Kept]]:
        """Has it write a batch to a slot.

        Returns:
            The images' dtypes or what went wrong, and what it has kept.

        Raises:
            SegError: It has died.
        """
        try:
            if self._payload:
                payload, self._payload = self._payload, b""
                self._connection.send_bytes(payload)
            self._connection.send((slot, plans, kept))
            return self._connection.recv()
        except (EOFError, OSError):
            raise SegError(self._obituary()) from None

    def _obituary(self) -> str:
        try:
            code = self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        why = "; the system ends programs so when memory runs out" if code == -signal.SIGKILL else ""
        return (
            f"a data worker (process {self._process.pid}) {how}{why}; allowed: to start again, with --resume from the "
            "last checkpoint, or with fewer training.workers"
        )

    def leave(self) -> None:
        """Lets it know that nobody asks any more."""
        with suppress(OSError):  # it has died
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self, limit: float) -> None:
        """Waits until it has ended, and at the time `limit` ends it."""
        try:
            self._process.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
