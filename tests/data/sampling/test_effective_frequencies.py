"""seg.data.sampling.effective_frequencies: what is counted is what the training stream shows, pixel for pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg.data.batches.dataset import training_batches
from seg.data.masks.reading import IndexEncoding, write_mask
from seg.data.samples.pairs import Sample
from seg.data.sampling.effective_frequencies import EffectiveCounts, count_crops, count_image_draws
from seg.data.sampling.mask_index import index_masks
from seg.data.sampling.sampler import ClassPresence, CropTargets, RepeatFactor, Sampler
from seg.data.views.preprocessing import Preprocessing
from seg.data.views.transforms import Augmentation
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(("ground", "road", "boat"), ignore_index=255)
PLAIN = Preprocessing(3, None, None, (0.0,) * 3, (1.0,) * 3)
AUGMENT = Augmentation(horizontal_flip=0.5, scale=(0.7, 1.5), rotate=20.0, elastic=1.0, brightness=0.2, crop=(24, 24))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Six images of 48 x 64, a road in the first three, a boat in the first, void at the edge of all."""
    folder = tmp_path_factory.mktemp("pairs")
    found = []
    for number in range(6):
        mask = np.zeros((48, 64), np.uint8)
        mask[:, 60:] = 255
        if number < 3:
            mask[20:26, :60] = 1
        if number == 0:
            mask[30:36, 20:27] = 2
        sample = Sample(folder / f"{number}.png", folder / f"{number}_mask.png")
        cv2.imwrite(str(sample.image), np.full((48, 64, 3), 10 * number, np.uint8))
        write_mask(sample.mask, mask)
        found.append(sample)
    return found


def made(samples: list[Sample], **settings: object) -> Sampler:
    masks = [sample.mask for sample in samples]
    return Sampler(index_masks(masks, LABELS, IndexEncoding(), locate=[1, 2]), **settings)


def test_drawn_crops_are_those_of_the_training_stream(samples: list[Sample]) -> None:
    sampler = made(samples, crops=CropTargets(0.5, (0, 1, 1), 0.5))
    settings = {"seed": 3, "crops_per_image": 4}
    stream = training_batches(
        samples, LABELS, IndexEncoding(), PLAIN, AUGMENT, sampler=sampler, batch_size=8, epochs=2,
        workers=2, **settings,
    )  # fmt: skip
    shown = np.concatenate([labels for _, labels in stream.as_numpy_iterator()])[:40]
    assert len(shown) == 40  # 24 of epoch 0, 16 of epoch 1
    counted = count_crops(
        [sample.mask for sample in samples], LABELS, IndexEncoding(), AUGMENT, sampler, draws_per_epoch=24,
        number=40, workers=2, **settings,
    )  # fmt: skip
    assert counted.pixels.tolist() == [(shown == label).sum() for label in range(3)]
    assert counted.void_pixels == (shown == 255).sum()
    assert counted.images.tolist() == [(shown == label).any(axis=(1, 2)).sum() for label in range(3)]
    labelled = (shown != 255).sum(axis=(1, 2))
    holding = [(shown == label).any(axis=(1, 2)) for label in range(3)]
    assert counted.image_pixels.tolist() == [labelled[one].sum() for one in holding]
    assert counted.num_draws == 40 and not counted.exact
    np.testing.assert_allclose(counted.frequencies, counted.pixels / counted.pixels.sum())


def test_image_draws_are_counted_exactly(samples: list[Sample]) -> None:
    for images in (RepeatFactor(1.0), ClassPresence((1, 1, 1))):
        sampler = made(samples, images=images)
        stream = training_batches(
            samples, LABELS, IndexEncoding(), PLAIN, None, sampler=sampler, batch_size=6, seed=3, epochs=5, workers=2
        )
        shown = np.concatenate([labels for _, labels in stream.as_numpy_iterator()])
        counted = count_image_draws(sampler, seed=3, epochs=5, draws_per_epoch=6, crops_per_image=1)
        assert counted.num_draws == len(shown) == 30 and counted.exact
        assert counted.pixels.tolist() == [(shown == label).sum() for label in range(3)]
        assert counted.void_pixels == (shown == 255).sum()
        assert counted.images.tolist() == [(shown == label).any(axis=(1, 2)).sum() for label in range(3)]
        labelled = (shown != 255).sum(axis=(1, 2))
        holding = [(shown == label).any(axis=(1, 2)) for label in range(3)]
        assert counted.image_pixels.tolist() == [labelled[one].sum() for one in holding]
        assert (counted.standard_error == 0).all()


def test_the_standard_error_is_that_of_many_repetitions(samples: list[Sample]) -> None:
    """Estimates with 40 seeds scatter as each says by itself (the scatter of 40 is known to 11 %)."""
    sampler = made(samples, crops=CropTargets(0.3, (0, 1, 1), 1.0))
    masks = [sample.mask for sample in samples]
    given = {"draws_per_epoch": 24, "crops_per_image": 4, "number": 72, "workers": 1}
    found: list[EffectiveCounts] = [
        count_crops(masks, LABELS, IndexEncoding(), Augmentation(crop=(16, 16)), sampler, seed=seed, **given)
        for seed in range(40)
    ]
    scatter = np.std([one.frequencies for one in found], axis=0)
    said = np.mean([one.standard_error for one in found], axis=0)
    # Stratified draws (a fixed number of aims) scatter less than independent ones, which the formula assumes.
    assert (scatter < 1.3 * said).all() and (scatter > 0.4 * said).all()


def test_sampling_shows_more_of_the_rare(samples: list[Sample]) -> None:
    given = {"seed": 0, "draws_per_epoch": 24, "crops_per_image": 4, "number": 480, "workers": 2}
    masks = [sample.mask for sample in samples]
    shares = []
    for settings in ({}, {"images": RepeatFactor(1.0)}, {"crops": CropTargets(0.5, (0, 0, 1), 0.5)}):
        counted = count_crops(masks, LABELS, IndexEncoding(), AUGMENT, made(samples, **settings), **given)
        shares.append(counted.frequencies[2])
    assert shares[0] < shares[1] < shares[2] / 2


def test_a_broken_mask_is_named(samples: list[Sample], tmp_path: Path) -> None:
    sampler = made(samples, crops=CropTargets(0.5, (0, 1, 1), 0.5))
    broken = tmp_path / "broken.png"
    broken.write_bytes(samples[0].mask.read_bytes()[:60])
    masks = [broken, *(sample.mask for sample in samples[1:])]
    with pytest.raises(DataError, match=r"broken\.png: its PNG data are cut short"):
        count_crops(
            masks, LABELS, IndexEncoding(), AUGMENT, sampler, seed=0, draws_per_epoch=24, crops_per_image=4, number=24
        )
