"""The training step for people with their own loop: `tf.GradientTape`, with the weights and gradients of `fit`.

A complete script, class weights by name:

    from pathlib import Path

    import keras

    from data_tools.scenes.scene import SCENE_LABELS, write_scenes
    from seg.data.batches.dataset import training_batches
    from seg.data.views.preprocessing import Preprocessing
    from seg.data.masks.reading import IndexEncoding
    from seg.data.samples.pairs import samples_from_folders
    from seg.losses import Combined, CrossEntropy, Dice
    from seg.models.unet import unet_layers
    from seg.training.custom_step import training_step

    write_scenes(Path("scenes"), {"train": 4, "val": 1}, size=64, seed=0)
    batches = training_batches(
        samples_from_folders(Path("scenes"))["train"],
        SCENE_LABELS,
        IndexEncoding(),
        Preprocessing(bands=3, resize=None, max_value=None, mean=(0.5,) * 3, std=(0.25,) * 3),
        None,  # no augmentation
        batch_size=2,
        seed=0,
        epochs=2,
    )
    model = keras.Model(*unet_layers(bands=3, num_classes=SCENE_LABELS.num_classes, depth=2, base_filters=8))
    step = training_step(
        model,
        keras.optimizers.Adam(1e-3),
        Combined([(1.0, CrossEntropy()), (0.5, Dice())]),
        class_weights=dict.fromkeys(SCENE_LABELS.names, 1.0) | {"boat": 8.0, "solar_panel": 8.0},
        class_names=SCENE_LABELS.names,
    )
    for number, (images, labels) in enumerate(batches):
        print(f"step {number}: loss {float(step(images, labels)):.3f}")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import keras
import tensorflow as tf

from seg.losses.base import ClassWeights, SegmentationLoss, plain_weights, weights_by_name
from seg.losses.pixels import Tensor, check_class_weights, check_pixel_weights, label_weights
from seg.losses.replicas import num_replicas


def training_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: SegmentationLoss,
    *,
    class_weights: ClassWeights | Mapping[str, float] | None = None,
    class_names: Sequence[str] | None = None,
) -> Callable[..., Tensor]:
    """A function that trains on one batch and returns its loss.

    `step(images, labels, pixel_weights=None)` multiplies each pixel's loss by its class's weight and by its own, before
    the average, and takes one optimizer step along the gradient. With `class_weights` given here, or to the loss, or
    as a map of w_{y_i} per pixel, the gradient is the same; it is also what `compile(loss=...)` and `fit` take. The
    weights act in pixel losses and leave the overlap terms (Dice) of a `Combined` as they are. They scale the sum, not
    the denominator: for `normalize='weights'` give them to the loss.

    Under `tf.distribute`, make it under the strategy's scope and call it in `strategy.run`; it then returns the
    replica's share of the loss. In mixed float16 an optimizer that scales losses does.

    Args:
        model: Built, from images (N, H, W, bands) to logits (N, H, W, C).
        optimizer: Any Keras optimizer; its state belongs to this model from here on.
        loss: A loss of `seg.losses`. The model's regularisation losses are added.
        class_weights: (C,), or a dict with a weight for each class, by index or by name; None: all 1.
        class_names: The C names, if the dict's keys are names.

    Returns:
        step(images (N, H, W, bands), labels (N, H, W) integers, pixel_weights (N, H, W) or None) -> scalar float32. For
        multi-label losses labels are (N, H, W, K), and `class_weights` None: the loss has its pos_weight.

    Raises:
        ValueError: The model is not built, or the loss takes no pixel weights but weights are given. From the step: a
            shape, key or weight is not as above.
    """
    if not model.built:
        raise ValueError(f"model '{model.name}': not built, allowed: a built one (call it once on a batch)")
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    if class_weights is not None and not loss.takes_pixel_weights:
        raise ValueError(
            f"class_weights: loss '{loss.name}' weighs no single pixels, allowed: none here; give them to the loss"
        )

    @tf.function(autograph=False)
    def step(images: Tensor, labels: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            weights = pixel_weight_map(labels, logits.shape[-1], class_weights, class_names, pixel_weights)
            value = loss(labels, logits, sample_weight=weights)
            if model.losses:
                value += tf.cast(tf.add_n(model.losses), value.dtype) / num_replicas()
            scaled = optimizer.scale_loss(value)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return value

    return step


def pixel_weight_map(
    labels: Tensor,
    num_classes: int,
    class_weights: ClassWeights | Mapping[str, float] | None,
    class_names: Sequence[str] | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor | None:
    """w_{y_i} times the pixel's own weight: (N, H, W) float32, or None where nothing is weighted.

    Void pixels get any finite weight: the losses leave them out.

    Args:
        labels: (N, H, W) integers, or (N, H, W, K) where `class_weights` is None.
        num_classes: C.
        class_weights: As for `training_step`.
        class_names: As for `training_step`.
        pixel_weights: (N, H, W) or None.

    Raises:
        ValueError: A shape, key or weight is not as above.
    """
    labels = keras.ops.convert_to_tensor(labels)
    several = len(labels.shape) == 4
    own = check_pixel_weights(pixel_weights, labels[..., 0] if several else labels)
    if class_weights is None:
        return own
    if several:
        raise ValueError(
            f"class_weights: got labels of shape {tuple(labels.shape)}, which have no one class a pixel; allowed: none "
            "here, give the loss its weights (pos_weight of BinaryCrossEntropy)"
        )
    if isinstance(class_weights, Mapping) and class_names is not None:
        class_weights = weights_by_name(cast(Mapping[str, float], class_weights), class_names)
    vector = check_class_weights(plain_weights(cast(ClassWeights, class_weights)), num_classes)
    by_label = label_weights(keras.ops.cast(labels, "int32"), vector)
    return by_label if own is None else by_label * own
