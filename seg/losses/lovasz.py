"""Lovasz-softmax loss: the extension of the Jaccard loss of hard predictions to probabilities."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
from keras import ops

from seg.losses.base import OverlapLoss
from seg.losses.overlap import label_counts, mean_over_classes, pixel_axes
from seg.losses.pixels import Tensor, check_class_weights, check_pixels, nan_if_unknown, one_hot, softmax, sum_rows


def lovasz_loss(
    labels: Tensor,
    logits: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "batch",
    absent: str = "skip",
    per_class: bool = False,
) -> Tensor:
    """The weighted mean over classes of the Lovasz extension of 1 - IoU.

    With errors e_i = 1 - p_ic where the label is c and p_ic elsewhere, sorted so that e_1 >= e_2 >= ..., and J_k one
    minus the IoU of class c when exactly the pixels 1..k are wrong, L_c = sum_k e_k (J_k - J_{k-1}). For probabilities
    of 0 and 1 that is 1 - IoU itself. L = sum_c w_c m_c L_c / sum_c w_c m_c.

    Each class sorts its pixels, which takes most of the time; nothing but the slopes J_k - J_{k-1}, as large as
    the logits, is kept for the gradient. They are computed from counts, since differences of J cancel.

    M. Berman, A. R. Triki, M. B. Blaschko, "The Lovasz-Softmax loss: a tractable surrogate for the optimization of the
    intersection-over-union measure in neural networks", CVPR 2018, arXiv:1705.08790; there without w_c.

    Args:
        labels: (N, H, W), any integer dtype.
        logits: (N, H, W, C), any float dtype; the maths is float32.
        class_weights: (C,); None: all 1. Only their ratios matter.
        ignore_index: The label of void pixels, which have no error.
        reduction: `batch` sorts all pixels of the batch (of each replica's part, under `tf.distribute`); `image` sorts
            each image and averages the L of the images that have any weighted m_c.
        absent: m_c of a class without a labelled pixel there: 0 with `skip` (the paper's 'present'), 1 with `count`,
            where L_c is then the largest error.
        per_class: Whether to return the classes' parts, (C,), which sum to the loss, instead of the loss.

    Returns:
        Scalar float32 in [0, 1]: 0 for a perfect certain prediction, and where no class counts; NaN if a label is
        neither a class nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.
    """
    labels, logits = check_pixels(labels, logits)
    num_classes = logits.shape[-1]
    weights = check_class_weights(class_weights, num_classes)
    labelled, num_valid = label_counts(labels, num_classes, ignore_index=ignore_index, reduction=reduction)

    valid = ops.expand_dims(ops.not_equal(labels, ignore_index), -1)  # (N, H, W, 1)
    targets = ops.logical_and(one_hot(labels, num_classes), valid)  # (N, H, W, C)
    probabilities = softmax(logits)
    errors = ops.where(targets, 1.0 - probabilities, probabilities)
    ranked = ops.stop_gradient(ops.where(valid, errors, -1.0))  # void after every error, where it moves no slope
    classes = ops.arange(num_classes, dtype="int32")
    label_or_void = ops.where(ops.squeeze(valid, -1), labels, -1)
    # A loop, so that one class at a time holds its sort, and one sort is compiled.
    slopes = ops.map(lambda c: _slopes(ops.take(ranked, c, -1), ops.equal(label_or_void, c), reduction), classes)
    products = errors * ops.stop_gradient(ops.moveaxis(slopes, 0, -1))
    losses = sum_rows(ops.where(valid, products, 0.0), pixel_axes(reduction))  # (C,) or (N, C)
    loss = mean_over_classes(losses, labelled, num_valid, class_weights=weights, absent=absent, per_class=per_class)
    return nan_if_unknown(loss, labels, num_classes, ignore_index)


def _slopes(errors: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """J_k - J_{k-1} at each pixel of one class, (N, H, W), from its errors and boolean targets of that shape."""
    shape = ops.shape(errors)
    num_pixels = shape[1] * shape[2] * (1 if reduction == "image" else shape[0])
    num_groups = shape[0] if reduction == "image" else 1
    groups = (num_groups, num_pixels)  # what is sorted together is a row
    order, is_target = _sort(ops.reshape(errors, groups), ops.cast(ops.reshape(targets, groups), "int32"))

    # Ascending: the pixels with errors as large as this one's are those from here to the end.
    hits = ops.cumsum(is_target, axis=-1) - is_target  # targets with smaller errors: the intersection I_k
    wrong = num_pixels - ops.arange(num_pixels, dtype="int32")  # k
    union = ops.cast(hits + wrong, "float32")  # I_k and, all of them wrong, the missed targets and false positives
    intersection = ops.cast(hits, "float32")
    # A missed target leaves the union: J grows by 1 / U. A false positive adds to it: I / (U - 1) - I / U, or 1 if it
    # is the first of a class without targets.
    grown = ops.where(union > 1.0, intersection / union / ops.maximum(union - 1.0, 1.0), 1.0)
    slopes = ops.where(is_target > 0, 1.0 / union, grown)

    offsets = ops.expand_dims(ops.arange(num_groups, dtype="int32") * num_pixels, -1)
    places = ops.reshape(order + offsets, (-1, 1))
    return ops.reshape(ops.scatter(places, ops.reshape(slopes, (-1,)), (num_groups * num_pixels,)), shape)


def _sort(errors: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """The order of ascending errors in each row and `is_target` in that order, both (G, P) int32."""
    if keras.backend.backend() != "tensorflow":
        order = ops.argsort(errors, axis=-1)
        return ops.cast(order, "int32"), ops.take_along_axis(is_target, order, axis=-1)
    # TensorFlow's sort and argsort sort pairs, and on CPU take four times as long as XLA's one sort of 64-bit integers:
    # the error's bits, which as an integer are ordered as the error is, then the pixel's index, then the target. Of
    # equal errors the pixel that comes first is first.
    bits = ops.cast(ops.squeeze(ops.view(ops.expand_dims(errors, -1), "int32"), -1), "int64")
    index = ops.arange(ops.shape(errors)[-1], dtype="int64")
    packed = _xla_sort()(bits * 2**32 + 2 * index + ops.cast(is_target, "int64"))
    low = ops.bitwise_and(packed, 2**32 - 1)
    return ops.cast(ops.right_shift(low, 1), "int32"), ops.cast(ops.bitwise_and(low, 1), "int32")


@functools.cache
def _xla_sort() -> Callable[[Tensor], Tensor]:
    """XLA's sort along the last axis, for TensorFlow; compiled on its own where what calls it is not."""
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.python import xla  # tf.raw_ops lacks it

    return tf.function(xla.sort, jit_compile=True, autograph=False)


@keras.saving.register_keras_serializable(package="seg")
class Lovasz(OverlapLoss):
    """`lovasz_loss` as a Keras loss. It has no per-pixel losses, so pixel weights (`sample_weight`) are refused."""

    function = staticmethod(lovasz_loss)
    default_name = "lovasz"
