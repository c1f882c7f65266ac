"""Losses from integer labels and logits to one scalar: pure functions and thin `keras.losses.Loss` classes.

Everything is written in `keras.ops`, so it runs on every Keras backend, and shaped for XLA: compile the loss with
`jit_compile=True` (on CPU the loss alone, not the model) and the passes over the logits fuse.
"""

from seg.losses.base import SegmentationLoss, weights_by_name
from seg.losses.binary_cross_entropy import BinaryCrossEntropy, binary_cross_entropy
from seg.losses.combined import Combined
from seg.losses.cross_entropy import CrossEntropy, cross_entropy, soft_cross_entropy
from seg.losses.dice import Dice, dice_loss
from seg.losses.focal import Focal, focal_loss
from seg.losses.generalised_dice import GeneralisedDice, generalised_dice_loss
from seg.losses.lovasz import Lovasz, lovasz_loss
from seg.losses.online_weights import OnlineClassWeights
from seg.losses.top_k import TopKCrossEntropy, top_k_cross_entropy
from seg.losses.tversky import Tversky, tversky_loss

__all__ = [
    "BinaryCrossEntropy",
    "Combined",
    "CrossEntropy",
    "Dice",
    "Focal",
    "GeneralisedDice",
    "Lovasz",
    "OnlineClassWeights",
    "SegmentationLoss",
    "TopKCrossEntropy",
    "Tversky",
    "binary_cross_entropy",
    "cross_entropy",
    "dice_loss",
    "focal_loss",
    "generalised_dice_loss",
    "lovasz_loss",
    "soft_cross_entropy",
    "top_k_cross_entropy",
    "tversky_loss",
    "weights_by_name",
]
