"""From config sections to objects: the only file that knows both. What needs TensorFlow imports it when called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from seg.balance import ClassCounts, class_weights
from seg.config_losses import (
    CrossEntropyTerm,
    DiceTerm,
    FocalTerm,
    GeneralisedDiceTerm,
    JaccardTerm,
    LossTerm,
    LovaszTerm,
    TopKCrossEntropyTerm,
    TverskyTerm,
)
from seg.config_tree import (
    Adam,
    AdamW,
    BinaryMasks,
    ColourMasks,
    Config,
    ConstantSchedule,
    CosineSchedule,
    FolderData,
    FractionData,
    IndexMasks,
    Labels,
    PaletteMasks,
    SceneData,
    TableData,
)
from seg.data.images import image_size
from seg.data.masks import BinaryEncoding, ColourEncoding, IndexEncoding, MaskEncoding, PaletteEncoding
from seg.data.samples import (
    Sample,
    Splits,
    check_sizes,
    samples_from_folders,
    samples_from_fractions,
    samples_from_table,
)
from seg.data.scenes import SCENE_LABELS, write_scenes
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from seg.data.border_map import BorderWeights
    from seg.data.dataset import Preprocessing
    from seg.data.transforms import Augmentation
    from seg.losses.base import SegmentationLoss
    from seg.losses.combined import Combined
    from seg.losses.online_weights import OnlineClassWeights


def label_set(config: Config) -> LabelSet:
    """The classes."""
    return config.labels.label_set()


def mask_encoding(config: Config) -> MaskEncoding:
    """How mask files store the classes."""
    match config.labels.encoding:
        case IndexMasks():
            return IndexEncoding()
        case PaletteMasks():
            return PaletteEncoding()
        case ColourMasks() as section:
            return ColourEncoding(section.void_colours)
        case BinaryMasks() as section:
            return BinaryEncoding(section.threshold)
        case _ as never:
            assert_never(never)


def samples(config: Config) -> Splits:
    """The image/mask pairs of each split, sizes compared; generated scenes are drawn first, where there are none."""
    if isinstance(config.data, SceneData):
        _check_scene_labels(config.labels)
    splits = _find_samples(config.data)
    check_sizes(splits, image_size)
    return splits


def _check_scene_labels(labels: Labels) -> None:
    """Refuses labels that mean something else than the generated masks do: names in another order would still run."""
    drawn = SCENE_LABELS
    if labels.names != drawn.names:
        names = ", ".join(drawn.names)
        raise ConfigError(f"labels.names: got {', '.join(labels.names)}; allowed with the generated scenes: {names}")
    if labels.ignore_index != drawn.ignore_index:
        allowed = f"allowed with the generated scenes: {drawn.ignore_index}"
        raise ConfigError(f"labels.ignore_index: got {labels.ignore_index}, {allowed}")
    if not isinstance(labels.encoding, IndexMasks):
        got = labels.encoding.name
        raise ConfigError(f"labels.encoding.name: got '{got}', allowed with the generated scenes: index")


def _find_samples(data: FolderData | TableData | FractionData | SceneData) -> Splits:
    root = Path(data.root)
    if isinstance(data, SceneData):
        write_scenes(root, {"train": data.train, "val": data.val, "test": data.test}, data.size, data.seed)
    if not root.is_dir():
        raise DataError(f"data.root: got '{root}', which is no folder; allowed: the folder that holds the data")
    match data:
        case FolderData():
            return samples_from_folders(root, data.images, data.masks, data.mask_suffix)
        case SceneData():
            return samples_from_folders(root)
        case TableData():
            return samples_from_table(root, root / data.table)
        case FractionData():
            fractions = {"train": data.train, "val": data.val, "test": data.test}
            return samples_from_fractions(
                root,
                data.images,
                data.masks,
                data.mask_suffix,
                fractions={split: share for split, share in fractions.items() if share > 0},
                seed=data.seed,
                block_size=data.block_size,
            )
        case _ as never:
            assert_never(never)


def weights(config: Config, counts: ClassCounts) -> np.ndarray:
    """(C,) float64 class weights by the configured scheme."""
    section = config.class_weights
    given = {key: getattr(section, key) for key in ("beta", "unit", "manual") if getattr(section, key) is not None}
    return class_weights(counts, section.scheme, normalize=section.normalize, cap=section.cap, **given)


def online_weights(config: Config) -> OnlineClassWeights | None:
    """The class weights that follow the batches, or None where those of all masks hold."""
    section = config.class_weights
    if section.online is None:
        return None
    from seg.losses.online_weights import OnlineClassWeights

    effective: dict[str, Any] = {}
    if section.scheme == "effective_number":
        effective = {"beta": section.beta, "unit": section.unit}
    return OnlineClassWeights(
        len(config.labels.names),
        section.scheme,
        momentum=section.online,
        ignore_index=config.labels.ignore_index,
        normalize=section.normalize,
        cap=section.cap,
        **effective,
    )


def pixel_weights(config: Config) -> BorderWeights | None:
    """What weighs the pixels of a training mask."""
    section = config.pixel_weights
    if section is None:
        return None
    from seg.data.border_map import BorderWeights

    classes = [config.labels.names.index(name) for name in section.classes]
    return BorderWeights(tuple(classes), strength=section.strength, sigma=section.sigma)


def preprocessing(config: Config) -> Preprocessing:
    """From image file to model input."""
    from seg.data.dataset import Preprocessing

    section = config.input
    return Preprocessing(
        bands=section.bands,
        resize=section.resize,
        max_value=section.max_value,
        mean=(section.mean,) * section.bands,
        std=(section.std,) * section.bands,
    )


def augmentation(config: Config) -> Augmentation:
    """The random changes of training images, the crop among them."""
    from seg.data.transforms import Augmentation

    return Augmentation(
        **config.augmentation.model_dump(),
        crop=config.input.crop,
        resize=config.input.resize,
        bands=config.input.bands,
        ignore_index=config.labels.ignore_index,
    )


def training_data(config: Config, samples: Sequence[Sample], first_epoch: int = 0) -> tf.data.Dataset:
    """The training batches from `first_epoch` on, as one stream over the epochs."""
    from seg.data.dataset import training_batches

    return training_batches(
        samples,
        label_set(config),
        mask_encoding(config),
        preprocessing(config),
        augmentation(config),
        pixel_weights=pixel_weights(config),
        batch_size=config.training.batch_size,
        seed=config.seed,
        epochs=config.training.epochs,
        first_epoch=first_epoch,
        crops_per_image=config.input.crops_per_image,
        workers=config.training.workers,
    )


def evaluation_data(config: Config, samples: Sequence[Sample]) -> tf.data.Dataset:
    """One pass over whole images."""
    from seg.data.dataset import evaluation_batches

    return evaluation_batches(
        samples,
        label_set(config),
        mask_encoding(config),
        preprocessing(config),
        batch_size=config.training.batch_size,
        workers=config.training.workers,
    )


def loss(config: Config, class_weights: np.ndarray) -> Combined:
    """The weighted sum of the configured terms."""
    from seg.losses.combined import Combined

    return Combined(
        [(term.coefficient, _term(term, class_weights, config.labels.ignore_index)) for term in config.loss]
    )


def _term(term: LossTerm, class_weights: np.ndarray, ignore_index: int) -> SegmentationLoss:
    from seg import losses

    settings = term.model_dump(exclude={"name", "coefficient", "weighted"})
    settings["class_weights"] = class_weights if term.weighted else None
    settings["ignore_index"] = ignore_index
    match term:
        case CrossEntropyTerm():
            return losses.CrossEntropy(**settings)
        case FocalTerm():
            return losses.Focal(**settings)
        case TopKCrossEntropyTerm():
            return losses.TopKCrossEntropy(**settings)
        case DiceTerm():
            return losses.Dice(**settings)
        case JaccardTerm():
            return losses.Tversky(alpha=1.0, beta=1.0, name="jaccard", **settings)
        case TverskyTerm():
            return losses.Tversky(**settings)
        case GeneralisedDiceTerm():
            return losses.GeneralisedDice(**settings)
        case LovaszTerm():
            return losses.Lovasz(**settings)
        case _ as never:
            assert_never(never)


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


def network(config: Config) -> tuple[Any, Any]:
    """The model's symbolic images and logits."""
    from seg.models.unet import unet_layers

    section = config.model
    return unet_layers(
        bands=config.input.bands,
        num_classes=len(config.labels.names),
        depth=section.depth,
        base_filters=section.base_filters,
        norm=section.norm,
        dropout=section.dropout,
        upsampling=section.upsampling,
        one_logit=section.one_logit,
    )
