"""What the losses share: which pixels count, what they weigh, and THE denominator rule.

Shapes: labels (N, H, W) integers, logits (N, H, W, C), class_weights (C,), pixel_weights (N, H, W). All results are
float32 whatever the dtype of the logits. A pixel is *valid* where its label is not `ignore_index`. A label that is
neither a class nor `ignore_index` is never dropped in silence: it makes the loss NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from seg.losses.replicas import mean_over_replicas

Tensor = Any  # a backend tensor, or anything that `ops.convert_to_tensor` takes

NORMALIZE = ("valid", "weights", "all")


def check_pixels(labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The labels as int32 and the logits as float32, after checking that they belong together.

    Raises:
        ValueError: The labels are not integers, or the shapes are not (N, H, W) and (N, H, W, C).
    """
    labels, logits = ops.convert_to_tensor(labels), ops.convert_to_tensor(logits)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if "int" not in dtype:
        raise ValueError(f"labels: got dtype {dtype}, allowed: any integer dtype (class indices, not one-hot)")
    if not same_shape(labels.shape, logits.shape[:-1]) or logits.shape[-1] is None:
        raise ValueError(
            f"labels and logits: got shapes {tuple(labels.shape)} and {tuple(logits.shape)}, "
            "allowed: (N, H, W) and (N, H, W, C) with a known C"
        )
    return ops.cast(labels, "int32"), ops.cast(logits, "float32")


def check_entries(labels: Tensor, logits: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Targets and logits as float32 (N, H, W, K), which entries are valid, and whether all labels are known (a scalar).

    Raises:
        ValueError: The labels are boolean, or the shapes do not belong together.
    """
    labels, logits = ops.convert_to_tensor(labels), ops.convert_to_tensor(logits)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if dtype == "bool":
        raise ValueError("labels: got dtype bool, allowed: integers 0, 1 and ignore_index, or floats in [0, 1]")
    if logits.shape[-1] == 1 and len(labels.shape) + 1 == len(logits.shape):
        labels = ops.expand_dims(labels, -1)
    if len(logits.shape) != 4 or not same_shape(labels.shape, logits.shape) or logits.shape[-1] is None:
        raise ValueError(
            f"labels and logits: got shapes {tuple(labels.shape)} and {tuple(logits.shape)}, "
            "allowed: (N, H, W, K) for both with a known K (for K = 1 also labels (N, H, W))"
        )
    targets = ops.cast(labels, "float32")
    valid = ops.not_equal(targets, float(ignore_index))
    in_range = ops.logical_and(targets >= 0.0, targets <= 1.0)
    is_known = ops.all(ops.logical_or(in_range, ops.logical_not(valid)))
    return ops.where(valid, targets, 0.0), ops.cast(logits, "float32"), valid, is_known


def same_shape(first: tuple[int | None, ...], second: tuple[int | None, ...]) -> bool:
    """Whether two static shapes can be equal; an unknown length (None) matches every length."""
    return len(first) == len(second) and all(
        a == b or a is None or b is None for a, b in zip(first, second, strict=True)
    )


def check_class_weights(class_weights: Tensor | None, num_classes: int) -> Tensor | None:
    """The class weights as a float32 tensor (C,), or None where there are none.

    Raises:
        ValueError: Their shape is not (C,).
    """
    if class_weights is None:
        return None
    class_weights = ops.cast(ops.convert_to_tensor(class_weights), "float32")
    if tuple(class_weights.shape) != (num_classes,):
        raise ValueError(
            f"class_weights: got shape {tuple(class_weights.shape)}, allowed: ({num_classes},), one weight a class"
        )
    return class_weights


def check_pixel_weights(pixel_weights: Tensor | None, pixels: Tensor) -> Tensor | None:
    """The pixel weights as float32, or None. Only the pixels' own shape (N, H, W) will do: nothing is broadcast.

    Raises:
        ValueError: Their shape is another.
    """
    if pixel_weights is None:
        return None
    pixel_weights = ops.cast(ops.convert_to_tensor(pixel_weights), "float32")
    if not same_shape(pixel_weights.shape, pixels.shape):
        raise ValueError(
            f"pixel_weights: got shape {tuple(pixel_weights.shape)}, allowed: {tuple(pixels.shape)}, "
            "one weight a pixel; weights by class belong in class_weights"
        )
    return pixel_weights


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Boolean (N, H, W, C); all False where the label is no class.

    A comparison that XLA fuses into its consumer, so no one-hot array exists under `jit_compile=True`.
    """
    return ops.equal(ops.expand_dims(labels, -1), ops.arange(num_classes, dtype="int32"))


def shift(logits: Tensor) -> Tensor:
    """The logits minus their maximum over classes, at most 0."""
    return logits - ops.expand_dims(highest_logit(logits), -1)


def highest_logit(logits: Tensor) -> Tensor:
    """The maximum over classes, (N, H, W). It cancels wherever it is subtracted: no gradient has to pass it."""
    lowest = float("-inf")  # lets an empty batch pass: Keras refuses its maximum in eager TensorFlow
    return ops.stop_gradient(ops.max(logits, axis=-1, initial=lowest))


def log_softmax(logits: Tensor) -> Tensor:
    """log p of every class, (N, H, W, C)."""
    shifted = shift(logits)
    return shifted - ops.log(ops.sum(ops.exp(shifted), axis=-1, keepdims=True))


def softmax(logits: Tensor) -> Tensor:
    """p of every class, (N, H, W, C)."""
    if logits.shape[-1] == 1:  # Keras warns of a softmax that is 1 everywhere
        powers = ops.exp(shift(logits))
        return powers / powers
    # Not `powers / sum(powers)`, whose gradient takes XLA on CPU a fifth longer than the one registered for this.
    return ops.softmax(logits, axis=-1)


def label_log_probability(labels: Tensor, logits: Tensor) -> Tensor:
    """log p of each pixel's label, (N, H, W); meaningless, but finite, where the label is no class.

    Its gradient is written by hand, ([c = y_i] - p_ic) g_i in one pass over the logits: all that the forward pass keeps
    for it are (N, H, W) planes. It can be differentiated again.
    """

    @ops.custom_gradient
    def of_logits(logits: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        highest, log_sum = log_sum_exp(labels, logits)

        def gradient(upstream: Tensor) -> Tensor:
            is_label = ops.cast(one_hot(labels, logits.shape[-1]), "float32")
            return ops.expand_dims(upstream, -1) * (is_label - probabilities(logits, highest, log_sum))

        return select_label(labels, ops.unstack(logits, axis=-1)) - highest - log_sum, gradient

    return of_logits(logits)


def log_sum_exp(labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """(m, s), each (N, H, W): the highest logit of a pixel, and the logarithm of its sum of exp(logit - m).

    Where the label is no class, s is 0. The sum is taken class by class: XLA on CPU computes sums of planes for 16
    pixels at a time, in one pass, and a sum over the last axis from an array as large as the logits, written before.
    The maximum is taken over the axis: a chain of maxima would be computed anew for each class of each reader.
    """
    highest = highest_logit(logits)
    first, *others = ops.unstack(logits, axis=-1)
    total = ops.exp(first - highest)
    for plane in others:
        total = total + ops.exp(plane - highest)
    # Beside the small integers of the labels the compiler takes twice as many pixels at a time.
    return highest, ops.log(ops.where(is_class(labels, logits.shape[-1]), total, 1.0))


def probabilities(logits: Tensor, highest: Tensor, log_sum: Tensor) -> Tensor:
    """p of every class, (N, H, W, C), from `log_sum_exp`; finite, but meaningless, where the label is no class."""
    return ops.exp(logits - ops.expand_dims(highest, -1) - ops.expand_dims(log_sum, -1))


def select_label(labels: Tensor, planes: list[Tensor]) -> Tensor:
    """Of the planes (N, H, W), one a class, each pixel's value in that of its label; 0 where that is no class."""
    selected = ops.zeros_like(planes[0])
    for index, plane in enumerate(planes):
        selected = ops.where(ops.equal(labels, index), plane, selected)
    return selected


def is_class(labels: Tensor, num_classes: int) -> Tensor:
    """Whether a label is one of the classes, boolean (N, H, W)."""
    return ops.logical_and(labels >= 0, labels < num_classes)


def label_weights(labels: Tensor, class_weights: Tensor) -> Tensor:
    """w of each pixel's label, (N, H, W); meaningless, but finite, where the label is no class."""
    return ops.take(class_weights, ops.where(is_class(labels, class_weights.shape[0]), labels, 0), axis=0)


def sum_pixels(values: Tensor) -> Tensor:
    """Sum over N, H and W: (N, H, W) -> scalar, (N, H, W, C) -> (C,).

    Means of rows first: one flat float32 sum over 16 images of 1024 x 1024 equal values is 15 % off in eager
    TensorFlow and 4 % under XLA on CPU, which would also melt a sum of sums into one flat sum.
    """
    return sum_rows(values, (0, 1))


def sum_rows(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Sum over W and then over `axes` (of N and H), accurately: see `sum_pixels`."""
    width = ops.cast(ops.shape(values)[2], "float32")
    return ops.sum(ops.mean(values, axis=2), axis=axes) * width


def count(condition: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """How many are True, as float32. Counted in int32: float32 stops counting at 2**24 pixels."""
    return ops.cast(ops.sum(ops.cast(condition, "int32"), axis=axes), "float32")


def denominator(
    labels: Tensor, class_weights: Tensor | None = None, *, ignore_index: int = 255, normalize: str = "valid"
) -> Tensor:
    """What a pixel loss divides its sum by; scalar float32.

    `valid`: the number of valid pixels |V| (weights act before the average, so a batch of rare pixels weighs more);
    `weights`: sum of w_{y_i} over V (torch's 'mean'; on a one-class batch the weight cancels), |V| without weights;
    `all`: every pixel, void included. Pixel weights scale the numerator only.

    The losses of parts of a batch, each times its denominator, over the sum of the denominators are the loss of
    the whole: what accumulated steps and replicas need.

    Raises:
        ValueError: `normalize` is none of the three.
    """
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")
    weights = None
    if class_weights is not None:
        weights = label_weights(labels, ops.cast(ops.convert_to_tensor(class_weights), "float32"))
    return divisor(ops.not_equal(labels, ignore_index), weights, normalize)


def divisor(valid: Tensor, weights: Tensor | None, normalize: str) -> Tensor:
    """`denominator` from what is valid and what each pixel's label or target weighs, both (N, H, W).

    Raises:
        ValueError: `normalize` is none of the three.
    """
    check_choice("normalize", normalize, NORMALIZE)
    if normalize == "all":
        return count(ops.ones_like(valid))
    if normalize == "valid" or weights is None:
        return count(valid)
    return sum_pixels(ops.where(valid, weights, 0.0))


def average(
    losses: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    class_weights: Tensor | None,
    pixel_weights: Tensor | None,
    ignore_index: int,
    normalize: str,
) -> Tensor:
    """The scalar loss of per-pixel losses (N, H, W), which already carry their class weights."""
    divided_by = denominator(labels, class_weights, ignore_index=ignore_index, normalize=normalize)
    loss = sum_over(losses, ops.not_equal(labels, ignore_index), divided_by, pixel_weights)
    return nan_if_unknown(loss, labels, num_classes, ignore_index)


def sum_over(losses: Tensor, valid: Tensor, divided_by: Tensor, pixel_weights: Tensor | None) -> Tensor:
    """The sum of pixel weights times the losses (N, H, W) of valid pixels, over the scalar that all replicas divide by.

    Void pixels are selected away, not multiplied by 0, so that their loss and gradient are exactly 0. A denominator of
    0, as of no valid pixel, gives 0 and a zero gradient.
    """
    pixel_weights = check_pixel_weights(pixel_weights, losses)
    if pixel_weights is not None:
        losses = losses * pixel_weights
    return ops.divide_no_nan(sum_pixels(ops.where(valid, losses, 0.0)), mean_over_replicas(divided_by))


def nan_if_unknown(loss: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """The loss, or NaN where any label is neither a class nor `ignore_index`.

    The data layer refuses such labels with the file's name; this catches labels that came another way.
    """
    return ops.where(all_known(labels, num_classes, ignore_index), loss, float("nan"))


def all_known(labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Whether every label is a class or `ignore_index`, a boolean scalar."""
    return ops.all(ops.logical_or(is_class(labels, num_classes), ops.equal(labels, ignore_index)))


def check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError unless the value is allowed: an unknown option must not fall through to a default."""
    if value not in allowed:
        raise ValueError(f"{key}: got {value!r}, allowed: {', '.join(allowed)}")


def check_label_smoothing(label_smoothing: float) -> None:
    """Raises ValueError outside 0 <= label_smoothing < 1."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: got {label_smoothing}, allowed: 0 <= label_smoothing < 1")
