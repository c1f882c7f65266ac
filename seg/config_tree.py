"""The sections and keys of a configuration: types, ranges, defaults and what each means. `seg.config` loads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from seg.config_losses import CrossEntropyTerm, LossTerm
from seg.config_section import Channel, Positive, Probability, Problem, Section, Size
from seg.labels import Colour, LabelSet, distinct_colours, label_problems


# --- labels -----------------------------------------------------------------------------------------------------------
class IndexMasks(Section):
    """8-bit gray masks whose values are class indices."""

    name: Literal["index"]


class PaletteMasks(Section):
    """Palette PNG masks: the stored indices are the classes, whatever the palette's colours."""

    name: Literal["palette"]


class ColourMasks(Section):
    """RGB masks decoded by `labels.colours`."""

    name: Literal["colour"]
    void_colours: tuple[tuple[Channel, Channel, Channel], ...] = Field((), description="RGB colours that mean void")

    def problems(self) -> Iterator[Problem]:
        for colour in sorted({colour for colour in self.void_colours if self.void_colours.count(colour) > 1}):
            yield "void_colours", f"{list(colour)} stands twice, allowed: each colour once"


class BinaryMasks(Section):
    """Gray masks of two classes: value > threshold is class 1, everything else class 0."""

    name: Literal["binary"]
    threshold: Annotated[int, Field(ge=0, le=254)] = 127


class Labels(Section):
    """What the masks mean."""

    names: tuple[Annotated[str, Field(min_length=1)], ...] = Field(description="class names; position = class index")
    colours: tuple[tuple[Channel, Channel, Channel], ...] | None = Field(
        None, description="one RGB colour a class; left out: distinct colours are chosen"
    )
    ignore_index: Annotated[int, Field(ge=0, le=255)] = Field(255, description="mask value of unlabelled pixels")
    encoding: Annotated[IndexMasks | PaletteMasks | ColourMasks | BinaryMasks, Field(discriminator="name")] = Field(
        IndexMasks(name="index"), description="how mask files store the classes"
    )

    def colours_or_default(self) -> tuple[Colour, ...]:
        return distinct_colours(len(self.names)) if self.colours is None else self.colours

    def label_set(self) -> LabelSet:
        return LabelSet(self.names, self.colours_or_default(), self.ignore_index)

    def problems(self) -> Iterator[Problem]:
        yield from label_problems(self.names, self.colours_or_default(), self.ignore_index)
        if self.encoding.name == "colour" and self.colours is None:
            yield "colours", "missing; the colour encoding needs the masks' RGB colour of each class"
        if self.encoding.name == "binary" and len(self.names) != 2:
            yield "names", f"got {len(self.names)} classes, allowed with the binary encoding: 2"
        if isinstance(self.encoding, ColourMasks):
            for colour in sorted(set(self.encoding.void_colours) & set(self.colours or ())):
                yield "encoding.void_colours", f"{list(colour)} is also a class's colour, allowed: one meaning a colour"


# --- data -------------------------------------------------------------------------------------------------------------
class FolderData(Section):
    """A folder of images and one of masks for each split; pairs share their file stem."""

    name: Literal["folders"]
    root: str
    images: str = Field("images/{split}", description="under root; {split} becomes train, val, test")
    masks: str = Field("masks/{split}", description="under root; {split} becomes train, val, test")
    mask_suffix: str = Field("", description="what a mask's stem has behind its image's, for example _mask")

    def problems(self) -> Iterator[Problem]:
        for key in ("images", "masks"):
            if "{split}" not in getattr(self, key):
                yield key, f"got '{getattr(self, key)}', allowed: a folder with {{split}} in it"


class TableData(Section):
    """A CSV with the columns image, mask, split and, if samples belong together, group."""

    name: Literal["table"]
    root: str = Field(description="folder that the table's paths start from")
    table: str = Field(description="the CSV file, under root")


class FractionData(Section):
    """One folder of images, one of masks, and a rule that splits them."""

    name: Literal["fractions"]
    root: str
    images: str = "images"
    masks: str = "masks"
    mask_suffix: str = ""
    train: Positive = 0.7
    val: Positive = 0.15
    test: Annotated[float, Field(ge=0)] = 0.15
    seed: int = Field(0, description="which blocks go to which split; not the run's seed, so that runs share a split")
    block_size: Annotated[int, Field(ge=1)] = Field(
        1, description="consecutive names that stay together, for neighbouring tiles or slices"
    )

    def problems(self) -> Iterator[Problem]:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            yield "train", f"train + val + test is {total:g}, allowed: 1"


class SceneData(Section):
    """Generated satellite-like scenes, drawn into `root` on first use."""

    name: Literal["scenes"]
    root: str = "data/scenes"
    size: Annotated[int, Field(ge=64, le=2048)] = 256
    seed: Annotated[int, Field(ge=0)] = 0
    train: Annotated[int, Field(ge=1)] = 48
    val: Annotated[int, Field(ge=1)] = 16
    test: Annotated[int, Field(ge=1)] = 16


class Input(Section):
    """From image file to the tensor that the model sees: (value / max_value - mean) / std."""

    bands: Literal[1, 3] = Field(3, description="1: gray, 3: RGB")
    resize: Size | None = Field(None, description="[height, width] of every image and mask, before anything else")
    crop: Size | None = Field(None, description="[height, width] of random training crops; validation is never cropped")
    crops_per_image: Annotated[int, Field(ge=1)] = Field(1, description="crops drawn from an image in an epoch")
    max_value: Positive | None = Field(None, description="image value that becomes 1; left out: 255 or 65535 by dtype")
    mean: float = Field(0.5, description="subtracted from values in [0, 1]")
    std: Positive = Field(0.25, description="divides what is left")

    def problems(self) -> Iterator[Problem]:
        if self.crop is None and self.crops_per_image != 1:
            yield "crops_per_image", f"got {self.crops_per_image}, which has no effect without input.crop"
        if self.crop and self.resize and (self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]):
            yield "crop", f"got {list(self.crop)}, allowed: at most input.resize {list(self.resize)}"
        if self.crop and self.crop == self.resize and self.crops_per_image == 1:
            yield "crop", f"got {list(self.crop)}, which has no effect: images already have this size by input.resize"


class Augmentation(Section):
    """Random changes of training images; everything is off unless stated."""

    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    rotate90: Probability = Field(0.0, description="probability of a random number of quarter turns")
    scale: tuple[Positive, Positive] = Field((1.0, 1.0), description="smallest and largest zoom factor")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="largest turn in degrees, either way")
    brightness: Probability = Field(0.0, description="largest relative change")
    contrast: Probability = Field(0.0, description="largest relative change")
    colour_jitter: Probability = Field(0.0, description="largest relative change of saturation and hue; RGB only")
    elastic: Annotated[float, Field(ge=0)] = Field(0.0, description="strength of the elastic distortion in pixels")

    def problems(self) -> Iterator[Problem]:
        if self.scale[0] > self.scale[1]:
            yield "scale", f"got {list(self.scale)}, allowed: [smallest, largest]"


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
    data: Annotated[FolderData | TableData | FractionData | SceneData, Field(discriminator="name")]
    input: Input = Input()
    augmentation: Augmentation = Augmentation()
    class_weights: ClassWeights = ClassWeights()
    pixel_weights: BorderWeights | None = Field(None, description="weights of single training pixels; left out: none")
    model: UNet = UNet(name="unet")
    loss: Annotated[tuple[LossTerm, ...], Field(min_length=1)] = (CrossEntropyTerm(name="cross_entropy"),)
    optimizer: Annotated[Adam | AdamW, Field(discriminator="name")] = AdamW(name="adamw")
    schedule: Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="name")] = CosineSchedule(name="cosine")
    training: Training
    output: Output = Output()
