"""The whole tree of a configuration, and what is built from several of its sections. `seg.config` loads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from seg.config.balance import BorderWeights, ClassWeights
from seg.config.data import DataKind, Listing
from seg.config.input import Input
from seg.config.labels import Labels
from seg.config.losses import CrossEntropyTerm, LossTerm
from seg.config.model import ModelKind, UNet
from seg.config.optimizer import AdamW, OptimizerKind
from seg.config.sampler import Sampler
from seg.config.schedule import CosineSchedule, ScheduleKind
from seg.config.tensorboard import TensorBoard
from seg.config.training import Checkpoints, Output, Training
from seg.data.views.augmentation import AugmentationSettings
from seg.errors import DataError
from seg.section import Section, Value

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from seg.data.batches.pixel_cache import PixelCache
    from seg.data.batches.shares import Share
    from seg.data.masks.encodings import MaskEncoding
    from seg.data.samples.pairs import Sample, Splits
    from seg.data.sampling.sampler import Sampler as DrawingSampler
    from seg.data.views.band_statistics import BandStatistics
    from seg.data.views.preprocessing import Preprocessing
    from seg.data.views.sources import PixelWeights
    from seg.data.views.transforms import Augmentation
    from seg.losses.combined import Combined

# What draws the folders that the shipped configurations on generated scenes have as data.root.
DRAWN_BY = {
    "data/scenes": "python -m data_tools.make_scenes data/scenes",
    "data/scenes_multi_label": "python -m data_tools.make_scenes data/scenes_multi_label --multi-label",
}


class Config(Section):
    """The whole tree."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(description="starts the run's folder")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    labels: Labels
    data: DataKind
    input: Input = Input()
    augmentation: AugmentationSettings = AugmentationSettings()
    class_weights: ClassWeights = ClassWeights()
    sampler: Sampler | None = Field(None, description="rare classes on purpose; left out: every image equally often")
    pixel_weights: BorderWeights | None = Field(None, description="weights of single training pixels; left out: none")
    model: ModelKind = UNet(name="unet")
    loss: Annotated[tuple[LossTerm, ...], Field(min_length=1)] = (CrossEntropyTerm(name="cross_entropy"),)
    optimizer: OptimizerKind = AdamW(name="adamw")
    schedule: ScheduleKind = CosineSchedule(name="cosine")
    training: Training
    checkpoints: Checkpoints = Checkpoints()
    output: Output = Output()
    tensorboard: TensorBoard = TensorBoard()

    # --- samples and batches ------------------------------------------------------------------------------------------
    def data_root(self) -> Path:
        """The folder that holds the data.

        Raises:
            DataError: There is no such folder.
        """
        root = Path(self.data.root)
        if not root.is_dir():
            command = DRAWN_BY.get(root.as_posix())
            hint = f"; to draw the generated scenes: {command}" if command else ""
            got = f"data.root: got '{root}', which is no folder"
            raise DataError(f"{got}; allowed: the folder that holds the data{hint}")
        return root

    def samples(self, tell: Callable[[str], None] = lambda text: None) -> Splits:
        """The image/mask pairs of each split, sizes compared; `tell` is told what was left out."""
        from seg.data.samples import pairs
        from seg.data.samples.patterns import samples_from_patterns
        from seg.data.samples.slices import expand_slices, refuse_volumes
        from seg.data.samples.tables import samples_from_table

        how = Listing(
            partial(pairs.samples_from_folders, tell=tell),
            samples_from_table,
            partial(pairs.samples_from_fractions, tell=tell),
            partial(samples_from_patterns, tell=tell),
        )
        splits = self.data.listed(how, self.data_root())
        if self.data.slices is not None:
            splits = expand_slices(splits, self.data.slices.axis)
        else:
            refuse_volumes(splits)
        for members in splits.values():
            pairs.check_pairs(members)
        pairs.check_sizes(splits, self.labels.mask_encoding())
        return splits

    def counted_encoding(self) -> MaskEncoding:
        """How mask files are read to be counted: at the size of `input.resize`, at which they are trained."""
        from seg.data.masks.sized import SizedEncoding

        stored = self.labels.mask_encoding()
        return stored if self.input.resize is None else SizedEncoding(stored, self.input.resize)

    def build_augmentation(self) -> Augmentation:
        """The random changes of training images, the crop among them."""
        from seg.data.views.transforms import Augmentation

        return Augmentation(
            **self.augmentation.model_dump(),
            crop=self.input.crop,
            resize=self.input.resize,
            bands=self.input.num_bands,
            ignore_index=self.labels.ignore_index,
            saturate=self.input.normalize == "fixed" or self.input.clip is not None,
        )

    def build_pixel_weights(self) -> PixelWeights | None:
        """What weighs the pixels of a training mask; None where they weigh alike."""
        return None if self.pixel_weights is None else self.pixel_weights.build(self.labels.class_names)

    def build_cache(self) -> PixelCache | None:
        """What keeps decoded training images and masks; None where they are decoded each time."""
        if self.input.cache is None:
            return None
        labels = self.labels.label_set()
        return self.input.cache.build(
            repr((self.input.bands, self.labels.mask_encoding(), labels.colours, labels.ignore_index, labels.partial))
        )

    def training_data(
        self,
        samples: Sequence[Sample],
        first_epoch: int = 0,
        sampler: DrawingSampler | None = None,
        statistics: BandStatistics | None = None,
        first_step: int = 0,
        share: Share | None = None,
    ) -> tf.data.Dataset:
        """The training batches from `first_epoch` on, as one stream over the epochs.

        Args:
            samples: Of the training split.
            first_epoch: Epochs that are left out.
            sampler: What `seg.training.sampling` makes of the section `sampler`.
            statistics: Of the bands of the training images, where values are normalised by them.
            first_step: Steps of the first epoch that are left out.
            share: Whose parts of the batches; None: the batches.

        Raises:
            ValueError: The configuration has a sampler and `sampler` is None.
        """
        if self.sampler is not None and sampler is None:
            raise ValueError("sampler: got None, allowed with a sampler in the configuration: that of `sampling`")
        from seg.data.batches.dataset import training_batches
        from seg.data.batches.shares import ALL

        steps, pass_steps = self.steps_per_epoch(len(samples)), self._steps_per_pass(len(samples))
        first_pass, first_step = divmod(first_epoch * steps + first_step, pass_steps)
        return training_batches(
            samples,
            self.labels.label_set(),
            self.labels.mask_encoding(),
            self.input.preprocessing(statistics),
            self.build_augmentation(),
            pixel_weights=self.build_pixel_weights(),
            sampler=sampler,
            cache=self.build_cache(),
            batch_size=self.training.batch_size,
            seed=self.seed,
            epochs=-(-self.training.epochs * steps // pass_steps),
            first_epoch=first_pass,
            first_step=first_step,
            crops_per_image=self.input.crops_per_image,
            workers=self.training.workers,
            loading=self.training.loading,
            share=share or ALL,
        )

    def batch(
        self, samples: Sequence[Sample], epoch: int, step: int, sampler: DrawingSampler | None = None
    ) -> list[Sample]:
        """The samples that a step of an epoch trains on; the arguments are those of `training_data`."""
        from seg.data.batches.loading import Drawing

        size, pass_steps = self.training.batch_size, self._steps_per_pass(len(samples))
        number, step = divmod(epoch * self.steps_per_epoch(len(samples)) + step, pass_steps)
        drawing = Drawing(len(samples), self.input.crops_per_image, self.seed, sampler)
        drawn = drawing.draws(number, pass_steps * size)
        return [samples[index] for index in drawn[step * size :][:size, 0]]

    def steps_per_epoch(self, num_samples: int) -> int:
        """Updates in an epoch of so many training samples.

        Raises:
            DataError: There is not one whole batch.
        """
        return self.training.steps_per_epoch or self._steps_per_pass(num_samples)

    def _steps_per_pass(self, num_samples: int) -> int:
        from seg.data.sampling.draws import steps_per_epoch

        return steps_per_epoch(num_samples, self.training.batch_size, self.input.crops_per_image)

    def evaluation_data(
        self, samples: Sequence[Sample], preprocessing: Preprocessing, share: Share | None = None
    ) -> tf.data.Dataset:
        """One pass over whole images as `preprocessing` makes them, large rasters in tiles; of a share its batches."""
        from seg.data.batches.dataset import evaluation_batches
        from seg.data.batches.shares import ALL

        return evaluation_batches(
            samples,
            self.labels.label_set(),
            self.labels.mask_encoding(),
            preprocessing,
            batch_size=self.training.batch_size // self.training.accumulation,  # what fits the memory
            workers=self.training.workers,
            share=share or ALL,
        )

    # --- model, loss, optimizer ---------------------------------------------------------------------------------------
    def build_model(self) -> tuple[Any, Any]:
        """The model's symbolic images and logits."""
        return self.model.build(self.input.num_bands, len(self.labels.class_names))

    def build_loss(self, class_weights: np.ndarray) -> Combined:
        """The weighted sum of the terms."""
        from seg.losses.combined import Combined

        labels = self.labels.label_set()
        return Combined([(term.coefficient, term.build(labels, class_weights)) for term in self.loss])

    def at_rate(self, factor: float) -> Config:
        """The same with `factor` times the learning rate."""
        optimizer = self.optimizer.model_copy(update={"learning_rate": self.optimizer.learning_rate * factor})
        return self.model_copy(update={"optimizer": optimizer})

    def build_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """The optimizer with its learning-rate schedule, which counts in updates."""
        return self.optimizer.build(self.learning_rate(steps_per_epoch))

    def learning_rate(self, steps_per_epoch: int) -> Any:
        """The rate or schedule.

        Raises:
            ConfigError: A warm-up in updates is as long as the training.
        """
        return self.schedule.build(self.optimizer.learning_rate, self.training.epochs, steps_per_epoch)

    # --- for people ---------------------------------------------------------------------------------------------------
    def hyperparameters(self) -> dict[str, Value]:
        """The settings that people vary, flat, for the HParams tab of TensorBoard.

        Those of the run: not which data and classes, not where output goes. What is left out is an empty text.
        """
        return {
            "seed": self.seed,
            "loss": " + ".join(term.summary() for term in self.loss),
            "class_weights": self.class_weights.summary(),
            "sampler": self.sampler.summary() if self.sampler else "",
            "pixel_weights": self.pixel_weights.name if self.pixel_weights else "",
            **self.optimizer.hyperparameters(),
            **self.schedule.hyperparameters(),
            **self.model.hyperparameters(),
            **self.input.hyperparameters(),
            **self.training.hyperparameters(),
        }
