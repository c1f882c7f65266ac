"""The decision for the highest expected score, against counting by hand and against all masks of a small image."""

import itertools

import numpy as np
import pytest
from scipy.special import softmax

from seg.metrics.ranking import SCORES, best_threshold, ranked_classes


def expected(probabilities: np.ndarray, chosen: np.ndarray, score: str) -> float:
    """The approximate expectation that the module's docstring defines, of one class."""
    c, n, total = probabilities[chosen].sum(), chosen.sum(), probabilities.sum()
    return 2 * c / (total + n + 1) if score == "dice" else c / max(total + n - c, 1e-9)


def exactly_expected(probabilities: np.ndarray, chosen: np.ndarray, score: str) -> float:
    """E over all 2^P labellings, pixels independent."""
    result = 0.0
    for labels in itertools.product((False, True), repeat=len(probabilities)):
        truth = np.array(labels)
        weight = np.where(truth, probabilities, 1 - probabilities).prod()
        both, either = (truth & chosen).sum(), (truth | chosen).sum()
        if either:
            result += weight * (2 * both / (truth.sum() + chosen.sum()) if score == "dice" else both / either)
    return result


def test_by_hand():
    # IoU, p = (.8, .4, .4): S = 1.6. Sets of the 1, 2, 3 highest: .8 / 1.8, 1.2 / 2.4, 1.6 / 3 = .444, .5, .533.
    # All three are the best, at t = 1.6 / (1.6 + 3) = .348; two of them are more probably of the other class.
    p = np.array([0.8, 0.4, 0.4], np.float32)
    assert best_threshold(p, "iou") == pytest.approx(1.6 / 4.6, rel=1e-6)
    two = np.stack([1 - p, p])
    # The rest: p = (.2, .6, .6), t = 1.4 / 4.4 = .318 of all three is above .2, of two it is 1.2 / 3.4 = .353.
    assert best_threshold(1 - p, "iou") == pytest.approx(1.2 / 3.4, rel=1e-6)
    # Pixel 0 is of class 1 alone; 1 and 2 are in both sets. Added to {} of class 0 (S = 1.4) either gains
    # .6 / (1.4 + .4) = .333; to {.8} of class 1 (S = 1.6) it gains 1.2 / 2.4 - .8 / 1.8 = .056.
    assert ranked_classes(two, "iou").tolist() == [1, 0, 0]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("seed", range(20))
def test_no_other_number_of_pixels_is_better(score, seed):
    rng = np.random.default_rng(seed)
    p = rng.beta(*rng.uniform(0.1, 2, 2), size=200).astype(np.float32)
    threshold = best_threshold(p, score)
    order = np.argsort(-p)
    by_number = [expected(p, np.isin(np.arange(200), order[:n]), score) for n in range(201)]
    assert expected(p, p > threshold, score) == pytest.approx(max(by_number), rel=1e-5)  # float32 sums


@pytest.mark.parametrize("score", SCORES)
def test_against_all_masks_of_a_small_image(score):
    """The approximation loses next to nothing even of 9 pixels, where the most probable class loses much."""
    lost, lost_by_argmax = [], []
    for seed in range(8):
        p = np.random.default_rng(seed).beta(0.5, 1.5, size=9).astype(np.float32)
        order = np.argsort(-p)
        sets = [np.isin(np.arange(9), order[:n]) for n in range(10)]  # the best of all 512 masks is one of these
        best = max(exactly_expected(p, chosen, score) for chosen in sets)
        lost.append(best - exactly_expected(p, p > best_threshold(p, score), score))
        lost_by_argmax.append(best - exactly_expected(p, p > 0.5, score))
    assert np.mean(lost) < 0.01  # .001 for Dice, .006 for IoU, whose approximation has no 1 added
    assert np.mean(lost_by_argmax) > 3 * np.mean(lost)


@pytest.mark.parametrize("score", SCORES)
def test_a_sure_model_is_left_as_it_is(score):
    labels = np.random.default_rng(0).integers(0, 4, 500)
    sure = softmax(30.0 * np.eye(4)[labels].T, axis=0).astype(np.float32)
    assert (ranked_classes(sure, score) == labels).all()


@pytest.mark.parametrize("score", SCORES)
def test_no_cliff_at_one_half(score):
    """A faint class gets pixels whether or not one of them passes 0.5."""
    found = []
    for highest in (0.40, 0.49, 0.51):
        p = np.full(1000, 0.001, np.float32)
        p[:10], p[0] = 0.35, highest
        found.append(int((ranked_classes(np.stack([1 - p, p]), score) == 1).sum()))
    assert found == [found[0]] * 3 and found[0] > 0


@pytest.mark.parametrize("score", SCORES)
def test_a_class_of_probability_zero_is_never_chosen(score):
    p = np.stack([np.full(50, 0.3), np.full(50, 0.7), np.zeros(50)]).astype(np.float32)
    assert set(ranked_classes(p, score).tolist()) <= {0, 1}
    assert best_threshold(p[2], score) == 0.0


@pytest.mark.parametrize("score", SCORES)
def test_contested_pixels_go_where_they_raise_the_score_most(score):
    rng = np.random.default_rng(3)
    p = softmax(rng.normal(size=(3, 300)) * 1.5, axis=0).astype(np.float32)
    classes = ranked_classes(p, score)
    sets = np.stack([row > best_threshold(row, score) for row in p])
    alone = sets.sum(axis=0) == 1
    assert (sets[classes, np.arange(300)] | ~sets.any(axis=0)).all()
    assert 0 < (~alone).sum() < 300
    for pixel in np.flatnonzero(~alone):
        gains = np.full(3, -np.inf)
        for index in range(3):
            if sets[index, pixel] or not sets[:, pixel].any():
                with_pixel = sets[index] & alone
                before = expected(p[index], with_pixel, score)
                with_pixel[pixel] = True
                gains[index] = expected(p[index], with_pixel, score) - before
        assert gains[classes[pixel]] == pytest.approx(gains.max(), abs=1e-5)  # float32 sums
