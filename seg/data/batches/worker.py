"""A worker process, which makes the arrays of batches: `python -m seg.data.batches.worker SOCKET SLOTS CACHE NUMBER`.

The first three are descriptors that it inherits from `seg.data.batches.processes`, which alone starts it, tells it what
to do, and ends it by closing the socket. It is no child of `multiprocessing`: that imports the user's script once more,
which then has to guard its code by `if __name__ == "__main__"`.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any


def main(socket: int, slots_file: int, cache_file: int, number: int) -> None:
    """Answers until the socket is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training's, which then closes the socket
    connection = Connection(socket)
    try:
        # It is this program's own pickle, from its parent and over a socket that nobody else has.
        load, layout, workers = pickle.loads(connection.recv_bytes())
        from seg.data.batches.pixel_cache import SharedPixelCache
        from seg.data.batches.slots import mapped
        from seg.data.files import volumes
        from seg.data.views import border_map

        volumes.CACHE_BYTES //= workers  # what a process keeps by itself is its share of what one would
        border_map.CACHE_BYTES //= workers

        slots = mapped(slots_file)
        shared = load.cache if isinstance(load.cache, SharedPixelCache) else None
        if shared is not None:
            shared.attach(mapped(cache_file), number)
        while True:
            slot, plans, kept = connection.recv()
            if shared is not None:
                shared.learn(kept)
            answer = _answer(load, layout, slots[slot * layout.bytes : (slot + 1) * layout.bytes], plans)
            new = []
            if shared is not None:
                new, shared.new = shared.new, []
            connection.send((answer, new))
    except (EOFError, ConnectionError):
        os._exit(0)  # whoever asked is gone


def _answer(load: Any, layout: Any, slot: memoryview, plans: list[Any]) -> list[str] | Exception:
    """Writes a batch to its slot; returns its images' dtypes, or what a sample's loading raised."""
    dtypes = []
    try:
        maps = layout.maps(slot)
        for index, plan in enumerate(plans):
            image, *parts = load(plan)
            layout.image(slot, index, image.dtype)[...] = image
            for whole, part in zip(maps, parts, strict=True):
                whole[index] = part
            dtypes.append(image.dtype.str)
    except Exception as error:
        error.add_note("in a data worker process:\n" + traceback.format_exc())
        return _sendable(error)
    return dtypes


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:]))
