"""seg.data.batch_memory: aligned, and never given out while anything refers to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from seg.data.batch_memory import ALIGNMENT, KEPT, BatchMemory


def test_arrays_are_aligned_and_apart() -> None:
    memory = BatchMemory((3, 5, 7, 3))
    held = [memory.take() for _ in range(4)]
    for number, array in enumerate(held):
        assert array.shape == (3, 5, 7, 3) and array.dtype == np.float32 and array.flags.c_contiguous
        assert array.ctypes.data % ALIGNMENT == 0
        array[:] = number
    assert [array.max() for array in held] == [array.min() for array in held] == [0, 1, 2, 3]


def test_what_nobody_holds_is_given_out_again() -> None:
    memory = BatchMemory((2, 8))
    addresses = set()
    for _ in range(10):
        array = memory.take()
        addresses.add(array.ctypes.data)
        del array
    assert len(addresses) == 1


def test_a_view_keeps_its_memory() -> None:
    memory = BatchMemory((2, 8))
    array = memory.take()
    array[:] = 7
    row = array[1, 2:]
    del array
    memory.take()[:] = 0
    assert (row == 7).all()
    del row
    assert len({id(memory.take()) for _ in range(5)}) <= 2  # both are free now


def test_a_tensor_keeps_its_memory() -> None:
    """Batches that tf.data holds ready, and those that a consumer keeps, are not written over."""
    memory = BatchMemory((2, 64))

    def fill(number: np.int64) -> np.ndarray:
        array = memory.take()
        array[:] = number
        return array

    stream = tf.data.Dataset.range(60).map(
        lambda number: tf.numpy_function(fill, [number], tf.float32), num_parallel_calls=3, deterministic=True
    )
    kept = []
    for number, batch in enumerate(stream.prefetch(3)):
        assert (batch.numpy() == number).all()
        if number % 7 == 0:
            kept.append((number, batch if number % 2 else batch.numpy()))
    for number, batch in kept:
        assert (np.asarray(batch) == number).all()
    assert len(memory._kept) <= KEPT


def test_threads_get_arrays_of_their_own() -> None:
    memory = BatchMemory((64,))

    def use(number: int) -> bool:
        array = memory.take()
        array[:] = number
        return bool((array == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(2000)))
