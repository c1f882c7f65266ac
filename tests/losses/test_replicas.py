"""A batch gives the same gradient on one device and split over two: two logical CPUs, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seg.losses.replicas import mean_over_replicas, num_replicas, sum_over_replicas

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras

from seg.losses import BinaryCrossEntropy, Combined, CrossEntropy, Dice, Focal, GeneralisedDice, Lovasz
from seg.losses import Dice, Tversky
from seg.losses.replicas import assign_total
from seg.training.segmenter import Segmenter

W = [0.5, 1.0, 2.0, 4.0]
losses = [
    CrossEntropy(class_weights=W),
    CrossEntropy(class_weights=W, normalize="weights", label_smoothing=0.1, name="smoothed"),
    Focal(normalize="all"),
    Dice(class_weights=W),
    Dice(reduction="image", absent="count", name="dice_image"),
    Tversky(gamma=1.5, class_weights=W),
    GeneralisedDice(),
    GeneralisedDice(reduction="image", name="generalised_dice_image"),
    Lovasz(reduction="image"),
]
losses.append(Combined([(0.5, loss) for loss in losses]))

generator = np.random.default_rng(0)
labels = generator.choice([0, 1, 2, 255], (4, 5, 6)).astype(np.uint8)
labels[2:][generator.random((2, 5, 6)) < 0.5] = 255  # the second replica has fewer valid pixels, and only it class 3
labels[3, 0, 0], labels[2] = 3, 255  # and an image of void alone
images = generator.normal(0, 1, (4, 5, 6, 3)).astype(np.float32)


def gradient(loss, kernel, labels, images):
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        value = loss(labels, images @ kernel)
    return value, tape.gradient(value, kernel)


strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
kernel = tf.constant(generator.normal(0, 1, (3, 4)).astype(np.float32))


def part(array):
    return strategy.experimental_distribute_values_from_function(
        lambda context: array[2 * context.replica_id_in_sync_group :][:2]
    )


several = generator.choice([0, 1, 255], (4, 5, 6, 4), p=[0.5, 0.2, 0.3]).astype(np.uint8)
several[3], several[2, ..., 1] = 255, 0  # an image without labels, a class that only one replica has
multi_label = [
    BinaryCrossEntropy(pos_weight=W),
    BinaryCrossEntropy(pos_weight=W, normalize="weights", name="by_weights"),
    Dice(multi_label=True, class_weights=W),
    Dice(multi_label=True, reduction="image", name="multi_label_dice_image"),
]
for loss, labels_ in [(loss, labels) for loss in losses] + [(loss, several) for loss in multi_label]:
    expected = gradient(loss, kernel, labels_, images)
    run = tf.function(lambda y, x: strategy.run(gradient, (loss, kernel, y, x)), autograph=False)
    found = [strategy.reduce("SUM", result, axis=None) for result in run(part(labels_), part(images))]
    for one, two in zip(expected, found):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6, err_msg=loss.name)  # float32 in another order


def trained(strategy, batch):
    # The weights after two steps of the project's own model.
    keras.utils.set_random_seed(0)
    with strategy.scope():
        inputs = keras.Input((5, 6, 3))
        model = Segmenter(inputs, keras.layers.Conv2D(4, 1)(inputs))
        model.compile(keras.optimizers.SGD(0.5), loss=losses[-1], jit_compile=False)
        model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda batch: strategy.run(model.train_step, (batch,)), autograph=False)
    for _ in range(2):
        step(batch)
    return model.get_weights()


one = trained(tf.distribute.get_strategy(), (images, labels))
two = trained(strategy, (part(images), part(labels)))
for expected, found in zip(one, two):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # the same, over two steps

# A metric's value, put back in the middle of an epoch: 7 / 2 to each replica would make 6 of it.
with strategy.scope():
    total = keras.metrics.Metric().add_variable((), "zeros", dtype="int64")
assign_total(total, np.int64(7))
assert int(keras.ops.convert_to_numpy(total)) == 7
print("all equal")
"""


@pytest.mark.tensorflow
def test_two_replicas_give_the_gradient_and_the_training_of_one():
    # Warnings of TensorFlow's own distribution code are not this project's.
    result = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip().endswith("all equal"), result.stderr


def test_alone_nothing_is_summed():
    values = np.array([1.0, 2.0], np.float32)
    assert num_replicas() == 1
    assert sum_over_replicas(values) is values and mean_over_replicas(values) is values
