import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, log_loss

from seg.errors import DataError
from seg.inference import scoring as module
from seg.inference.predictor import Predictor
from seg.inference.scoring import Scoring, fit_rules, score_image, score_split
from seg.metrics.boundary import boundary_counts
from seg.metrics.iou import matrix_sums
from seg.metrics.objects import object_counts
from seg.metrics.posterior import Rule
from seg.metrics.ranking import ranked_classes


class Echo:
    """A model whose logits are its images."""

    def predict_on_batch(self, images):
        return images


def pixels(number=4, height=13, width=17, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 0, 0, 1, 2, 255], (number, height, width)).astype(np.uint8)
    logits = generator.normal(size=(number, height, width, classes)).astype(np.float32)
    logits += 2 * (labels[..., None] == np.arange(classes))
    return logits, labels


RULES = (
    Rule.as_trained(3),
    Rule("temperature", np.ones(3), 2.0, np.zeros(3)),
    Rule("thresholds", np.array([1.0, 2.0, 4.0]), 2.0, np.array([0.0, 0.5, 1.0])),
)


@pytest.mark.parametrize("chunk", [3 * 10, 1 << 19])
def test_counts_are_those_of_sklearn_and_of_each_measure_by_itself(monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    logits, labels = pixels()
    scoring = Scoring(RULES, 3, 255, tolerance=1, rare=(2, 1))
    found = score_split(Predictor(Echo(), 3), [(logits[:3], labels[:3]), (logits[3:], labels[3:])], scoring)
    valid = labels != 255
    for rule, scores in zip(RULES, found, strict=True):
        adjusted = (logits - np.log(rule.weights)) / rule.temperature
        maps = (adjusted + rule.biases).argmax(axis=-1).astype(np.uint8)
        np.testing.assert_array_equal(scores.total.matrix, confusion_matrix(labels[valid], maps[valid]))
        each = [matrix_sums(confusion_matrix(y[y != 255], p[y != 255])) for y, p in zip(labels, maps, strict=True)]
        np.testing.assert_array_equal(scores.sums, each)
        pairs = list(zip(labels, maps, strict=True))
        assert (scores.total.boundary == sum(boundary_counts(y, p, 3, tolerance=1) for y, p in pairs)).all()
        assert (scores.total.objects == sum(object_counts(y, p, (2, 1)) for y, p in pairs)).all()
        probabilities = np.exp(adjusted) / np.exp(adjusted).sum(axis=-1, keepdims=True)
        expected = log_loss(labels[valid], probabilities[valid])
        assert -scores.total.log_likelihood / valid.sum() == pytest.approx(expected, rel=1e-5)
        confidences = np.take_along_axis(probabilities, maps[..., None], axis=-1)[..., 0][valid]
        reliability = scores.total.reliability.sum(axis=(0, 1))
        right = (maps == labels)[valid].sum()
        np.testing.assert_allclose(reliability, [valid.sum(), confidences.sum(), right], rtol=1e-5)
        assert scores.rule is rule


def test_overlapping_classes_are_a_problem_of_two_classes_each():
    generator = np.random.default_rng(5)
    labels = generator.choice([0, 0, 1, 255], (2, 13, 17, 3)).astype(np.uint8)
    logits = generator.normal(size=labels.shape).astype(np.float32)
    maps, valid = (logits > 0).astype(np.uint8), labels != 255
    scoring = Scoring((Rule.as_trained(3),), 3, 255, tolerance=1, rare=(2, 0), multi_label=True)
    (found,) = score_split(Predictor(Echo(), 3), [(logits, labels)], scoring)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for k in range(3):
        seen = valid[..., k]
        expected = confusion_matrix(labels[..., k][seen], maps[..., k][seen])
        np.testing.assert_array_equal(found.total.matrix[k], expected)
        planes = list(zip(labels[..., k].copy(), maps[..., k].copy(), strict=True))
        assert (found.total.boundary[k] == sum(boundary_counts(y, p, 2, tolerance=1)[1] for y, p in planes)).all()
        if k in scoring.rare:
            counted = sum(object_counts(y, p, (1,))[0] for y, p in planes)
            assert (found.total.objects[scoring.rare.index(k)] == counted).all()
        sure = np.maximum(probabilities, 1 - probabilities)[..., k][seen]
        right = (labels == maps)[..., k][seen].sum()
        np.testing.assert_allclose(found.total.reliability[k].sum(axis=0), [seen.sum(), sure.sum(), right], rtol=1e-5)
    assert (found.sums.sum(axis=0) == matrix_sums(found.total.matrix)).all()
    expected = log_loss(labels[valid], probabilities[valid], normalize=False)
    assert -found.total.log_likelihood == pytest.approx(expected, rel=1e-5)


def test_the_order_is_that_of_the_images_whatever_the_threads_do(monkeypatch):
    logits, labels = pixels(number=12)
    scoring = Scoring(RULES[:1], 3, 255)
    whole = score_split(Predictor(Echo(), 3), [(logits, labels)], scoring)[0]
    monkeypatch.setattr(module, "MAX_WAITING", 1)  # one image at a time
    one_by_one = score_split(Predictor(Echo(), 3), [(logits, labels)], scoring)[0]
    np.testing.assert_array_equal(whole.sums, one_by_one.sums)
    np.testing.assert_array_equal(whole.total.reliability, one_by_one.total.reliability)
    assert whole.total.log_likelihood == one_by_one.total.log_likelihood


def test_an_image_of_nothing_but_void():
    logits, labels = pixels(1)
    tally = score_image(logits[0], np.full_like(labels[0], 255), Scoring(RULES[:1], 3, 255, rare=(1,)))[0]
    assert tally.matrix.sum() == tally.boundary.sum() == tally.objects.sum() == tally.reliability.sum() == 0
    assert tally.log_likelihood == 0


def test_a_ranking_is_of_each_whole_image(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 30)  # which other rules take at a time
    logits, labels = pixels()
    rule = Rule("ranked", np.ones(3), 2.0, np.zeros(3), "iou")
    (found,) = score_split(Predictor(Echo(), 3), [(logits, labels)], Scoring((rule,), 3, 255))
    for image, truth, sums in zip(logits, labels, found.sums, strict=True):
        flat = (image / 2).reshape(-1, 3).T
        classes = ranked_classes(softmax(flat, axis=0).astype(np.float32), "iou")
        valid = truth.ravel() != 255
        matrix = confusion_matrix(truth.ravel()[valid], classes[valid], labels=[0, 1, 2])
        np.testing.assert_array_equal(sums, matrix_sums(matrix))


def test_an_error_in_a_thread_is_raised():
    logits, labels = pixels(1)
    with pytest.raises(DataError, match="labels: got value 9 at 221 pixels"):
        score_split(Predictor(Echo(), 3), [(logits, np.full_like(labels, 9))], Scoring(RULES[:1], 3, 255))


def fitted(**options):
    logits, labels = pixels(8, 20, 20)
    settings = {"temperature": False, "thresholds": False, "ignore_index": 255} | options
    return fit_rules(
        Predictor(Echo(), 3), [(logits * settings.pop("scale", 1), labels)], settings.pop("weights", None), **settings
    )


def test_each_rule_has_what_the_one_before_it_has():
    weights = np.array([0.5, 2.0, 2.0])
    rules = fitted(weights=weights, temperature=True, thresholds=True)
    assert [rule.name for rule in rules] == ["as trained", "prior corrected", "temperature", "thresholds"]
    assert rules[0].weights.tolist() == [1, 1, 1]
    assert all((rule.weights == weights).all() for rule in rules[1:])
    assert [rule.temperature == 1 for rule in rules] == [True, True, False, False]
    assert rules[2].temperature == rules[3].temperature
    assert [rule.biases.any() for rule in rules] == [False, False, False, True]
    *_, last = fitted(weights=weights, temperature=True, ranking="dice")
    assert (last.name, last.ranking, last.temperature) == ("ranked for Dice", "dice", rules[2].temperature)


def test_tripled_logits_have_three_times_the_temperature_and_the_same_in_every_run():
    plain, tripled, again = (fitted(temperature=True, scale=scale)[-1].temperature for scale in (1, 3, 3))
    assert tripled == pytest.approx(3 * plain, rel=1e-3) and tripled == again


def test_without_options_validation_is_not_looked_at():
    rules = fit_rules(Predictor(Echo(), 3), iter(()), None, temperature=False, thresholds=False, ignore_index=255)
    assert [rule.name for rule in rules] == ["as trained"]


def test_validation_without_a_label():
    logits, labels = pixels(1)
    with pytest.raises(DataError, match="the val split has no labelled pixel; allowed with --temperature and"):
        fit_rules(
            Predictor(Echo(), 3),
            [(logits, np.full_like(labels, 255))],
            None,
            temperature=True,
            thresholds=False,
            ignore_index=255,
        )


def test_labels_of_sets_are_false_alarms_in_the_matrix_and_void_elsewhere():
    logits, labels = pixels(number=1)
    partly = labels.copy()
    partly[0, :6][partly[0, :6] != 1] = 3  # only class 1 was annotated there
    sets = ((3, (0, 2)),)
    (found,) = score_split(
        Predictor(Echo(), 3), [(logits, partly)], Scoring(RULES[:1], 3, 255, tolerance=1, rare=(1,), sets=sets)
    )
    known = np.where(partly == 3, 255, partly)
    (other,) = score_split(Predictor(Echo(), 3), [(logits, known)], Scoring(RULES[:1], 3, 255, tolerance=1, rare=(1,)))
    assert (found.total.matrix[:3] == other.total.matrix).all()
    predictions = logits.argmax(axis=-1)
    assert found.total.matrix[3].tolist() == [0, ((partly == 3) & (predictions == 1)).sum(), 0]
    for name in ("boundary", "objects", "reliability", "log_likelihood"):
        np.testing.assert_array_equal(getattr(found.total, name), getattr(other.total, name))
    assert (found.sums[0, :, 2] - other.sums[0, :, 2]).tolist() == found.total.matrix[3].tolist()
