#!/usr/bin/env bash
# A distance transform gives each object pixel its distance to the nearest background pixel.
# For a crop that one class fills there is no background, and one would expect an error, infinity, or the same answer everywhere.
# SciPy measures to a pixel that does not exist, just above the image's first row at its left; OpenCV gives the largest
# float32, edt infinity, and mahotas the finite squared value 51 for a 5 x 5 image.
# Boundary losses, border weights and surface scores on tiles meet this case as soon as a class fills a tile, and SciPy's
# numbers look sound enough to train on.
# Seen with SciPy 1.17.1, OpenCV 5.0.0, edt 3.1.2, mahotas 1.4.19.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 scipy==1.17.1 opencv-python-headless==5.0.0.93 edt==3.1.2 mahotas==1.4.19
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import cv2
import edt
import mahotas
import numpy as np
import scipy
from scipy import ndimage

print("SciPy", scipy.__version__, "OpenCV", cv2.__version__, "mahotas", mahotas.__version__)
full = np.ones((5, 5), np.uint8)
by_scipy = ndimage.distance_transform_edt(full)
by_opencv = cv2.distanceTransform(full, cv2.DIST_L2, 5)
by_edt = edt.edt(full)
by_mahotas = mahotas.distance(full.astype(bool))
print("SciPy:\n", by_scipy.round(2))
print("at the first pixel: OpenCV", by_opencv[0, 0], "edt", by_edt[0, 0], "mahotas", by_mahotas[0, 0])

rows, columns = np.mgrid[0:5, 0:5]
assert np.allclose(by_scipy, np.hypot(rows + 1, columns)), "measured from row -1, column 0"
assert by_scipy[0, 0] == 1.0 and not np.isinf(by_scipy).any()
assert by_opencv[0, 0] == np.finfo(np.float32).max
assert np.isinf(by_edt).all()
assert (by_mahotas == 51).all()
full[2, 2] = 0                                   # one background pixel, and all agree
assert ndimage.distance_transform_edt(full)[2, 0] == cv2.distanceTransform(full, cv2.DIST_L2, 5)[2, 0] == 2
assert edt.edt(full)[2, 0] == 2 and mahotas.distance(full > 0)[2, 0] == 4
PY
