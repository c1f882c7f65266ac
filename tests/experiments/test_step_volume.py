import keras
import pytest

from experiments.benchmarks.step_volume import exchanged_bytes, forward_flops


def test_flops_of_convolutions_are_counted_by_their_products():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(images)  # 8 x 8 -> 4 x 4, 3 * 3 * 3 * 4 products each
    model = keras.Model(images, keras.layers.Conv2DTranspose(5, 2, strides=2)(x))  # 4 x 4 -> 8 x 8, 2 * 2 * 4 * 5
    assert forward_flops(model, 8) == 2 * 16 * 108 + 2 * 16 * 80


def test_a_ring_sends_all_but_a_part_twice():
    assert exchanged_bytes(10, 2) == 40  # bytes of 10 float32 weights: half of them, twice
    assert exchanged_bytes(10, 4) == pytest.approx(60)
