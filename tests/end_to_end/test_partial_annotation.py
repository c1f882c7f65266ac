"""A run in whose training masks some classes were not annotated: it finds all of them all the same."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg import evaluate, train


@pytest.mark.slow
def test_each_class_is_learnt_from_the_masks_that_have_it(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(0), ["image,mask,split,annotated"]
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(40):
        mask = np.zeros((64, 64), np.uint8)
        for label in (1, 2):
            top, left = rng.integers(0, 48, 2)
            mask[top : top + 16, left : left + 16] = label
        image = np.stack([60 + 90 * (mask == 1), 60 + 90 * (mask == 2), np.full_like(mask, 60)], -1)
        split, annotated = ("train", ("liver", "spleen")[number % 2]) if number < 32 else ("val", "")
        if annotated:  # the other organ is there, and painted as background
            mask = np.where(mask == 1 + number % 2, mask, 0).astype(np.uint8)
        noisy = (image[..., ::-1] + rng.integers(0, 9, image.shape)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), noisy)
        cv2.imwrite(str(tmp_path / f"masks/{number}.png"), mask)
        rows.append(f"images/{number}.png,masks/{number}.png,{split},{annotated}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    (tmp_path / "c.yaml").write_text(
        "name: part\nlabels: {names: [background, liver, spleen], partial: [[liver], [spleen]]}\n"
        f"data: {{name: table, root: {tmp_path}, table: t.csv}}\nmodel: {{name: unet, base_filters: 8, depth: 1}}\n"
        "loss: [{name: cross_entropy}, {name: dice}]\noptimizer: {name: adamw, learning_rate: 1.0e-2}\n"
        "training: {epochs: 10, batch_size: 4}\n"
    )
    run = tmp_path / "run"
    assert train.main(["--config", str(tmp_path / "c.yaml"), "--run-dir", str(run)]) == 0
    assert evaluate.main([str(run), "--split", "val"]) == 0
    classes = json.loads((run / "evaluation/val/metrics.json").read_text())["classes"]
    # Masks taken as they are would teach each organ as background in half of the images.
    assert min(classes[name]["iou"] for name in ("liver", "spleen")) > 0.8
