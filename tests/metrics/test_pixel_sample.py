import numpy as np
from scipy import stats

from seg.metrics.pixel_sample import MAX_NUMBERS, MAX_PIXELS, PixelSample


def fill(sample, images=6, size=400, order=None):
    """Class 0 is everywhere, class 1 rare; a pixel's logits tell image and place."""
    for image in order if order is not None else range(images):
        generator = np.random.default_rng(image)
        labels = (generator.random(size) < 0.01).astype(np.uint8)
        logits = np.stack([np.full(size, image), np.arange(size), labels], axis=1).astype(np.float32)
        sample.add(logits, labels, image)
    return sample


def test_rare_pixels_are_all_kept_and_common_ones_stand_for_many():
    sample = fill(PixelSample(3, per_class=50))
    logits, labels, pixels = sample.result()
    assert sample.pixels.sum() == 6 * 400
    rare = int(sample.pixels[1])
    assert 0 < rare < 50
    assert (labels == 0).sum() == 50 and (labels == 1).sum() == rare and (labels == 2).sum() == 0
    np.testing.assert_array_equal(labels, logits[:, 2])  # each kept with its own label
    np.testing.assert_allclose(np.unique(pixels[labels == 0]), sample.pixels[0] / 50)
    assert (pixels[labels == 1] == 1).all()
    assert len(np.unique(logits[:, :2], axis=0)) == len(logits)  # none twice
    assert pixels.sum() == 6 * 400


def test_the_same_in_every_run_and_in_any_order():
    first, second = fill(PixelSample(3, per_class=50)), fill(PixelSample(3, per_class=50), order=[3, 1, 5, 0, 2, 4])
    for own, other in zip(first.result(), second.result(), strict=True):
        np.testing.assert_array_equal(own, other)
    assert not np.array_equal(fill(PixelSample(3, per_class=50, seed=1)).result()[0], first.result()[0])


def test_every_image_has_its_share():
    logits, labels, _ = fill(PixelSample(3, per_class=600)).result()
    images = np.bincount(logits[labels == 0, 0].astype(int))
    assert images.sum() == 600
    assert stats.chisquare(images).pvalue > 0.001


def test_few_pixels_stay_whole_and_nothing_gives_nothing():
    logits, labels, pixels = fill(PixelSample(3, per_class=10_000)).result()
    assert len(labels) == 2400 and (pixels == 1).all()
    empty = PixelSample(3).result()
    assert [len(part) for part in empty] == [0, 0, 0] and empty[0].shape == (0, 3)


def test_memory_is_bounded_for_any_number_of_classes():
    for classes in (2, 19, 150, 255):
        kept = PixelSample(classes).per_class * classes
        assert kept <= MAX_PIXELS and kept * classes <= MAX_NUMBERS
        assert PixelSample(classes).per_class >= 200
