#!/usr/bin/env bash
# tifffile writes a (3, H, W) uint16 array as RGB with separate planes, a plain baseline layout that GDAL and ImageJ read.
# One would expect cv2.imread to give those values, or None where it cannot read the file.
# It returns an array of the right shape and type in which nearly no pixel is right, without an error; 8-bit files with
# separate planes and 16-bit files with interleaved samples are read rightly.
# 16-bit is what microscopes and satellites deliver: a network trained on such images learns from scrambled ones, at a
# plausible loss, as the frequent class needs no image at all.
# Seen with OpenCV 5.0.0, tifffile 2026.3.3.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 opencv-python-headless==5.0.0.93 tifffile==2026.3.3
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import cv2
import numpy as np
import tifffile

print("OpenCV", cv2.__version__, "tifffile", tifffile.__version__)
right = {}
for dtype in (np.uint8, np.uint16):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (64, 64, 3)).astype(dtype)
    tifffile.imwrite("contig.tif", image, photometric="rgb", planarconfig="contig")
    tifffile.imwrite("separate.tif", image.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    for layout in ("contig", "separate"):
        assert np.array_equal(tifffile.imread(layout + ".tif").reshape(-1).sum(), image.sum())
        read = cv2.imread(layout + ".tif", cv2.IMREAD_UNCHANGED)
        assert read.shape == image.shape and read.dtype == dtype
        right[np.dtype(dtype).name, layout] = float((read[..., ::-1] == image).mean())
for case, share in right.items():
    print(*case, f"share of values that OpenCV reads rightly: {share:.4f}")
assert right["uint16", "separate"] < 0.01, "expected without the surprise: 1.0"
assert right["uint8", "contig"] == right["uint16", "contig"] == right["uint8", "separate"] == 1.0
PY
