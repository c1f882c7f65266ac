#!/usr/bin/env bash
# Connected components of a mask with several classes: a pixel of class 2 between two of class 1.
# One would expect one answer from all libraries: three objects, as no two neighbours have the same class.
# scikit-image and cc3d say three; SciPy, OpenCV and SimpleITK say one, as any non-zero pixels join.
# Two more pixels that touch by a corner are one object for scikit-image, cc3d and OpenCV and two for the other two.
# So the same mask holds one to three objects by library; counts and scores per object of a rare class that lies inside or beside
# another class differ most, and no call fails.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 connected-components-3d==4.1.1 opencv-python-headless==5.0.0.93 SimpleITK==2.5.7
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import cc3d
import cv2
import numpy as np
import scipy
import SimpleITK as sitk
import skimage
from scipy import ndimage

print("SciPy", scipy.__version__, "scikit-image", skimage.__version__, "OpenCV", cv2.__version__)
count = {
    "scikit-image": lambda mask: skimage.measure.label(mask).max(),
    "cc3d": lambda mask: cc3d.connected_components(mask).max(),
    "OpenCV": lambda mask: cv2.connectedComponents(mask)[0] - 1,
    "SciPy": lambda mask: ndimage.label(mask)[1],
    "SimpleITK": lambda mask: sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask))).max(),
}
touching = np.array([[0, 0, 0, 0, 0], [0, 1, 2, 1, 0], [0, 0, 0, 0, 0]], np.uint8)
corner = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8)
found = {name: (int(call(touching)), int(call(corner))) for name, call in count.items()}
print("name, objects in 1 2 1, objects that touch by a corner")
for name, pair in found.items():
    print(f"{name:14}{pair}")
assert found == {"scikit-image": (3, 1), "cc3d": (3, 1), "OpenCV": (1, 1), "SciPy": (1, 2), "SimpleITK": (1, 2)}, \
    "expected without the surprise: one pair for all"
PY
