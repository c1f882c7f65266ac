#!/usr/bin/env bash
# Class counts per polygon (zonal statistics) of a label raster: a field reaches beyond the raster's edge.
# One would expect the pixels that exist to be counted.
# rasterstats fills what lies outside with 0 where the file declares no nodata, and counts it as class 0: 32 pixels of
# background from a raster that holds 4 pixels and none of class 0; exactextract counts 4.
# Shares of rare classes per field, and class weights from them, are too small for every polygon at a scene's edge.
# Seen with rasterstats 0.21.0, exactextract 0.3.0, rasterio 1.4.4.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 rasterio==1.4.4 rasterstats==0.21.0 exactextract==0.3.0 shapely==2.2.0
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import warnings

import exactextract
import numpy as np
import rasterio
import rasterstats
from rasterio.transform import from_origin
from shapely.geometry import box, mapping

warnings.simplefilter("ignore")
print("rasterstats", rasterstats.__version__, "exactextract", exactextract.__version__, "rasterio", rasterio.__version__)
with rasterio.open("labels.tif", "w", driver="GTiff", height=2, width=2, count=1, dtype="uint8", crs="EPSG:32633",
                   transform=from_origin(0, 100, 10, 10)) as file:
    file.write(np.array([[1, 1], [1, 2]], np.uint8), 1)
field = box(-20, 60, 40, 120)                    # 6 x 6 pixels, of which the raster covers 2 x 2
counted = rasterstats.zonal_stats(field, "labels.tif", categorical=True)[0]
feature = {"type": "Feature", "geometry": mapping(field), "properties": {}}
found = exactextract.exact_extract("labels.tif", [feature], ["count", "unique", "frac"])[0]["properties"]
print("rasterstats", counted)
print("exactextract", {key: np.asarray(value).tolist() for key, value in found.items()})
assert {int(key): int(value) for key, value in counted.items()} == {0: 32, 1: 3, 2: 1}, "expected without the surprise: {1: 3, 2: 1}"
assert found["count"] == 4 and sorted(found["unique"]) == [1, 2]
PY
