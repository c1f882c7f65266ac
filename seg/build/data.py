"""Labels, samples and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from seg.balance import ClassCounts, MultiLabelCounts, count_masks, count_multi_label_masks
from seg.balance.cache import user_cache_folder
from seg.build.images import preprocessing
from seg.config.data import DiskCache, FolderData, FractionData, SceneData, TableData
from seg.config.labels import BinaryMasks, ColourMasks, IndexMasks, Labels, MultiLabelMasks, PaletteMasks, ValueMasks
from seg.config.tree import Config
from seg.data.files.storage import File
from seg.data.masks.planes import MultiLabelEncoding
from seg.data.masks.reading import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MaskEncoding,
    MergedEncoding,
    PaletteEncoding,
    StoredEncoding,
    ValueEncoding,
)
from seg.data.samples.pairs import (
    Sample,
    Splits,
    check_pairs,
    check_sizes,
    samples_from_folders,
    samples_from_fractions,
    samples_from_table,
)
from seg.data.samples.slices import expand_slices, refuse_volumes
from seg.data.scenes.attributes import ATTRIBUTE_LABELS
from seg.data.scenes.scene import SCENE_LABELS, write_scenes
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

if TYPE_CHECKING:
    import tensorflow as tf

    from seg.data.batches.pixel_cache import PixelCache
    from seg.data.sampling.copy_paste import CopyPaste
    from seg.data.sampling.sampler import Sampler
    from seg.data.views.band_statistics import BandStatistics
    from seg.data.views.border_map import BorderWeights
    from seg.data.views.transforms import Augmentation


def label_set(config: Config) -> LabelSet:
    """The classes."""
    return config.labels.label_set()


def mask_encoding(config: Config) -> MaskEncoding:
    """How mask files store the classes."""
    return labels_and_encoding(config.labels)[1]


def labels_and_encoding(labels: Labels) -> tuple[LabelSet, MaskEncoding]:
    """The classes, and how mask files store them."""
    stored = stored_encoding(labels)
    if not labels.merge or isinstance(stored, MultiLabelEncoding):
        return labels.label_set(), stored
    return labels.label_set(), MergedEncoding(stored, labels.stored_label_set(), labels.merged_indices())


def stored_encoding(labels: Labels) -> StoredEncoding | MultiLabelEncoding:
    """How mask files store their own classes, before any are merged."""
    match labels.encoding:
        case IndexMasks():
            return IndexEncoding(labels.ignore_values)
        case PaletteMasks():
            return PaletteEncoding(labels.ignore_values)
        case ColourMasks() as section:
            return ColourEncoding(section.void_colours, section.tolerance)
        case BinaryMasks() as section:
            return BinaryEncoding(section.threshold, labels.ignore_values)
        case ValueMasks() as section:
            values = tuple((value, labels.names.index(name)) for value, name in section.values.items())
            return ValueEncoding(values, labels.ignore_values)
        case MultiLabelMasks():
            return MultiLabelEncoding()
        case _ as never:
            assert_never(never)


def load_counts(config: Config, path: Path) -> ClassCounts | MultiLabelCounts:
    """The counts of training masks in a file that `save` wrote.

    Raises:
        DataError: The file is missing, broken, of another kind or version, or holds impossible counts.
    """
    return (MultiLabelCounts if config.labels.multi_label else ClassCounts).load(path)


def count_classes(
    config: Config, masks: Sequence[File], progress: Callable[[int, int], None]
) -> ClassCounts | MultiLabelCounts:
    """Counts masks; `progress` is told the masks and pixels done so far.

    Raises:
        DataError: A mask is broken or holds a value that is no class.
    """
    labels, encoding, root = label_set(config), mask_encoding(config), Path(config.data.root)
    if isinstance(encoding, MultiLabelEncoding):
        return count_multi_label_masks(masks, labels, encoding, root=root, progress=progress)
    return count_masks(masks, labels, encoding, root=root, progress=progress)


def samples(config: Config) -> Splits:
    """The image/mask pairs of each split, sizes compared; generated scenes are drawn first, where there are none."""
    if isinstance(config.data, SceneData):
        _check_scene_labels(config.labels)
    splits = _find_samples(config.data, data_root(config))
    slices = None if isinstance(config.data, SceneData) else config.data.slices
    if slices is not None:
        splits = expand_slices(splits, slices.axis)
    else:
        refuse_volumes(splits)
    for members in splits.values():
        check_pairs(members)
    check_sizes(splits, mask_encoding(config))
    return splits


def _check_scene_labels(labels: Labels) -> None:
    """Refuses labels that mean something else than the generated masks do: names in another order would still run."""
    drawn = ATTRIBUTE_LABELS if labels.multi_label else SCENE_LABELS
    if labels.names != drawn.names:
        names = ", ".join(drawn.names)
        raise ConfigError(f"labels.names: got {', '.join(labels.names)}; allowed with the generated scenes: {names}")
    if labels.ignore_index != drawn.ignore_index:
        allowed = f"allowed with the generated scenes: {drawn.ignore_index}"
        raise ConfigError(f"labels.ignore_index: got {labels.ignore_index}, {allowed}")
    if not isinstance(labels.encoding, IndexMasks | MultiLabelMasks):
        got = labels.encoding.name
        raise ConfigError(f"labels.encoding.name: got '{got}', allowed with the generated scenes: index, multi_label")


def data_root(config: Config) -> Path:
    """The folder that holds the data; generated scenes are drawn first, where there are none.

    Raises:
        DataError: There is no such folder.
    """
    data, root = config.data, Path(config.data.root)
    if isinstance(data, SceneData):
        splits = {"train": data.train, "val": data.val, "test": data.test}
        write_scenes(root, splits, data.size, data.seed, multi_label=config.labels.multi_label)
    if not root.is_dir():
        raise DataError(f"data.root: got '{root}', which is no folder; allowed: the folder that holds the data")
    return root


def _find_samples(data: FolderData | TableData | FractionData | SceneData, root: Path) -> Splits:
    match data:
        case FolderData():
            return samples_from_folders(root, data.images, data.masks, data.mask_suffix)
        case SceneData():
            return samples_from_folders(root)
        case TableData():
            return samples_from_table(root, root / data.table)
        case FractionData():
            return samples_from_fractions(
                root,
                data.images,
                data.masks,
                data.mask_suffix,
                fractions=data.fractions(),
                seed=data.seed,
                block_size=data.block_size,
            )
        case _ as never:
            assert_never(never)


def pixel_weights(config: Config) -> BorderWeights | None:
    """What weighs the pixels of a training mask."""
    section = config.pixel_weights
    if section is None:
        return None
    from seg.data.views.border_map import BorderWeights

    classes = [config.labels.class_names.index(name) for name in section.classes]
    return BorderWeights(tuple(classes), strength=section.strength, sigma=section.sigma)


def augmentation(config: Config) -> Augmentation:
    """The random changes of training images, the crop among them."""
    from seg.data.views.transforms import Augmentation

    return Augmentation(
        **config.augmentation.model_dump(),
        crop=config.input.crop,
        resize=config.input.resize,
        bands=config.input.num_bands,
        ignore_index=config.labels.ignore_index,
        saturate=config.input.normalize == "fixed" or config.input.clip is not None,
    )


def pixel_cache(config: Config) -> PixelCache | None:
    """What keeps decoded training images and masks; None where they are decoded each time."""
    section = config.input.cache
    if section is None:
        return None
    from seg.data.batches.pixel_cache import PixelCache

    folder = None
    if isinstance(section, DiskCache):
        folder = Path(section.folder) if section.folder else user_cache_folder() / "decoded"
    reading = repr((config.input.bands, mask_encoding(config), label_set(config).colours, config.labels.ignore_index))
    return PixelCache(int(section.limit_gib * 2**30), reading, folder)


def training_data(
    config: Config,
    samples: Sequence[Sample],
    first_epoch: int = 0,
    drawn_by: tuple[Sampler, CopyPaste | None] | None = None,
    statistics: BandStatistics | None = None,
) -> tf.data.Dataset:
    """The training batches from `first_epoch` on, as one stream over the epochs, `drawn_by` that of `Sampling`.

    Raises:
        ValueError: The configuration has a sampler and `drawn_by` is None.
    """
    if config.sampler is not None and drawn_by is None:
        raise ValueError("drawn_by: got None, allowed with a sampler in the configuration: that of build.sampling")
    sampler, copy_paste = drawn_by or (None, None)
    from seg.data.batches.dataset import training_batches

    return training_batches(
        samples,
        label_set(config),
        mask_encoding(config),
        preprocessing(config, statistics),
        augmentation(config),
        pixel_weights=pixel_weights(config),
        sampler=sampler,
        copy_paste=copy_paste,
        cache=pixel_cache(config),
        batch_size=config.training.batch_size,
        seed=config.seed,
        epochs=config.training.epochs,
        first_epoch=first_epoch,
        crops_per_image=config.input.crops_per_image,
        workers=config.training.workers,
    )


def evaluation_data(
    config: Config, samples: Sequence[Sample], statistics: BandStatistics | None = None
) -> tf.data.Dataset:
    """One pass over whole images, large rasters in tiles."""
    from seg.data.batches.dataset import evaluation_batches

    return evaluation_batches(
        samples,
        label_set(config),
        mask_encoding(config),
        preprocessing(config, statistics),
        batch_size=config.training.batch_size,
        workers=config.training.workers,
    )
