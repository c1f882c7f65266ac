#!/usr/bin/env bash
# SimpleITK offers sitkLabelGaussian as an interpolator that keeps label images label images.
# One would expect that resampling onto the very same grid changes nothing, as nearest neighbour does.
# It smooths each label with a Gaussian and lets the largest win, so on an unchanged grid a cube of 2 x 2 x 2 voxels
# and a line one pixel wide disappear entirely, and larger objects lose their corners.
# A rare class of small lesions or thin vessels can be gone from a data set before any training begins.
# Seen with SimpleITK 2.5.7 (ITK 5.4), NumPy 2.4.6.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 SimpleITK==2.5.7
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import SimpleITK as sitk

print("SimpleITK", sitk.Version.VersionString())


def resample(array, interpolator):
    image = sitk.GetImageFromArray(array)
    return sitk.GetArrayFromImage(sitk.Resample(image, image, sitk.Transform(), interpolator))


after = {}
for side in (1, 2, 3, 5):
    cube = np.zeros((40, 40, 40), np.uint8)
    cube[10:10 + side, 10:10 + side, 10:10 + side] = 1
    nearest, gaussian = (int(resample(cube, kind).sum()) for kind in (sitk.sitkNearestNeighbor, sitk.sitkLabelGaussian))
    print(f"cube of side {side}: {cube.sum()} voxels, nearest {nearest}, label Gaussian {gaussian}")
    assert nearest == cube.sum()
    after[side] = gaussian
line = np.zeros((40, 40), np.uint8)
line[20] = 1
thin = int(resample(line, sitk.sitkLabelGaussian).sum())
print("line of 40 pixels, one wide: label Gaussian", thin)
assert after == {1: 0, 2: 0, 3: 19, 5: 117}, "expected without the surprise: 1, 8, 27, 125"
assert thin == 0, "expected without the surprise: 40"
PY
