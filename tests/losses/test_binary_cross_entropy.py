from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import ops

from seg.losses import BinaryCrossEntropy, Combined, Dice, binary_cross_entropy, cross_entropy

VOID = 255


def test_by_hand():
    # Logit log 3: s = 3/4. Present: -w log 3/4, absent: -log 1/4. Weights 2 and 5; one entry is void.
    labels = np.array([[[[1, 1], [0, VOID]]]], np.uint8)
    logits = np.full((1, 1, 2, 2), math.log(3), np.float32)
    total = 2 * math.log(4 / 3) + 5 * math.log(4 / 3) + math.log(4)
    for normalize, divisor in (("valid", 3), ("weights", 2 + 5 + 1), ("all", 4)):
        value = float(binary_cross_entropy(labels, logits, pos_weight=[2.0, 5.0], normalize=normalize))
        assert value == pytest.approx(total / divisor, rel=1e-6)


def test_soft_targets_by_hand():
    # t = 1/4 at s = 3/4, weight 2: -(2/4 log 3/4 + 3/4 log 1/4).
    value = float(binary_cross_entropy([[[[0.25]]]], [[[[math.log(3)]]]], pos_weight=[2.0]))
    assert value == pytest.approx(0.5 * math.log(4 / 3) + 0.75 * math.log(4), rel=1e-6)


def test_label_smoothing_is_a_soft_target():
    labels, logits = np.array([[[[1, 0, VOID]]]], np.float32), np.array([[[[0.3, -2.0, 1.0]]]], np.float32)
    smoothed = np.array([[[[0.9, 0.1, VOID]]]], np.float32)  # 1 - e + e / 2 and e / 2 for e = 0.2
    found = float(binary_cross_entropy(labels, logits, label_smoothing=0.2, pos_weight=[1.0, 3.0, 5.0]))
    assert found == pytest.approx(float(binary_cross_entropy(smoothed, logits, pos_weight=[1.0, 3.0, 5.0])), rel=1e-6)


@pytest.mark.parametrize("normalize", ["valid", "weights", "all"])
def test_a_one_logit_model_s_cross_entropy_is_the_same_loss(value_and_gradient, normalize):
    """Class weights (1, w) of the logits (0, z) are pos_weight w of z."""
    generator = np.random.default_rng(1)
    labels, z = generator.choice([0, 1, VOID], (2, 3, 5)), generator.normal(0, 3, (2, 3, 5, 1)).astype(np.float32)

    def one_logit(labels, z):
        logits = ops.concatenate([ops.zeros_like(z), z], axis=-1)
        return cross_entropy(labels, logits, class_weights=[1.0, 3.5], normalize=normalize)

    def sigmoid(labels, z):
        return binary_cross_entropy(labels, z, pos_weight=[3.5], normalize=normalize)

    expected, found = value_and_gradient(one_logit, labels, z), value_and_gradient(sigmoid, labels, z)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-7)  # float32: p - 1 of a softmax


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_sure_and_right_keeps_its_digits(value_and_gradient, kind):
    """At s = 1 - 2e-9, which is 1 in float32, loss and gradient are e^-20; the common max(z, 0) - z t + ... gives 0."""
    labels, logits = np.array([[[[1, 0]]]], kind), np.array([[[[20.0, -20.0]]]], np.float32)
    value, gradient = value_and_gradient(binary_cross_entropy, labels, logits)
    assert value == pytest.approx(math.exp(-20), rel=1e-5)
    np.testing.assert_allclose(gradient, [[[[-math.exp(-20) / 2, math.exp(-20) / 2]]]], rtol=1e-5)


def test_at_logit_0_the_gradient_is_that_of_the_sigmoid(value_and_gradient):
    _, gradient = value_and_gradient(binary_cross_entropy, np.array([[[[1, 0]]]]), np.zeros((1, 1, 1, 2), np.float32))
    np.testing.assert_allclose(gradient, [[[[-0.25, 0.25]]]])  # (s - t) / 2


def test_pixel_weights_scale_all_entries_of_a_pixel():
    labels = np.array([[[[1, 0], [0, 1]]]], np.uint8)
    logits = np.zeros((1, 1, 2, 2), np.float32)
    value = float(binary_cross_entropy(labels, logits, pixel_weights=np.array([[[3.0, 0.5]]], np.float32)))
    assert value == pytest.approx(math.log(2) * (3 + 3 + 0.5 + 0.5) / 4, rel=1e-6)
    with pytest.raises(ValueError, match=r"pixel_weights: got shape \(1, 1, 2, 2\), allowed: \(1, 1, 2\)"):
        binary_cross_entropy(labels, logits, pixel_weights=np.ones((1, 1, 2, 2), np.float32))


def test_pos_weight_0_leaves_present_entries_out(value_and_gradient):
    labels, logits = np.array([[[[1, 0]]]], np.uint8), np.array([[[[-3.0, 1.0]]]], np.float32)
    value, gradient = value_and_gradient(lambda y, z: binary_cross_entropy(y, z, pos_weight=[0.0, 0.0]), labels, logits)
    assert value == pytest.approx(math.log1p(math.e) / 2, rel=1e-6) and gradient[0, 0, 0, 0] == 0


def test_splitting_a_batch_by_its_valid_entries_gives_the_whole(value_and_gradient):
    generator = np.random.default_rng(2)
    labels, logits = generator.choice([0, 1, VOID], (4, 3, 5, 3)), generator.normal(size=(4, 3, 5, 3))
    parts = [slice(0, 1), slice(1, 4)]
    sizes = [(labels[part] != VOID).sum() for part in parts]
    found = sum(float(binary_cross_entropy(labels[p], logits[p])) * n for p, n in zip(parts, sizes, strict=True))
    assert found / sum(sizes) == pytest.approx(float(binary_cross_entropy(labels, logits)), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "mean"}, "normalize: got 'mean', allowed: valid, weights, all"),
        ({"label_smoothing": 1.0}, "label_smoothing: got 1.0, allowed: 0 <= label_smoothing < 1"),
        ({"pos_weight": [1.0, -1.0]}, r"pos_weight: got \[1.0, -1.0\], allowed: finite, not negative"),
        ({"pos_weight": [math.nan]}, r"pos_weight: got \[nan\], allowed: finite, not negative"),
    ],
)
def test_options_are_checked_where_the_loss_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        BinaryCrossEntropy(**options)


# --- as Keras losses --------------------------------------------------------------------------------------------------
def small_model(num_classes: int) -> keras.Model:
    images = keras.Input((None, None, 2))
    return keras.Model(images, keras.layers.Conv2D(num_classes, 1)(images))


@pytest.mark.tensorflow
def test_a_compiled_model_is_saved_and_loaded(tmp_path):
    labels = np.random.default_rng(0).choice([0, 1, VOID], (4, 3, 5, 3)).astype(np.uint8)
    images = np.random.default_rng(1).normal(size=(4, 3, 5, 2)).astype(np.float32)
    bce = BinaryCrossEntropy(pos_weight=[1.0, 2.5, 0.0], label_smoothing=0.1, normalize="weights", ignore_index=255)
    dice = Dice(multi_label=True, class_weights=[1, 2, 3], absent="count", reduction="image")
    loss = Combined([(1.0, bce), (0.5, dice)])
    model = small_model(3)
    model.compile("sgd", loss=loss)
    model.fit(images, labels, batch_size=2, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [term.get_config() for _, term in loaded.loss.terms] == [term.get_config() for _, term in loss.terms]
    assert loaded.evaluate(images, labels, verbose=0) == pytest.approx(model.evaluate(images, labels, verbose=0))


@pytest.mark.tensorflow
def test_a_plain_keras_model_with_one_output_trains_on_it():
    """Labels (N, H, W), logits (N, H, W, 1), sample_weight maps; a pixel of weight 0 has no part."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(8, 4, 4, 2)).astype(np.float32)
    labels = (images[..., 0] > 0).astype(np.uint8)
    weights = np.ones(labels.shape, np.float32)
    weights[:, 0], labels[:, 0] = 0, 1 - labels[:, 0]  # wrong labels, weighed away
    model = small_model(1)
    model.compile(keras.optimizers.Adam(0.3), loss=BinaryCrossEntropy(pos_weight=[1.5]))
    history = model.fit(images, labels, sample_weight=weights, batch_size=8, epochs=25, verbose=0)
    assert history.history["loss"][-1] < 0.25 * history.history["loss"][0]
    assert ((model.predict(images, verbose=0)[:, 1:, ..., 0] > 0) == labels[:, 1:]).mean() > 0.9


def test_dice_refuses_pixel_weights():
    with pytest.raises(ValueError, match=r"loss 'dice': got pixel weights \(sample_weight\), allowed: none"):
        Dice(multi_label=True)(np.zeros((1, 1, 1, 2)), np.zeros((1, 1, 1, 2)), sample_weight=np.ones((1, 1, 1)))
