#!/usr/bin/env bash
# OpenCV arrays hold 128 channels at most since version 5 (512 before).
# For a hyperspectral image or class probabilities with 129 channels one would expect an error, as resize and warpAffine give.
# cv2.remap takes the array for a volume and returns a two-dimensional one of the image's height and width, with no error.
# Elastic deformation of many bands or of one-hot masks with many classes goes through remap: broadcast against the labels
# it can travel a long way before somebody asks where the bands are.
# Seen with OpenCV 5.0.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 opencv-python-headless==5.0.0.93
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import cv2
import numpy as np

print("OpenCV", cv2.__version__)
grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).astype(np.float32)
shapes, refused = {}, {}
for bands in (128, 129, 200):
    image = np.arange(8 * 8 * bands, dtype=np.float32).reshape(8, 8, bands)
    warped = cv2.remap(image, grid, None, cv2.INTER_NEAREST)
    shapes[bands] = warped.shape
    if bands == 128:
        assert np.array_equal(warped, image)
    try:
        cv2.warpAffine(image, np.eye(2, 3), (8, 8))
        refused[bands] = False
    except cv2.error:
        refused[bands] = True
    print(bands, "bands: remap returns shape", warped.shape, "warpAffine raises:", refused[bands])
assert shapes[128] == (8, 8, 128)
assert shapes[129] == shapes[200] == (8, 8), "expected without the surprise: an error, or (8, 8, 129)"
assert refused == {128: False, 129: True, 200: True}
PY
