"""Work on many files by a few threads: results in order, a bounded queue, and an early end where something fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

QUEUED_PER_WORKER = 2  # tasks; a bound on what waits in memory and on how long Ctrl-C takes
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """function(item) for every item, in order, from a thread pool with a bounded queue.

    `ThreadPoolExecutor.map` would create a future for every item at once and finish them all after an error.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > workers * QUEUED_PER_WORKER:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # after an error or Ctrl-C only the files being decoded are finished
            pool.shutdown(wait=False, cancel_futures=True)
