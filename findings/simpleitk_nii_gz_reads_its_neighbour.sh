#!/usr/bin/env bash
# One would expect ReadImage("case.nii.gz") to read case.nii.gz and nothing else.
# If a case.nii lies beside it, SimpleITK takes the header from case.nii.gz and the voxels from case.nii, with no word.
# nibabel reads the file that was named.
# A folder with scan.nii and its mask scan.nii.gz, or an unpacked old version beside a corrected mask, gives the scan or
# the old labels as the mask; with equal shapes and types nothing fails, and a rare class that was added later is missing.
# Seen with SimpleITK 2.5.7 and nibabel 5.4.2.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 SimpleITK==2.5.7 nibabel==5.4.2
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import nibabel as nib
import numpy as np
import SimpleITK as sitk

print("SimpleITK", sitk.Version.VersionString(), "nibabel", nib.__version__)
corrected = np.zeros((4, 6, 8), np.uint8)
corrected[1, 2:4, 3:5] = 2                       # the rare class, drawn in the second round
old = np.zeros_like(corrected)
old[0, 0, 0] = 7

sitk.WriteImage(sitk.GetImageFromArray(corrected), "case.nii.gz")
alone = sitk.GetArrayFromImage(sitk.ReadImage("case.nii.gz"))
sitk.WriteImage(sitk.GetImageFromArray(old), "case.nii")
beside = sitk.GetArrayFromImage(sitk.ReadImage("case.nii.gz"))
by_nibabel = np.asarray(nib.load("case.nii.gz").dataobj)

print("case.nii.gz alone:", np.unique(alone).tolist())
print("case.nii.gz with case.nii beside it: SimpleITK", np.unique(beside).tolist(), "nibabel", np.unique(by_nibabel).tolist())
assert np.array_equal(alone, corrected)
assert np.array_equal(beside, old), "expected without the surprise: equal to `corrected`"
assert not np.array_equal(beside, corrected)
assert np.unique(by_nibabel).tolist() == [0, 2]
PY
