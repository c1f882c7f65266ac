"""Binary and multi-label cross-entropy: one sigmoid a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from seg.losses.base import FunctionLoss
from seg.losses.pixels import (
    NORMALIZE,
    Tensor,
    check_choice,
    check_class_weights,
    check_entries,
    check_label_smoothing,
    count,
    sum_over,
)


def binary_cross_entropy(
    labels: Tensor,
    logits: Tensor,
    *,
    pos_weight: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    ignore_index: int = 255,
    label_smoothing: float = 0.0,
    normalize: str = "valid",
) -> Tensor:
    """Weighted cross-entropy of one sigmoid a class; classes may overlap.

    l_ik = -(pos_weight_k t_ik log s_ik + (1 - t_ik) log(1 - s_ik)), s the sigmoid of the logits, averaged over the
    valid entries (pixel i, class k) as `normalize` says. With label smoothing e the target is (1 - e) t + e / 2. The
    logarithms are softplus of -z and z, so nothing is lost near s = 0 and 1.

    Args:
        labels: t, (N, H, W, K): integers 0, 1 and `ignore_index`, or floats in [0, 1] and `ignore_index`, as of several
            annotators or a teacher. For K = 1 also (N, H, W).
        logits: (N, H, W, K), any float dtype; the maths is float32.
        pos_weight: (K,), what a present entry weighs beside the 1 of an absent one; None: all 1. Negatives / positives
            of a class gives its two sides equal weight.
        pixel_weights: (N, H, W), multiply all entries of a pixel before the average; they do not enter the denominator.
        ignore_index: Marks entries without a label, which have exactly zero loss and gradient.
        label_smoothing: e, 0 <= e < 1.
        normalize: The denominator: `valid`, the number of valid entries; `weights`, the sum of pos_weight_k t + 1 - t
            over them; `all`, N H W K.

    Returns:
        Scalar float32, at least 0: log 2 for logits of 0 (without weights), 0 for a perfect certain prediction, 0
        without a valid entry, NaN if a label is neither in [0, 1] nor `ignore_index`.

    Raises:
        ValueError: An option, dtype or shape is not as above.

    Example:
        >>> float(binary_cross_entropy([[[[1, 0, 255]]]], [[[[0.0, 0.0, 9.0]]]]))  # log 2 twice, over 2 entries
        0.6931471824645996
    """
    check_label_smoothing(label_smoothing)
    check_choice("normalize", normalize, NORMALIZE)
    targets, logits, valid, is_known = check_entries(labels, logits, ignore_index)
    weights = check_class_weights(pos_weight, logits.shape[-1])
    hard = not label_smoothing and is_integer(labels)
    if hard:  # one softplus does for both sides
        present = targets > 0.5
        losses = ops.softplus(ops.where(present, -logits, logits))  # (N, H, W, K)
        if weights is not None:
            losses = losses * ops.where(present, weights, 1.0)
    else:
        smoothed = (1.0 - label_smoothing) * targets + label_smoothing / 2
        positive = smoothed if weights is None else smoothed * weights
        losses = positive * ops.softplus(-logits) + (1.0 - smoothed) * ops.softplus(logits)
    # Selected away, not multiplied by 0: see `seg.losses.pixels.sum_over`.
    by_pixel = ops.sum(ops.where(valid, losses, 0.0), axis=-1)  # (N, H, W)
    divided_by = _divisor(targets, valid, weights, normalize)
    loss = sum_over(by_pixel, ops.any(valid, axis=-1), divided_by, pixel_weights)
    return ops.where(is_known, loss, float("nan"))


def is_integer(labels: Tensor) -> bool:
    """Whether labels are 0 or 1 and nothing between."""
    return "int" in keras.backend.standardize_dtype(ops.convert_to_tensor(labels).dtype)


def _divisor(targets: Tensor, valid: Tensor, weights: Tensor | None, normalize: str) -> Tensor:
    """What the sum is divided by; scalar float32, summed over classes after pixels so that no int32 overflows."""
    pixels = (0, 1, 2)
    if normalize == "all":
        return ops.sum(count(ops.ones_like(valid), pixels))
    if normalize == "valid" or weights is None:
        return ops.sum(count(valid, pixels))
    width = ops.cast(ops.shape(targets)[2], "float32")
    present = ops.sum(ops.mean(targets, axis=2), axis=(0, 1)) * width  # (K,); by rows as `pixels.sum_rows`
    return ops.sum(count(valid, pixels) + (weights - 1.0) * present)


@keras.saving.register_keras_serializable(package="seg")
class BinaryCrossEntropy(FunctionLoss):
    """`binary_cross_entropy` as a Keras loss. Takes `sample_weight` maps (N, H, W) as pixel weights.

    For multi-label models, and for models of one's own with a single output (N, H, W, 1). A two-class model whose
    logits are (0, z), as `model.one_logit` makes it, has the same loss by `CrossEntropy` with class weights
    (1, pos_weight).
    """

    function = staticmethod(binary_cross_entropy)
    default_name = "binary_cross_entropy"

    def check(self, options: Mapping[str, Any]) -> None:
        """See `FunctionLoss.check`."""
        check_label_smoothing(options["label_smoothing"])
        check_choice("normalize", options["normalize"], NORMALIZE)
