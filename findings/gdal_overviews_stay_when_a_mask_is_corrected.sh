#!/usr/bin/env bash
# A label raster with overviews is opened for update ("r+") and corrected.
# One would expect later reads at a smaller size to show the corrected labels.
# The overviews are neither rebuilt nor dropped: a full read shows the new mask, a decimated read of the same file the old one.
# Tools that count, preview or sample large masks at reduced size see a class that is no longer there, or miss the rare
# objects that were just added, and the file gives no sign of it.
# Seen with rasterio 1.4.4 (GDAL 3.10).
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 rasterio==1.4.4
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
before = np.zeros((512, 512), np.uint8)
before[:128] = 1
with rasterio.open("mask.tif", "w", driver="GTiff", height=512, width=512, count=1, dtype="uint8", crs="EPSG:32633",
                   transform=from_origin(500000, 5000000, 10, 10), tiled=True, blockxsize=256, blockysize=256) as file:
    file.write(before, 1)
with rasterio.open("mask.tif", "r+") as file:
    file.build_overviews([2, 4], Resampling.nearest)

after = np.zeros_like(before)
after[256:320, 256:320] = 2                      # class 1 was wrong; a rare class 2 was missing
with rasterio.open("mask.tif", "r+") as file:
    file.write(after, 1)

with rasterio.open("mask.tif") as file:
    full = np.unique(file.read(1)).tolist()
    half = np.unique(file.read(1, out_shape=(256, 256), resampling=Resampling.nearest)).tolist()
print("classes of the full read", full, "of the read at half size", half)
assert full == [0, 2]
assert half == [0, 1], "expected without the surprise: [0, 2]"
PY
