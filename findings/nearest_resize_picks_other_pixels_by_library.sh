#!/usr/bin/env bash
# Masks are made smaller by nearest neighbour; one would expect every library to take the pixel nearest to the new centre.
# Reduced 8 times, Pillow and scikit-image take column 4 of each 8; OpenCV's INTER_NEAREST takes column 0, and SciPy's zoom
# stretches the grid so that it begins at column 0 and ends at the last one. Area averaging of the image is centred at 3.5.
# A mask resized by OpenCV lies 3.5 source pixels from its image, and an object of a few pixels can be kept by one
# library and lost by the other; INTER_NEAREST_EXACT and zoom(grid_mode=True) take column 4.
# Seen with OpenCV 5.0.0, SciPy 1.17.1, scikit-image 0.26.0, Pillow 13.0.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 opencv-python-headless==5.0.0.93 scipy==1.17.1 scikit-image==0.26.0 pillow==13.0.0
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import cv2
import numpy as np
import PIL
import scipy
import skimage
from PIL import Image
from scipy import ndimage

print("OpenCV", cv2.__version__, "SciPy", scipy.__version__, "scikit-image", skimage.__version__, "Pillow", PIL.__version__)
columns = np.tile(np.arange(64, dtype=np.uint8), (64, 1))   # each pixel holds its own column
size = (8, 8)
taken = {
    "OpenCV INTER_NEAREST": cv2.resize(columns, size, interpolation=cv2.INTER_NEAREST),
    "OpenCV INTER_NEAREST_EXACT": cv2.resize(columns, size, interpolation=cv2.INTER_NEAREST_EXACT),
    "Pillow NEAREST": np.array(Image.fromarray(columns).resize(size, Image.NEAREST)),
    "scikit-image order 0": skimage.transform.resize(columns, size, order=0, preserve_range=True, anti_aliasing=False),
    "SciPy zoom order 0": ndimage.zoom(columns, 1 / 8, order=0),
    "SciPy zoom grid_mode": ndimage.zoom(columns, 1 / 8, order=0, mode="nearest", grid_mode=True),
}
taken = {name: [int(value) for value in result[0]] for name, result in taken.items()}
for name, row in taken.items():
    print(f"{name:28}{row}")
area = cv2.resize(columns.astype(np.float32), size, interpolation=cv2.INTER_AREA)[0]
assert area[0] == 3.5
assert taken["OpenCV INTER_NEAREST"] == list(range(0, 64, 8)), "expected without the surprise: 3 or 4, 11 or 12, ..."
assert taken["SciPy zoom order 0"] == [0, 9, 18, 27, 36, 45, 54, 63]
for name in ("OpenCV INTER_NEAREST_EXACT", "Pillow NEAREST", "scikit-image order 0", "SciPy zoom grid_mode"):
    assert taken[name] == list(range(4, 64, 8)), name
PY
