"""What runs are compared by."""

from __future__ import annotations

from seg.config.sampler import Sampler
from seg.config.tree import Config

Value = bool | int | float | str


def hyperparameters(config: Config) -> dict[str, Value]:
    """The settings that people vary, flat, for the HParams tab of TensorBoard.

    Those of the run: not which data and classes, not where output goes. A setting that is left out is an empty text.
    """
    weights, optimizer, schedule = config.class_weights, config.optimizer, config.schedule
    values: dict[str, object] = {
        "seed": config.seed,
        "loss": " + ".join(
            f"{term.coefficient:g} {term.name}" + ("" if term.weighted else " (unweighted)") for term in config.loss
        ),
        "class_weights": weights.scheme
        + (f", cap {weights.cap:g}" if weights.cap else "")
        + (f", online {weights.online:g}" if weights.online else ""),
        "sampler": _sampler(config.sampler),
        "pixel_weights": config.pixel_weights and config.pixel_weights.name,
        "optimizer": optimizer.name,
        "learning_rate": optimizer.learning_rate,
        "weight_decay": getattr(optimizer, "weight_decay", 0.0),
        "schedule": schedule.name,
        "warmup_epochs": getattr(schedule, "warmup_epochs", 0),
        "model": config.model.name,
        "depth": config.model.depth,
        "base_filters": config.model.base_filters,
        "dropout": config.model.dropout,
        "crop": _size(config.input.crop),
        "resize": _size(config.input.resize),
        "batch_size": config.training.batch_size,
        "epochs": config.training.epochs,
    }
    return {key: value if isinstance(value, Value) else "" for key, value in values.items()}


def _sampler(section: Sampler | None) -> str:
    """`repeat_factor, crops 0.5, copy_paste 0.3`: the parts that there are."""
    parts: list[str] = []
    if section and section.images:
        parts.append(section.images.name)
    if section and section.crops:
        parts.append(f"crops {section.crops.share:g}")
    if section and section.copy_paste:
        parts.append(f"copy_paste {section.copy_paste.probability:g}")
    return ", ".join(parts)


def _size(size: tuple[int, int] | None) -> str:
    return "" if size is None else f"{size[0]} x {size[1]}"
