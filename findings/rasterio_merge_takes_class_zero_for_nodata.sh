#!/usr/bin/env bash
# merge() of rasters keeps the first file where two overlap: that is its documented method "first".
# Where no file declares a nodata value one would expect every pixel of the first file to count.
# Both rasterio and rioxarray then take 0 for nodata: class 0 of the first mask is replaced by whatever the second one holds.
# Tiles of a label mosaic that overlap by some pixels thus gain foreground and lose background at every seam, so the rare
# classes' counts are too high exactly where tiles disagree; nodata=255 gives the documented result.
# Seen with rasterio 1.4.4 and rioxarray 0.19.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 rasterio==1.4.4 rioxarray==0.19.0
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import rasterio
import rioxarray
from rasterio.merge import merge
from rasterio.transform import from_origin
from rioxarray.merge import merge_arrays

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, "rioxarray", rioxarray.__version__)


def write(name, values, left):
    with rasterio.open(name, "w", driver="GTiff", height=1, width=3, count=1, dtype="uint8", crs="EPSG:32633",
                       transform=from_origin(left, 100, 10, 10)) as file:
        file.write(np.array([values], np.uint8), 1)


write("first.tif", [1, 0, 0], 0)
write("second.tif", [3, 3, 3], 10)
with rasterio.open("first.tif") as file:
    assert file.nodata is None
plain = merge(["first.tif", "second.tif"])[0][0, 0].tolist()
other = merge_arrays([rioxarray.open_rasterio(name) for name in ("first.tif", "second.tif")]).values[0, 0].tolist()
named = merge(["first.tif", "second.tif"], nodata=255)[0][0, 0].tolist()
print("first [1 0 0], second [3 3 3] one pixel to the right")
print("rasterio", plain, "rioxarray", other, "rasterio with nodata=255", named)
assert plain == other == [1, 3, 3, 3], "expected without the surprise: [1, 0, 0, 3]"
assert named == [1, 0, 0, 3]
PY
