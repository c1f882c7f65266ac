import keras
import numpy as np
import pytest

from seg.errors import ConfigError
from seg.losses import Combined, CrossEntropy
from seg.models.unet import unet_layers
from seg.training.freezing import Freezing
from seg.training.hooks import InputClock
from seg.training.segmenter import Segmenter


def segmenter():
    keras.utils.set_random_seed(0)
    model = Segmenter(*unet_layers(bands=3, num_classes=3, depth=1, base_filters=4))
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.1), loss=Combined([(1.0, CrossEntropy())]))
    model.optimizer.build(model.trainable_variables)
    return model


class Seen(keras.callbacks.Callback):
    """The weights at the end of each epoch; times the input as TensorBoard's callback does."""

    def on_train_begin(self, logs=None):
        self.weights = [by_layer(self.model)]
        self.clock = InputClock(self.model)
        self.clock.install()

    def on_train_end(self, logs=None):
        self.clock.remove()

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(by_layer(self.model))


def by_layer(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def test_frozen_layers_stand_still_until_their_epoch():
    model = segmenter()
    rng = np.random.default_rng(0)
    images, labels = (
        rng.normal(size=(4, 16, 16, 3)).astype(np.float32),
        rng.integers(0, 3, (4, 16, 16)).astype(np.uint8),
    )
    seen, frozen = Seen(), Freezing(model, ["down0_*"], epochs=2)
    model.fit(images, labels, batch_size=2, epochs=3, verbose=0, callbacks=[seen, frozen])
    assert seen.clock.images == 12  # the stand-in stayed in place
    for before, after, moves in zip(seen.weights, seen.weights[1:], (False, False, True), strict=False):
        for name, weights in before.items():
            same = all(np.array_equal(*pair) for pair in zip(weights, after[name], strict=True))
            # No update, no decay and no step of the statistics; the others move in every epoch.
            assert same == (name.startswith("down0_") and not moves), name
    assert all(layer.trainable for layer in model.layers)


def test_what_matches_nothing_or_everything_is_refused():
    with pytest.raises(ConfigError, match=r"freeze.layers: 'dwn\*' matches no layer; allowed: patterns of down0"):
        Freezing(segmenter(), ["up0_*", "dwn*"], None)
    with pytest.raises(ConfigError, match=r"freeze.layers: nothing is left to train; allowed: some of down0"):
        Freezing(segmenter(), ["*"], None)
