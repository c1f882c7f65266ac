from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from seg.losses import (
    Combined,
    CrossEntropy,
    Dice,
    Focal,
    GeneralisedDice,
    Lovasz,
    SegmentationLoss,
    TopKCrossEntropy,
    Tversky,
    cross_entropy,
    dice_loss,
    focal_loss,
    generalised_dice_loss,
    lovasz_loss,
    top_k_cross_entropy,
    tversky_loss,
    weights_by_name,
)

WEIGHTS = [0.5, 1.0, 2.0, 4.0]
LOSSES = [
    CrossEntropy(class_weights=WEIGHTS, ignore_index=9, label_smoothing=0.1, normalize="weights", name="ce"),
    Focal(gamma=1.5, class_weights=np.array(WEIGHTS), ignore_index=9, normalize="all"),
    Dice(class_weights=tuple(WEIGHTS), ignore_index=9, smooth=2.0, reduction="image", absent="count"),
    TopKCrossEntropy(fraction=0.5, class_weights=dict(enumerate(WEIGHTS)), ignore_index=9),
    Tversky(alpha=0.2, beta=0.8, gamma=1.5, class_weights=WEIGHTS, ignore_index=9, smooth=2.0, absent="count"),
    Tversky(alpha=1.0, beta=1.0, ignore_index=9, reduction="image", name="jaccard"),
    GeneralisedDice(class_weights=WEIGHTS, ignore_index=9, reduction="image", absent="count"),
    Lovasz(class_weights=WEIGHTS, ignore_index=9, reduction="image", absent="count"),
    Combined([(1.0, CrossEntropy(ignore_index=9)), (0.5, Dice(ignore_index=9))], name="sum"),
]


def model() -> keras.Model:
    return keras.Sequential([keras.Input((None, None, 2)), keras.layers.Conv2D(4, 1)])


@pytest.mark.parametrize(
    ("loss", "function"),
    [
        (CrossEntropy, cross_entropy),
        (Focal, focal_loss),
        (TopKCrossEntropy, top_k_cross_entropy),
        (Dice, dice_loss),
        (Tversky, tversky_loss),
        (GeneralisedDice, generalised_dice_loss),
        (Lovasz, lovasz_loss),
    ],
)
def test_classes_are_their_functions(batch, loss, function):
    assert float(loss()(*batch)) == float(function(*batch))
    assert float(loss(class_weights=WEIGHTS)(*batch)) == float(function(*batch, class_weights=WEIGHTS))


@pytest.mark.parametrize(
    ("loss", "function"),
    [(CrossEntropy, cross_entropy), (Focal, focal_loss), (TopKCrossEntropy, top_k_cross_entropy)],
)
def test_sample_weights_are_pixel_weights(batch, loss, function):
    weights = np.random.default_rng(0).random(batch[0].shape)
    assert float(loss()(*batch, sample_weight=weights)) == float(function(*batch, pixel_weights=weights))


def test_large_integer_labels_do_not_pass_through_float32(batch):
    # 2**24 + 1 is no float32: Keras's own __call__ would make it 2**24, another label.
    labels = np.where(batch[0] == 255, 2**24 + 1, batch[0].astype(np.int32))
    assert float(CrossEntropy(ignore_index=2**24 + 1)(labels, batch[1])) == float(cross_entropy(*batch))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_serialised_and_back(batch, loss):
    config = keras.saving.serialize_keras_object(loss)
    assert config["registered_name"].startswith("seg>")
    assert loss.name in str(config["config"])
    copy = keras.saving.deserialize_keras_object(config)
    labels = np.where(batch[0] == 255, 9, batch[0])
    assert copy.get_config() == loss.get_config()
    assert float(copy(labels, batch[1])) == float(loss(labels, batch[1]))


# Keras 3.15 reads TensorFlow variables with np.array(), which NumPy 2 warns about.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_compile_fit_save_and_load(tmp_path, loss):
    labels_dtype = (np.uint8, np.int32, np.int64)[LOSSES.index(loss) % 3]
    generator = np.random.default_rng(0)
    images = generator.random((4, 6, 7, 2), np.float32)
    labels = generator.choice([0, 1, 2, 3, 9], (4, 6, 7)).astype(labels_dtype)
    trained = model()
    trained.compile("sgd", loss=loss)
    history = trained.fit(images, labels, batch_size=4, epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == loss.get_config()
    expected = trained.evaluate(images, labels, verbose=0)
    assert loaded.evaluate(images, labels, verbose=0) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(float(loss(labels, trained(images))), rel=1e-5)


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(), TopKCrossEntropy(fraction=1.0)], ids=lambda loss: loss.name)
def test_evaluate_honours_maps_of_sample_weights(loss):
    generator = np.random.default_rng(0)
    images, labels = generator.random((2, 4, 4, 2), np.float32), generator.integers(0, 4, (2, 4, 4))
    weights = generator.random((2, 4, 4), np.float32)
    trained = model()
    trained.compile("sgd", loss=loss)
    expected = float(loss(labels, trained(images), sample_weight=weights))
    assert expected != pytest.approx(float(loss(labels, trained(images))), rel=0.1)
    found = trained.evaluate(images, labels, sample_weight=weights, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)


def test_fit_takes_soft_targets():
    generator = np.random.default_rng(0)
    images = generator.random((2, 4, 5, 2), np.float32)
    targets = generator.dirichlet(np.ones(4), (2, 4, 5)).astype(np.float32)
    trained = model()
    trained.compile("sgd", loss=CrossEntropy(class_weights=WEIGHTS, label_smoothing=0.1))
    history = trained.fit(images, targets, epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]


def test_fit_takes_maps_of_sample_weights():
    images, labels = np.ones((2, 4, 4, 2), np.float32), np.zeros((2, 4, 4), np.uint8)
    weights = np.zeros((2, 4, 4), np.float32)
    trained = model()
    trained.compile("sgd", loss=CrossEntropy())
    assert trained.fit(images, labels, sample_weight=weights, verbose=0).history["loss"] == [0.0]
    with pytest.raises(ValueError, match=r"pixel_weights: got shape \((None|2),\), allowed: \((None|2), 4, 4\)"):
        trained.evaluate(images, labels, sample_weight=np.ones(2, np.float32), verbose=0)


def test_mixed_precision_models_are_judged_in_float32():
    images, labels = np.ones((1, 4, 4, 2), np.float32), np.zeros((1, 4, 4), np.uint8)
    head = keras.layers.Conv2D(4, 1, dtype="mixed_bfloat16")
    trained = keras.Sequential([keras.Input((None, None, 2)), head])
    assert keras.backend.standardize_dtype(trained(images).dtype) == "bfloat16"
    for loss in (CrossEntropy(), Focal(), Dice(), Tversky(), GeneralisedDice(), Lovasz(), TopKCrossEntropy()):
        assert keras.backend.standardize_dtype(loss(labels, trained(images)).dtype) == "float32"


@pytest.mark.tensorflow
def test_divided_by_the_replicas_as_keras_s_losses_are(batch, monkeypatch):
    class TwoReplicas:
        num_replicas_in_sync = 2

    loss = Combined([(1.0, CrossEntropy()), (1.0, Dice())])
    alone = float(loss(*batch))
    monkeypatch.setattr(tf.distribute, "get_strategy", TwoReplicas)
    assert float(loss(*batch)) == pytest.approx(alone / 2, rel=1e-6)  # divided once, not once a term and once more


@pytest.mark.parametrize("weights", [[-1.0, 1.0], [float("nan"), 1.0], [float("inf"), 1.0], [0.0, 0.0]])
def test_weights_that_mean_nothing_are_refused(weights):
    message = "class_weights: got .*, allowed: finite, not negative, at least one above 0"
    for loss in (CrossEntropy, Focal, Dice, Tversky, GeneralisedDice, Lovasz, TopKCrossEntropy):
        with pytest.raises(ValueError, match=message):
            loss(class_weights=weights)


def test_weights_by_index(batch):
    weights = {3: 4.0, 0: 0.5, 2: 2, np.int64(1): 1.0}
    assert CrossEntropy(class_weights=weights).get_config()["class_weights"] == WEIGHTS
    assert float(Dice(class_weights=weights)(*batch)) == float(dice_loss(*batch, class_weights=WEIGHTS))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({0: 1.0, 2: 1.0}, r"class_weights: got the keys \[0, 2\], allowed: \[0, 1\], every class with its weight"),
        ({1: 1.0, 2: 1.0}, r"class_weights: got the keys \[1, 2\], allowed: \[0, 1\], every class with its weight"),
        ({"sky": 1.0}, r"class_weights: got the keys \['sky'\], allowed: class indices; .*weights_by_name"),
        ({0: -1.0}, r"class_weights: got \[-1.0\], allowed: finite, not negative, at least one above 0"),
        ({}, r"class_weights: got \[\], allowed: finite, not negative, at least one above 0"),
    ],
)
def test_weights_by_index_that_mean_nothing_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        CrossEntropy(class_weights=weights)


def test_weights_by_name_come_in_the_order_of_the_classes():
    assert weights_by_name({"boat": 9, "water": 0.5}, ["water", "boat"]) == [0.5, 9.0]


@pytest.mark.parametrize("weights", [{"water": 1.0}, {"water": 1.0, "boat": 1.0, "car": 1.0}, {0: 1.0, 1: 2.0}])
def test_weights_of_other_names_are_refused(weights):
    names = ", ".join(map(str, weights))
    message = f"class_weights: got the names {names}, allowed: water, boat, every class with its weight"
    with pytest.raises(ValueError, match=message):
        weights_by_name(weights, ["water", "boat"])


def test_the_base_has_no_formula(batch):
    with pytest.raises(NotImplementedError):
        SegmentationLoss("base")(*batch)


def test_the_options_are_those_of_the_function():
    assert str(inspect.signature(Dice)).startswith("(*, class_weights: ")
    assert list(inspect.signature(Focal).parameters) == ["gamma", "class_weights", "ignore_index", "normalize", "name"]
    assert Tversky().get_config() == {
        **{"alpha": 0.3, "beta": 0.7, "gamma": 1.0, "class_weights": None, "ignore_index": 255},
        **{"smooth": 1.0, "reduction": "batch", "absent": "skip", "name": "tversky"},
    }
    for wrong in ({"smoth": 1.0}, {"pixel_weights": None}, {"per_class": True}):
        with pytest.raises(TypeError, match=f"got an unexpected keyword argument '{next(iter(wrong))}'"):
            Dice(**wrong)
    with pytest.raises(TypeError):
        Dice([1.0, 2.0])
