"""seg.balance.pairs: the counts of the masks and the images' statistics in one pass, what is missing left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

import seg.data.files.reading as reading
from seg.balance import count_masks
from seg.balance.pairs import count_pairs, fingerprint_pairs
from seg.data.files.windows import blocks
from seg.data.masks.counts import count_pixels
from seg.data.masks.reading import IndexEncoding
from seg.data.samples.pairs import Sample
from seg.data.samples.slices import expand_slices
from seg.data.views.clip import Clip
from seg.errors import DataError
from seg.labels import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
LABELS = LabelSet.from_names(("ground", "road", "tree"))
ENCODING = IndexEncoding()


@pytest.fixture
def samples(tmp_path: Path, write_raster: Callable, noise: Callable, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Three rasters, counted in blocks of few pixels, with void pixels, and missing ones in one band or all."""
    monkeypatch.setattr(reading, "blocks", lambda shape, block: blocks(shape, block, pixels=64 * 128))
    made = []
    for k in range(3):
        image = noise((150 + k, 170, 3), "uint16", k).clip(1)
        image[10:40, 20:90] = 0
        image[60:80, :, 1] = 0
        mask = np.random.default_rng(k).choice(np.array([0, 1, 1, 2, 255], np.uint8), image.shape[:2])
        image_file = write_raster(tmp_path / f"images/{k}.tif", image, nodata=0)
        made.append(Sample(image_file, write_raster(tmp_path / f"masks/{k}.tif", mask)))
    return made


def pixels_of(samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """All values (n, 3) and labels (n,), read by another reader."""
    import rasterio

    images, masks = [], []
    for sample in samples:
        with rasterio.open(sample.image) as file:
            images.append(file.read().reshape(3, -1).T)
        with rasterio.open(sample.mask) as file:
            masks.append(file.read(1).ravel())
    return np.concatenate(images), np.concatenate(masks)


@pytest.mark.parametrize("workers", [1, 4])
def test_both_are_numpys(samples: list[Sample], tmp_path: Path, workers: int) -> None:
    clip = Clip(percentiles=(2, 98))
    counts, statistics = count_pairs(samples, LABELS, ENCODING, root=tmp_path, bands=3, clip=clip, workers=workers)
    assert statistics is not None
    values, mask = pixels_of(samples)
    kept = mask[~(values == 0).all(axis=1)]
    assert counts.pixel_counts.tolist() == [int((kept == index).sum()) for index in range(3)]
    assert counts.void_pixels == len(mask) - (kept != 255).sum() and counts.num_images == 3
    for band in range(3):
        valid = values[(mask != 255) & (values[:, band] != 0), band].astype(float)
        ends = np.percentile(valid, [2, 98], method="inverted_cdf")
        assert [statistics.low[band], statistics.high[band]] == ends.tolist()
        np.testing.assert_allclose(statistics.mean[band], np.clip(valid, *ends).mean(), rtol=1e-12)
        np.testing.assert_allclose(statistics.std[band], np.clip(valid, *ends).std(), rtol=1e-12)
        assert statistics.pixels[band] == len(valid)
    assert statistics.fingerprint == fingerprint_pairs(samples, tmp_path)


def test_chosen_bands_and_counts_alone(samples: list[Sample], tmp_path: Path) -> None:
    whole, all_bands = count_pairs(samples, LABELS, ENCODING, root=tmp_path, bands=3)
    counts, statistics = count_pairs(samples, LABELS, ENCODING, root=tmp_path, bands=(3, 1))
    assert statistics.mean == all_bands.mean[::-2] and counts == whole
    counts, statistics = count_pairs(samples, LABELS, ENCODING, root=tmp_path, bands=3, with_statistics=False)
    assert statistics is None and counts == whole
    none_missing = count_pairs(samples, LABELS, ENCODING, root=tmp_path, bands=3, nodata=65_535)[0]
    masks = [sample.mask for sample in samples]
    assert none_missing.pixel_counts.sum() > whole.pixel_counts.sum()
    assert count_masks(masks, LABELS, ENCODING, root=tmp_path).fingerprint == whole.fingerprint


def test_pictures_and_a_mask_of_two_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (30, 40))
    images = [rng.integers(0, 256, (30, 40, 3)).astype(np.uint8) for _ in range(2)]
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    for name, image in zip("ab", images, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image[..., ::-1])
    pair = [Sample(tmp_path / f"{name}.png", tmp_path / "m.png") for name in "ab"]
    counts, statistics = count_pairs(pair, LABELS, ENCODING, root=tmp_path, bands=3)
    assert counts == count_masks([tmp_path / "m.png"] * 2, LABELS, ENCODING, root=tmp_path)
    labelled = np.concatenate([image[mask != 255] for image in images]).astype(float)
    np.testing.assert_allclose(statistics.mean, labelled.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, labelled.std(axis=0), rtol=1e-12)
    cv2.imwrite(str(tmp_path / "small.png"), mask[:-1])
    with pytest.raises(DataError, match=r"a\.png and its mask .*small\.png differ in size; allowed: the same size"):
        count_pairs([Sample(tmp_path / "a.png", tmp_path / "small.png")], LABELS, ENCODING, root=tmp_path, bands=3)


def test_slices_of_volumes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scan, mask = rng.normal(0, 300, (9, 8, 5)).astype(np.float32), rng.integers(0, 3, (9, 8, 5)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(scan, np.eye(4)), tmp_path / "i.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "m.nii.gz")
    slices = expand_slices({"train": [Sample(tmp_path / "i.nii.gz", tmp_path / "m.nii.gz")]}, 2)["train"]
    counts, statistics = count_pairs(slices, LABELS, ENCODING, root=tmp_path, bands=1)
    assert counts.num_images == 5 and counts.pixel_counts.tolist() == np.bincount(mask.ravel()).tolist()
    np.testing.assert_allclose(statistics.mean[0], scan.mean(dtype=float), rtol=1e-12)
    np.testing.assert_allclose(statistics.std[0], scan.std(dtype=float), rtol=1e-12)


def test_a_mask_raster_is_counted_by_blocks(samples: list[Sample]) -> None:
    """Without its image, as data_tools.mask_frequencies does; no more than a block is read at a time."""
    values, mask = pixels_of(samples[:1])
    counted = count_pixels(samples[0].mask, LABELS, ENCODING)
    assert counted.tolist() == [*(int((mask == index).sum()) for index in range(3)), int((mask == 255).sum())]
    assert len(list(reading.stored_blocks(reading.reader(samples[0].mask)))) == 6  # 3 x 2 of 64 x 128
