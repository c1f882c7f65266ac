import numpy as np
import pytest
from scipy import stats

from seg.metrics.bootstrap import difference_intervals, draws, group_sums, intervals
from seg.metrics.iou import OVERALL, PER_CLASS, matrix_sums, score_sums, scores


def image_sums(number=40, classes=4, seed=0, skill=6):
    """(N, C, 3) of random confusion matrices, good on the diagonal."""
    generator = np.random.default_rng(seed)
    matrices = generator.poisson(generator.gamma(1, 5, (number, 1, 1)), (number, classes, classes))
    matrices += skill * np.eye(classes, dtype=int) * generator.integers(0, 9, (number, 1, 1))
    return np.stack([matrix_sums(matrix) for matrix in matrices])


def scipy_interval(number, statistic, resamples, seed):
    """SciPy's percentile interval of a statistic of the indices of `number` images."""
    return stats.bootstrap(
        (np.arange(number),),
        statistic,
        n_resamples=resamples,
        vectorized=True,
        axis=-1,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval


@pytest.mark.parametrize("key", ["iou", "recall", "mean_iou", "pixel_accuracy", "frequency_weighted_iou"])
def test_scipy_gives_the_same_interval_for_the_same_draws(key):
    sums = image_sums()
    place = (..., 1) if key in PER_CLASS else ...

    def statistic(indices, axis):
        return score_sums(sums[indices.astype(int)].sum(axis=axis % indices.ndim))[key][place]

    oracle = scipy_interval(len(sums), statistic, 400, seed=3)
    found = intervals(sums, 400, seed=3)[key]
    np.testing.assert_allclose(found[1] if key in PER_CLASS else found, oracle, rtol=1e-12)


def test_scipy_gives_the_same_interval_for_paired_differences():
    ours, theirs = image_sums(seed=1), image_sums(seed=1, skill=3)

    def statistic(indices, axis):
        indices = indices.astype(int)
        first, second = (score_sums(sums[indices].sum(axis=axis % indices.ndim)) for sums in (ours, theirs))
        return first["iou"][..., 2] - second["iou"][..., 2]

    oracle = scipy_interval(len(ours), statistic, 300, seed=0)
    np.testing.assert_allclose(difference_intervals(ours, theirs, 300, seed=0)["iou"][2], oracle, rtol=1e-12)


def test_the_same_model_differs_by_nothing():
    sums = image_sums()
    for bounds in difference_intervals(sums, sums, 50, seed=0).values():
        assert (bounds == 0).all()


def test_pairing_makes_the_interval_narrower_than_independent_draws():
    ours, theirs = image_sums(seed=1), image_sums(seed=1, skill=5)
    paired = difference_intervals(ours, theirs, 500, seed=0)["mean_iou"]
    apart = [np.diff(intervals(sums, 500, seed=0)["mean_iou"])[0] for sums in (ours, theirs)]
    assert np.diff(paired)[0] < 0.5 * np.hypot(*apart)


def test_intervals_cover_as_often_as_they_say():
    # 100 splits of 30 images from one distribution; the truth is the score of 20,000 of its images. 95 of 100 should
    # cover it, with a standard deviation of 2.2; percentile intervals of 30 images are known to be a little short, and
    # 84 is five deviations below.
    truth = scores_of(image_sums(20000, seed=99))["mean_iou"]
    covered = 0
    for seed in range(100):
        low, high = intervals(image_sums(30, seed=seed), 200, seed=seed)["mean_iou"]
        covered += low <= truth <= high
    assert 84 <= covered <= 99


def scores_of(sums):
    return score_sums(sums.sum(axis=0))


def test_chunks_change_nothing(monkeypatch):
    sums = image_sums(7)
    whole = intervals(sums, 100, seed=5)
    monkeypatch.setattr("seg.metrics.bootstrap.CHUNK", 60)
    for name, bounds in intervals(sums, 100, seed=5).items():
        np.testing.assert_array_equal(bounds, whole[name])


def test_draws_are_counts_of_as_many_images():
    one, *_ = draws(6, 4, seed=0, chunk=4)
    expected = np.random.default_rng(0).integers(0, 6, (4, 6))
    assert one.tolist() == [[row.count(image) for image in range(6)] for row in expected.tolist()]
    assert (one.sum(axis=1) == 6).all()


def test_groups_are_drawn_as_one():
    sums = image_sums(5)
    grouped = group_sums(sums, ["a", "", "b", "a", ""])
    np.testing.assert_array_equal(grouped, [sums[0] + sums[3], sums[1], sums[2], sums[4]])
    assert grouped.sum() == sums.sum()
    with_twins = np.concatenate([sums, sums])  # each image twice, its twin in its group: the interval of the five
    twins = intervals(group_sums(with_twins, [*"abcde", *"abcde"]), 200, seed=0)
    alone = intervals(sums, 200, seed=0)
    for name in (*PER_CLASS, *OVERALL):
        np.testing.assert_allclose(twins[name], alone[name], rtol=1e-12)


def test_one_image_and_an_absent_class_have_no_interval():
    assert np.isnan(intervals(image_sums(1), 50, seed=0)["mean_iou"]).all()
    sums = image_sums(10)
    sums[:, 2] = 0
    found = intervals(sums, 50, seed=0)
    assert np.isnan(found["iou"][2]).all() and not np.isnan(found["iou"][[0, 1, 3]]).any()
    assert not np.isnan(found["mean_iou"]).any()


def test_a_class_of_one_image_is_judged_by_the_resamples_that_have_it():
    sums = image_sums(10)
    sums[1:, 3] = 0
    sums[0, 3] = [5, 10, 10]
    np.testing.assert_allclose(intervals(sums, 100, seed=0)["iou"][3], [5 / 15, 5 / 15])


def test_the_images_must_be_the_same():
    with pytest.raises(ValueError, match=r"shapes \(4, 4, 3\) and \(5, 4, 3\), allowed: the same images and classes"):
        difference_intervals(image_sums(4), image_sums(5), 10, seed=0)


def test_sums_of_a_matrix_give_its_scores():
    matrix = np.random.default_rng(0).integers(0, 9, (5, 5))
    matrix[2] = matrix[:, 2] = 0
    found, expected = score_sums(matrix_sums(matrix)), scores(matrix)
    for name in (*PER_CLASS, *OVERALL):
        np.testing.assert_array_equal(found[name], getattr(expected, name))
