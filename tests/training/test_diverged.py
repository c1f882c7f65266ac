import math

import keras
import numpy as np
import pytest

from seg.training.diverged import DivergedError, DivergenceCheck


@pytest.fixture
def check():
    images = keras.Input((None, None, 3))
    check = DivergenceCheck()
    check.set_model(keras.Model(images, keras.layers.Conv2D(2, 1)(images)))
    check.model.compile(keras.optimizers.SGD(0.25), loss="mse")
    check.on_epoch_begin(2)
    return check


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_at_its_step(check, loss):
    check.on_train_batch_end(4, {"loss": 1.0})
    with pytest.raises(DivergedError, match=f"the training loss became {loss} in epoch 3, step 6") as raised:
        check.on_train_batch_end(5, {"loss": loss})
    assert (raised.value.epoch, raised.value.steps) == (2, range(4, 6))


def test_the_first_step_of_an_epoch_has_no_step_before_it(check):
    with pytest.raises(DivergedError) as raised:
        check.on_train_batch_end(0, {"loss": math.nan})
    assert raised.value.steps == range(1)


def test_weights_that_are_no_numbers_are_not_validated(check):
    check.on_train_batch_end(4, {"loss": 1.0})
    check.on_test_begin()
    bias = check.model.layers[1].bias
    bias.assign(np.array([0.0, np.inf]))
    with pytest.raises(DivergedError, match="weights became NaN or infinite in epoch 3, by step 5"):
        check.on_test_begin()


def test_a_validation_loss_that_is_no_number_ends_before_the_log(check):
    check.on_epoch_end(2, {"loss": 1.0, "val_loss": 2.0})
    with pytest.raises(DivergedError, match="the validation loss became nan in epoch 3"):
        check.on_epoch_end(2, {"loss": 1.0, "val_loss": math.nan})


def test_so_many_updates_may_be_skipped_in_an_epoch(check):
    told = []
    check.most_skips, check.tell = 2, told.append
    check.on_train_batch_end(4, {"loss": 1.0, "skipped_steps": 2.0})
    logs = {"loss": 1.0, "skipped_steps": 2.0, "val_loss": 1.0, "val_skipped_steps": 0.0}
    check.on_epoch_end(2, logs)
    assert "val_skipped_steps" not in logs
    assert told == ["epoch 3: 2 updates were NaN or infinite and skipped"]
    with pytest.raises(DivergedError, match="3 updates of epoch 3 were .* by step 6 and skipped, allowed: 2"):
        check.on_train_batch_end(5, {"loss": 1.0, "skipped_steps": 3.0})
