"""The gradient of a large batch, computed part by part in the memory of one: gradient accumulation without its errors.

The loss of a large batch is no mean of its parts' losses: it divides by a number of pixels or weights, and Dice, Lovasz
or the hardest pixels are not even sums. So the logits of all parts are computed first and kept, the loss and its
gradient with respect to them are those of the whole batch, and each part is then computed again and carries its share
of that gradient back to the weights: exact for any loss, for one more forward pass. (The idea is that of L. Gao,
Y. Zhang, J. Han, J. Callan, "Scaling deep contrastive learning batch size under memory limited setup", 2021,
arXiv:2101.06983.) What a layer computes over a batch, the statistics of batch normalisation, is of a part.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

Tensor = Any
ZERO = tf.UnconnectedGradients.ZERO


def gradients_of_parts(
    model: keras.Model, images: Tensor, labels: Tensor, pixel_weights: Tensor | None, parts: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The loss of a batch, its logits, and the gradients of the scaled loss for the model's trainable variables.

    Args:
        model: A compiled model whose `compute_loss` takes logits.
        images: (N, H, W, bands); N is a multiple of `parts`.
        labels: (N, H, W[, K]) integers.
        pixel_weights: (N, H, W) or None.
        parts: How many parts, of images that follow each other, are computed one after another.

    Raises:
        ValueError: N is known and no multiple of `parts`.
    """
    if images.shape[0] is not None and images.shape[0] % parts:
        raise ValueError(f"accumulation: got {parts} parts of {images.shape[0]} images, allowed: parts of equal size")
    variables = [variable.value for variable in model.trainable_variables]
    pieces = _split(images, parts)

    # Random states and moving averages as they are now: the second pass is the one that moves them.
    states = [state for layer in model.layers for state in layer.non_trainable_variables]
    before = [tf.identity(state) for state in states]
    pieces_logits = tf.map_fn(
        lambda piece: model(piece, training=True),
        pieces,
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec((None, *model.output_shape[1:]), model.outputs[0].dtype),
    )
    for state, value in zip(states, before, strict=True):
        state.assign(value)
    logits = tf.ensure_shape(_join(pieces_logits), (*images.shape[:3], model.output_shape[-1]))

    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = model.compute_loss(images, labels, logits, pixel_weights, training=True)
        scaled = model.optimizer.scale_loss(loss)
    # A penalty on the weights is part of the loss, and has a gradient of its own.
    upstream, *sums = tape.gradient(scaled, [logits, *variables], unconnected_gradients=ZERO)
    upstream = _split(upstream, parts)

    def add(part: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        with tf.GradientTape() as tape:
            outputs = model(pieces[part], training=True)
        moves = tape.gradient(outputs, variables, output_gradients=upstream[part], unconnected_gradients=ZERO)
        return part + 1, *(total + move for total, move in zip(sums, moves, strict=True))

    _, *gradients = tf.while_loop(
        lambda part, *_: part < parts, add, (tf.constant(0), *sums), parallel_iterations=1, maximum_iterations=parts
    )
    return loss, logits, gradients


def _split(values: Tensor, parts: int) -> Tensor:
    """(N, ...) -> (parts, N / parts, ...)."""
    size = None if values.shape[0] is None else values.shape[0] // parts
    split = tf.reshape(values, tf.concat([[parts, -1], tf.shape(values)[1:]], axis=0))
    return tf.ensure_shape(split, (parts, size, *values.shape[1:]))


def _join(values: Tensor) -> Tensor:
    """(parts, n, ...) -> (parts n, ...)."""
    return tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], axis=0))
