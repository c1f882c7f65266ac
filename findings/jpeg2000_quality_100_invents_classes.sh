#!/usr/bin/env bash
# A mask is written as JPEG 2000 by GDAL with QUALITY=100.
# One would expect quality 100 to keep every value; the default of other writers (OpenCV, Pillow) is lossless.
# GDAL's default is the irreversible 9/7 wavelet, and QUALITY=100 does not change that: classes 0, 1, 5, 9 come back with
# 2, 4, 6, 8 and 10 among them, along the borders of the objects. REVERSIBLE=YES alone keeps every value, in a smaller file.
# The share of wrong pixels is half a percent, which no overall accuracy shows, and they are the borders of small objects.
# Seen with rasterio 1.4.4 (GDAL 3.10), OpenCV 5.0.0, Pillow 13.0.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 rasterio==1.4.4 opencv-python-headless==5.0.0.93 pillow==13.0.0
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import os
import warnings

import cv2
import numpy as np
import PIL
import rasterio
from PIL import Image

warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, "OpenCV", cv2.__version__, "Pillow", PIL.__version__)
rng = np.random.default_rng(1)
mask = np.zeros((512, 512), np.uint8)
for _ in range(60):                              # rectangles of 3 to 60 pixels a side
    (top, left), (height, width) = rng.integers(0, 480, 2), rng.integers(3, 60, 2)
    mask[top : top + height, left : left + width] = rng.choice([1, 5, 9])
classes = [0, 1, 5, 9]
assert np.unique(mask).tolist() == classes


def by_gdal(**options):
    with rasterio.open("mask.jp2", "w", driver="JP2OpenJPEG", height=512, width=512, count=1, dtype="uint8", **options) as file:
        file.write(mask, 1)
    with rasterio.open("mask.jp2") as file:
        read = file.read(1)
    print(options, "ids", np.unique(read).tolist(), "wrong pixels", int((read != mask).sum()), "bytes", os.path.getsize("mask.jp2"))
    return read


for lossy in (by_gdal(), by_gdal(QUALITY="100")):
    assert set(np.unique(lossy).tolist()) - set(classes) >= {2, 4, 6, 8, 10}
    assert 1000 < (lossy != mask).sum() < 2000
size = os.path.getsize("mask.jp2")
assert (by_gdal(REVERSIBLE="YES") == mask).all() and os.path.getsize("mask.jp2") < size
cv2.imwrite("by_opencv.jp2", mask)
Image.fromarray(mask).save("by_pillow.jp2")
assert (cv2.imread("by_opencv.jp2", -1) == mask).all() and (np.array(Image.open("by_pillow.jp2")) == mask).all()
PY
