"""Draws fixed by (seed, epoch, sample, crop), batches of known content, errors that arrive whole."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from seg.data.batches.dataset import evaluation_batches, training_batches, user_errors
from seg.data.batches.loading import Plan, TrainingLoader, load_pair
from seg.data.batches.pixel_cache import PixelCache
from seg.data.batches.shares import Share
from seg.data.batches.threads import ThreadLoader
from seg.data.masks.reading import IndexEncoding
from seg.data.samples.pairs import Sample
from seg.data.sampling.draws import epoch_order
from seg.data.sampling.mask_index import index_masks
from seg.data.sampling.sampler import CropTargets, RepeatFactor, Sampler
from seg.data.views.preprocessing import Preprocessing
from seg.data.views.transforms import Augmentation
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(("ground", "road", "tree"))
ENCODING = IndexEncoding()
PLAIN = Preprocessing(bands=3, resize=None, max_value=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
AUGMENT = Augmentation(horizontal_flip=0.5, scale=(0.5, 2.0), rotate=20.0, brightness=0.2, contrast=0.2, crop=(8, 12))


def write_pair(folder: Path, name: str, size: tuple[int, int] = (12, 16), value: int | None = None) -> Sample:
    """A 3-band image of noise, or of one value, and a mask of noise."""
    rng = np.random.default_rng([*name.encode(), *size])
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8) if value is None else np.full((*size, 3), value, np.uint8)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), size)
    sample = Sample(folder / f"{name}.png", folder / f"{name}_mask.png")
    cv2.imwrite(str(sample.image), image)
    cv2.imwrite(str(sample.mask), mask)
    return sample


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Seven pairs; image k is filled with 10 * k, so that a batch tells which samples it holds."""
    return [write_pair(tmp_path, f"tile_{k}", value=10 * k) for k in range(7)]


def batches(samples: list[Sample], augmentation: Augmentation | None = None, **settings: object) -> list:
    settings = {"batch_size": 2, "seed": 5, "epochs": 3, "workers": 2, **settings}
    dataset = training_batches(samples, LABELS, ENCODING, PLAIN, augmentation, **settings)
    return list(dataset.as_numpy_iterator())


def sample_indices(stream: list) -> list[list[int]]:
    return [[round(float(value) * 255 / 10) for value in images[:, 0, 0, 0]] for images, _ in stream]


def assert_same(stream: list, other: list) -> None:
    assert len(stream) == len(other)
    for (images, labels), (other_images, other_labels) in zip(stream, other, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_pixel_weights_come_with_their_masks_and_change_nothing_else(samples: list[Sample]) -> None:
    asked = []

    def weigh(path: Path, mask: np.ndarray) -> np.ndarray:
        asked.append(path)
        return mask.astype(np.float32) + 1.5

    for augmentation in (None, AUGMENT):
        weighted = batches(samples, augmentation, pixel_weights=weigh)
        assert_same([batch[:2] for batch in weighted], batches(samples, augmentation))
        for _, labels, weights in weighted:
            inside = labels != 255
            np.testing.assert_array_equal(weights[inside], labels[inside] + np.float32(1.5))
            assert weights.dtype == np.float32
    assert set(asked) <= {sample.mask for sample in samples}


# --- preprocessing ---
def test_prepare_by_hand() -> None:
    """(51 / 255 - 0.5) / 0.25 = -1.2;  (204 / 255 - 0.4) / 0.2 = 2;  (0 - 0.1) / 0.5 = -0.2."""
    preprocessing = Preprocessing(3, None, None, mean=(0.5, 0.4, 0.1), std=(0.25, 0.2, 0.5))
    image = np.tile(np.array([51, 204, 0], np.uint8), (2, 5, 1))
    prepared = preprocessing.prepare(image)
    assert prepared.dtype == np.float32 and prepared.shape == (2, 5, 3)
    np.testing.assert_allclose(prepared, np.tile([-1.2, 2.0, -0.2], (2, 5, 1)), atol=1e-6)  # float32 rounding


def test_16_bit_images_are_prepared_alike() -> None:
    preprocessing = Preprocessing(1, None, None, mean=(0.5,), std=(0.25,))
    image = np.arange(0, 255, dtype=np.uint8).reshape(15, 17, 1)
    wide = image.astype(np.uint16) * 257  # 65535 = 255 * 257
    np.testing.assert_allclose(preprocessing.prepare(wide), preprocessing.prepare(image), atol=1e-6)
    assert preprocessing.augmentable(wide).dtype == np.float32
    assert preprocessing.augmentable(image) is image


def test_max_value_becomes_one() -> None:
    for dtype in (np.uint8, np.uint16):
        preprocessing = Preprocessing(1, None, max_value=200, mean=(0.0,), std=(1.0,))
        image = np.full((2, 2, 1), 50, dtype)
        np.testing.assert_allclose(preprocessing.prepare(image), 0.25, atol=1e-7)
        np.testing.assert_allclose(preprocessing.prepare(preprocessing.augmentable(image)), 0.25, atol=1e-7)


def test_read_resizes(samples: list[Sample]) -> None:
    image = Preprocessing(3, (6, 8), None, (0.0,) * 3, (1.0,) * 3).read(samples[4].image)
    assert image.shape == (6, 8, 3) and image.dtype == np.uint8 and (image == 40).all()


def test_a_mean_a_band() -> None:
    with pytest.raises(ValueError, match="got 1 means and 3 stds for 3 bands"):
        Preprocessing(3, None, None, (0.0,), (1.0, 1.0, 1.0))


def test_load_pair(tmp_path: Path) -> None:
    sample = write_pair(tmp_path, "a")
    image, mask = load_pair(sample, LABELS, ENCODING, PLAIN)
    np.testing.assert_array_equal(image, cv2.imread(str(sample.image))[:, :, ::-1])
    np.testing.assert_array_equal(mask, cv2.imread(str(sample.mask), cv2.IMREAD_UNCHANGED))
    image, mask = load_pair(sample, LABELS, ENCODING, Preprocessing(3, (24, 32), None, PLAIN.mean, PLAIN.std))
    assert image.shape == (24, 32, 3) and mask.shape == (24, 32) and mask.dtype == np.uint8


def test_an_image_and_a_mask_of_two_sizes(tmp_path: Path) -> None:
    sample = Sample(write_pair(tmp_path, "a").image, write_pair(tmp_path, "b", size=(12, 20)).mask)
    with pytest.raises(
        DataError, match=r"a\.png is 12 x 16 \(height x width\) but its mask .*b_mask\.png is 12 x 20; a"
    ):
        load_pair(sample, LABELS, ENCODING, PLAIN)


# --- training batches ---
def test_batches_hold_what_the_files_hold(samples: list[Sample]) -> None:
    for images, labels in batches(samples, epochs=1):
        assert images.dtype == np.float32 and labels.dtype == np.uint8
        for image, mask in zip(images, labels, strict=True):
            index = round(float(image[0, 0, 0]) * 25.5)
            expected_image, expected_mask = load_pair(samples[index], LABELS, ENCODING, PLAIN)
            np.testing.assert_allclose(image, expected_image / 255, atol=1e-7)  # float32 rounding
            np.testing.assert_array_equal(mask, expected_mask)


def test_an_epoch_visits_a_sample_at_most_once_in_its_order(samples: list[Sample]) -> None:
    stream = sample_indices(batches(samples))
    assert len(stream) == 3 * 3  # 7 // 2 batches an epoch, three epochs
    for epoch in range(3):
        visited = list(itertools.chain.from_iterable(stream[3 * epoch : 3 * epoch + 3]))
        assert visited == epoch_order(7, 5, epoch)[:6].tolist()


def test_crops_of_an_image_differ(samples: list[Sample]) -> None:
    stream = batches(samples, Augmentation(crop=(8, 8)), crops_per_image=3, batch_size=21, epochs=1)
    assert sorted(sample_indices(stream)[0]) == sorted(list(range(7)) * 3)
    masks = stream[0][1]
    assert masks.shape == (21, 8, 8)
    assert len({mask.tobytes() for mask in masks}) > 15  # 45 places for 3 crops: few fall on one


def test_the_number_of_workers_changes_nothing(samples: list[Sample]) -> None:
    assert_same(batches(samples, AUGMENT, workers=1), batches(samples, AUGMENT, workers=4))
    assert_same(batches(samples, AUGMENT, workers=1), batches(samples, AUGMENT, workers=None))


def test_a_resumed_stream_is_the_rest_of_the_uninterrupted_one(samples: list[Sample]) -> None:
    whole = batches(samples, AUGMENT, epochs=4)
    assert_same(whole[3 * 2 :], batches(samples, AUGMENT, epochs=4, first_epoch=2))
    assert batches(samples, AUGMENT, epochs=4, first_epoch=4) == []


def test_epochs_and_seeds_draw_differently(samples: list[Sample]) -> None:
    stream = batches(samples, AUGMENT, batch_size=7, epochs=2) + batches(samples, AUGMENT, batch_size=7, seed=6)
    assert len({images.tobytes() for images, _ in stream}) == 5


@pytest.mark.parametrize(
    ("resize", "augmentation", "size"),
    [
        (None, None, (12, 16)),
        ((6, 10), None, (6, 10)),
        ((6, 10), AUGMENT.model_copy(update={"resize": (6, 10)}), (8, 12)),
        ((6, 10), Augmentation(resize=(6, 10)), (6, 10)),
        (None, Augmentation(), (12, 16)),
    ],
)
def test_static_shapes(samples: list[Sample], resize: tuple, augmentation: Augmentation | None, size: tuple) -> None:
    preprocessing = Preprocessing(3, resize, None, PLAIN.mean, PLAIN.std)
    dataset = training_batches(
        samples, LABELS, ENCODING, preprocessing, augmentation, batch_size=2, seed=0, epochs=2, workers=1
    )
    images, labels = dataset.element_spec
    assert tuple(images.shape) == (2, *size, 3) and tuple(labels.shape) == (2, *size)
    assert int(dataset.cardinality()) == 6
    assert next(iter(dataset))[0].shape == images.shape


def test_another_shape_is_an_error_that_names_the_file(samples: list[Sample], tmp_path: Path) -> None:
    samples = [*samples, write_pair(tmp_path, "wide", size=(12, 20))]
    message = (
        r"wide\.png is 12 x 20 \(height x width\) but .*tile_0\.png is 12 x 16; .* set input\.crop or input\.resize"
    )
    with pytest.raises(DataError, match=message), user_errors():
        batches(samples, batch_size=8, epochs=1)
    assert len(batches(samples, Augmentation(crop=(12, 20)), batch_size=8, epochs=1)) == 1


def test_too_few_samples_fail_before_anything_is_read() -> None:
    with pytest.raises(DataError, match="fewer than one batch"):
        batches([Sample(Path("none.png"), Path("none_mask.png"))])


# --- evaluation batches ---
def test_evaluation_keeps_order_size_and_the_last_part(samples: list[Sample], tmp_path: Path) -> None:
    samples = [*samples, write_pair(tmp_path, "wide", size=(12, 20), value=70)]
    one_by_one = list(evaluation_batches(samples, LABELS, ENCODING, PLAIN, batch_size=3, workers=2).as_numpy_iterator())
    assert [images.shape for images, _ in one_by_one] == [(1, 12, 16, 3)] * 7 + [(1, 12, 20, 3)]
    assert sample_indices(one_by_one) == [[k] for k in range(8)]
    resized = Preprocessing(3, (6, 8), None, PLAIN.mean, PLAIN.std)
    threes = list(evaluation_batches(samples, LABELS, ENCODING, resized, batch_size=3).as_numpy_iterator())
    assert sample_indices(threes) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert threes[2][1].shape == (2, 6, 8) and threes[2][1].dtype == np.uint8


# --- errors ---
def break_mask(sample: Sample) -> None:
    cv2.imwrite(str(sample.mask), np.full((12, 16), 77, np.uint8))  # 77 is no class


def test_a_loading_error_arrives_whole_through_fit(samples: list[Sample]) -> None:
    model = keras.Sequential([keras.Input((12, 16, 3)), keras.layers.Conv2D(3, 1)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255))
    settings = {"batch_size": 2, "seed": 0, "epochs": 2, "workers": 2}
    dataset = training_batches(samples, LABELS, ENCODING, PLAIN, None, **settings)
    fit = {"epochs": 2, "steps_per_epoch": 3, "verbose": 0, "shuffle": False}
    with user_errors():
        model.fit(dataset, **fit)  # two epochs of one stream
    for sample in samples[1:]:  # the first is read when the stream is built
        break_mask(sample)
    dataset = training_batches(samples, LABELS, ENCODING, PLAIN, None, **settings)
    with pytest.raises(DataError, match=r"tile_._mask\.png") as caught, user_errors():
        model.fit(dataset, **fit)
    assert "77" in str(caught.value) and "Traceback" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_broken_first_sample_fails_when_the_stream_is_built(samples: list[Sample]) -> None:
    break_mask(samples[0])
    with pytest.raises(DataError, match=r"tile_0_mask\.png"):
        training_batches(samples, LABELS, ENCODING, PLAIN, None, batch_size=2, seed=0, epochs=1)


def test_each_pipeline_raises_its_own_error(samples: list[Sample]) -> None:
    break_mask(samples[2])
    break_mask(samples[5])
    for first, second in ((2, 5), (5, 2)):
        streams = [
            iter(evaluation_batches([samples[k]], LABELS, ENCODING, PLAIN, batch_size=1)) for k in (first, second)
        ]
        for k, stream in zip((first, second), streams, strict=True):
            with pytest.raises(DataError, match=rf"tile_{k}_mask\.png"), user_errors():
                next(stream)


def test_other_errors_pass_user_errors_unchanged() -> None:
    with pytest.raises(KeyError, match="mine"), user_errors():
        raise KeyError("mine")
    with pytest.raises(KeyError, match="loading error 987654"), user_errors():
        raise KeyError("<loading error 987654>")  # a number that nothing recorded


def test_augmentation_and_preprocessing_agree_on_the_size(samples):
    preprocessing = replace(PLAIN, resize=(8, 8))
    with pytest.raises(ValueError, match=r"got resize \(8, 8\) and the augmentation's None, allowed: equal"):
        training_batches(samples, LABELS, ENCODING, preprocessing, Augmentation(), batch_size=1, seed=0, epochs=1)


# --- beginning within an epoch, samplers, cache ---
def make_sampler(samples: list[Sample], **settings: object) -> Sampler:
    index = index_masks([sample.mask for sample in samples], LABELS, ENCODING, locate=[1, 2])
    return Sampler(index, **settings)


@pytest.fixture
def everything(samples: list[Sample]) -> dict:
    """Repeat factors and class-centred crops: all that draws."""
    mask = np.zeros((12, 16), np.uint8)
    mask[3:6, 4:8] = 2
    cv2.imwrite(str(samples[1].mask), mask)
    cv2.imwrite(str(samples[2].mask), np.zeros((12, 16), np.uint8))
    sampler = make_sampler(samples, images=RepeatFactor(1.0), crops=CropTargets(0.4, (0.0, 1.0, 2.0), 0.5))
    return {"sampler": sampler, "crops_per_image": 2}


@pytest.mark.parametrize("first_epoch", [0, 1])
@pytest.mark.parametrize("first_step", [0, 1, 6])
def test_a_stream_begun_within_an_epoch_is_the_rest_of_the_whole_one(
    samples: list[Sample], everything: dict, first_epoch: int, first_step: int
) -> None:
    for settings in ({}, everything):
        steps = 7 * settings.get("crops_per_image", 1) // 2
        if first_step < steps:
            whole = batches(samples, AUGMENT, **settings)
            begun = batches(samples, AUGMENT, **settings, first_epoch=first_epoch, first_step=first_step)
            assert_same(whole[steps * first_epoch + first_step :], begun)


def test_a_first_step_beyond_the_epoch_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match="first_step: got 3, allowed: 0 to 2"):
        batches(samples, first_step=3)


def test_workers_change_nothing_whatever_draws(samples: list[Sample], everything: dict) -> None:
    one = batches(samples, AUGMENT, **everything, workers=1)
    assert_same(one, batches(samples, AUGMENT, **everything, workers=3))
    assert len({images.tobytes() for images, _ in one}) == len(one) == 3 * 7


def test_no_two_draws_of_a_run_show_the_same(samples: list[Sample], everything: dict) -> None:
    """Noise of one sample, drawn 2 x 12 times in each of 4 epochs: a shared draw would show the same pixels twice."""
    (alone,) = [write_pair(samples[0].image.parent, "noise", size=(40, 40))]
    for settings in ({}, {"sampler": make_sampler([alone], crops=CropTargets(0.5, (0.0, 1.0, 1.0), 1.0))}):
        stream = batches([alone], AUGMENT, crops_per_image=24, epochs=4, **settings)
        shown = [image.tobytes() for images, _ in stream for image in images]
        assert len(set(shown)) == len(shown) == 96


@pytest.mark.parametrize("disk", [False, True])
def test_a_cache_changes_nothing(samples: list[Sample], everything: dict, disk: bool, tmp_path: Path) -> None:
    cache = PixelCache(10**7, "test", tmp_path / "cache" if disk else None)
    for file in tmp_path.glob("*.png"):
        os.utime(file, (1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seg.data.batches.pixel_cache.SETTLED_NS", 0)
        cached = batches(samples, AUGMENT, **everything, cache=cache)
        assert cache.hits > 0
        assert_same(batches(samples, AUGMENT, **everything), cached)
        assert_same(batches(samples, None), batches(samples, None, cache=cache))


def test_class_centred_crops_need_an_augmentation(samples: list[Sample], everything: dict) -> None:
    with pytest.raises(ValueError, match="got class-centred crops without an augmentation, allowed: with one"):
        batches(samples, None, **everything)


@pytest.mark.parametrize("end", ["of the pool", "of Python"])
def test_a_stream_that_is_left_when_python_ends_is_quiet(
    samples: list[Sample], end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow may ask for batches until the last moment, when no thread may be started any more."""
    loader = TrainingLoader(samples, LABELS, ENCODING, PLAIN, AUGMENT, None, None)
    load = ThreadLoader(loader, workers=2)
    plans = [Plan(1, 7, None), Plan(4, 8, None)]
    before = load(plans)
    if end == "of the pool":
        load._pool.shutdown()
    else:
        monkeypatch.setattr("concurrent.futures.thread._shutdown", True)
    for whole, again in zip(before, load(plans), strict=True):
        np.testing.assert_array_equal(whole, again)


def test_an_error_of_a_loader_is_no_end_of_python(samples: list[Sample]) -> None:
    loader = TrainingLoader(samples, LABELS, ENCODING, PLAIN, AUGMENT, None, None)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="a pump's shutdown"):
        patch.setattr(TrainingLoader, "__call__", lambda *_: (_ for _ in ()).throw(RuntimeError("a pump's shutdown")))
        ThreadLoader(loader, workers=2)([Plan(1, 7, None)])


# --- shares -----------------------------------------------------------------------------------------------------------
def test_the_replicas_of_two_processes_have_between_them_the_batches_of_one(samples: list[Sample]) -> None:
    whole = batches(samples, AUGMENT, batch_size=6, first_epoch=1)
    one = batches(samples, AUGMENT, batch_size=6, first_epoch=1, share=Share(0, 1, 3))
    two = batches(samples, AUGMENT, batch_size=6, first_epoch=1, share=Share(1, 2, 3))
    parts = [[one[step], two[2 * step], two[2 * step + 1]] for step in range(len(whole))]
    assert_same([tuple(map(np.concatenate, zip(*of_step, strict=True))) for of_step in parts], whole)


def test_an_evaluation_is_dealt_out_batch_by_batch(samples: list[Sample]) -> None:
    preprocessing = replace(PLAIN, resize=(8, 8))

    def passed(**share: Share) -> list:
        dataset = evaluation_batches(samples, LABELS, ENCODING, preprocessing, batch_size=4, **share)
        return list(dataset.as_numpy_iterator())

    # Seven samples: batches of 4 and 3; the third replica has none.
    whole, *parts = passed(), passed(share=Share(0, 1, 3)), passed(share=Share(1, 2, 3))
    assert_same([parts[0][0], parts[1][0]], whole)
    assert parts[1][1][0].shape == (0, 8, 8, 3) and parts[1][1][1].shape == (0, 8, 8)
