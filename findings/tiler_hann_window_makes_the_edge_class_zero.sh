#!/usr/bin/env bash
# Tiled predictions are joined with a window so that tile borders do not show; tiler offers window="hann".
# Where every tile says class 1 one would expect a merged image of class 1.
# The window is 0 at a tile's rim and only one tile covers the image's own rim, so the weights sum to 0 there, the merged
# scores are 0 for all classes and argmax says class 0.
# A frame of one pixel is background in every image, which cuts borders of aerial tiles and objects that reach the edge.
# Seen with tiler 0.6.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 tiler==0.6.0
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
from tiler import Merger, Tiler

print("tiler 0.6.0, NumPy", np.__version__)
scores = np.zeros((2, 16, 16), np.float32)
scores[1] = 1                                    # class 1 everywhere
frames = {}
for window in ("hann", "boxcar"):
    tiler = Tiler(data_shape=scores.shape, tile_shape=(2, 8, 8), overlap=4, channel_dimension=0)
    merger = Merger(tiler, window=window)
    for index, tile in tiler(scores):
        merger.add(index, tile)
    classes = merger.merge().argmax(0)
    frames[window] = int((classes == 0).sum())
    print(window, "pixels of class 0:", frames[window], "of 256; first row", classes[0].tolist())
assert frames["hann"] > 0, "expected without the surprise: 0"
assert frames["boxcar"] == 0
PY
