"""What of a run's configuration may be changed when it is gone on with (docs/reproducibility.md has the reasons)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seg.config.tree import Config
from seg.errors import ConfigError

# Keys, or the beginnings of them that end in a dot: what changes no batch, no loss and no model; and what people
# change on purpose: the number of epochs and the learning rate.
MAY_CHANGE = (
    "data.root",
    "input.cache",
    "optimizer.learning_rate",
    "training.epochs",
    "training.early_stopping",
    "training.workers",
    "training.loading",
    "training.on_nonfinite",
    "training.nonfinite_limit",
    "training.keep_programs",
    "checkpoints.",
    "output.",
    "tensorboard.look_every",
    "tensorboard.confusion_every",
    "tensorboard.tiles",
    "tensorboard.tile_classes",
    "tensorboard.curve_classes",
    "tensorboard.side",
    "tensorboard.max_mb",
)


def changes(before: Config, after: Config) -> list[str]:
    """The keys that differ, each with its two values.

    Raises:
        ConfigError: One of them would make the run a training of two halves.
    """
    old, new = dict(_flat(before.model_dump(mode="json"))), dict(_flat(after.model_dump(mode="json")))
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    refused = [key for key in changed if not key.startswith(tuple(k for k in MAY_CHANGE if k.endswith(".")))]
    refused = [key for key in refused if not any(key == k or key.startswith(f"{k}.") for k in MAY_CHANGE)]
    if refused:
        listed = "\n".join(
            f"  {key}: got {new.get(key)!r}, allowed: {old.get(key)!r}, as in the run" for key in refused
        )
        raise ConfigError(
            f"--resume: {'1 change needs' if len(refused) == 1 else f'{len(refused)} changes need'} a new run; allowed "
            f"to change: {', '.join(k + '*' if k.endswith('.') else k for k in MAY_CHANGE)}\n{listed}"
        )
    if "training.epochs" in changed and before.sampler is not None and before.sampler.images is not None:
        raise ConfigError(
            "--resume: training.epochs: the class weights follow from what sampler.images draws in all epochs; "
            f"allowed: {before.training.epochs}, as the run has it, or a new run"
        )
    return [f"{key}: {new.get(key)!r}, was {old.get(key)!r}" for key in changed]


def _flat(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, tree
