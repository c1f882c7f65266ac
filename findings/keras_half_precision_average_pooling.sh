#!/usr/bin/env bash
# A mean of equal numbers is that number, and one would expect average pooling in half precision to give it within a rounding.
# On a CPU the sum is kept in half precision: 32 x 32 values of 5.0 give 4.4 in float16 and 8.0 in bfloat16 (4.4 from
# 16 x 16), 64 x 64 values give 8.0 in both; nothing is reported, and the float32 result is 5.0.
# Image pooling of DeepLab and PSPNet heads and squeeze-and-excitation are such pools, so a mixed_bfloat16 network on a CPU
# sees other features than its float32 twin; a class's share taken as the mean of its mask is as wrong.
# Seen with Keras 3.15.1 on TensorFlow 2.21.0, CPU.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    tensorflow==2.21.0 keras==3.15.1
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import os
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
import keras
import numpy as np
import tensorflow as tf

print("Keras", keras.__version__, "TensorFlow", tf.__version__)
means = {}
for dtype in ("float16", "bfloat16", "float32"):
    for side in (16, 32, 64):
        pool = keras.layers.AveragePooling2D(side, dtype=dtype)
        means[dtype, side] = float(keras.ops.max(pool(keras.ops.full((1, side, side, 1), 5.0, dtype=dtype))))
        print(dtype, f"mean of {side} x {side} values 5.0:", means[dtype, side])
assert means["float16", 16] == 5.0
assert means["bfloat16", 16] < 4.5 and means["bfloat16", 32] == 8.0, "expected without the surprise: 5.0"
assert means["float16", 32] < 4.5 and means["float16", 64] == 8.0, "expected without the surprise: 5.0"
assert all(means["float32", side] == 5.0 for side in (16, 32, 64))
PY
