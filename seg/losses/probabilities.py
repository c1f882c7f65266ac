"""Refuses probabilities where logits belong: a second softmax lets a loss stall at a small gradient, without an error.

Of what an activation has just computed the operation says so, at no cost. Otherwise the values do: those of the first
call where they can be looked at, of a compiled step those in a corner of its first image (XLA leaves that out).
"""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

Tensor = Any
SUM_ERROR = 1e-2  # of probabilities in bfloat16, which have 8 bits
CORNER = 16  # pixels a side that a compiled step looks at
LOOKED_AT = 1 << 16  # pixels of a first call
MANY = 256  # pixels whose logits are not all in [0, 1] by chance
_PASSED_ON = ("Identity", "Cast", "Reshape", "StopGradient", "Transpose", "StridedSlice", "Slice")
_ACTIVATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def refuse_probabilities(logits: Tensor, name: str, first: bool = True) -> None:
    """Raises an error where `logits` are what a softmax or a sigmoid gave.

    Args:
        logits: (N, H, W, C).
        name: The loss's, for the message.
        first: Whether values that can be looked at are.

    Raises:
        ValueError: They come from an activation, or are probabilities that sum to 1 over the classes.
    """
    refuse_activation(logits, name)
    classes = getattr(logits, "shape", (None,))[-1]
    if classes is None or classes < 2:
        return
    values = _values(logits) if first else None
    if values is not None:
        pixels = values.reshape(-1, classes)[:LOOKED_AT].astype(np.float32)
        sums = np.abs(pixels.sum(axis=-1) - 1)
        inside = len(pixels) > 0 and pixels.min() >= 0 and pixels.max() <= 1
        if inside and sums.max() < SUM_ERROR:
            raise ValueError(_message(name, "all values are in [0, 1] and sum to 1 over the classes"))
        if inside and pixels.std() > 0 and len(pixels) >= MANY:
            warnings.warn(_message(name, "all values are in [0, 1], as after a sigmoid"), stacklevel=3)
    elif keras.backend.backend() == "tensorflow":
        _check_in_graph(logits, name)


def refuse_activation(logits: Tensor, name: str) -> None:
    """Raises an error where a softmax or a sigmoid has just computed the logits, which a graph tells.

    Raises:
        ValueError: It has.
    """
    activation = _activation(logits)
    if activation is not None:
        raise ValueError(_message(name, f"the model ends in a {activation}"))


def _message(name: str, found: str) -> str:
    return (
        f"loss '{name}': got probabilities ({found}), allowed: logits; take the last activation out of the model "
        "(activation=None) and apply it where probabilities are shown: keras.ops.softmax(logits), of classes that may "
        "overlap keras.ops.sigmoid(logits)"
    )


def _activation(tensor: Tensor) -> str | None:
    """What computed a tensor, if it is a softmax or a sigmoid: of TensorFlow's graphs the operation says so, and
    Keras's activations leave what they were given on what they give."""
    if getattr(tensor, "_keras_logits", None) is not None:
        return "softmax or sigmoid"
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if not isinstance(tensor, tf.Tensor) or hasattr(tensor, "numpy"):
        return None
    operation = tensor.op
    while operation.type in _PASSED_ON and operation.inputs:
        operation = operation.inputs[0].op
    return _ACTIVATIONS.get(operation.type)


def _values(tensor: Tensor) -> np.ndarray | None:
    """The values of a tensor that has some already; None while a function is traced."""
    if isinstance(tensor, np.ndarray):
        return tensor
    try:
        return np.asarray(keras.ops.convert_to_numpy(tensor))
    except Exception:  # each backend has an error of its own for a tensor that is traced
        return None


def _check_in_graph(logits: Tensor, name: str) -> None:
    import tensorflow as tf

    corner = tf.cast(logits[:1, :CORNER, :CORNER], tf.float32)
    apart = tf.abs(tf.reduce_sum(corner, axis=-1) - 1) < SUM_ERROR
    alike = tf.reduce_all(apart) & tf.reduce_all((corner >= 0) & (corner <= 1)) & (tf.size(corner) > 0)
    message = _message(name, "all values are in [0, 1] and sum to 1 over the classes")
    tf.debugging.Assert(tf.logical_not(alike), [message])
