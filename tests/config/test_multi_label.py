"""What a configuration of multi-label masks may hold, and what it builds."""

from __future__ import annotations

import numpy as np
import pytest

from seg.balance import ClassCounts
from seg.balance.counts import AbsentCounts
from seg.config import validate
from seg.config.tree import Config
from seg.data.masks.planes import MultiLabelEncoding
from seg.errors import ConfigError
from seg.losses import BinaryCrossEntropy, CrossEntropy, Dice

BASE = {
    "name": "test",
    "labels": {"names": ["tree", "water"], "encoding": {"name": "multi_label"}},
    "data": {"name": "folders", "root": "somewhere"},
    "loss": [{"name": "binary_cross_entropy"}],
    "training": {"epochs": 10, "batch_size": 2},
}
SINGLE = {"labels": {"names": ["tree", "water"]}}


def config(**sections) -> Config:
    return validate(BASE | sections, "test")


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            {"loss": [{"name": "binary_cross_entropy"}, {"name": "focal"}]},
            "loss.1.name: got 'focal', which is of one class a pixel; allowed with labels.encoding multi_label: "
            "binary_cross_entropy, dice",
        ),
        (
            SINGLE,
            "loss.0.name: got 'binary_cross_entropy', allowed with labels.encoding multi_label only; for two classes "
            "cross_entropy with model.one_logit is the same loss, its class weights (1, w) a pos_weight of w",
        ),
        (
            {"model": {"name": "unet", "one_logit": True}},
            "model.one_logit: got true, but every class of multi-label masks has one logit already; allowed: false",
        ),
        (
            {"class_weights": {"scheme": "inverse_sqrt", "normalize": "sum_one"}},
            "class_weights.normalize: has no effect on pos_weight, a ratio; allowed with labels.encoding multi_label: "
            "leave it out",
        ),
        (
            {"class_weights": {"scheme": "inverse_sqrt", "online": 0.9}},
            "class_weights.online: takes one class a pixel; allowed with labels.encoding multi_label: leave it out",
        ),
        (
            {"pixel_weights": {"name": "border", "classes": ["tree"]}},
            "pixel_weights: the border map takes one class a pixel; allowed with labels.encoding multi_label: leave it "
            "out",
        ),
        (
            {
                "loss": [{"name": "binary_cross_entropy", "weighted": False}],
                "class_weights": {"scheme": "inverse_sqrt"},
            },
            "class_weights.scheme: has no effect: no loss term has weighted: true",
        ),
        (
            {"loss": [{"name": "binary_cross_entropy", "normalize": "weights"}]},
            "loss.0.normalize: 'weights' has no effect without class weights, allowed: valid",
        ),
        (
            {"labels": BASE["labels"] | {"ignore_index": 1}},
            "labels.ignore_index: got 1, which means present in every plane; allowed: 2 to 255",
        ),
    ],
)
def test_problems(sections: dict, problem: str):
    with pytest.raises(ConfigError) as error:
        config(**sections)
    assert str(error.value) == f"test: 1 problem\n  {problem}"


def test_the_default_loss_is_not_for_overlapping_classes():
    without_loss = {key: value for key, value in BASE.items() if key != "loss"}
    with pytest.raises(ConfigError, match="loss.0.name: got 'cross_entropy', .* binary_cross_entropy, dice"):
        validate(without_loss, "test")


def test_one_class_is_enough():
    built = config(labels={"names": ["tree"], "encoding": {"name": "multi_label"}})
    assert built.labels.label_set().mask_axes == (1,)
    assert built.build_model()[1].shape[-1] == 1


def counts() -> ClassCounts:
    ones = np.ones((3, 2), int)
    absent = AbsentCounts(np.array([900, 500]), *ones)
    return ClassCounts(
        ("tree", "water"), 255, "multi_label", np.array([100, 500]), *ones[:2], 0, 1, "0" * 64, absent=absent
    )


def test_what_is_built():
    terms = [
        {"name": "binary_cross_entropy", "label_smoothing": 0.1, "normalize": "weights"},
        {"name": "dice", "coefficient": 0.5, "smooth": 2.0, "absent": "count"},
    ]
    built = config(loss=terms, class_weights={"scheme": "inverse_frequency", "cap": 5})
    assert isinstance(built.labels.mask_encoding(), MultiLabelEncoding) and built.labels.label_set().multi_label
    weights = built.class_weights.build(counts())
    np.testing.assert_allclose(weights, [5, 1])  # 900 / 100, capped
    (_, entropy), (coefficient, dice) = built.build_loss(weights).terms
    assert (
        isinstance(entropy, BinaryCrossEntropy)
        and isinstance(dice, Dice)
        and dice.options["multi_label"]
        and coefficient == 0.5
    )
    assert entropy.get_config() == {
        "pos_weight": weights.tolist(),
        "ignore_index": 255,
        "label_smoothing": 0.1,
        "normalize": "weights",
        "name": "binary_cross_entropy",
    }
    assert dice.options["class_weights"] == weights.tolist() and dice.options["smooth"] == 2.0
    assert built.labels.confusion().matrix.shape == (2, 2, 2)
    unweighted = config(loss=[{"name": "binary_cross_entropy", "weighted": False}])
    assert unweighted.build_loss(weights).terms[0][1].options["pos_weight"] is None


def test_manual_pos_weights():
    built = config(class_weights={"scheme": "manual", "manual": {"water": 3, "tree": 0.5}})
    assert built.class_weights.build(counts()).tolist() == [0.5, 3]
    assert built.class_weights.warnings(counts(), np.ones(2)) == []


def test_ordinary_classes_keep_their_metric_and_loss():
    single = config(**SINGLE, loss=[{"name": "cross_entropy"}])
    assert single.labels.confusion().matrix.shape == (2, 2)
    ((_, loss),) = single.build_loss(np.ones(2)).terms
    assert isinstance(loss, CrossEntropy)
