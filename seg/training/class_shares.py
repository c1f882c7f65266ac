"""Whose pixels make the loss, and whose move the model: each class's part of the loss and of its gradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from seg.losses.base import OverlapLoss, SegmentationLoss
from seg.losses.combined import Combined
from seg.losses.pixels import Tensor


def class_shares(
    loss: SegmentationLoss, labels: Tensor, logits: Tensor, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels, the loss and the gradient of one batch, divided among the classes.

    loss part: for losses of pixels (cross-entropy, focal, top-k) the sum of w_{y_i} l_i over the pixels labelled c,
    over the loss's denominator; for losses of classes (Dice, Tversky, Lovasz ...) class c's addend of the mean over
    classes; both times the term's coefficient, so that the parts sum to the loss.
    gradient part: sum over the pixels i labelled c of |dL / dz_i|, the length (L2) of the gradient at the pixel's C
    logits, of the whole loss. It is the push that each class gives to the network before it is passed back.

    Args:
        loss: Any loss of `seg.losses`, or a `Combined`.
        labels: (N, H, W) integers.
        logits: (N, H, W, C).
        class_weights: (C,) that stand in for those of the terms that have any, as weights that follow the batches do.

    Returns:
        (C,) float32 each: labelled pixels, loss parts, gradient parts.
    """
    labels, logits = tf.cast(labels, tf.int32), tf.cast(logits, tf.float32)
    terms = loss.terms if isinstance(loss, Combined) else [(1.0, loss)]
    if class_weights is not None:
        terms = [(coefficient, term.reweighted(class_weights)) for coefficient, term in terms]
    # A loss of pixels is a sum over pixels of weight x l_i / denominator: its slope along a pixel's weight is that
    # pixel's addend, whatever the loss and its denominator are. So one pass backward gives both.
    weights = tf.ones(tf.shape(labels))
    num_classes = logits.shape[-1]
    total, parts = tf.zeros(()), tf.zeros(num_classes)
    with tf.GradientTape() as tape:
        tape.watch((logits, weights))
        for coefficient, term in terms:
            if isinstance(term, OverlapLoss):
                addends = coefficient * term.class_parts(labels, logits)
                total, parts = total + tf.reduce_sum(addends), parts + addends
            else:
                total += coefficient * term.call(labels, logits, weights)
    slopes, addends = tape.gradient(total, (logits, weights), unconnected_gradients="zero")
    lengths = tf.norm(slopes, axis=-1)  # (N, H, W)
    parts += _by_label(addends, labels, num_classes)
    return _by_label(tf.ones_like(lengths), labels, num_classes), parts, _by_label(lengths, labels, num_classes)


def _by_label(values: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(C,): the sum of (N, H, W) values over each class's pixels; void enters none.

    Rows first and then their sums: one flat float32 sum of millions of values drifts.
    """
    one_hot = tf.equal(labels[..., None], tf.range(num_classes))  # fused away under XLA
    rows = tf.reduce_sum(tf.where(one_hot, values[..., None], 0.0), axis=2)  # (N, H, C)
    return tf.reduce_sum(rows, axis=(0, 1))


def has_class_shares(loss: Any) -> bool:
    """Whether `class_shares` takes the loss: one of `seg.losses`, with Keras's own the gradient rule is unknown."""
    return isinstance(loss, SegmentationLoss)
