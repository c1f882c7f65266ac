"""Counting on a real Dask cluster of worker processes: totals stay exact when one is killed, bad files are named."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.balance import cluster
from data_tools.balance.cluster import collect_on_cluster, connect
from data_tools.mask_frequencies import main
from seg.balance import collect_statistics
from seg.data.masks.reading import IndexEncoding
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

distributed = pytest.importorskip("distributed", reason="needs distributed (pip install 'seg[cluster]')")

LABELS = LabelSet.from_names(["field", "road", "boat"], ignore_index=255)
# distributed 2026 leaves its own loose ends when processes are killed; they say nothing about the totals.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    with connect(None, workers=2) as connected:
        yield connected


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("masks")
    draw = np.random.default_rng(0)
    paths = []
    for index in range(60):
        mask = draw.choice(np.array([0, 1, 2, 255], np.uint8), (40, 30), p=[0.8, 0.15, 0.04, 0.01])
        paths.append(folder / f"{index:03}.png")
        assert cv2.imwrite(str(paths[-1]), mask)
    return paths


def test_the_totals_are_those_of_one_machine(client: distributed.Client, masks: list[Path]) -> None:
    seen: list[int] = []
    statistics = collect_on_cluster(
        client, masks, LABELS, IndexEncoding(), with_components=True, partition=7,
        progress=lambda files, pixels: seen.append(files),
    )  # fmt: skip
    assert statistics == collect_statistics(masks, LABELS, IndexEncoding(), with_components=True)
    assert len(seen) == 9
    assert seen[-1] == 60


def test_a_killed_worker_changes_nothing(
    client: distributed.Client, masks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = client.run(os.getpid)
    assert len(set(processes.values())) == 2
    killed: list[int] = []

    def kill_one(files: int, pixels: int) -> None:
        if not killed:  # after the first part of 30: what that worker has done and is doing is lost
            killed.append(next(iter(processes.values())))
            os.kill(killed[0], signal.SIGKILL)

    statistics = collect_on_cluster(client, masks * 5, LABELS, IndexEncoding(), partition=10, progress=kill_one)
    assert statistics == collect_statistics(masks * 5, LABELS, IndexEncoding())
    client.wait_for_workers(2)
    assert killed[0] not in client.run(os.getpid).values()


def test_a_bad_mask_is_named_or_skipped(client: distributed.Client, masks: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(masks[0].read_bytes()[:50])
    root = tmp_path.parent
    with pytest.raises(DataError, match="bad.png: its PNG data are cut short or corrupt"):
        collect_on_cluster(client, [*masks, bad], LABELS, IndexEncoding(), root=root, partition=10)
    statistics = collect_on_cluster(
        client, [*masks, bad], LABELS, IndexEncoding(), root=root, partition=1, on_error="skip"
    )
    assert statistics == collect_statistics([*masks, bad], LABELS, IndexEncoding(), root=root, on_error="skip")
    assert len(statistics.skipped) == 1
    with pytest.raises(DataError, match="none of the 1 masks could be read; the first: .*bad.png"):
        collect_on_cluster(client, [bad], LABELS, IndexEncoding(), on_error="skip")


def test_no_masks_is_an_error(client: distributed.Client) -> None:
    with pytest.raises(DataError, match="no masks to count: the list is empty"):
        collect_on_cluster(client, [], LABELS, IndexEncoding())


def test_nothing_at_the_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "500ms"}):
        message = "--scheduler: got 'tcp://127.0.0.1:1', nothing answers there"
        with pytest.raises(ConfigError, match=message), connect("tcp://127.0.0.1:1", None):
            pytest.fail("connected")
        with pytest.raises(ConfigError, match="--scheduler: got 'nope://x', nothing answers there"):
            connect("nope://x", None).__enter__()


def test_the_scheduler_option(
    client: distributed.Client, masks: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:

    address = client.scheduler_info()["address"]
    assert main([str(masks[0].parent), "--num-classes", "3", "--scheduler", address]) == 0
    assert capsys.readouterr().out.startswith("60 masks in ")


def test_without_distributed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ConfigError, match="counting on a cluster needs distributed; to install it: pip install"):
        cluster.connect(None, 1).__enter__()
