from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.losses import pixels

LABELS = np.array([[[0, 1], [1, 255]]], np.uint8)  # (1, 2, 2): one pixel of class 0, two of class 1, one void


@pytest.mark.parametrize(("normalize", "expected"), [("valid", 3.0), ("weights", 2.0 + 2 * 0.5), ("all", 4.0)])
def test_denominator_by_hand(normalize, expected):
    assert float(pixels.denominator(LABELS, [2.0, 0.5], normalize=normalize)) == expected


def test_denominator_of_weights_without_weights_is_the_number_of_valid_pixels():
    assert float(pixels.denominator(LABELS, normalize="weights")) == 3.0


def test_denominator_knows_other_void_values():
    assert float(pixels.denominator(np.array([[[-100, 0, 1]]], np.int64), ignore_index=-100)) == 2.0
    assert float(pixels.denominator(np.array([[[0, 0, 1]]]), [9.0, 2.0], ignore_index=0, normalize="weights")) == 2.0


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit", [False, True])
def test_sums_of_many_equal_values_are_right(jit):
    # Flat float32 sums of these are 0.4 % (eager) and 0.1 % (XLA, CPU) off, and 15 % and 4 % at 16 x 1024 x 1024.
    values = tf.fill((8, 256, 256), 0.1)
    total = tf.function(pixels.sum_pixels, jit_compile=jit, autograph=False)(values)
    assert float(total) == pytest.approx(0.1 * 8 * 256 * 256, rel=1e-4)  # rows of 256 and 2048 rows, rounded


def test_counts_do_not_saturate_at_2_to_the_24():
    assert float(pixels.count(np.ones(2**24 + 2, bool))) == 2**24 + 2


def test_label_weights_are_gathered_and_finite_everywhere():
    found = pixels.label_weights(np.array([[[0, 1, 255, -1]]], np.int32), keras.ops.array([2.0, 3.0]))
    assert keras.ops.convert_to_numpy(found)[0, 0, :2].tolist() == [2.0, 3.0] and np.isfinite(found).all()


@pytest.mark.parametrize("label", [255, -1, 7])
def test_label_log_probability_is_safe_for_any_label(label):
    found = pixels.label_log_probability(np.array([[[label]]], np.int32), keras.ops.array([[[[1e4, -1e4]]]]))
    assert np.isfinite(found).all()


def test_log_softmax_is_finite_at_extreme_logits():
    found = pixels.log_softmax(keras.ops.array([1e4, -1e4]))
    assert keras.ops.convert_to_numpy(found).tolist() == [0.0, -2e4]


def test_labels_that_are_not_integers_are_refused():
    with pytest.raises(ValueError, match="labels: got dtype float32, allowed: any integer dtype"):
        pixels.check_pixels(np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2, 3), np.float32))


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2), (1, 2, 2, 1), (2, 2, 2)])
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"allowed: \(N, H, W\) and \(N, H, W, C\)"):
        pixels.check_pixels(np.zeros(shape, np.uint8), np.zeros((1, 2, 2, 3), np.float32))


@pytest.mark.tensorflow
def test_unknown_static_shapes_pass():
    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None), tf.uint8), tf.TensorSpec((None, None, None, 3))],
        autograph=False,
    )
    def total(labels, logits):
        labels, logits = pixels.check_pixels(labels, logits)
        return pixels.sum_pixels(pixels.label_log_probability(labels, logits))

    assert float(total(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2, 3), np.float32))) == pytest.approx(
        -4 * np.log(3), rel=1e-6
    )


def test_class_weights_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match=r"class_weights: got shape \(2,\), allowed: \(3,\)"):
        pixels.check_class_weights([1.0, 2.0], 3)


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 2), (1, 1, 2)])
def test_pixel_weights_never_broadcast(shape):
    with pytest.raises(ValueError, match=r"pixel_weights: got shape .*, allowed: \(1, 2, 2\)"):
        pixels.check_pixel_weights(np.ones(shape), LABELS)


def test_unknown_normalize_is_refused():
    with pytest.raises(ValueError, match="normalize: got 'mean', allowed: valid, weights, all"):
        pixels.denominator(LABELS, normalize="mean")
