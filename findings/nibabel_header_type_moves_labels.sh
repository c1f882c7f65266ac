#!/usr/bin/env bash
# A mask is saved with the header of the scan it belongs to, or with set_data_dtype, whose type is narrower than the labels.
# One would expect an error for a label that does not fit, or labels that come back as they were.
# nibabel scales the whole array to fit: with 300 among the labels under uint8, label 1 is read back as 1.1765, label 2
# as 2.3529 and 7 as 7.0588; a float mask of 0 and 1 comes back as 1.00000006.
# Comparisons such as mask == 1 find no pixel at all; the file holds uint8 and looks like any label file.
# Seen with nibabel 5.4.2.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 nibabel==5.4.2
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import nibabel as nib
import numpy as np

print("nibabel", nib.__version__, "NumPy", np.__version__)


def round_trip(labels):
    image = nib.Nifti1Image(labels, np.eye(4))
    image.set_data_dtype(np.uint8)
    nib.save(image, "mask.nii")
    loaded = nib.load("mask.nii")
    print("header type", loaded.get_data_dtype(), "slope", loaded.dataobj.slope, "values", np.unique(np.asarray(loaded.dataobj)))
    return np.asarray(loaded.dataobj)


labels = np.array([[[0, 1, 2, 7, 300]]], np.int32)
back = round_trip(labels)
assert (labels == 1).sum() == 1 and (back == 1).sum() == 0, "expected without the surprise: an error, or 1"
assert abs(back[0, 0, 1] - 1.17647) < 1e-4 and abs(back[0, 0, 2] - 2.35294) < 1e-4
floats = round_trip(np.array([[[0.0, 1.0]]], np.float64))
assert floats[0, 0, 1] != 1.0, "expected without the surprise: 1.0"
assert abs(floats[0, 0, 1] - 1.0) < 1e-6
fits = round_trip(np.array([[[0, 1, 2, 7]]], np.int32))
assert np.unique(fits).tolist() == [0, 1, 2, 7]
PY
