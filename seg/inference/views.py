"""Test-time augmentation: the same image turned and mirrored, the predictions turned back and averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# (quarter turns, then mirrored left to right); (2, True) is the image upside down.
VIEWS: dict[str, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "mirror": ((0, False), (0, True)),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}


def predict_views(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, tta: str) -> np.ndarray:
    """Logits of the mean probability over an image's views.

    p = mean over views v of v^-1(softmax(predict(v(image)))), returned as log p. Probabilities are averaged and not
    logits: a view that is sure and wrong then counts as one vote of several. What is gained and which symmetries to
    use depends on the images: `mirror` for scenes with an above and a below, `flips` and `d4` (the eight symmetries of
    the square) for images from above and of cells.

    Args:
        predict: From images (N, H, W, B) of any H, W to logits (N, H, W, C).
        images: (N, H, W, B) float32; need not be square.
        tta: A key of `VIEWS`; `none` returns the logits as they are.

    Returns:
        (N, H, W, C) float32.

    Raises:
        ValueError: `tta` is another word.
    """
    if tta not in VIEWS:
        raise ValueError(f"tta: got '{tta}', allowed: {', '.join(VIEWS)}")
    views = VIEWS[tta]
    if len(views) == 1:
        return predict(images)
    total: np.ndarray | None = None
    for view in views:
        probabilities = softmax_in_place(np.array(undo(predict(apply(images, view)), view), np.float32))
        if total is None:
            total = probabilities
        else:
            total += probabilities
    assert total is not None  # every set has a view
    total *= np.float32(1 / len(views))
    # A probability that float32 cannot hold becomes its least positive number: no logit is infinite.
    return np.log(np.maximum(total, np.finfo(np.float32).tiny, out=total), out=total)


def apply(images: np.ndarray, view: tuple[int, bool]) -> np.ndarray:
    """(N, H, W, *) turned and mirrored, contiguous; H and W change places after an odd number of quarter turns."""
    turns, mirrored = view
    turned = np.rot90(images, turns, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)


def undo(images: np.ndarray, view: tuple[int, bool]) -> np.ndarray:
    """What `apply` did, backwards: `undo(apply(x, view), view)` is x."""
    turns, mirrored = view
    return np.rot90(images[:, :, ::-1] if mirrored else images, -turns, axes=(1, 2))


def softmax_in_place(logits: np.ndarray) -> np.ndarray:
    """The softmax over the last axis, in the memory of `logits`."""
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits
