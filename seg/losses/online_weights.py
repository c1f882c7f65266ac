"""Class weights that follow the batches: a moving average of their class counts, turned into weights at each step."""

from __future__ import annotations

import math
from typing import Any, Literal

import keras
from keras import ops

from seg.losses.pixels import Tensor, check_choice, one_hot
from seg.losses.replicas import sum_over_replicas

SCHEMES = (
    "inverse_frequency",
    "inverse_square",
    "inverse_sqrt",
    "median_frequency",
    "log_frequency",
    "effective_number",
)
NORMALIZATIONS = ("mean_one", "sum_one", "sum_classes", "none")
UNITS = ("images", "pixels")
LOG_OFFSET = 1.02  # ENet's constant
SMALLEST_SHARE = 1e-9  # below, a class counts as this share: its forgotten average never becomes an infinite weight


@keras.saving.register_keras_serializable(package="seg")
class OnlineClassWeights(keras.layers.Layer):
    """The weights of a scheme of `seg.balance.weights`, from the classes of recent batches.

    After each training batch, average <- momentum average + (1 - momentum) batch, for the pixels n_c of each class, the
    images that contain it and the labelled pixels of those images. All are divided by the same average of ones (the
    bias correction of D. P. Kingma, J. Ba, "Adam", ICLR 2015, arXiv:1412.6980), so that the first batches count as much
    as they are. `effective_number` needs numbers of samples and not shares: it takes 1 / (1 - momentum) such batches,
    the average's memory, for its dataset.

    A class that no batch has shown yet has weight 0, as in `seg.balance.weights`; one that was not seen for long keeps
    a finite weight. Before the first labelled pixel every weight is 1. The state is not trained, is saved with the
    model, and is the same on all replicas, whose counts are summed. `Segmenter.compile(online_weights=...)` uses it.

    Args:
        num_classes: C.
        scheme: One of `SCHEMES`; the formulas are those of `seg.balance.weights`.
        momentum: In (0, 1): what a batch leaves of the average. 0.99 remembers about 100 batches.
        ignore_index: The label of void pixels.
        normalize: As for `seg.balance.weights.class_weights`.
        cap: The same.
        beta: The same; only for `effective_number`.
        unit: The same; only for `effective_number`.

    Raises:
        ValueError: An option is not as above.

    Example:
        >>> weights = OnlineClassWeights(2, "inverse_frequency", momentum=0.9)
        >>> [round(float(w), 3) for w in weights.update([[[0, 0, 0, 1]]])]  # N / (C n_c) = 4 / 6, 4 / 2
        [0.667, 2.0]
    """

    def __init__(
        self,
        num_classes: int,
        scheme: str,
        *,
        momentum: float = 0.99,
        ignore_index: int = 255,
        normalize: str = "mean_one",
        cap: float | None = None,
        beta: float | Literal["auto"] = "auto",
        unit: str = "images",
        name: str = "online_class_weights",
    ) -> None:
        super().__init__(name=name, trainable=False, dtype="float32")
        check_choice("scheme", scheme, SCHEMES)
        check_choice("normalize", normalize, NORMALIZATIONS)
        check_choice("unit", unit, UNITS)
        if not 0 < momentum < 1:
            raise ValueError(f"momentum: got {momentum}, allowed: 0 < momentum < 1")
        if cap is not None and not cap >= 1:
            raise ValueError(f"cap: got {cap}, allowed: 1 or more (largest weight / smallest weight)")
        if beta != "auto" and not 0 <= beta < 1:
            raise ValueError(f"beta: got {beta}, allowed: 0 <= beta < 1, or auto")
        self.num_classes, self.scheme, self.momentum, self.ignore_index = num_classes, scheme, momentum, ignore_index
        self.normalize, self.cap, self.beta, self.unit = normalize, cap, beta, unit
        self.averages = {
            name: self.add_weight(
                shape=shape,
                initializer="zeros",
                trainable=False,
                name=name,
                aggregation="only_first_replica",  # all replicas assign the same
            )
            for name, shape in {
                "pixel_counts": (num_classes,),
                "image_counts": (num_classes,),
                "image_pixels": (num_classes,),
                "num_images": (),
                "ones": (),
            }.items()
        }
        self.built = True

    def update(self, labels: Tensor) -> Tensor:
        """Takes a batch into the averages and returns the weights that follow, (C,) float32.

        Args:
            labels: (N, H, W) integers; this replica's part of the batch.

        Raises:
            ValueError: The labels are something else.
        """
        labels = ops.convert_to_tensor(labels)
        dtype = keras.backend.standardize_dtype(labels.dtype)
        if "int" not in dtype or len(labels.shape) != 3:
            raise ValueError(
                f"online class weights: got labels of dtype {dtype} and shape {tuple(labels.shape)}, "
                "allowed: integers (N, H, W), one class a pixel"
            )
        batch = self._batch_counts(labels)
        averages = {name: self._average(name, value) for name, value in batch.items()}
        return self._weights(averages)

    def current(self) -> Tensor:
        """The weights as they stand, (C,) float32."""
        return self._weights({name: ops.convert_to_tensor(variable) for name, variable in self.averages.items()})

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        keys = ("num_classes", "scheme", "momentum", "ignore_index", "normalize", "cap", "beta", "unit", "name")
        return {key: getattr(self, key) for key in keys}

    def _batch_counts(self, labels: Tensor) -> dict[str, Tensor]:
        """What `ClassCounts` counts, of this batch and all replicas."""
        labels = ops.cast(labels, "int32")
        is_class = one_hot(labels, self.num_classes)  # (N, H, W, C)
        is_void = ops.expand_dims(ops.equal(labels, self.ignore_index), -1)
        pixels = ops.sum(ops.cast(ops.logical_and(is_class, ops.logical_not(is_void)), "int32"), axis=(1, 2))  # (N, C)
        contains = ops.cast(pixels > 0, "int32")
        labelled = ops.sum(pixels, axis=1, keepdims=True)  # (N, 1)
        counts = {
            "pixel_counts": ops.sum(pixels, axis=0),
            "image_counts": ops.sum(contains, axis=0),
            "image_pixels": ops.sum(contains * labelled, axis=0),
            "num_images": ops.sum(ops.ones_like(labelled)),
        }
        counts = {name: sum_over_replicas(ops.cast(value, "float32")) for name, value in counts.items()}
        return counts | {"ones": ops.ones(())}

    def _average(self, name: str, value: Tensor) -> Tensor:
        variable = self.averages[name]
        average = self.momentum * ops.convert_to_tensor(variable) + (1.0 - self.momentum) * value
        variable.assign(average)
        return average

    def _weights(self, averages: dict[str, Tensor]) -> Tensor:
        corrected = {name: ops.divide_no_nan(value, averages["ones"]) for name, value in averages.items()}
        pixels = corrected["pixel_counts"]
        present = pixels > 0
        shares = ops.divide_no_nan(pixels, ops.sum(pixels))
        shares = ops.where(present, ops.maximum(shares, SMALLEST_SHARE), 0.0)
        weights = ops.where(present, self._scheme(shares, present, corrected), 0.0)
        if self.cap is not None:
            smallest = ops.min(ops.where(present, weights, float("inf")))
            weights = ops.where(present, ops.minimum(weights, self.cap * smallest), 0.0)
        total = {
            "mean_one": ops.sum(shares * weights),
            "sum_one": ops.sum(weights),
            "sum_classes": ops.sum(weights) / self.num_classes,
            "none": ops.ones(()),
        }[self.normalize]
        return ops.where(ops.any(present), ops.divide_no_nan(weights, total), 1.0)

    def _scheme(self, shares: Tensor, present: Tensor, corrected: dict[str, Tensor]) -> Tensor:
        """(C,) weights, meaningless where the class is not present."""
        inverse = ops.divide_no_nan(1.0 / self.num_classes, shares)  # N / (C n_c)
        match self.scheme:
            case "inverse_frequency":
                return inverse
            case "inverse_square":
                return inverse**2
            case "inverse_sqrt":
                return ops.sqrt(inverse)
            case "log_frequency":
                return 1.0 / ops.log(LOG_OFFSET + shares)
            case "median_frequency":
                frequencies = ops.divide_no_nan(corrected["pixel_counts"], corrected["image_pixels"])
                return ops.divide_no_nan(_median(frequencies, present), frequencies)
            case _:
                return self._effective_number(corrected)

    def _effective_number(self, corrected: dict[str, Tensor]) -> Tensor:
        memory = 1.0 / (1.0 - self.momentum)
        by_image = self.unit == "images"
        samples = memory * corrected["image_counts" if by_image else "pixel_counts"]
        total = memory * (corrected["num_images"] if by_image else ops.sum(samples) / memory)
        if self.beta == "auto":
            one_minus_beta = ops.divide_no_nan(1.0, ops.maximum(total, 1.0))
            log_beta = ops.log1p(-ops.minimum(one_minus_beta, 1.0 - 1e-7))
        else:
            one_minus_beta = 1.0 - self.beta
            log_beta = math.log(self.beta) if self.beta else -math.inf
        samples = ops.maximum(samples, SMALLEST_SHARE * total)
        return ops.divide_no_nan(one_minus_beta, -ops.expm1(samples * log_beta))


def _median(values: Tensor, present: Tensor) -> Tensor:
    """The median of the present ones of (C,) values."""
    count = ops.sum(ops.cast(present, "int32"))
    ordered = ops.sort(ops.where(present, values, float("inf")))
    middle = ops.take(ordered, ops.maximum(ops.stack([(count - 1) // 2, count // 2]), 0))
    return ops.mean(middle)
