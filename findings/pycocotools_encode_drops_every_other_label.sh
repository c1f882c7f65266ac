#!/usr/bin/env bash
# pycocotools.mask.encode is documented for binary masks; given a label map one would expect an error, or any non-zero as 1.
# The encoder counts changes of value, so neighbouring labels 1 to 7 become 1 0 1 0 1 0 1, and the area is short accordingly.
# Masks of touching instances or of classes 0, 1, 2 passed in one go lose objects by their neighbours, not by their number,
# and every score computed from the RLE afterwards agrees with itself.
# Seen with pycocotools 2.0.11.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 pycocotools==2.0.11
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import pycocotools
from pycocotools import mask as coco

print("pycocotools 2.0.11, NumPy", np.__version__)
labels = np.zeros((4, 8), np.uint8, order="F")
for column in range(1, 8):
    labels[:, column] = column
encoded = coco.encode(labels)
decoded = coco.decode(encoded)
print("labels     ", labels[0].tolist())
print("as decoded ", decoded[0].tolist(), "area", int(coco.area(encoded)), "of", int((labels > 0).sum()))
assert decoded[0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1], "expected without the surprise: [0, 1, 1, 1, 1, 1, 1, 1] or an error"
assert int(coco.area(encoded)) == 16
binary = coco.encode(np.asfortranarray((labels > 0).astype(np.uint8)))
assert int(coco.area(binary)) == 28
PY
