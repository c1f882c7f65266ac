"""Losses of samples in which only some classes were annotated.

There a label that stands for a set of classes says: this pixel is one of them, it is not known which. Cross-entropy
takes the probability of the set, the sum over its classes; sums of whole classes leave the pixel out for the classes of
the set, and count it for all others, which it is not.

G. Shi, L. Xiao, Y. Chen, S. K. Zhou, "Marginal loss and exclusion loss for partially supervised multi-organ
segmentation", Medical Image Analysis 70, 2021, arXiv:2007.03868. Their marginal cross-entropy is the one here; their
marginal Dice has one more class, the set, where the Dice here leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from seg.losses.overlap import REDUCTIONS, ClassSums, pixel_axes
from seg.losses.pixels import (
    Tensor,
    check_choice,
    count,
    divisor,
    one_hot,
    softmax,
    sum_over,
    sum_rows,
)
from seg.losses.replicas import sum_over_replicas

Sets = Sequence[tuple[int, Sequence[int]]]  # (label, the classes of which such a pixel is one)
_NEVER = -1e30  # a logit of a class that a pixel is not; finite, so that no gradient is NaN


def possible_classes(sets: Sets, num_classes: int) -> np.ndarray:
    """(256, C) bool: the classes that a pixel of each label may be; none of a label that is neither class nor set.

    Raises:
        ValueError: A set's label is a class, or a class of a set is none.
    """
    table = np.zeros((256, num_classes), bool)
    table[:num_classes] = np.eye(num_classes, dtype=bool)
    for label, classes in sets:
        if not (num_classes <= label < 256 and classes and all(0 <= index < num_classes for index in classes)):
            raise ValueError(
                f"sets: got label {label} for the classes {list(classes)}, allowed: a label of {num_classes} to 255 "
                f"for classes of 0 to {num_classes - 1}"
            )
        table[label, list(classes)] = True
    return table


def marginal_cross_entropy(
    labels: Tensor,
    logits: Tensor,
    *,
    sets: Sets,
    class_weights: Tensor | None,
    pixel_weights: Tensor | None,
    ignore_index: int,
    normalize: str,
) -> Tensor:
    """`cross_entropy` where labels may stand for sets: l_i = -w log sum_{c in S_i} p_ic, S_i the label's class alone or
    its set. w is the class's weight, of a set the smallest of its classes': that of the commonest one. Takes checked
    labels, logits and class weights."""
    table = possible_classes(sets, logits.shape[-1])
    rows = ops.clip(labels, 0, 255)
    may_be = ops.take(ops.convert_to_tensor(table), rows, axis=0)  # (N, H, W, C)
    losses = ops.logsumexp(logits, axis=-1) - ops.logsumexp(ops.where(may_be, logits, _NEVER), axis=-1)
    valid = ops.not_equal(labels, ignore_index)
    weights = None
    if class_weights is not None:
        least = ops.min(ops.where(ops.convert_to_tensor(table), class_weights, float("inf")), axis=-1)  # (256,)
        weights = ops.take(ops.where(ops.convert_to_tensor(table.any(axis=1)), least, 0.0), rows, axis=0)
        losses = losses * weights
    loss = sum_over(losses, valid, divisor(valid, weights, normalize), pixel_weights)
    return ops.where(all_in_table(labels, table, ignore_index), loss, float("nan"))


def known_sums(labels: Tensor, logits: Tensor, *, sets: Sets, ignore_index: int, reduction: str) -> ClassSums:
    """`class_sums` where labels may stand for sets: each class over the pixels of which it is known whether they are of
    it. `num_valid` is (C,) or (N, C).

    Raises:
        ValueError: `reduction` is neither `batch` nor `image`.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    axes, table = pixel_axes(reduction), possible_classes(sets, logits.shape[-1])
    known = np.ones_like(table)
    for label, classes in sets:
        known[label, list(classes)] = False
    valid = ops.expand_dims(ops.not_equal(labels, ignore_index), -1)
    is_known = ops.logical_and(ops.take(ops.convert_to_tensor(known), ops.clip(labels, 0, 255), axis=0), valid)
    is_label = ops.logical_and(one_hot(labels, logits.shape[-1]), valid)
    p = softmax(logits)
    sums = (
        sum_rows(ops.where(is_label, p, 0.0), axes),
        sum_rows(ops.where(is_known, p, 0.0), axes),
        sum_rows(ops.cast(is_label, "float32"), axes),
        count(is_known, (*axes, 2)),
    )
    return ClassSums(*map(sum_over_replicas, sums) if reduction == "batch" else sums)


def all_in_table(labels: Tensor, table: np.ndarray, ignore_index: int) -> Tensor:
    """Whether every label is a class, a set or `ignore_index`, a boolean scalar."""
    known = table.any(axis=1) | (np.arange(256) == ignore_index)
    inside = ops.logical_and(labels >= 0, labels < 256)
    return ops.all(ops.logical_and(inside, ops.take(ops.convert_to_tensor(known), ops.clip(labels, 0, 255), axis=0)))
