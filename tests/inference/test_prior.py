import numpy as np
import pytest
from keras import ops

from seg.balance import ClassCounts
from seg.config import validate
from seg.errors import ConfigError
from seg.inference.prior import posterior_weights
from seg.losses.cross_entropy import CrossEntropy
from seg.metrics.posterior import Rule

NAMES = ("a", "b", "c")


def config(**sections):
    tree = {
        "name": "x",
        "labels": {"names": list(NAMES)},
        "data": {"name": "folders", "root": "data"},
        "class_weights": {"scheme": "inverse_frequency"},
        "training": {"epochs": 1, "batch_size": 1},
    }
    return validate(tree | sections, "test")


def counts(pixels=(90, 9, 1)):
    numbers = np.array(pixels, np.int64)
    return ClassCounts(NAMES, 255, "index", numbers, (numbers > 0) * 1, (numbers > 0) * 100, 0, 1, "0" * 64)


def test_weighted_cross_entropy_has_the_weights_of_its_loss():
    weights = config().class_weights.build(counts())
    found = posterior_weights(config(), counts(), weights)
    np.testing.assert_array_equal(found, weights)
    assert found[2] / found[0] == pytest.approx(90)


@pytest.mark.parametrize(
    "sections",
    [
        {"loss": [{"name": "cross_entropy", "weighted": False}]},
        {"class_weights": {"scheme": "uniform"}},
        {"loss": [{"name": "focal", "gamma": 0, "weighted": False}]},
        {"loss": [{"name": "cross_entropy", "weighted": False}], "class_weights": {"scheme": "uniform"}},
    ],
)
def test_a_loss_without_weights_has_none_to_take_out(sections):
    sections.setdefault("class_weights", {"scheme": "uniform"})
    assert posterior_weights(config(**sections), counts(), np.array([1.0, 1.0, 1.0])).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        (
            {"loss": [{"name": "cross_entropy"}, {"name": "dice"}]},
            r"the loss is cross_entropy \+ dice, and the optimum",
        ),
        ({"loss": [{"name": "dice"}]}, "the optimum of 'dice' is a mask and no posterior"),
        ({"loss": [{"name": "lovasz"}]}, "the optimum of 'lovasz' is a mask"),
        (
            {
                "loss": [{"name": "binary_cross_entropy"}],
                "labels": {"names": list(NAMES), "encoding": {"name": "multi_label"}},
            },
            "binary_cross_entropy learns a posterior for each class by itself",
        ),
        ({"loss": [{"name": "focal", "gamma": 2}]}, "focal loss with gamma 2 is not proper"),
        ({"loss": [{"name": "top_k_cross_entropy"}]}, "learns from the hardest pixels alone"),
        ({"loss": [{"name": "cross_entropy", "normalize": "weights"}]}, "normalize: weights divides by the weights"),
        ({"class_weights": {"scheme": "inverse_sqrt", "online": 0.9}}, "class_weights.online changed the weights"),
        ({"sampler": {"images": {"name": "repeat_factor", "threshold": 0.5}}}, "the sampler shows classes in other"),
        ({"pixel_weights": {"name": "border", "classes": ["b"]}}, "pixel_weights distort the posterior, too"),
    ],
)
def test_refused_with_a_reason(sections, reason):
    with pytest.raises(ConfigError, match=f"prior correction: .*{reason}.*; allowed: runs trained with cross_entropy"):
        posterior_weights(config(**sections), counts(), np.array([1.0, 1.0, 1.0]))


def test_a_class_without_training_pixels_keeps_its_logit_and_one_with_weight_0_is_refused():
    manual = config(class_weights={"scheme": "manual", "manual": {"a": 1, "b": 2, "c": 0}, "normalize": "none"})
    assert posterior_weights(manual, counts((90, 10, 0)), np.array([1.0, 2.0, 0.0])).tolist() == [1, 2, 1]
    with pytest.raises(ConfigError, match="class 'c' has weight 0 and 1 training pixels, which the loss never asked"):
        posterior_weights(manual, counts(), np.array([1.0, 2.0, 0.0]))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("normalize", ["valid", "all"])
def test_the_loss_itself_is_least_where_the_correction_gives_the_posterior(smoothing, normalize):
    # A pixel that is seen often, its label a draw from P = (0.6, 0.3, 0.1): at z = log(w_c P_c), P smoothed as the
    # targets are, the project's own loss has no gradient, and dividing the softmax by w gives P.
    posterior, weight = np.array([0.6, 0.3, 0.1]), np.array([0.5, 2.0, 4.0])
    smoothed = (1 - smoothing) * posterior + smoothing / 3
    labels = np.repeat([0, 1, 2], (6, 3, 1))[None, None].astype("uint8")
    logits = np.log(weight * smoothed).astype("float32")
    loss = CrossEntropy(class_weights=weight.tolist(), label_smoothing=smoothing, normalize=normalize)

    def value(shift):
        return float(loss(labels, ops.convert_to_tensor(np.broadcast_to(logits + shift, (1, 1, 10, 3)))))

    for direction in np.eye(3, dtype=np.float32):
        slope = (value(0.01 * direction) - value(-0.01 * direction)) / 0.02
        assert abs(slope) < 2e-4  # differences of float32 losses near 1; away from the optimum slopes are above 0.05
        assert value(0.3 * direction) > value(0) and value(-0.3 * direction) > value(0)
    rule = Rule("corrected", weight, 1.0, np.zeros(3))
    found = rule.decide(np.stack([logits] * 3))
    chances = np.exp(rule.log_probability(np.stack([logits] * 3), np.arange(3), found))
    np.testing.assert_allclose(chances, smoothed, rtol=1e-5)
