import pytest
import tensorflow as tf

from seg.data.batches.shares import ALL
from seg.errors import ConfigError
from seg.runs.devices import Devices


def test_one_device_needs_no_strategy_and_makes_the_data_itself():
    devices = Devices.of("none", num_gpus=1)
    assert (devices.number, devices.note) == (1, "")
    assert devices.data(lambda share: share) == ALL


def test_a_user_is_told_of_gpus_that_idle():
    note = "1 of 4 GPUs is used; training.distribution=mirrored uses all of them"
    assert Devices.of("none", num_gpus=4).note == note


def test_a_batch_that_devices_cannot_share_is_refused():
    class Three:
        num_replicas_in_sync = 3

    Devices(Three()).check_batch_size(6)
    message = r"training\.batch_size: got 8, which 3 devices cannot share equally; allowed: a multiple of 3"
    with pytest.raises(ConfigError, match=message):
        Devices(Three()).check_batch_size(8)


def test_the_devices_of_a_process_are_one_strategy():
    first, second = Devices.of("mirrored", num_gpus=0), Devices.of("mirrored", num_gpus=0)
    assert first.strategy is second.strategy
    assert first.note == f"a batch is shared by {len(tf.config.list_logical_devices('CPU'))} CPUs"
