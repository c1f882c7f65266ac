from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorflow import make_ndarray

from seg.errors import DataError
from seg.metrics.pr_curve import precision_recall
from seg.training import event_file
from seg.training.event_file import EventFile, cut_back, folder_bytes, image, pr_curve, scalar, text


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def points(folder, tag):
    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in read(folder).Tensors(tag)]


def write(folder, steps, first_step=0):
    file = EventFile(folder, first_step)
    for step in steps:
        file.add(step, [scalar("a", step / 2), scalar("b", -step)])
    file.close()
    return file.path


def test_values_read_back(tmp_path):
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    file = EventFile(tmp_path)
    file.add(3, [scalar("s", 0.25), text("t", "**bold**"), image("i", picture)])
    file.add(4, [pr_curve("p", precision_recall([[0, 1, 0], [0, 0, 2]]))])
    file.add(5, [])  # nothing: no record
    file.close()
    events = read(tmp_path)
    plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
    assert plugins == {"s": "scalars", "t": "text", "i": "images", "p": "pr_curves"}
    assert points(tmp_path, "s") == [(3, 0.25)]
    assert make_ndarray(events.Tensors("t")[0].tensor_proto).item() == b"**bold**"
    width, height, png = events.Tensors("i")[0].tensor_proto.string_val
    assert (width, height) == (b"5", b"4")
    import cv2

    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decoded, picture)
    # True and false positives, true and false negatives, precision, recall at the thresholds 0, 1/2 and 1.
    expected = [[2, 2, 2], [1, 1, 0], [0, 0, 1], [0, 0, 0], [2 / 3, 2 / 3, 1], [1, 1, 1]]
    np.testing.assert_allclose(make_ndarray(events.Tensors("p")[0].tensor_proto), expected, rtol=1e-6)


def test_cutting_back_drops_later_steps_and_keeps_the_rest(tmp_path):
    path = write(tmp_path, [0, 1, 2, 3])
    cut_back(tmp_path, 2)
    assert points(tmp_path, "a") == [(0, 0), (1, 0.5), (2, 1)]
    before = path.read_bytes()
    cut_back(tmp_path, 2)
    assert path.read_bytes() == before


@pytest.mark.parametrize("torn", [1, 5, 13, 40])
def test_a_torn_record_is_cut_off(tmp_path, torn):
    path = write(tmp_path, [1, 2])
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    cut_back(tmp_path, 2)
    assert points(tmp_path, "b") == [(1, -1)]
    write(tmp_path, [2])
    assert points(tmp_path, "b") == [(1, -1), (2, -2)]


def test_a_damaged_record_is_cut_off_with_what_follows(tmp_path):
    path = write(tmp_path, [1, 2, 3])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(content)
    cut_back(tmp_path, 3)
    left = points(tmp_path, "b") if path.exists() else []
    assert left == [(step, -step) for step in range(1, 4)][: len(left)] and len(left) < 3


def test_a_full_disk_is_one_error_with_the_path(tmp_path, monkeypatch):
    file = EventFile(tmp_path)

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, f"{file.path}; No space left on device")

    monkeypatch.setattr(file, "_writer", SimpleNamespace(write=full, flush=full, close=full))
    for act in (lambda: file.add(1, [scalar("a", 1.0)]), file.flush, file.close):
        with pytest.raises(DataError) as raised:
            act()
        assert str(raised.value) == f"{file.path}: cannot be written (No space left on device)"


def test_a_file_without_values_is_removed(tmp_path):
    write(tmp_path, [4, 5])
    kept = write(tmp_path, [1])
    cut_back(tmp_path, 3)
    assert list(tmp_path.iterdir()) == [kept]


def test_files_are_read_in_the_order_they_were_made(tmp_path):
    names = [write(tmp_path, [step]).name for step in range(3)]
    assert names == sorted(names)


def test_a_tensorboard_that_has_read_what_is_cut_forgets_it(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    running = plugin_event_accumulator.EventAccumulator(str(tmp_path)).Reload()  # what `--load_fast=false` reads by
    cut_back(tmp_path, 2)
    write(tmp_path, [3], first_step=3)
    assert [event.step for event in running.Reload().Tensors("a")] == [1, 2, 3]
    assert points(tmp_path, "a") == [(1, 0.5), (2, 1), (3, 1.5)]


def test_the_size_is_known_while_writing(tmp_path):
    file = EventFile(tmp_path / "run")
    for step in range(3):
        file.add(step, [text("t", "x" * 1000)])
    file.flush()
    # A record has 16 bytes beside its own: length and checksums.
    assert folder_bytes(tmp_path) == file.num_bytes + 16 * 5
    file.close()


def test_flushed_events_are_there_for_others(tmp_path):
    file = EventFile(tmp_path)
    file.add(1, [scalar("a", 1.0)])
    file.flush()
    assert points(tmp_path, "a") == [(1, 1.0)]
    file.close()
    assert event_file.PATTERN.startswith("events.out.tfevents")
