import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import jaccard_score

from seg.metrics.fitting import BIASES, fit_biases, fit_temperature


def calibrated(number=20_000, classes=4, seed=0):
    """Logits whose softmax is the labels' distribution."""
    generator = np.random.default_rng(seed)
    logits = (generator.normal(size=(number, classes)) * 2).astype(np.float32)
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)  # a draw from the softmax
    return logits, labels


def mean_iou(logits, labels, biases, pixels=None):
    return jaccard_score(labels, (logits + biases).argmax(axis=1), average="macro", sample_weight=pixels)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_the_logits_were_multiplied_by_is_found(temperature):
    logits, labels = calibrated()
    found = fit_temperature(logits * np.float32(temperature), labels, np.ones(len(labels)))
    assert found == pytest.approx(temperature, rel=0.05)  # four standard errors of 20,000 draws


def test_no_temperature_on_a_fine_grid_is_more_likely():
    logits, labels = calibrated(500)
    pixels = np.random.default_rng(1).random(500)
    found = fit_temperature(logits * 2, labels, pixels)

    def loss(temperature):
        return -pixels @ log_softmax(logits * 2.0 / temperature, axis=1)[np.arange(500), labels]

    assert loss(found) <= min(loss(temperature) for temperature in np.geomspace(0.06, 19, 400)) * (1 + 1e-6)


def test_a_pixel_that_stands_for_many_counts_as_many():
    logits, labels = calibrated(300)
    repeats = np.arange(300) % 4 + 1
    repeated = fit_temperature(np.repeat(logits, repeats, axis=0), np.repeat(labels, repeats), np.ones(repeats.sum()))
    assert fit_temperature(logits, labels, repeats.astype(float)) == pytest.approx(repeated, rel=1e-3)


def test_a_model_without_a_mistake_keeps_its_thresholds():
    labels = np.random.default_rng(0).integers(0, 5, 2000)
    logits = np.random.default_rng(1).random((2000, 5)).astype(np.float32)
    logits[np.arange(2000), labels] += 1
    assert fit_biases(logits, labels, np.ones(2000)).tolist() == [0] * 5


def test_biases_raise_the_mean_iou_and_no_single_change_of_one_raises_it_further():
    logits, labels = calibrated(3000)
    shifted = logits + np.array([0, -1.5, 0.8, 0], np.float32)  # a model that has two of its classes wrong
    pixels = np.ones(3000)
    found = fit_biases(shifted, labels, pixels)
    reached = mean_iou(shifted, labels, found)
    assert reached > mean_iou(shifted, labels, np.zeros(4)) + 0.02
    for index in range(4):
        for bias in BIASES[::5]:
            other = found.copy()
            other[index] = bias
            assert mean_iou(shifted, labels, other) <= reached + 2e-6


def test_two_classes_have_the_best_of_all_thresholds():
    logits, labels = calibrated(2000, classes=2)
    logits[:, 1] -= 1.3
    pixels = np.where(labels == 1, 0.2, 1.0)
    found = fit_biases(logits, labels, pixels)
    best = max(mean_iou(logits, labels, [0, bias], pixels) for bias in BIASES)
    assert mean_iou(logits, labels, found, pixels) >= best - 2e-6


def test_a_class_without_a_label_is_left_alone():
    logits, labels = calibrated(1000)
    logits, labels = logits[labels != 3], labels[labels != 3]
    assert fit_biases(logits, labels, np.ones(len(labels)))[3] == 0


@pytest.mark.parametrize(("fit", "what"), [(fit_temperature, "a temperature"), (fit_biases, "thresholds")])
def test_nothing_to_fit_on(fit, what):
    with pytest.raises(ValueError, match=f"got no labelled pixel to fit {what} on, allowed: one or more"):
        fit(np.zeros((0, 3), np.float32), np.zeros(0, int), np.zeros(0))
