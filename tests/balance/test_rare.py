"""Which classes are rare."""

from __future__ import annotations

import numpy as np

from seg.balance import ClassCounts
from seg.balance.rare import rare_classes


def counts(pixels: list[int], images: list[int] | None = None, num_images: int = 100) -> ClassCounts:
    shown = images or [num_images if number else 0 for number in pixels]
    return ClassCounts(
        tuple(f"class_{index}" for index in range(len(pixels))), 255, "index", np.array(pixels), np.array(shown),
        np.array([sum(pixels) if number else 0 for number in pixels]), 0, num_images, "0" * 64,
    )  # fmt: skip


def test_rare_classes() -> None:
    assert rare_classes(counts([1000, 5, 0, 9, 600])) == [1, 3]
    assert rare_classes(counts([1000, 500, 0])) == [1]  # none below 1 %: the rarest that is present
    assert rare_classes(counts([1000, 5, 0, 9, 600]), share=0.4) == [1, 3, 4]  # 600 of 1614 are 37 %
