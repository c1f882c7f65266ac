import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.training.hooks import InputClock

IMAGES = np.zeros((12, 4), np.float32)


class Clocked(keras.callbacks.Callback):
    """Runs an `InputClock` as the TensorBoard callback does."""

    def on_train_begin(self, logs=None):
        self.clock = InputClock(self.model)
        self.clock.install()

    def on_train_end(self, logs=None):
        self.clock.remove()


def dense_model(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **options)
    return model


def slow(seconds, prefetched):
    def wait(x):
        time.sleep(seconds)
        return x

    data = tf.data.Dataset.from_tensor_slices((IMAGES, IMAGES[:, :1])).batch(2)
    data = data.map(lambda x, y: (tf.ensure_shape(tf.numpy_function(wait, [x], tf.float32), (2, 4)), y))
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # or TensorFlow prefetches by itself
    return data.prefetch(8) if prefetched else data.with_options(options)


def fit(data, **options):
    clocked, model = Clocked(), dense_model(**options)
    model.fit(data, verbose=0, shuffle=False, callbacks=[clocked])
    return clocked.clock, model


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 4}, {"run_eagerly": True}, {"jit_compile": True}])
def test_a_slow_pipeline_is_waited_for(options):
    clock, _ = fit(slow(0.05, prefetched=False), **options)
    assert clock.images == 12
    assert clock.waited >= 6 * 0.05  # six batches, none of them ready


def test_a_prefetched_pipeline_is_not():
    data = slow(0.05, prefetched=True)

    class Busy(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            time.sleep(0.2)  # the step; four times what a batch takes, so that even a busy machine has it ready

    clocked, model = Clocked(), dense_model()
    model.fit(data, verbose=0, shuffle=False, callbacks=[clocked, Busy()])
    slowly, _ = fit(slow(0.05, prefetched=False))
    assert clocked.clock.waited < slowly.waited


def test_training_is_the_same_and_the_models_train_function_comes_back():
    data = tf.data.Dataset.from_tensor_slices((np.eye(12, 4, dtype=np.float32), IMAGES[:, :1] + 1)).batch(5)
    clock, model = fit(data)
    plain = dense_model()
    plain.fit(data, verbose=0, shuffle=False)
    assert clock.images == 12  # 5 + 5 + 2
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model.train_function is not clock
    model.fit(data, verbose=0, shuffle=False)
    assert clock.images == 12


def test_reset_begins_anew():
    clock, _ = fit(slow(0.0, prefetched=True))
    clock.reset()
    assert (clock.waited, clock.images) == (0, 0)


def test_arrays_are_timed_too():
    clocked = Clocked()
    dense_model().fit(IMAGES, IMAGES[:, :1], batch_size=4, epochs=2, verbose=0, callbacks=[clocked])
    assert clocked.clock.images == 24
