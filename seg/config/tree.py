"""The whole tree of a configuration, and its sections on balance, model and training. `seg.config` loads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from seg.config.data import Augmentation, FolderData, FractionData, Input, TableData
from seg.config.labels import Labels
from seg.config.losses import CrossEntropyTerm, LossTerm
from seg.config.sampler import Sampler
from seg.config.section import Positive, Problem, Section
from seg.config.tensorboard import TensorBoard


# --- balance, model ---------------------------------------------------------------------------------------------------
class ClassWeights(Section):
    """One weight a class from the pixel counts of the training masks (formulas: seg/balance/weights.py)."""

    scheme: Literal[
        "uniform",
        "inverse_frequency",
        "inverse_square",
        "inverse_sqrt",
        "median_frequency",
        "log_frequency",
        "effective_number",
        "manual",
    ] = "uniform"
    normalize: Literal["mean_one", "sum_one", "sum_classes", "none"] = Field(
        "mean_one", description="mean_one: the mean weight over pixels is 1, so that the loss keeps its scale"
    )
    cap: Annotated[float, Field(gt=1)] | None = Field(None, description="largest ratio between two weights")
    manual: dict[str, Annotated[float, Field(ge=0)]] | None = Field(None, description="weight by class name")
    beta: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] | None = Field(
        None, description="effective_number only; auto: (M - 1) / M for M units"
    )
    unit: Literal["images", "pixels"] | None = Field(None, description="effective_number only: what is counted")
    online: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="momentum of a moving average over batches whose counts replace those of all masks"
    )
    counts: str | None = Field(None, description="a counts.json of these training masks; left out: they are counted")

    def problems(self) -> Iterator[Problem]:
        for key, scheme in (("manual", "manual"), ("beta", "effective_number"), ("unit", "effective_number")):
            given = getattr(self, key) is not None
            if given and self.scheme != scheme:
                yield key, f"has no effect with scheme '{self.scheme}', allowed only with '{scheme}'"
            if not given and self.scheme == scheme:
                yield key, f"missing; scheme '{scheme}' needs it"
        if self.scheme in ("uniform", "manual") and self.online is not None:
            yield "online", f"has no effect with scheme '{self.scheme}', whose weights do not come from counts"
        if self.scheme == "uniform" and self.cap is not None:
            yield "cap", "has no effect with scheme 'uniform', whose weights are equal"
        if self.manual is not None and not any(self.manual.values()):
            yield "manual", "every weight is 0, allowed: at least one above 0"


class BorderWeights(Section):
    """The U-Net paper's border map: pixels in narrow gaps between objects weigh up to 1 + strength."""

    name: Literal["border"]
    classes: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="their connected pixels are the objects"
    )
    strength: Positive = Field(10.0, description="w0: what the narrowest gap weighs beside the 1 of other pixels")
    sigma: Positive = Field(5.0, description="width of the gaps that weigh more, in pixels of the mask file")

    def problems(self) -> Iterator[Problem]:
        for name in sorted({name for name in self.classes if self.classes.count(name) > 1}):
            yield "classes", f"'{name}' stands twice, allowed: each class once"


class UNet(Section):
    """U-Net (Ronneberger 2015)."""

    name: Literal["unet"]
    depth: Annotated[int, Field(ge=1, le=7)] = Field(4, description="halvings of the resolution")
    base_filters: Annotated[int, Field(ge=1, le=512)] = Field(32, description="filters at full resolution")
    norm: Literal["batch", "group", "none"] = "batch"
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of feature maps at the two deepest levels")
    upsampling: Literal["transpose", "bilinear"] = "transpose"
    one_logit: bool = Field(False, description="one output with a sigmoid; two classes only")


# --- training ---------------------------------------------------------------------------------------------------------
class Adam(Section):
    """Adam (Kingma & Ba 2015)."""

    name: Literal["adam"]
    learning_rate: Positive = 1e-3


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    name: Literal["adamw"]
    learning_rate: Positive = 1e-3
    weight_decay: Positive = 1e-4


class ConstantSchedule(Section):
    """The learning rate stays as it is."""

    name: Literal["constant"]


class CosineSchedule(Section):
    """A linear rise over the warm-up epochs, then a cosine to `final_fraction` of the learning rate."""

    name: Literal["cosine"]
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    final_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Training(Section):
    """How long, how much at once, how precisely."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        "auto", description="auto: mixed_bfloat16 on a GPU or a CPU with bfloat16 units, else float32"
    )
    early_stopping: Annotated[int, Field(ge=1)] | None = Field(
        None, description="epochs without a better validation mean IoU before training ends"
    )
    workers: Annotated[int, Field(ge=1)] | None = Field(None, description="data threads; left out: one a core")

    def problems(self) -> Iterator[Problem]:
        if self.early_stopping is not None and self.early_stopping >= self.epochs:
            yield "early_stopping", f"got {self.early_stopping}, which has no effect in {self.epochs} epochs"


class Output(Section):
    """Where a run's folder is made and what is drawn."""

    root: str = Field("runs", description="the run's folder is root/<name>-<date>-<time>")
    overlays: Annotated[int, Field(ge=0, le=64)] = Field(4, description="validation samples drawn in TensorBoard")


class Config(Section):
    """The whole tree."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(description="starts the run's folder")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    labels: Labels
    data: Annotated[FolderData | TableData | FractionData, Field(discriminator="name")]
    input: Input = Input()
    augmentation: Augmentation = Augmentation()
    class_weights: ClassWeights = ClassWeights()
    sampler: Sampler | None = Field(None, description="rare classes on purpose; left out: every image equally often")
    pixel_weights: BorderWeights | None = Field(None, description="weights of single training pixels; left out: none")
    model: UNet = UNet(name="unet")
    loss: Annotated[tuple[LossTerm, ...], Field(min_length=1)] = (CrossEntropyTerm(name="cross_entropy"),)
    optimizer: Annotated[Adam | AdamW, Field(discriminator="name")] = AdamW(name="adamw")
    schedule: Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="name")] = CosineSchedule(name="cosine")
    training: Training
    output: Output = Output()
    tensorboard: TensorBoard = TensorBoard()
