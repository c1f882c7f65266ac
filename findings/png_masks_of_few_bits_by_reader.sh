#!/usr/bin/env bash
# PNG stores gray images with 1, 2 or 4 bits a pixel, and GDAL's NBITS=2 writes a mask of four classes that way.
# One would expect a mask of 0, 1, 2, 3 to be read as 0, 1, 2, 3.
# GDAL does; Pillow, OpenCV, SimpleITK and imagecodecs spread the values over 8 bits: 0, 85, 170, 255. At one bit Pillow gives
# False and True, OpenCV and the others 0 and 255.
# Class 3 becomes 255, the usual void, and is left out of training without a word; classes 85 and 170 fail late or never.
# Seen with rasterio 1.4.4, Pillow 13.0.0, OpenCV 5.0.0, SimpleITK 2.5.7, imagecodecs 2026.3.6.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 rasterio==1.4.4 pillow==13.0.0 opencv-python-headless==5.0.0.93 SimpleITK==2.5.7 imagecodecs==2026.3.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import cv2
import imagecodecs
import numpy as np
import PIL
import rasterio
import SimpleITK as sitk
from PIL import Image

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, "Pillow", PIL.__version__, "OpenCV", cv2.__version__,
      "SimpleITK", sitk.Version.VersionString(), "imagecodecs", imagecodecs.__version__)
read = {
    "rasterio": lambda name: rasterio.open(name).read(1),
    "Pillow": lambda name: np.array(Image.open(name)),
    "OpenCV": lambda name: cv2.imread(name, cv2.IMREAD_UNCHANGED),
    "SimpleITK": lambda name: sitk.GetArrayFromImage(sitk.ReadImage(name)),
    "imagecodecs": lambda name: imagecodecs.png_decode(open(name, "rb").read()),
}
values = {}
for bits in (1, 2, 8):
    mask = np.tile(np.arange(4) % 2**bits, (4, 2)).astype(np.uint8)
    with rasterio.open(f"{bits}.png", "w", driver="PNG", height=4, width=8, count=1, dtype="uint8", nbits=bits) as file:
        file.write(mask, 1)
    assert open(f"{bits}.png", "rb").read()[24] == bits
    values[bits] = {name: np.unique(call(f"{bits}.png")).astype(int).tolist() for name, call in read.items()}
    print(bits, "bits, written", np.unique(mask).tolist(), "read", values[bits])
spread = [0, 85, 170, 255]
assert values[2] == {"rasterio": [0, 1, 2, 3], "Pillow": spread, "OpenCV": spread, "SimpleITK": spread,
                     "imagecodecs": spread}, "expected without the surprise: [0, 1, 2, 3] for all"
assert values[1]["rasterio"] == values[1]["Pillow"] == [0, 1] and values[1]["OpenCV"] == [0, 255]
assert all(found == [0, 1, 2, 3] for found in values[8].values())
PY
