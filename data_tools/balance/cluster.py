"""The counting pass on a Dask cluster: the file list in partitions, their statistics added up in a tree.

Dask reschedules what a lost worker was doing or had done, and statistics add up exactly in any grouping, so the totals
do not depend on how many workers there are or which of them survive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg.balance.counting import OnError, Progress, collect_part, require_some
from seg.balance.statistics import MaskStatistics
from seg.data.files.storage import File, common_folder
from seg.data.masks.reading import MaskEncoding
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

if TYPE_CHECKING:
    from distributed import Client

PARTITION = 500  # masks a task: about a second, so that a lost worker costs little and the scheduler is not the limit
FAN_IN = 8  # partial results added up by one task


@contextmanager
def connect(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    """In a `with`: a client of the scheduler at an address, or of a new cluster of worker processes on this machine.

    Args:
        scheduler: Such as tcp://10.0.0.1:8786; what dask-jobqueue's SLURMCluster shows as `scheduler_address`.
        workers: Without `scheduler`: how many processes, of one thread each.

    Raises:
        ConfigError: distributed is not installed, or nothing answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ConfigError(
            "counting on a cluster needs distributed; to install it: pip install 'seg[cluster]'"
        ) from None
    if scheduler is None:
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ConfigError(f"--scheduler: got '{scheduler}', nothing answers there ({first_line})") from None
    with client:
        yield client


def collect_on_cluster(
    client: Client,
    masks: Sequence[File],
    labels: LabelSet,
    encoding: MaskEncoding,
    *,
    root: Path | None = None,
    with_components: bool = False,
    on_error: OnError = "stop",
    progress: Progress | None = None,
    partition: int = PARTITION,
) -> MaskStatistics:
    """As `seg.balance.collect_statistics`, on the workers of a cluster, which must see the files under the same paths.

    Args:
        client: Of the cluster.
        masks: Mask files.
        labels: Class names and ignore_index.
        encoding: How the files store classes.
        root: What names are relative to; default: the masks' common folder.
        with_components: Also measure connected components.
        on_error: `skip` lists a mask that cannot be read and goes on; `stop` raises.
        progress: Called after each partition with the masks done so far, and 0.
        partition: Masks a task.

    Raises:
        DataError: As `collect_statistics`; or a task killed its worker several times.
    """
    if not masks:
        raise DataError("no masks to count: the list is empty")
    from distributed import KilledWorker, as_completed

    options = (labels, encoding, root or common_folder(masks), with_components, on_error)
    parts = [masks[begin : begin + partition] for begin in range(0, len(masks), partition)]
    leaves = [client.submit(_count_part, part, *options, pure=False) for part in parts]
    sizes = {leaf.key: len(part) for leaf, part in zip(leaves, parts, strict=True)}
    level: list[Any] = leaves
    while len(level) > 1:
        groups = [level[begin : begin + FAN_IN] for begin in range(0, len(level), FAN_IN)]
        level = [client.submit(_add, group, pure=False) for group in groups]
    done = 0
    try:
        for leaf in as_completed(leaves):
            leaf.result()  # raises what the task raised
            done += sizes[leaf.key]
            if progress is not None:
                progress(done, 0)
        total: MaskStatistics = level[0].result()
    except KilledWorker as error:
        raise DataError(f"a part of the masks killed every worker that counted it: {error}") from None
    finally:
        client.cancel([leaf for leaf in leaves if not leaf.done()])  # after an error or Ctrl-C
    return require_some(total)


def _count_part(
    part: Sequence[File],
    labels: LabelSet,
    encoding: MaskEncoding,
    root: Path,
    with_components: bool,
    on_error: OnError,
) -> MaskStatistics:
    return collect_part(
        part, labels, encoding, root=root, workers=1, with_components=with_components, on_error=on_error
    )


def _add(parts: Sequence[MaskStatistics]) -> MaskStatistics:
    return reduce(lambda one, other: one + other, parts)
