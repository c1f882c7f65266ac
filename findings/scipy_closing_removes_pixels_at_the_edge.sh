#!/usr/bin/env bash
# Morphological closing fills gaps: by its definition the result holds every pixel of the mask it was given.
# SciPy's binary_closing takes the outside of the image for background in the erosion, so it removes pixels at the edge: a
# mask of ones loses its rim, and a line along the edge disappears; scikit-image and OpenCV keep both.
# Cleaning predictions tile by tile eats a frame out of every object that crosses a tile, and thin objects at the edge whole.
# Seen with SciPy 1.17.1, scikit-image 0.26.0, OpenCV 5.0.0; more iterations take a wider rim.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 opencv-python-headless==5.0.0.93
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import cv2
import numpy as np
import scipy
import skimage
from scipy import ndimage

print("SciPy", scipy.__version__, "scikit-image", skimage.__version__, "OpenCV", cv2.__version__)
full = np.ones((8, 8), bool)
line = np.zeros((8, 8), bool)
line[:, 0] = True
cross = ndimage.generate_binary_structure(2, 1)
lost = {}
for name, mask in {"full": full, "line at the edge": line}.items():
    closed = {
        "SciPy": ndimage.binary_closing(mask, cross),
        "SciPy, 2 iterations": ndimage.binary_closing(mask, cross, iterations=2),
        "scikit-image": skimage.morphology.closing(mask, cross),
        "OpenCV": cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, cross.astype(np.uint8)) > 0,
    }
    lost[name] = {library: int((mask & ~result).sum()) for library, result in closed.items()}
    print(name, "pixels", int(mask.sum()), "of which closing removed", lost[name])
assert lost["full"] == {"SciPy": 28, "SciPy, 2 iterations": 48, "scikit-image": 0, "OpenCV": 0}, "expected: 0 for all"
assert lost["line at the edge"]["SciPy"] == 8, "expected without the surprise: 0"
assert lost["line at the edge"]["scikit-image"] == lost["line at the edge"]["OpenCV"] == 0
PY
