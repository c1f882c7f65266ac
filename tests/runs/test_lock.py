"""One process trains a run: who holds the lock, who may take it, and what happens when two come at once."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from seg.errors import DataError
from seg.runs import lock
from seg.runs.lock import Owner, locked


@pytest.fixture
def other():
    """A process that lives, and is no ancestor or thread of this one."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        yield process
        process.kill()


def owner_of(pid, **changes):
    owner = dataclasses.replace(Owner.this_process(), pid=pid, started=lock._start_time(pid))
    return dataclasses.replace(owner, **changes)


def write(folder, owner):
    (folder / "run.lock").write_text(json.dumps(dataclasses.asdict(owner)))


def holder(folder):
    return Owner(**json.loads((folder / "run.lock").read_text()))


def test_the_lock_is_there_while_it_is_held_and_says_who(tmp_path):
    with locked(tmp_path, print):
        assert holder(tmp_path) == Owner.this_process()
        assert holder(tmp_path).pid == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_run_of_a_living_process_is_refused(tmp_path, other):
    write(tmp_path, owner_of(other.pid))
    with pytest.raises(DataError) as raised, locked(tmp_path, print):
        pass
    host = Owner.this_process().host
    assert str(raised.value) == (
        f"{tmp_path}: is being trained by process {other.pid} on {host}; allowed: once that has ended "
        f"(only if you know that it has: remove {tmp_path}/run.lock)"
    )
    assert holder(tmp_path).pid == other.pid


def test_the_lock_of_a_process_that_has_ended_is_taken(tmp_path, other):
    write(tmp_path, owner_of(other.pid))
    other.kill()
    other.wait()
    with locked(tmp_path, print):
        assert holder(tmp_path) == Owner.this_process()
    assert not list(tmp_path.iterdir())


def test_another_process_with_the_same_id_is_told_by_its_start(tmp_path, other):
    write(tmp_path, owner_of(other.pid, started="1"))
    with locked(tmp_path, print):
        assert holder(tmp_path) == Owner.this_process()


@pytest.mark.parametrize("content", [{"host": "elsewhere"}, {"namespace": "another container"}, None])
def test_who_cannot_be_seen_has_ended_after_a_silence(tmp_path, monkeypatch, content):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "SILENCE", 0.3)
    if content is None:
        (tmp_path / "run.lock").write_text("")  # a machine that went down while it was written
    else:
        write(tmp_path, owner_of(os.getpid(), **content))
    told = []
    with locked(tmp_path, told.append):
        assert holder(tmp_path) == Owner.this_process()
    assert len(told) == 1 and "waiting up to 0 s for a sign that the run is being trained" in told[0]


def test_who_cannot_be_seen_but_shows_life_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "SILENCE", 5.0)
    theirs = owner_of(1, host="elsewhere", started="5")
    write(tmp_path, theirs)
    ended = threading.Event()
    beating = threading.Thread(target=lock._show_life, args=(tmp_path / "run.lock", theirs, ended))
    beating.start()
    try:
        with pytest.raises(DataError, match="is being trained by process 1 on elsewhere"), locked(tmp_path, print):
            pass
    finally:
        ended.set()
        beating.join()


def test_a_lock_that_was_removed_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with locked(tmp_path, print):
        (tmp_path / "run.lock").unlink()
        until = time.monotonic() + 10
        while not (tmp_path / "run.lock").exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert holder(tmp_path) == Owner.this_process()


def test_a_process_whose_run_was_taken_over_ends_at_once(tmp_path):
    script = f"""
import time
from pathlib import Path
from seg.runs import lock
lock.BEAT = 0.05
with lock.locked(Path({str(tmp_path)!r}), print):
    print("holds", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "holds\n"
    theirs = owner_of(1, host="elsewhere")
    (tmp_path / "new").write_text(json.dumps(dataclasses.asdict(theirs)))
    os.replace(tmp_path / "new", tmp_path / "run.lock")
    _, told = process.communicate(timeout=30)
    assert process.returncode == 2
    assert told == (
        f"error: {tmp_path}/run.lock: process 1 on elsewhere has taken the run over while this one stood still\n"
    )
    assert holder(tmp_path) == theirs


def test_a_stale_lock_goes_to_one_of_many(tmp_path, monkeypatch):
    """Threads stand for processes: each says that it is another one."""
    write(tmp_path, owner_of(os.getpid(), started="1"))
    me = threading.local()
    real = Owner.this_process()
    monkeypatch.setattr(Owner, "this_process", classmethod(lambda cls: dataclasses.replace(real, pid=me.pid)))
    monkeypatch.setattr(lock, "_start_time", lambda pid: real.started)
    everybody = threading.Barrier(8)

    def take(number):
        me.pid = number
        everybody.wait()
        try:
            with locked(tmp_path, print):
                everybody.wait()
                return 1
        except DataError:
            everybody.wait()
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    told = r"gone: the run cannot be locked \(No such file or directory\)"
    with pytest.raises(DataError, match=told), locked(tmp_path / "gone", print):
        pass
