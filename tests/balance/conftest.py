"""Three small masks whose counts can be told by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def three_masks(tmp_path: Path) -> list[Path]:
    masks = {
        tmp_path / "a.png": [[0, 0], [1, 255]],
        tmp_path / "b.png": [[0, 1], [1, 1]],
        tmp_path / "c.png": [[0, 0, 0], [0, 255, 255]],
    }
    for path, mask in masks.items():
        assert cv2.imwrite(str(path), np.array(mask, np.uint8))
    return list(masks)
