import math

import keras
import numpy as np
import pytest

from seg.optimization.plateau import Plateau, reductions


def test_reductions_by_hand():
    assert reductions([], 2) == 0
    assert reductions([0.1, 0.2, 0.2, 0.1], 2) == 1  # two epochs without a better one
    assert reductions([0.1, 0.2, 0.2, 0.1, 0.0], 2) == 1  # counted anew after it
    assert reductions([0.1, 0.2, 0.2, 0.1, 0.0, 0.0], 2) == 2
    assert reductions([0.1, 0.2, 0.2, 0.3, 0.1, 0.4], 2) == 0
    assert reductions([math.nan, math.nan], 2) == 1


def test_the_rate_never_falls_below_its_floor_and_rises_first():
    plateau = Plateau(peak=0.4, warmup=4, patience=1, factor=0.5, final_fraction=0.2)
    assert [plateau.rate([], updates) for updates in (0, 1, 4, 9)] == pytest.approx([0, 0.1, 0.4, 0.4])
    assert [plateau.rate([0.0] * n, 9) for n in (1, 2, 3, 4, 9)] == pytest.approx([0.4, 0.2, 0.1, 0.08, 0.08])


def test_it_reduces_when_keras_does():
    """Keras keeps the rule as state of a callback, which a resume loses."""
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    theirs = keras.callbacks.ReduceLROnPlateau("score", factor=0.5, patience=2, mode="max", min_delta=0, min_lr=0)
    theirs.set_model(model)
    theirs.on_train_begin()
    history = np.random.default_rng(0).integers(0, 6, 40).astype(float).tolist()
    plateau = Plateau(1.0, 0, 2, 0.5, 0.0)
    for epoch, score in enumerate(history):
        theirs.on_epoch_end(epoch, {"score": score})
        assert plateau.rate(history[: epoch + 1], 1) == pytest.approx(float(model.optimizer.learning_rate))
