"""From config sections to objects: the only package that knows both. What needs TensorFlow imports it when called."""

from seg.build.data import (
    augmentation,
    evaluation_data,
    label_set,
    mask_encoding,
    pixel_weights,
    preprocessing,
    samples,
    training_data,
)
from seg.build.losses import loss, online_weights, weights
from seg.build.models import network, optimizer
from seg.build.prior import posterior_weights

__all__ = [
    "augmentation",
    "evaluation_data",
    "label_set",
    "loss",
    "mask_encoding",
    "network",
    "online_weights",
    "optimizer",
    "pixel_weights",
    "posterior_weights",
    "preprocessing",
    "samples",
    "training_data",
    "weights",
]
