"""Multi-label masks on their way to batches: every plane moves exactly as an (H, W) mask does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.data.batches.dataset import evaluation_batches, training_batches
from seg.data.batches.loading import load_pair
from seg.data.files.images import resize_mask
from seg.data.masks.planes import MultiLabelEncoding, write_planes
from seg.data.samples.pairs import Sample
from seg.data.views.preprocessing import Preprocessing
from seg.data.views.transforms import Augmentation
from seg.errors import DataError
from seg.labels import LabelSet

VOID = 7  # not 255, so that a border painted with a default is seen
GEOMETRIC = {
    "none": {},
    "flips": {"horizontal_flip": 0.5, "vertical_flip": 0.5},
    "rotate90": {"rotate90": 1.0},
    "scale": {"scale": (0.4, 2.5)},
    "rotate": {"rotate": 45.0},
    "elastic": {"elastic": 8.0},
    "crop": {"crop": (24, 20)},
    "padding": {"crop": (64, 80)},
    "shrunk": {"resize": (20, 28), "rotate": 20.0},
    "enlarged": {"resize": (60, 90), "crop": (70, 50)},
    "all": {"rotate90": 0.5, "scale": (0.5, 2.0), "rotate": 30.0, "elastic": 5.0, "crop": (50, 30)},
}
COLOUR = {"brightness": 0.2, "contrast": 0.2, "colour_jitter": 0.2}


@pytest.mark.parametrize("count", [1, 2, 5, 12, 128])
@pytest.mark.parametrize("settings", GEOMETRIC.values(), ids=GEOMETRIC.keys())
def test_each_plane_moves_as_a_mask_does(settings: dict, count: int) -> None:
    rng = np.random.default_rng(count)
    image = rng.integers(1, 256, (40, 56, 3), dtype=np.uint8)
    planes = rng.choice(np.array([0, 1, VOID], np.uint8), (40, 56, count))
    augment = Augmentation(**settings, **COLOUR, ignore_index=VOID)
    for seed in range(4):
        new_image, snapped = augment(image, planes, seed)
        assert (
            snapped.dtype == np.uint8 and snapped.flags.c_contiguous and snapped.shape == (*new_image.shape[:2], count)
        )
        for index in {0, count // 2, count - 1}:
            alone_image, alone = augment(image, planes[..., index], seed)
            np.testing.assert_array_equal(snapped[..., index], alone)
            np.testing.assert_array_equal(new_image, alone_image)


@pytest.mark.parametrize("count", [1, 2, 5, 12, 128])
@pytest.mark.parametrize("bend", [{}, {"elastic": 0.5}], ids=["affine", "elastic"])
def test_what_lies_outside_is_void_in_all_planes(count: int, bend: dict) -> None:
    image, planes = np.full((16, 16, 3), 200, np.uint8), np.ones((16, 16, count), np.uint8)
    new_image, snapped = Augmentation(crop=(48, 48), ignore_index=VOID, **bend)(image, planes, 0)
    assert set(np.unique(snapped)) == {1, VOID}
    assert ((snapped == VOID) == (snapped[..., :1] == VOID)).all()
    assert (snapped[new_image[..., 0] == 0] == VOID).all() and (snapped[..., 0] == 1).sum() > 200


@pytest.mark.parametrize("count", [1, 5, 12, 128])
def test_resizing_takes_the_nearest_pixel_of_each_plane(count: int) -> None:
    planes = np.random.default_rng(0).integers(0, 2, (31, 47, count), dtype=np.uint8)
    for size in ((13, 60), (50, 20)):
        resized = resize_mask(planes, size)
        assert resized.shape == (*size, count)
        for index in range(count):
            np.testing.assert_array_equal(resized[..., index], resize_mask(planes[..., index].copy(), size))


# --- batches ----------------------------------------------------------------------------------------------------------
PLAIN = Preprocessing(bands=3, resize=None, max_value=None, mean=(0.0,) * 3, std=(1.0,) * 3)
ENCODING = MultiLabelEncoding()


def labels(count: int) -> LabelSet:
    return LabelSet.from_names([f"class {index}" for index in range(count)], VOID, multi_label=True)


def write_sample(folder: Path, index: int, count: int, size: tuple[int, int] = (12, 16)) -> Sample:
    rng = np.random.default_rng(index)
    sample = Sample(folder / f"{index}.png", folder / f"{index}.tif")
    cv2.imwrite(str(sample.image), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    write_planes(sample.mask, rng.choice(np.array([0, 1, VOID], np.uint8), (*size, count)))
    return sample


@pytest.mark.parametrize("count", [1, 3])
def test_batches_hold_the_masks_planes(tmp_path: Path, count: int) -> None:
    samples = [write_sample(tmp_path, index, count) for index in range(4)]
    batches = evaluation_batches(samples, labels(count), ENCODING, PLAIN, batch_size=2)
    assert batches.element_spec[1].shape.as_list() == [None, None, None, count]
    for sample, (images, masks) in zip(samples, batches, strict=True):
        image, mask = load_pair(sample, labels(count), ENCODING, PLAIN)
        assert mask.shape == (12, 16, count)
        np.testing.assert_array_equal(masks[0], mask)
        np.testing.assert_array_equal(images[0], PLAIN.prepare(image))


@pytest.mark.parametrize("count", [1, 3])
def test_training_batches_have_a_static_shape(tmp_path: Path, count: int) -> None:
    samples = [write_sample(tmp_path, index, count) for index in range(4)]
    augment = Augmentation(horizontal_flip=0.5, rotate=20.0, crop=(8, 12), ignore_index=VOID)
    batches = training_batches(samples, labels(count), ENCODING, PLAIN, augment, batch_size=2, seed=0, epochs=1)
    assert [spec.shape.as_list() for spec in batches.element_spec] == [[2, 8, 12, 3], [2, 8, 12, count]]
    values = {int(value) for _, masks in batches for value in np.unique(masks)}
    assert values == {0, 1, VOID}
    whole = training_batches(samples, labels(count), ENCODING, PLAIN, None, batch_size=2, seed=0, epochs=1)
    assert whole.element_spec[1].shape.as_list() == [2, 12, 16, count]


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, 0, 2)
    write_planes(sample.mask, np.zeros((12, 15, 2), np.uint8))
    with pytest.raises(DataError, match=r"is 12 x 16 \(height x width\) but its mask .*0.tif is 12 x 15"):
        load_pair(sample, labels(2), ENCODING, PLAIN)
