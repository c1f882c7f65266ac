"""Batches of rasters: batches fixed by the seed for any number of workers, resumed, and evaluated by tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import seg.data.views.sources as sources
from seg.data.batches.dataset import evaluation_batches, training_batches, user_errors
from seg.data.batches.loading import load_pair
from seg.data.batches.pixel_cache import PixelCache
from seg.data.masks.reading import IndexEncoding
from seg.data.samples.pairs import Sample
from seg.data.views.preprocessing import Preprocessing, ValueRange
from seg.data.views.transforms import Augmentation
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(("ground", "road", "tree"))
ENCODING = IndexEncoding()
RANGE = ValueRange((-200.0,) * 5, (200.0,) * 5, clip=False)
PLAIN = Preprocessing(5, None, None, (0.5,) * 5, (0.25,) * 5, value_range=RANGE)
AUGMENT = Augmentation(
    horizontal_flip=0.5, rotate90=0.5, scale=(0.5, 2.0), rotate=20.0, brightness=0.2, crop=(24, 32), bands=5,
    saturate=False,
)  # fmt: skip


@pytest.fixture
def samples(tmp_path: Path, write_raster: Callable, noise: Callable) -> list[Sample]:
    made = []
    for k in range(3):
        image = noise((140 + k, 150, 5), "float32", k)
        image[:40, :40] = np.nan
        mask = np.random.default_rng(k).integers(0, 3, image.shape[:2]).astype(np.uint8)
        image_file = write_raster(tmp_path / f"i{k}.tif", image)
        made.append(Sample(image_file, write_raster(tmp_path / f"m{k}.tif", mask)))
    return made


def batches(samples: list[Sample], **settings: object) -> list:
    settings = {"batch_size": 2, "seed": 5, "epochs": 3, "workers": 2, "crops_per_image": 2, **settings}
    with user_errors():
        return list(training_batches(samples, LABELS, ENCODING, PLAIN, AUGMENT, **settings).as_numpy_iterator())


def assert_same(stream: list, other: list) -> None:
    assert len(stream) == len(other) > 0
    for batch, twin in zip(stream, other, strict=True):
        for array, same in zip(batch, twin, strict=True):
            np.testing.assert_array_equal(array, same)


def test_workers_and_resuming_change_nothing(samples: list[Sample]) -> None:
    stream = batches(samples)
    assert_same(stream, batches(samples, workers=1))
    assert_same(stream[3:], batches(samples, workers=4, first_epoch=1))
    assert len({images.tobytes() for images, _ in stream}) == 9
    for images, labels in stream:
        assert images.shape == (2, 24, 32, 5) and labels.shape == (2, 24, 32) and np.isfinite(images).all()
        assert (images[labels == 255] == 0).all()  # missing, or from outside; the masks have no void of their own


def test_a_broken_raster_arrives_as_its_error(samples: list[Sample]) -> None:
    data = samples[1].image.read_bytes()
    samples[1].image.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"i1\.tif: cannot be read as a raster, is it cut short or corrupt"):
        batches(samples)


def test_without_a_crop_all_have_one_size(samples: list[Sample]) -> None:
    whole = Augmentation(horizontal_flip=0.5, bands=5)
    with (
        pytest.raises(DataError, match=r"i\d\.tif is 14\d x 150 \(height x width\) but .*i0\.tif is"),
        user_errors(),
    ):
        list(training_batches(samples, LABELS, ENCODING, PLAIN, whole, batch_size=3, seed=0, epochs=1))
    stream = training_batches(samples[:1], LABELS, ENCODING, PLAIN, whole, batch_size=1, seed=0, epochs=1)
    [(images, _)] = stream.as_numpy_iterator()
    assert images.shape == (1, 140, 150, 5)


def test_evaluation_tiles_hold_every_labelled_pixel_once(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(evaluation_batches(samples, LABELS, ENCODING, PLAIN, batch_size=4).as_numpy_iterator())
    assert [images.shape[1] for images, _ in whole] == [140, 141, 142]
    monkeypatch.setattr(sources, "EVALUATION_TILE", 64)
    monkeypatch.setattr(sources, "EVALUATION_MARGIN", 8)
    tiles = list(evaluation_batches(samples, LABELS, ENCODING, PLAIN, batch_size=4).as_numpy_iterator())
    assert len(tiles) == 27 and max(images.shape[1] for images, _ in tiles) == 80
    for stream in (whole, tiles):
        counts = sum(np.bincount(labels.ravel(), minlength=256)[:3] for _, labels in stream)
        expected = sum(
            np.bincount(load_pair(s, LABELS, ENCODING, PLAIN)[1].ravel(), minlength=256)[:3] for s in samples
        )
        np.testing.assert_array_equal(counts, expected)
    top_left = tiles[0][0][0]
    np.testing.assert_array_equal(top_left, whole[0][0][0][:72, :72])


def test_what_needs_whole_images_is_refused(samples: list[Sample]) -> None:
    settings = {"batch_size": 1, "seed": 0, "epochs": 1}
    message = r"i0\.tif: is read by windows or slices, .* which input\.cache does not work with; allowed: leave it out"
    with pytest.raises(DataError, match=message):
        training_batches(samples, LABELS, ENCODING, PLAIN, AUGMENT, cache=PixelCache(10**6, "test"), **settings)


def test_200_bands_train(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    """More than OpenCV warps at once."""
    import keras

    from seg.losses import CrossEntropy
    from seg.models.unet import unet_layers

    image = write_raster(tmp_path / "i.tif", noise((48, 48, 200), "uint16"), tiled=True)
    mask = write_raster(tmp_path / "m.tif", np.random.default_rng(0).integers(0, 3, (48, 48)).astype(np.uint8))
    preprocessing = Preprocessing(200, None, None, (0.5,) * 200, (0.25,) * 200)
    change = Augmentation(
        horizontal_flip=0.5, rotate=20.0, scale=(0.5, 2.0), elastic=3.0, brightness=0.2, crop=(32, 32), bands=200
    )
    stream = training_batches([Sample(image, mask)], LABELS, ENCODING, preprocessing, change, batch_size=1, seed=0,
                              epochs=2)  # fmt: skip
    model = keras.Model(*unet_layers(bands=200, num_classes=3, depth=1, base_filters=2))
    model.compile("adam", loss=CrossEntropy(ignore_index=255), run_eagerly=True)
    history = model.fit(stream, steps_per_epoch=2, epochs=1, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    [(images, _), _] = stream.as_numpy_iterator()
    assert images.shape == (1, 32, 32, 200) and len({images[..., k].tobytes() for k in range(200)}) == 200
