#!/usr/bin/env bash
# The COG driver builds a raster's overviews by itself. One would expect a mask of classes to get nearest or mode overviews.
# Without a colour table the default is cubic: overviews of a mask with classes 0, 1 and 7 hold 2 and 6 as well.
# A viewer, a preview or a decimated read of the mask then shows classes that the full raster does not hold, along every
# border of the rare class 7; counts taken from an overview are of a mask that never existed.
# Seen with rasterio 1.4.4 (GDAL 3.10); OVERVIEW_RESAMPLING=NEAREST or MODE gives the classes of the mask.
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
from rasterio.transform import from_origin

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
coarse = np.random.default_rng(0).choice([0, 1, 7], size=(64, 64), p=[0.9, 0.05, 0.05])
labels = np.kron(coarse, np.ones((16, 16))).astype(np.uint8)
classes = {}
for name, options in {"default": {}, "nearest": {"OVERVIEW_RESAMPLING": "NEAREST"}, "mode": {"OVERVIEW_RESAMPLING": "MODE"}}.items():
    with rasterio.open(name + ".tif", "w", driver="COG", height=1024, width=1024, count=1, dtype="uint8", crs="EPSG:32633",
                       transform=from_origin(500000, 5000000, 10, 10), blocksize=256, **options) as file:
        file.write(labels, 1)
    with rasterio.open(name + ".tif") as file:
        classes[name] = [np.unique(file.read(1, out_shape=(1024 // factor,) * 2)).tolist() for factor in (1, 2, 4)]
    print(name, "classes at full, half and quarter size:", classes[name])
assert classes["default"][0] == [0, 1, 7]
assert classes["default"][1] == classes["default"][2] == [0, 1, 2, 6, 7], "expected without the surprise: [0, 1, 7]"
assert all(found == [0, 1, 7] for name in ("nearest", "mode") for found in classes[name])
PY
