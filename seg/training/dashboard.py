"""What TensorBoard shows first: the layout of the Custom Scalars tab, rare classes on top, and the HParams table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.hparams.api import HParam, Metric
from tensorboard.plugins.hparams.summary_v2 import hparams_config_pb, hparams_pb
from tensorboard.util.tensor_util import make_tensor_proto

from seg.training.event_file import one_value

PER_CLASS = ("iou", "precision", "recall", "dice")  # tags: <score>/<class name>
OVERVIEW = {  # tags and what they are called; also the columns of the HParams table, of the val run
    "mean_iou_rare": "mean IoU of the rare classes",
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "loss": "loss",
}
OWN_CATEGORIES = 12  # at most as many of the rarest classes get a category of their own; the others share one

Charts = list[tuple[str, list[str]]]  # (title, tags)


def categories(class_names: Sequence[str], rarest_first: Sequence[int], num_rare: int) -> list[tuple[str, Charts]]:
    """(title, charts) of each fold of the Custom Scalars tab.

    Overview; a category a rare class, the rarest first, with all that is known of it; the IoU of the others, still from
    rare to common; speed.

    Args:
        class_names: The C names.
        rarest_first: All class indices.
        num_rare: How many of them, from the first on, are rare.
    """
    overview = [(title, [tag]) for tag, title in OVERVIEW.items() if num_rare or tag != "mean_iou_rare"]
    folds: list[tuple[str, Charts]] = [("1  overview", overview)]
    names = [class_names[index] for index in rarest_first]
    own = min(num_rare, OWN_CATEGORIES)
    folds += [(f"2  rare: {name}", class_charts(name)) for name in names[:own]]
    folds.append(("3  other classes, from rare to common", [(name, [f"iou/{name}"]) for name in names[own:]]))
    folds.append(
        (
            "4  speed",
            [
                ("images per second", ["images_per_second"]),
                ("share of time waiting for input", ["input_wait_share"]),
                ("learning rate", ["learning_rate"]),
            ],
        )
    )
    return folds


def class_charts(name: str) -> Charts:
    """Everything about one class."""
    return [
        (f"{name}: IoU", [f"iou/{name}"]),
        (f"{name}: precision and recall", [f"precision/{name}", f"recall/{name}"]),
        (f"{name}: Dice", [f"dice/{name}"]),
        (
            f"{name}: share of pixels, loss and gradient",
            [f"pixel_share/{name}", f"loss_share/{name}", f"gradient_share/{name}"],
        ),
    ]


def layout(folds: Sequence[tuple[str, Charts]]) -> Any:
    """The `Summary` that the Custom Scalars tab reads, from what `categories` gives."""
    proto = layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title=title,
                closed=number > 2,
                chart=[
                    layout_pb2.Chart(
                        title=chart,
                        # TensorBoard matches these as regular expressions from the tag's beginning.
                        multiline=layout_pb2.MultilineChartContent(tag=[f"{re.escape(tag)}$" for tag in tags]),
                    )
                    for chart, tags in charts
                ],
            )
            for number, (title, charts) in enumerate(folds)
            if charts
        ]
    )
    tensor = make_tensor_proto(proto.SerializeToString(), dtype=np.object_)
    return one_value(layout_metadata.CONFIG_SUMMARY_TAG, layout_metadata.create_summary_metadata(), tensor)


def hyperparameters(values: Mapping[str, Any], run: str) -> list[Any]:
    """The `Summary` messages that put a run into the HParams tab.

    Args:
        values: bool, int, float or text by name.
        run: The run's own name: two runs with equal values stay two rows.
    """
    metrics = [Metric(tag, display_name=f"val {title}") for tag, title in OVERVIEW.items()]
    config = hparams_config_pb(hparams=[HParam(name) for name in values], metrics=metrics)
    return [config, hparams_pb(dict(values), trial_id=run)]
