#!/usr/bin/env bash
# Labels are written into a uint8 array on disk; 256, 300 and -1 (a common "unlabelled") do not fit.
# One would expect an error, as assigning such a list to a NumPy uint8 array raises, or at least one rule.
# zarr wraps them (256 becomes 0, 300 becomes 44, -1 becomes 255), h5py clips them (255, 255, 0), both without a word.
# So -1 is void in one store and background in the other; with more than 255 instances or classes, zarr turns some of them
# into background and small ids, and h5py puts them all into one.
# Seen with zarr 3.1.6, h5py 3.16.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 zarr==3.1.6 h5py==3.16.0
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import h5py
import numpy as np
import zarr

print("zarr", zarr.__version__, "h5py", h5py.__version__, "NumPy", np.__version__)
labels = np.array([[0, 1, 255, 256, 300, -1]])
by_zarr = zarr.create_array("labels.zarr", shape=labels.shape, chunks=labels.shape, dtype="uint8")
by_zarr[:] = labels
with h5py.File("labels.h5", "w") as file:
    dataset = file.create_dataset("labels", labels.shape, "uint8")
    dataset[:] = labels
    by_h5py = dataset[:]
print("written", labels[0].tolist())
print("zarr   ", by_zarr[:][0].tolist())
print("h5py   ", by_h5py[0].tolist())
assert by_zarr[:][0].tolist() == [0, 1, 255, 0, 44, 255], "expected without the surprise: an error"
assert by_h5py[0].tolist() == [0, 1, 255, 255, 255, 0], "expected without the surprise: an error"
try:
    np.zeros(6, np.uint8)[:] = labels[0].tolist()
except OverflowError as error:
    print("NumPy, for Python numbers:", error)
PY
