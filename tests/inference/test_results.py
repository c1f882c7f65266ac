import json

import numpy as np
import pytest

from seg.inference.results import NO_DIFFERENCE, differences, image_table, number, split_results, telling_images
from seg.metrics.bootstrap import group_sums, intervals
from seg.metrics.boundary import boundary_scores
from seg.metrics.calibration import expected_calibration_error
from seg.metrics.iou import OVERALL, PER_CLASS, score_sums, scores
from seg.metrics.posterior import Rule

NAMES = ("a", "b", "c")
ALONE = [""] * 12


def test_every_number_is_that_of_its_measure(made_up_scores):
    found = made_up_scores()
    content = split_results(found, NAMES, ALONE, [2], 200)
    last = found[-1]
    expected = scores(last.total.matrix)
    for key in OVERALL:
        assert content[key] == getattr(expected, key)
    assert content["classes_averaged"] == 3
    assert content["confusion_matrix"] == last.total.matrix.tolist()
    bounds = intervals(last.sums, 200, 0)
    for index, name in enumerate(NAMES):
        row = content["classes"][name]
        for key in PER_CLASS:
            assert row[key] == getattr(expected, key)[index]
            assert row["intervals"][key] == bounds[key][index].tolist()
            assert row["intervals"][key][0] <= row[key] <= row["intervals"][key][1]
        assert row["boundary_f1"] == boundary_scores(last.total.boundary)["boundary_f1"][index]
        assert row["support"] == expected.support[index]
        assert row["expected_calibration_error"] == expected_calibration_error(last.total.reliability)[index]
        assert row["rare"] == (index == 2)
        iou = score_sums(last.sums)["iou"][last.sums[:, index, 1] > 0, index]
        assert row["image_iou_quantiles"][2] == pytest.approx(np.median(iou))
        assert row["images"] == len(iou)
    assert content["intervals"]["mean_iou"] == bounds["mean_iou"].tolist()
    pixels = last.total.matrix.sum()
    assert content["cross_entropy"] == pytest.approx(-last.total.log_likelihood / pixels)
    objects = content["objects"]["classes"]["c"]
    assert objects["all"]["objects"] == sum(entry["objects"] for size, entry in objects.items() if size != "all") > 0
    assert objects["all"]["recall"] == objects["all"]["found"] / objects["all"]["objects"]


def test_it_is_plain_json_in_an_order_of_its_own(made_up):
    content = made_up(against=True)
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text) == content
    assert json.dumps(made_up(against=True), allow_nan=False) == text


def test_groups_of_images_are_drawn_together(made_up_scores):
    found, groups = made_up_scores(), [*"aabbccddee", "", ""]
    content = split_results(found, NAMES, groups, [], 200)
    assert content["interval_method"] == "95% percentile bootstrap over 7 groups of images, 200 resamples, seed 0"
    expected = intervals(group_sums(found[0].sums, groups), 200, 0)["mean_iou"]
    assert content["intervals"]["mean_iou"] == expected.tolist()
    assert "over 12 images" in split_results(found, NAMES, ALONE, [], 200)["interval_method"]
    assert content["objects"]["classes"] == {}


def test_rules_stand_side_by_side_and_the_last_at_the_top(made_up_scores):
    rules = (Rule.as_trained(3), Rule("thresholds", np.ones(3), 1.0, np.array([0.0, 1.0, 2.0])))
    found = made_up_scores(rules=rules)
    content = split_results(found, NAMES, ALONE, [2], 100)
    assert [row["rule"] for row in content["rules"]] == ["as trained", "thresholds"]
    assert content["mean_iou"] == content["rules"][1]["mean_iou"] != content["rules"][0]["mean_iou"]
    assert content["rules"][1]["thresholds"] == pytest.approx({"a": 1, "b": np.exp(-1), "c": np.exp(-2)})
    assert content["rules"][1]["classes"]["c"]["recall"] > content["rules"][0]["classes"]["c"]["recall"]
    reliability = content["rules"][0]["reliability"]
    assert sum(reliability["pixels"]) == found[0].total.matrix.sum() and len(reliability["pixels"]) == 15


def test_an_absent_class_is_null_everywhere(made_up_scores):
    found = made_up_scores(skill=50.0)
    for scores_ in found:  # nobody labels or predicts class 2
        scores_.sums[:, 2] = 0
        for array in (scores_.total.matrix, scores_.total.boundary, scores_.total.objects, scores_.total.reliability):
            array[-1] = 0
        scores_.total.matrix[:, 2] = 0
    row = split_results(found, NAMES, ALONE, [2], 100)["classes"]["c"]
    assert [row[key] for key in (*PER_CLASS, "boundary_f1", "expected_calibration_error")] == [None] * 6
    assert row["intervals"]["iou"] == [None, None] and row["image_iou_quantiles"] == [None] * 5
    assert (row["images"], row["support"]) == (0, 0)


def test_differences_have_verdicts(made_up_scores):
    better, worse = made_up_scores(skill=3.0), made_up_scores(skill=1.0)
    row = differences(better, worse, NAMES, ALONE, 200)[0]
    assert row["mean_iou"]["verdict"] == "better" and row["mean_iou"]["interval"][0] > 0
    assert row["mean_iou"]["difference"] == pytest.approx(row["mean_iou"]["ours"] - row["mean_iou"]["theirs"])
    assert row["classes"]["a"]["iou"]["verdict"] == "better"
    back = differences(worse, better, NAMES, ALONE, 200)[0]
    assert back["mean_iou"]["verdict"] == "worse"
    assert back["mean_iou"]["difference"] == -row["mean_iou"]["difference"]
    same = differences(better, better, NAMES, ALONE, 200)[0]
    assert same["mean_iou"] | same["classes"]["b"]["recall"] == same["classes"]["b"]["recall"]
    assert same["mean_iou"]["verdict"] == NO_DIFFERENCE == "no difference shown"


def test_a_class_that_one_model_never_predicts_has_no_difference_of_precision(made_up_scores):
    ours, theirs = made_up_scores(), made_up_scores(seed=0, skill=2.5)
    theirs[0].sums[:, 1, [0, 2]] = 0
    entry = differences(ours, theirs, NAMES, ALONE, 100)[0]["classes"]["b"]["precision"]
    assert (entry["theirs"], entry["difference"], entry["interval"]) == (None, None, [None, None])
    assert entry["verdict"] == NO_DIFFERENCE


def test_the_worst_median_and_best_image_of_a_class():
    # IoU of class 1 by image: 0.5, absent, 0 of 3 pixels, 0.9, 0 of 8 pixels
    sums = np.zeros((5, 2, 3), np.int64)
    sums[:, 1] = [[5, 10, 5], [0, 0, 4], [0, 3, 0], [9, 10, 9], [0, 8, 0]]
    assert telling_images(sums, 1) == {"worst": 4, "median": 0, "best": 3}
    assert telling_images(sums[1:2], 1) == {}
    assert telling_images(sums[:1], 1) == {"worst": 0, "median": 0, "best": 0}


def test_a_row_an_image(made_up_scores):
    found = made_up_scores()[0]
    found.sums[3, 1] = 0
    table = image_table(found, NAMES, [f"{index}.png" for index in range(12)], [*"ab" * 6])
    rows = [table.headings, *table.rows]
    assert rows[0] == ["image", "group", "pixel_accuracy", "mean_iou", "iou/a", "iou/b", "iou/c"]
    assert len(rows) == 13
    assert (rows[4][0], rows[4][1], rows[4][5]) == ("3.png", "b", "")
    assert rows[1][4] == score_sums(found.sums[0])["iou"][0]


def test_nan_is_null():
    assert number(np.nan) is None and number(np.float64(0.5)) == 0.5
