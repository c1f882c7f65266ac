"""From config sections to objects: the only package that knows both. What needs TensorFlow imports it when called."""

from seg.build.data import (
    augmentation,
    count_classes,
    evaluation_data,
    label_set,
    mask_encoding,
    pixel_weights,
    samples,
    training_data,
)
from seg.build.hyperparameters import hyperparameters
from seg.build.images import clip, may_miss_pixels, needs_statistics, preprocessing
from seg.build.losses import confusion, loss, online_weights, weight_warnings, weights
from seg.build.models import network, optimizer
from seg.build.prior import posterior_weights
from seg.build.sampling import Sampling, sampling, sampling_warnings

__all__ = [
    "Sampling",
    "augmentation",
    "clip",
    "confusion",
    "count_classes",
    "evaluation_data",
    "hyperparameters",
    "label_set",
    "loss",
    "mask_encoding",
    "may_miss_pixels",
    "needs_statistics",
    "network",
    "online_weights",
    "optimizer",
    "pixel_weights",
    "posterior_weights",
    "preprocessing",
    "samples",
    "sampling",
    "sampling_warnings",
    "training_data",
    "weight_warnings",
    "weights",
]
