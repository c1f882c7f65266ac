"""A sum of losses with coefficients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from seg.losses.base import SegmentationLoss
from seg.losses.pixels import Tensor


@keras.saving.register_keras_serializable(package="seg")
class Combined(SegmentationLoss):
    """L = sum_k coefficient_k L_k, for instance cross-entropy + Dice.

    The terms share one softmax only where the compiler finds it: XLA does, so compile the loss with `jit_compile=True`.
    To log the terms without computing anything twice, take `term_values` and give them to `total`.

    Args:
        terms: (coefficient, loss) pairs; coefficients above 0, the losses' names unique.
        name: The name in logs.

    Raises:
        ValueError: No term, a coefficient that is not above 0, a repeated name, or a loss that is no
            `SegmentationLoss` (Keras's own losses cast integer labels to float and know no void).
    """

    def __init__(self, terms: Sequence[tuple[float, SegmentationLoss]], *, name: str = "combined") -> None:
        super().__init__(name)
        self.terms = [(float(coefficient), loss) for coefficient, loss in terms]
        if not self.terms:
            raise ValueError(f"loss '{name}': got no terms, allowed: at least one (coefficient, loss)")
        for coefficient, loss in self.terms:
            if not isinstance(loss, SegmentationLoss):
                raise ValueError(f"loss '{name}': got the term {loss!r}, allowed: losses of seg.losses")
            if not (coefficient > 0 and math.isfinite(coefficient)):
                raise ValueError(f"loss '{name}': got coefficient {coefficient} for '{loss.name}', allowed: above 0")
        for repeated in sorted({term for term in self.term_names if self.term_names.count(term) > 1}):
            raise ValueError(f"loss '{name}': two terms are named '{repeated}', allowed: each name once (pass name=)")
        self.takes_pixel_weights = any(loss.takes_pixel_weights for _, loss in self.terms)

    @property
    def has_class_weights(self) -> bool:
        """Whether any term does."""
        return any(loss.has_class_weights for _, loss in self.terms)

    @property
    def term_names(self) -> list[str]:
        """The terms' names, in order."""
        return [loss.name for _, loss in self.terms]

    def term_values(
        self,
        labels: Tensor,
        logits: Tensor,
        pixel_weights: Tensor | None = None,
        class_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Each term's name and scalar value, before its coefficient.

        Pixel weights act in the terms that take them and leave the others (Dice) as they are. Class weights (C,) stand
        in for those of the terms that have any.

        Raises:
            ValueError: Pixel weights are given and no term takes them.
        """
        if pixel_weights is not None and not self.takes_pixel_weights:
            raise ValueError(
                f"loss '{self.name}': got pixel weights (sample_weight), which no term takes: "
                f"{', '.join(self.term_names)}; allowed: none, or a pixel loss among the terms"
            )
        losses = [loss for _, loss in self.terms]
        if class_weights is not None:
            losses = [loss.reweighted(class_weights) for loss in losses]
        return {
            loss.name: loss.call(labels, logits, pixel_weights if loss.takes_pixel_weights else None) for loss in losses
        }

    def total(self, term_values: Mapping[str, Tensor]) -> Tensor:
        """The loss, scalar float32, from the values that `term_values` gave."""
        return sum(coefficient * term_values[loss.name] for coefficient, loss in self.terms)

    def call(self, y_true: Tensor, y_pred: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The sum of the terms, each times its coefficient."""
        return self.total(self.term_values(y_true, y_pred, pixel_weights))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the terms serialised."""
        terms = [[coefficient, keras.saving.serialize_keras_object(loss)] for coefficient, loss in self.terms]
        return {"terms": terms, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Combined:
        """The loss that `get_config` described."""
        terms = [(coefficient, keras.saving.deserialize_keras_object(loss)) for coefficient, loss in config["terms"]]
        return cls(terms, name=config["name"])
