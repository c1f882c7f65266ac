import re

import pytest
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.util.tensor_util import make_ndarray

from seg.training.dashboard import categories, hyperparameters, layout

NAMES = ["sky", "road (wet)", "boat", "a.b"]


def read(summary):
    (value,) = summary.value
    assert value.tag == "custom_scalars__config__"
    assert value.metadata.plugin_data.plugin_name == "custom_scalars"
    return layout_pb2.Layout.FromString(make_ndarray(value.tensor).item())


def test_rare_classes_come_first():
    folds = categories(NAMES, [3, 2, 0, 1], num_rare=2)
    assert [title for title, _ in folds] == [
        "1  overview",
        "2  rare: a.b",
        "2  rare: boat",
        "3  other classes, from rare to common",
        "4  speed",
    ]
    assert folds[0][1][0] == ("mean IoU of the rare classes", ["mean_iou_rare"])
    assert [tags for _, tags in folds[1][1]] == [
        ["iou/a.b"],
        ["precision/a.b", "recall/a.b"],
        ["dice/a.b"],
        ["pixel_share/a.b", "loss_share/a.b", "gradient_share/a.b"],
    ]
    assert folds[3][1] == [("sky", ["iou/sky"]), ("road (wet)", ["iou/road (wet)"])]


def test_without_rare_classes_there_is_no_chart_of_them():
    folds = categories(NAMES, [0, 1, 2, 3], num_rare=0)
    assert [title for title, _ in folds] == ["1  overview", "3  other classes, from rare to common", "4  speed"]
    assert "mean_iou_rare" not in str(folds[0])


@pytest.mark.parametrize("num_rare", [0, 13, 150])
def test_150_classes_are_all_there_once(num_rare):
    names = [f"class {index}" for index in range(150)]
    proto = read(layout(categories(names, list(range(150)), num_rare)))
    tags = [tag for category in proto.category for chart in category.chart for tag in chart.multiline.tag]
    assert sum(tag.startswith("iou/") for tag in tags) == 150
    assert len(proto.category) <= 16  # folds that a person can look through
    assert all(category.chart for category in proto.category)


def test_tags_match_themselves_alone():
    # TensorBoard compiles them as Python regular expressions and matches from the start of a tag.
    proto = read(layout(categories(NAMES, [1, 3, 0, 2], num_rare=2)))
    patterns = [tag for category in proto.category for chart in category.chart for tag in chart.multiline.tag]
    for tag in ("iou/road (wet)", "iou/a.b", "mean_iou"):
        assert sum(re.compile(pattern).match(tag) is not None for pattern in patterns) == 1
    assert not any(re.compile(pattern).match("iou/axb") for pattern in patterns)
    assert not any(re.compile(pattern).match("mean_iou_rare_2") for pattern in patterns)


def test_hyperparameters_name_the_run_and_the_scores_to_compare():
    config, session = hyperparameters({"learning_rate": 0.5, "loss": "dice", "depth": 3, "flip": True}, "run 7")
    experiment = metadata.parse_experiment_plugin_data(config.value[0].metadata.plugin_data.content)
    assert [info.name for info in experiment.hparam_infos] == ["learning_rate", "loss", "depth", "flip"]
    assert [info.name.tag for info in experiment.metric_infos] == [
        "mean_iou_rare",
        "mean_iou",
        "pixel_accuracy",
        "loss",
    ]
    start = metadata.parse_session_start_info_plugin_data(session.value[0].metadata.plugin_data.content)
    assert start.group_name == "run 7"
    assert start.hparams["learning_rate"].number_value == 0.5
    assert start.hparams["loss"].string_value == "dice"
    assert start.hparams["flip"].bool_value is True
