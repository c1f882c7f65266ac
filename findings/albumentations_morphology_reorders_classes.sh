#!/usr/bin/env bash
# albumentations.Morphological thickens or thins what an image shows, and stands in pipelines beside blur and noise.
# One would expect it to change the image and leave the mask, or to move the borders of all classes alike.
# It is applied to the mask as well, as minimum and maximum of the class ids. Dilation lets the class with the larger id grow
# over its neighbour, erosion the one with the smaller: which of two touching classes gains is decided by their numbering.
# A line one pixel wide with the largest id becomes five wide by dilation and is gone after erosion with 3 x 3.
# Seen with albumentations 2.0.8.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile albumentations==2.0.8 numpy==2.4.6
cd "$dir"
NO_ALBUMENTATIONS_UPDATE=1 "$dir/venv/bin/python" - <<'PY'
import albumentations as A
import numpy as np

print("albumentations", A.__version__)
mask = np.zeros((64, 64), np.uint8)
mask[20:40, 10:30], mask[20:40, 30:50], mask[50, 5:60] = 1, 2, 3     # two squares that touch, and a thin line
swapped = np.array([0, 2, 1, 3], np.uint8)[mask]                     # the same scene, classes 1 and 2 numbered the other way
image = np.zeros((64, 64, 3), np.uint8)


def touching(labels, operation, scale):
    """Pixels of the left and of the right square, and of the line, after the augmentation."""
    new = A.Morphological(scale=scale, operation=operation, p=1.0)(image=image, mask=labels)["mask"]
    row = new[30]
    left, right = labels[30, 12], labels[30, 47]
    return int((row == left).sum()), int((row == right).sum()), int((new == 3).sum())


seen = {}
for operation in ("dilation", "erosion"):
    for name, labels in (("numbered 1, 2", mask), ("numbered 2, 1", swapped)):
        scale = (5, 5) if operation == "dilation" else (3, 3)
        seen[operation, name] = touching(labels, operation, scale)
        print(operation, name, "left, right width:", seen[operation, name][:2], "pixels of the line:", seen[operation, name][2], "of 55")

assert seen["dilation", "numbered 1, 2"][:2] == (20, 24), "the larger id takes two columns of its neighbour"
assert seen["dilation", "numbered 2, 1"][:2] == (24, 20), "renumbering turns it round"
assert seen["erosion", "numbered 1, 2"][0] > seen["erosion", "numbered 1, 2"][1]
assert seen["erosion", "numbered 2, 1"][0] < seen["erosion", "numbered 2, 1"][1]
assert seen["dilation", "numbered 1, 2"][2] > 5 * 55 and seen["erosion", "numbered 1, 2"][2] == 0
PY
