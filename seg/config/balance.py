"""The sections `class_weights` and `pixel_weights` of a configuration: what the loss weighs more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from seg.section import Positive, Problem, Section

if TYPE_CHECKING:
    import numpy as np

    from seg.balance import ClassCounts
    from seg.data.views import border_map
    from seg.labels import LabelSet
    from seg.losses.online_weights import OnlineClassWeights


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

    def build(self, counts: ClassCounts) -> np.ndarray:
        """(C,) float64 class weights by the scheme; the pos_weight of multi-label classes."""
        from seg.balance import class_weights

        given = {key: getattr(self, key) for key in ("beta", "unit", "manual") if getattr(self, key) is not None}
        return class_weights(counts, self.scheme, normalize=self.normalize, cap=self.cap, **given)

    def warnings(self, counts: ClassCounts, weights: np.ndarray) -> list[str]:
        """What the user should know about the result of `build`, one sentence each."""
        from seg.balance import weight_warnings

        return weight_warnings(counts, weights, self.scheme)

    def build_online(self, labels: LabelSet) -> OnlineClassWeights | None:
        """The class weights that follow the batches, or None where those of all masks hold."""
        if self.online is None:
            return None
        from seg.losses.online_weights import OnlineClassWeights

        effective: dict[str, Any] = {}
        if self.scheme == "effective_number":
            effective = {"beta": self.beta, "unit": self.unit}
        return OnlineClassWeights(
            labels.num_classes,
            self.scheme,
            momentum=self.online,
            ignore_index=labels.ignore_index,
            normalize=self.normalize,
            cap=self.cap,
            **effective,
        )

    def summary(self) -> str:
        """`inverse_sqrt, cap 5, online 0.99`."""
        cap, online = (f", cap {self.cap:g}" if self.cap else ""), (f", online {self.online:g}" if self.online else "")
        return self.scheme + cap + online

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

    def build(self, class_names: Sequence[str]) -> border_map.BorderWeights:
        """What weighs the pixels of a training mask."""
        from seg.data.views.border_map import BorderWeights

        classes = [class_names.index(name) for name in self.classes]
        return BorderWeights(tuple(classes), strength=self.strength, sigma=self.sigma)

    def problems(self) -> Iterator[Problem]:
        for name in sorted({name for name in self.classes if self.classes.count(name) > 1}):
            yield "classes", f"'{name}' stands twice, allowed: each class once"
