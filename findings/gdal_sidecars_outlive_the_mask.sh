#!/usr/bin/env bash
# A mask file is written anew by OpenCV over one that GDAL had made, under the same name.
# One would expect the new file to be the mask.
# GDAL keeps validity in NAME.msk and overviews in NAME.ovr, which stay behind: rasterio reads the new labels, but takes their
# validity from the old .msk and any smaller read from the old .ovr.
# Pixels of a rare class that was just corrected count as nodata, and previews show the labels before the correction.
# Seen with rasterio 1.4.4 (GDAL 3.10), OpenCV 5.0.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 rasterio==1.4.4 opencv-python-headless==5.0.0.93
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import os

import cv2
import numpy as np
import rasterio
from rasterio.enums import Resampling

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, "OpenCV", cv2.__version__)
old = np.ones((512, 512), np.uint8)
valid = np.full((512, 512), 255, np.uint8)
valid[:, 256:] = 0                               # the right half was not labelled yet
with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False, TIFF_USE_OVR=True):
    with rasterio.open("mask.tif", "w", driver="GTiff", height=512, width=512, count=1, dtype="uint8") as file:
        file.write(old, 1)
        file.write_mask(valid)
    with rasterio.open("mask.tif", "r+") as file:
        file.build_overviews([2], Resampling.nearest)
new = np.zeros_like(old)
new[100:140, 300:340] = 2                        # the whole image is labelled now, and class 2 was found
assert cv2.imwrite("mask.tif", new)
with rasterio.open("mask.tif") as file:
    assert np.array_equal(file.read(1), new)
    masked = file.read(1, masked=True)
    small = np.unique(file.read(1, out_shape=(256, 256), resampling=Resampling.nearest)).tolist()
print("files", sorted(os.listdir(".")))
print("pixels of class 2:", int((new == 2).sum()), "of them valid:", int((masked == 2).sum()), "classes at half size:", small)
assert (new == 2).sum() == 1600 and int((masked == 2).filled(False).sum()) == 0, "expected without the surprise: 1600"
assert small == [1], "expected without the surprise: [0, 2]"
PY
