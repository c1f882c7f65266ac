"""The network and its optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from seg.config.tree import Adam, AdamW, Config, ConstantSchedule, CosineSchedule

if TYPE_CHECKING:
    import keras


def network(config: Config) -> tuple[Any, Any]:
    """The model's symbolic images and logits."""
    from seg.models.unet import unet_layers

    section = config.model
    return unet_layers(
        bands=config.input.num_bands,
        num_classes=len(config.labels.class_names),
        depth=section.depth,
        base_filters=section.base_filters,
        norm=section.norm,
        dropout=section.dropout,
        upsampling=section.upsampling,
        one_logit=section.one_logit,
    )


def optimizer(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer with its learning-rate schedule, which counts in steps."""
    import keras

    match config.optimizer:
        case Adam():
            return keras.optimizers.Adam(_learning_rate(config, steps_per_epoch))
        case AdamW() as section:
            decayed = keras.optimizers.AdamW(_learning_rate(config, steps_per_epoch), weight_decay=section.weight_decay)
            # Scales, offsets and biases are not decayed: shrinking them changes what the layer computes, not its size.
            decayed.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
            return decayed
        case _ as never:
            assert_never(never)


def _learning_rate(config: Config, steps_per_epoch: int) -> Any:
    import keras

    peak = config.optimizer.learning_rate
    match config.schedule:
        case ConstantSchedule():
            return peak
        case CosineSchedule() as section:
            warmup = section.warmup_epochs * steps_per_epoch
            return keras.optimizers.schedules.CosineDecay(
                initial_learning_rate=0.0 if warmup else peak,
                decay_steps=config.training.epochs * steps_per_epoch - warmup,
                alpha=section.final_fraction,
                warmup_target=peak if warmup else None,
                warmup_steps=warmup,
            )
        case _ as never:
            assert_never(never)
