import re
import zipfile

import keras
import numpy as np
import pytest

from seg.errors import DataError
from seg.losses.combined import Combined
from seg.losses.cross_entropy import CrossEntropy
from seg.losses.dice import Dice
from seg.losses.focal import Focal
from seg.losses.online_weights import OnlineClassWeights
from seg.metrics.confusion import ConfusionMatrix
from seg.models.unet import unet_layers
from seg.training.segmenter import Segmenter, load_segmenter

WEIGHTS = [0.5, 1.0, 4.0]


def small_segmenter(terms=None, jit_compile=False, online_weights=None, **options):
    keras.utils.set_random_seed(0)
    model = Segmenter(*unet_layers(bands=3, num_classes=3, depth=1, base_filters=4))
    terms = terms or [(1.0, CrossEntropy(class_weights=WEIGHTS)), (0.5, Dice())]
    metrics = [ConfusionMatrix(("a", "b", "c"))]
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=Combined(terms),
        metrics=metrics,
        jit_compile=jit_compile,
        online_weights=online_weights,
        **options,
    )
    return model


def batch(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (2, 16, 16)).astype(np.uint8)
    labels[:, :3] = 255
    return rng.normal(size=(2, 16, 16, 3)).astype(np.float32), labels


def test_logs_hold_the_loss_each_term_unscaled_and_the_iou():
    model = small_segmenter()
    images, labels = batch()
    logits = model(images, training=True)
    logs = model.train_on_batch(images, labels, return_dict=True)
    expected = model.loss.term_values(labels, logits)
    assert set(logs) == {"loss", "loss/cross_entropy", "loss/dice", "mean_iou", "iou/a", "iou/b", "iou/c"}
    # 1e-5: XLA sums the same float32 values in another order than eager TensorFlow.
    assert logs["loss/cross_entropy"] == pytest.approx(float(expected["cross_entropy"]), rel=1e-5)
    assert logs["loss/dice"] == pytest.approx(float(expected["dice"]), rel=1e-5)
    assert logs["loss"] == pytest.approx(logs["loss/cross_entropy"] + 0.5 * logs["loss/dice"], rel=1e-6)


def test_an_update_that_is_no_number_is_skipped_and_leaves_no_trace():
    images, labels = batch()
    broken = images.copy()
    broken[0, 8, 8] = np.nan
    runs = []
    for middle in ([], [broken]):
        model = small_segmenter(online_weights=OnlineClassWeights(3, "inverse_sqrt"), skip_nonfinite=True, ema=0.9)
        for seen in (images, *middle, images):
            logs = model.train_on_batch(seen, labels, return_dict=True)  # resets the metrics
            assert logs["skipped_steps"] == (seen is broken)
        runs.append([*model.get_weights(), *(keras.ops.convert_to_numpy(v) for v in model.optimizer.variables)])
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluation_logs_the_same_terms_as_training_without_an_update():
    model = small_segmenter()
    images, labels = batch()
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    logs = model.test_on_batch(images, labels, return_dict=True)
    values = model.loss.term_values(labels, model(images, training=False))
    assert logs["loss/cross_entropy"] == pytest.approx(float(values["cross_entropy"]), rel=1e-5)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_a_fit_step_follows_the_gradient_of_the_pure_loss():
    """The road through compile and fit adds nothing: one SGD step = - learning rate x gradient of the loss function."""
    import tensorflow as tf

    model = small_segmenter()
    images, labels = batch()
    with tf.GradientTape() as tape:
        loss = model.loss.total(model.loss.term_values(labels, model(images, training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    # The forward pass above moved the batch norm's statistics, which training does not read.
    model.train_on_batch(images, labels)
    for old, gradient, variable in zip(before, gradients, model.trainable_variables, strict=True):
        # 2e-6 absolute: float32 sums in another order; weights are of size 0.1 to 1.
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable), old - 0.1 * keras.ops.convert_to_numpy(gradient), rtol=1e-4, atol=2e-6
        )


def moves_and_gradients(model, penalty=lambda model: 0.0):
    """What one SGD step of rate 0.1 subtracts, over 0.1; and the gradient of the pure loss plus `penalty`."""
    import tensorflow as tf

    images, labels = batch()
    with tf.GradientTape() as tape:
        loss = model.loss.total(model.loss.term_values(labels, model(images, training=True))) + penalty(model)
    gradients = [keras.ops.convert_to_numpy(value) for value in tape.gradient(loss, model.trainable_variables)]
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    logs = model.train_on_batch(images, labels, return_dict=True)
    after = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    return [(old - new) / 0.1 for old, new in zip(before, after, strict=True)], gradients, logs


@pytest.mark.parametrize("by", ["global_norm", "norm", "value"])
def test_clipping_by_hand(by):
    limit = 0.02  # the norms of the gradients are 0.02 to 0.5
    moves, gradients, _ = moves_and_gradients(small_segmenter(clip=(by, limit)))
    norms = [np.linalg.norm(gradient) for gradient in gradients]
    if by == "global_norm":
        norms = [np.sqrt(np.sum(np.square(norms)))] * len(norms)
        assert norms[0] > limit
    for move, gradient, norm in zip(moves, gradients, norms, strict=True):
        expected = np.clip(gradient, -limit, limit) if by == "value" else gradient * min(1, limit / norm)
        np.testing.assert_allclose(move, expected, rtol=1e-4, atol=2e-5)  # as above; divided by the rate


def test_l2_is_of_kernels_and_in_the_loss():
    import tensorflow as tf

    def penalty(model):
        kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]
        assert len(kernels) < len(model.trainable_variables)
        return 0.05 * sum(tf.reduce_sum(tf.square(kernel.value)) for kernel in kernels)

    model = small_segmenter(l2=0.05)
    expected = float(penalty(model))
    moves, gradients, logs = moves_and_gradients(model, penalty)
    for move, gradient in zip(moves, gradients, strict=True):
        np.testing.assert_allclose(move, gradient, rtol=1e-4, atol=2e-5)
    assert logs["loss/regularization"] == pytest.approx(expected, rel=1e-5)
    total = logs["loss/cross_entropy"] + 0.5 * logs["loss/dice"] + logs["loss/regularization"]
    assert logs["loss"] == pytest.approx(total, rel=1e-6)


def test_clipping_and_l2_are_saved_with_the_model(tmp_path):
    model = small_segmenter(clip=("norm", 0.5), l2=0.05)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.clip, loaded.l2) == (("norm", 0.5), 0.05)
    images, labels = batch()
    first, second = (each.train_on_batch(images, labels, return_dict=True) for each in (model, loaded))
    assert first == second


def test_a_clip_out_of_range_is_refused():
    with pytest.raises(ValueError, match="clip: got"):
        small_segmenter(clip=("length", 1.0))


def test_logits_at_void_pixels_move_nothing():
    images, labels = batch()
    everything_void = np.full_like(labels, 255)
    model = small_segmenter([(1.0, CrossEntropy())])
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    logs = model.train_on_batch(images, everything_void, return_dict=True)
    assert logs["loss"] == 0
    assert np.isnan(logs["mean_iou"])
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_terms_of_unequal_batches_average_by_images():
    """Keras weighs its loss by batch size; the terms must too, or they would not add up to it."""
    import tensorflow as tf

    model = small_segmenter([(1.0, CrossEntropy()), (1.0, Dice())])
    images, labels = batch()
    parts = tf.data.Dataset.from_tensor_slices((np.concatenate([images, images[:1]]), np.concatenate([labels] * 2)[:3]))
    logs = model.evaluate(parts.batch(2), return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(logs["loss/cross_entropy"] + logs["loss/dice"], rel=1e-6)


def test_pixel_weights_reach_the_terms():
    images, labels = batch()
    ones = small_segmenter([(1.0, CrossEntropy())]).test_on_batch(images, labels, return_dict=True)
    twice = small_segmenter([(1.0, CrossEntropy())])
    weights = np.full(labels.shape, 2.0, np.float32)
    loss = twice.compute_loss(images, labels, twice(images, training=False), sample_weight=weights, training=False)
    assert float(loss) == pytest.approx(2 * ones["loss"], rel=1e-5)


def test_saved_and_loaded_whole(tmp_path):
    model = small_segmenter()
    images, labels = batch()
    model.train_on_batch(images, labels)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, Segmenter)
    np.testing.assert_array_equal(loaded(images), model(images))
    assert loaded.loss.get_config() == model.loss.get_config()
    first, second = (each.train_on_batch(images, labels, return_dict=True) for each in (model, loaded))
    assert first["loss"] == second["loss"]


def test_a_loss_that_is_not_combined_is_refused():
    model = Segmenter(*unet_layers(bands=3, num_classes=3, depth=1, base_filters=2))
    with pytest.raises(TypeError, match=r"loss: got CrossEntropy, allowed: seg.losses.Combined, also of one term"):
        model.compile("adam", loss=CrossEntropy())


def test_online_weights_stand_in_for_those_of_the_weighted_terms(tmp_path):
    terms = [(1.0, CrossEntropy(class_weights=WEIGHTS)), (0.5, Dice()), (1.0, Focal(class_weights=WEIGHTS))]
    model = small_segmenter(terms, online_weights=OnlineClassWeights(3, "inverse_sqrt", momentum=0.5))
    alone = OnlineClassWeights(3, "inverse_sqrt", momentum=0.5)
    for seed in range(2):
        images, labels = batch(seed)
        labels[labels == 2] = seed  # class 2 was never seen: its weight is 0, and nothing is NaN
        weights = keras.ops.convert_to_numpy(alone.update(labels))
        logits = model(images, training=True)
        logs = model.train_on_batch(images, labels, return_dict=True)
        # 1e-5: XLA sums the same float32 values in another order than eager TensorFlow. The logs are means of batches.
        losses = {"cross_entropy": CrossEntropy, "focal": Focal}
        expected = {name: float(loss(class_weights=weights)(labels, logits)) for name, loss in losses.items()}
        if seed == 0:
            for name, value in expected.items():
                assert logs[f"loss/{name}"] == pytest.approx(value, rel=1e-5)
            assert logs["loss/dice"] == pytest.approx(float(Dice()(labels, logits)), rel=1e-5)
    np.testing.assert_array_equal(model.online_weights.current(), weights)
    values = model.test_on_batch(images, labels, return_dict=True)  # evaluation takes the weights as they stand
    expected = CrossEntropy(class_weights=weights)(labels, model(images, training=False))
    assert values["loss/cross_entropy"] == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_array_equal(model.online_weights.current(), weights)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.online_weights.get_config() == model.online_weights.get_config()
    fresh = small_segmenter(terms, online_weights=OnlineClassWeights(3, "inverse_sqrt", momentum=0.5))
    fresh.load_weights(tmp_path / "model.keras")
    for copy in (loaded, fresh):
        np.testing.assert_array_equal(copy.online_weights.current(), weights)
    assert load_segmenter(tmp_path / "model.keras")(images).shape == (2, 16, 16, 3)
    first, second = (each.train_on_batch(images, labels, return_dict=True) for each in (model, loaded))
    assert first["loss"] == second["loss"] and np.isfinite(first["loss"])


def test_online_weights_without_a_weighted_term_are_refused():
    with pytest.raises(ValueError, match="online_weights: no effect, no loss term has class weights"):
        small_segmenter([(1.0, CrossEntropy())], online_weights=OnlineClassWeights(3, "inverse_sqrt"))


@pytest.mark.parametrize(
    "config",
    [
        "[]",
        '{"module": "os", "class_name": "system", "config": {}, "registered_name": null}',
        '{"module": null, "class_name": "Segmenter", "config": {}, "registered_name": "seg>Segmenter"}',
    ],
)
def test_what_is_no_model_of_ours_is_one_line(tmp_path, config):
    small_segmenter().save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole, zipfile.ZipFile(tmp_path / "x.keras", "w") as changed:
        for member in whole.namelist():
            changed.writestr(member, config if member == "config.json" else whole.read(member))
    with pytest.raises(DataError) as caught:
        load_segmenter(tmp_path / "x.keras")
    assert re.fullmatch(
        rf"{tmp_path}/x\.keras: (cannot be loaded as a model: .+|got a .+, allowed: .+)", str(caught.value)
    )


# --- the average of the weights ---------------------------------------------------------------------------------------
class Seen(keras.callbacks.Callback):
    """The raw weights after each update, and what a save within `fit` writes."""

    def __init__(self, path):
        super().__init__()
        self.path, self.raw = path, []

    def on_train_batch_end(self, batch, logs=None):
        self.raw.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.model.save(self.path)


def test_the_average_is_evaluated_saved_and_left_and_training_goes_on_from_the_raw(tmp_path):
    plain, model = small_segmenter(), small_segmenter(ema=0.6)
    images, labels = (np.concatenate(arrays) for arrays in zip(*map(batch, range(3)), strict=True))
    how = {"batch_size": 2, "shuffle": False, "verbose": 0}
    seen, raw = Seen(tmp_path / "model.keras"), Seen(tmp_path / "plain.keras")
    plain.fit(images, labels, callbacks=[raw], **how)
    history = model.fit(images, labels, validation_data=(images, labels), callbacks=[seen], **how).history
    number = len(plain.get_weights())
    for ours, theirs in zip(seen.raw, raw.raw, strict=True):
        for mine, weight in zip(ours[:number], theirs, strict=True):
            np.testing.assert_array_equal(mine, weight)  # the average changes nothing of the training
    powers = 0.4 * 0.6 ** np.arange(3)[::-1] / (1 - 0.6**3)
    expected = [sum(p * weights[i] for p, weights in zip(powers, raw.raw, strict=True)) for i in range(number)]
    for weight, value in zip(model.get_weights()[:number], expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-5, atol=1e-6)  # the statistics of batch norm too
    assert model.evaluate(images, labels, batch_size=2, verbose=0, return_dict=True)["loss"] == history["val_loss"][0]

    loaded = load_segmenter(tmp_path / "model.keras")  # what predicts
    for weight, value in zip(loaded.get_weights(), model.get_weights()[:number], strict=True):
        np.testing.assert_array_equal(weight, value)
    going_on = keras.models.load_model(tmp_path / "model.keras")  # what trains on
    for one in (going_on, model, plain):
        one.fit(images, labels, **how)
    for mine, weight in zip(going_on.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, weight)
    for other, weight in zip(model.average.others, plain.get_weights(), strict=True):
        np.testing.assert_array_equal(np.asarray(other), weight)


def test_an_interrupted_fit_leaves_the_average():
    class Stopping(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = small_segmenter(ema=0.6)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*batch(), callbacks=[Stopping()], verbose=0)
    assert not model._is_raw
