"""Losses from integer labels and logits to one scalar: pure functions and thin `keras.losses.Loss` classes.

Everything is written in `keras.ops`, so it runs on every Keras backend, and shaped for XLA: compile the loss with
`jit_compile=True` (on CPU the loss alone, not the model) and the passes over the logits fuse.
"""

from seg.losses.base import SegmentationLoss
from seg.losses.combined import Combined
from seg.losses.cross_entropy import CrossEntropy, cross_entropy
from seg.losses.dice import Dice, dice_loss
from seg.losses.focal import Focal, focal_loss
from seg.losses.online_weights import OnlineClassWeights

__all__ = [
    "Combined",
    "CrossEntropy",
    "Dice",
    "Focal",
    "OnlineClassWeights",
    "SegmentationLoss",
    "cross_entropy",
    "dice_loss",
    "focal_loss",
]
