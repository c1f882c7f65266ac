"""The U-Net: contracting and expanding path with skip connections, padded so that output size = input size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras

from seg.models.blocks import (
    BilinearUpsampling,
    BinaryLogits,
    CropLike,
    MaxPooling2x2,
    Norm,
    PadToMultiple,
    conv_norm_relu,
    double_conv,
)
from seg.models.convolutions import Upconvolution2x2
from seg.models.efficientnet_lite import STRIDE, Variant, encoder_layers

Upsampling = Literal["transpose", "bilinear"]


def unet_layers(
    *,
    bands: int,
    num_classes: int,
    depth: int = 4,
    base_filters: int = 32,
    norm: Norm = "batch",
    dropout: float = 0.0,
    upsampling: Upsampling = "transpose",
    one_logit: bool = False,
) -> tuple[Any, Any]:
    """The symbolic input and output of a U-Net, for any `keras.Model` subclass to be built on.

    Ronneberger, Fischer & Brox, "U-Net", MICCAI 2015, arXiv:1505.04597, with normalisation after each convolution and
    zero padding instead of valid convolutions, so that logits lie on the input's grid.

    Args:
        bands: Channels of the images.
        num_classes: Channels C of the logits.
        depth: Halvings of the resolution (the paper: 4). Level k has base_filters * 2^k filters.
        base_filters: Filters at full resolution (the paper: 64).
        norm: `batch` | `sync_batch` | `group` | `none`.
        dropout: Share of channels dropped (whole feature maps) at the two deepest levels, in [0, 1).
        upsampling: `transpose` (learned 2 x 2 transposed convolution, the paper's) or `bilinear` (resize, then 1 x 1
            convolution: fewer weights, no checkerboard).
        one_logit: For two classes: a single output z, whose sigmoid is the probability of class 1. The logits returned
            are (0, z), see `seg.models.blocks.BinaryLogits`.

    Returns:
        (images, logits): images (N, H, W, bands) float32 of any H, W >= 1; logits (N, H, W, C) float32 whatever the
        precision policy, because losses and argmax need it.

    Raises:
        ValueError: `one_logit` with other than two classes.
    """
    images = keras.Input((None, None, bands), name="images")
    x = PadToMultiple(2**depth, name="pad")(images)

    skips = []
    for level in range(depth):
        x = double_conv(x, base_filters * 2**level, norm, f"down{level}")
        skips.append(x)
        x = MaxPooling2x2(name=f"down{level}_pool")(x)
        if dropout and level == depth - 1:
            x = keras.layers.SpatialDropout2D(dropout, name=f"down{level}_dropout")(x)

    x = double_conv(x, base_filters * 2**depth, norm, "bottom")
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout, name="bottom_dropout")(x)
    x = expanding_path(x, skips, base_filters, norm, upsampling)
    return images, logits_like(images, x, num_classes, one_logit)


def encoder_unet_layers(
    *,
    bands: int,
    num_classes: int,
    encoder: Variant,
    weights: Path | None,
    base_filters: int = 16,
    norm: Norm = "batch",
    dropout: float = 0.0,
    upsampling: Upsampling = "transpose",
    one_logit: bool = False,
) -> tuple[Any, Any]:
    """As `unet_layers`, with EfficientNet-Lite as the contracting path, whose five levels are a half to a thirty-second
    of the image's size. At full size nothing is joined.

    Args:
        bands: As in `unet_layers`.
        num_classes: The same.
        encoder: See `seg.models.efficientnet_lite`.
        weights: A state dict of it; None: random.
        base_filters: Of the expanding path at full resolution; a level below has twice as many.
        norm: Of the expanding path; the encoder's is `batch`.
        dropout: Share of the channels dropped of the deepest features, in [0, 1).
        upsampling: As in `unet_layers`.
        one_logit: The same.

    Raises:
        DataError: The weights cannot be read, or are another network's.
        ValueError: `one_logit` with other than two classes.
    """
    images = keras.Input((None, None, bands), name="images")
    built = encoder_layers(PadToMultiple(STRIDE, name="pad")(images), encoder)
    if weights is not None:
        built.load(weights)
    *skips, x = built.features
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout, name="bottom_dropout")(x)
    x = expanding_path(x, [None, *skips], base_filters, norm, upsampling)
    return images, logits_like(images, x, num_classes, one_logit)


def expanding_path(x: Any, skips: Sequence[Any], base_filters: int, norm: Norm, upsampling: Upsampling) -> Any:
    """Doubles the resolution once for each skip, from the last to the first, and joins those that are not None."""
    for level in reversed(range(len(skips))):
        filters = base_filters * 2**level
        x = _upsample(x, filters, norm, upsampling, f"up{level}")
        if skips[level] is not None:
            x = keras.layers.Concatenate(name=f"up{level}_join")([skips[level], x])
        x = double_conv(x, filters, norm, f"up{level}")
    return x


def logits_like(images: Any, x: Any, num_classes: int, one_logit: bool) -> Any:
    """The logits (N, H, W, C) float32 of features at full resolution, at the images' own size.

    Raises:
        ValueError: `one_logit` with other than two classes.
    """
    if one_logit and num_classes != 2:
        raise ValueError(f"one_logit: got {num_classes} classes, allowed: 2")
    logits = keras.layers.Conv2D(1 if one_logit else num_classes, 1, dtype="float32", name="logits")(x)
    if one_logit:
        logits = BinaryLogits(dtype="float32", name="binary_logits")(logits)
    return CropLike(dtype="float32", name="crop")(logits, images)


def _upsample(x: Any, filters: int, norm: Norm, upsampling: Upsampling, name: str) -> Any:
    """Doubles height and width: (N, H, W, *) -> (N, 2H, 2W, filters)."""
    if upsampling == "transpose":
        return Upconvolution2x2(filters, kernel_initializer="he_normal", name=f"{name}_transpose")(x)
    # The 1 x 1 convolution runs first, at a quarter of the pixels: it commutes with the interpolation.
    x = conv_norm_relu(x, filters, norm, f"{name}_reduce", kernel_size=1)
    return BilinearUpsampling(name=f"{name}_resize")(x)
