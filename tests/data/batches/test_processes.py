"""Worker processes: the batches of threads, one clear error where one dies, and nothing left behind in any way."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.data.batches.dataset import training_batches, user_errors
from seg.data.batches.loading import Plan, TrainingLoader
from seg.data.batches.pixel_cache import PixelCache
from seg.data.batches.processes import NotImportable, ProcessLoader
from seg.data.batches.slots import Layout
from seg.data.batches.threads import ThreadLoader
from seg.data.masks.reading import IndexEncoding
from seg.data.samples.pairs import Sample
from seg.data.views.border_map import BorderWeights
from seg.data.views.preprocessing import Preprocessing
from seg.data.views.transforms import Augmentation
from seg.errors import DataError, SegError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(("ground", "road", "tree"))
PLAIN = Preprocessing(bands=3, resize=None, max_value=None, mean=(0.4,) * 3, std=(0.2,) * 3)
AUGMENT = Augmentation(horizontal_flip=0.5, scale=(0.5, 2.0), rotate=20.0, contrast=0.2, crop=(8, 12))
PLANS = [[Plan((3 * batch + k) % 6, 100 * batch + k, None) for k in range(3)] for batch in range(6)]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Six pairs of noise; the images of two have 16 bits."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    made = [Sample(folder / f"{k}.png", folder / f"{k}_mask.png") for k in range(6)]
    for k, sample in enumerate(made):
        bits = np.uint16 if k in (1, 4) else np.uint8
        cv2.imwrite(str(sample.image), rng.integers(0, np.iinfo(bits).max, (20, 24, 3), bits, endpoint=True))
        cv2.imwrite(str(sample.mask), rng.choice(np.array([0, 1, 2, 255], np.uint8), (20, 24)))
    return made


def loader(samples: list[Sample], **changes: object) -> TrainingLoader:
    settings = {"augmentation": AUGMENT, "pixel_weights": None, "cache": None, **changes}
    return TrainingLoader(samples, LABELS, IndexEncoding(), PLAIN, **settings)


def assert_same(one: tuple, other: tuple) -> None:
    assert len(one) == len(other)
    for array, twin in zip(one, other, strict=True):
        assert array.dtype == twin.dtype
        np.testing.assert_array_equal(array, twin)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_those_of_threads(samples: list[Sample], workers: int) -> None:
    """Images of 8 and 16 bits, pixel weights, and decoded pixels kept in memory: half of the calls find them there."""
    weights = BorderWeights((1, 2), 10.0, 2.0)
    settled = max(sample.mask.stat().st_mtime for sample in samples) + 2.1  # before, nothing is kept
    time.sleep(max(0.0, settled - time.time()))
    by_threads = ThreadLoader(loader(samples, pixel_weights=weights), 2)
    by_processes = ProcessLoader(loader(samples, pixel_weights=weights, cache=PixelCache(10**5, "test")), 3, workers)
    for plans in PLANS:
        assert_same(by_processes(plans), by_threads(plans))
    kept = {entry.name for entry in by_processes._team._kept}
    assert len(kept) == 6 and len(by_processes._team._kept) == 6  # each once, by whichever process was first


def test_a_stream_by_processes_is_that_of_threads(samples: list[Sample]) -> None:
    settings = {"batch_size": 3, "seed": 5, "epochs": 2, "workers": 2}
    streams = [
        list(training_batches(samples, LABELS, IndexEncoding(), PLAIN, AUGMENT, loading=loading, **settings))
        for loading in ("threads", "processes")
    ]
    assert len(streams[0]) == len(streams[1]) == 4
    for one, other in zip(*streams, strict=True):
        assert_same(tuple(part.numpy() for part in one), tuple(part.numpy() for part in other))


def test_what_a_sample_raises_arrives_as_it_is(samples: list[Sample], tmp_path: Path) -> None:
    broken = Sample(samples[0].image, tmp_path / "mask.png")
    cv2.imwrite(str(broken.mask), np.full((20, 24), 77, np.uint8))  # 77 is no class
    stream = training_batches(
        [samples[0], broken], LABELS, IndexEncoding(), PLAIN, AUGMENT, batch_size=2, seed=0, epochs=1,
        workers=1, loading="processes",
    )  # fmt: skip
    with pytest.raises(DataError, match=r"mask\.png.*77") as caught, user_errors():
        list(stream)
    assert "Traceback" not in str(caught.value)


def test_a_killed_worker_is_one_clear_error(samples: list[Sample]) -> None:
    load = ProcessLoader(loader(samples), 3, 1)
    load(PLANS[0])
    (worker,) = load._team._workers
    os.kill(worker._process.pid, signal.SIGKILL)
    message = (
        rf"a data worker \(process {worker._process.pid}\) was ended by signal 9 \(SIGKILL\); the system ends programs "
        r"so when memory runs out; allowed: to start again, with --resume .* or with fewer training\.workers"
    )
    for _ in range(2):  # nor does a later call wait for ever
        with pytest.raises(SegError, match=message):
            load(PLANS[0])


def test_workers_end_when_their_loader_is_forgotten(samples: list[Sample]) -> None:
    load = ProcessLoader(loader(samples), 3, 2)
    load(PLANS[0])
    workers = [worker._process for worker in load._team._workers]
    del load
    assert [worker.returncode for worker in workers] == [0, 0]


def test_what_other_processes_cannot_import_is_refused_or_done_by_threads(samples: list[Sample]) -> None:
    weigh = lambda _, mask: np.ones(mask.shape, np.float32)  # noqa: E731 - that is the point
    with pytest.raises(NotImportable, match=r"loading: got 'processes' with .*lambda.*; allowed: functions and"):
        ProcessLoader(loader(samples, pixel_weights=weigh), 3, 1)


def test_a_system_without_room_for_processes(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(SegError, match=r"training\.workers: got 3, and the system lets no more .*; allowed: fewer, or"):
        ProcessLoader(loader(samples), 3, 3)


def test_an_augmentation_is_pickled_whole() -> None:
    AUGMENT(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), 0)  # a thread's transforms are made
    assert pickle.loads(pickle.dumps(AUGMENT)).model_dump() == AUGMENT.model_dump()


def test_a_layout_has_room_for_every_part() -> None:
    layout = Layout((5, 7), 3, (2,), weighted=True, count=4)
    slot = memoryview(bytearray(layout.bytes))
    masks, weights = layout.maps(slot)
    assert masks.shape == (4, 5, 7, 2) and weights.shape == (4, 5, 7) and weights.ctypes.data % 4 == 0
    masks[...], weights[...] = 7, 0.5
    for index, dtype in enumerate((np.uint8, np.float32, np.uint8, np.float32)):
        layout.image(slot, index, np.dtype(dtype))[...] = index + 1
    for index, dtype in enumerate((np.uint8, np.float32, np.uint8, np.float32)):
        assert (layout.image(slot, index, np.dtype(dtype)) == index + 1).all()
    assert (masks == 7).all() and (weights == 0.5).all()


# --- what is left behind ----------------------------------------------------------------------------------------------
# No `if __name__ == "__main__"`: workers must not run the script once more.
SCRIPT = """
import sys, time
from pathlib import Path
from seg.data.batches.loading import Plan, TrainingLoader
from seg.data.batches.processes import ProcessLoader
from seg.data.masks.reading import IndexEncoding
from seg.data.samples.pairs import Sample
from seg.data.views.preprocessing import Preprocessing
from seg.labels import LabelSet

sample = Sample(Path(sys.argv[1]), Path(sys.argv[2]))
plain = Preprocessing(3, None, None, (0.4,) * 3, (0.2,) * 3)
labels = LabelSet.from_names(("ground", "road", "tree"))
load = ProcessLoader(TrainingLoader([sample], labels, IndexEncoding(), plain, None, None, None), 1, 2)
load([Plan(0, 0, None)])
assert "tensorflow" not in sys.modules
print(*(worker._process.pid for worker in load._team._workers), flush=True)
time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def started(samples: list[Sample], tmp_path: Path) -> Iterator[tuple[subprocess.Popen, list[int]]]:
    """A script in a process group of its own, as a terminal starts it, and the ids of its workers."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(samples[0].image), str(samples[0].mask), "60"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process, [int(number) for number in process.stdout.readline().split()]
        process.kill()


def is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_and_no_shared_memory_is_left(started: tuple[subprocess.Popen, list[int]], how: int) -> None:
    process, workers = started
    assert len(workers) == 2 and all(map(is_running, workers))
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    assert process.wait(10) == -how
    limit = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not any(map(is_running, workers))


def test_shared_memory_has_no_name(samples: list[Sample]) -> None:
    """What has no name goes with the last process that has it open, and a small /dev/shm does not limit it."""
    folder = Path("/dev/shm")
    before = set(folder.iterdir()) if folder.is_dir() else set()
    load = ProcessLoader(loader(samples, cache=PixelCache(10**5, "test")), 3, 1)
    load(PLANS[0])
    assert not folder.is_dir() or not set(folder.iterdir()) - before


def test_streams_that_are_left_when_python_ends(samples: list[Sample], tmp_path: Path) -> None:
    """TensorFlow asks for batches until its buffers are full; in the midst of that, Python's end aborted or hung."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from seg.data.samples.pairs import Sample\n"
        "from test_processes import *\n"
        "samples = [Sample(Path(sys.argv[2]), Path(sys.argv[3]))] * 4\n"
        "settings = {'batch_size': 2, 'seed': 0, 'epochs': 1000, 'workers': 2}\n"
        "streams = []\n"
        "for loading in ('threads', 'processes'):\n"
        "    made = training_batches(samples, LABELS, IndexEncoding(), PLAIN, AUGMENT, loading=loading, **settings)\n"
        "    streams.append(iter(made))\n"
        "    next(streams[-1])\n"
        "print('left', flush=True)\n"
    )
    folder = Path(__file__).resolve().parent
    result = subprocess.run(
        [sys.executable, str(script), str(folder), str(samples[0].image), str(samples[0].mask)],
        env=os.environ | {"PYTHONPATH": str(folder.parents[2]), "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (result.returncode, result.stdout) == (0, "left\n"), result.stderr
    assert "Error" not in result.stderr and "Traceback" not in result.stderr


def test_what_a_cache_may_keep_is_divided(samples: list[Sample], tmp_path: Path) -> None:
    assert PixelCache(100, "test").divided(4).limit == 25
    (tmp_path / "a.npy").write_bytes(bytes(60))
    assert PixelCache(100, "test", tmp_path).divided(4).limit == 60 + 10
    whole = loader(samples, cache=PixelCache(100, "test"))
    assert whole.divided(2).cache.limit == 50 and whole.cache.limit == 100
