#!/usr/bin/env bash
# A NIfTI file may hold two placements of its voxels in space: qform and sform, each with a code.
# With qform code 1 (scanner) and sform code 2 (aligned) one would expect all readers to choose the same one.
# nibabel uses the sform, SimpleITK the qform: voxels are 3 mm wide for one and 1 mm for the other (which
# warns of scales in the sform at most).
# A mask resampled onto its scan by one library and counted by the other has another volume; with 1 mm distances a
# tolerance of 2 mm is a different number of voxels, and small lesions shift off their organ.
# Seen with nibabel 5.4.2, SimpleITK 2.5.7.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 nibabel==5.4.2 SimpleITK==2.5.7
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import nibabel as nib
import numpy as np
import SimpleITK as sitk

print("nibabel", nib.__version__, "SimpleITK", sitk.Version.VersionString())
mask = np.zeros((8, 8, 8), np.uint8)
mask[2:4, 2:4, 2:4] = 1
image = nib.Nifti1Image(mask, np.eye(4))
image.set_qform(np.diag([1, 1, 1, 1]), code=1)
image.set_sform(np.diag([3, 1, 1, 1]), code=2)
nib.save(image, "mask.nii.gz")
by_nibabel = np.abs(nib.load("mask.nii.gz").affine[:3, :3]).sum(0).tolist()
by_sitk = sitk.ReadImage("mask.nii.gz").GetSpacing()
print("voxel sizes: nibabel's affine", by_nibabel, "SimpleITK", by_sitk)
print("volume of the lesion: nibabel", 8 * np.prod(by_nibabel), "SimpleITK", 8 * np.prod(by_sitk), "mm3")
assert by_nibabel == [3.0, 1.0, 1.0]
assert by_sitk == (1.0, 1.0, 1.0), "expected without the surprise: (3.0, 1.0, 1.0)"
PY
