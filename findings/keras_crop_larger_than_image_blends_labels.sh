#!/usr/bin/env bash
# RandomCrop and CenterCrop cut windows; given segmentation_masks one would expect label values to pass through unchanged.
# If the image is smaller than the window they resize it first, and the mask with it, bilinearly: labels 0 and 3 give 0.08,
# 0.5, 2.5 and so on. Resizing, RandomZoom and the others use nearest for masks.
# One small image in a data set is enough, and after a cast to integers some of them are class 2 that nobody drew:
# a ring of another, perhaps rare, class around the object.
# Seen with Keras 3.15.1 on TensorFlow 2.21.0.
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
image = np.random.default_rng(0).random((1, 8, 8, 3)).astype("float32")
mask = np.zeros((1, 8, 8, 1), "uint8")
mask[0, 2:6, 2:6] = 3
values = {}
for layer in (keras.layers.CenterCrop(6, 6), keras.layers.CenterCrop(12, 12), keras.layers.RandomCrop(12, 12),
              keras.layers.Resizing(12, 12)):
    out = layer({"images": image, "segmentation_masks": mask}, training=True)["segmentation_masks"]
    size = out.shape[1]
    values[layer.__class__.__name__, size] = np.unique(np.asarray(out).astype("uint8")).tolist()
    print(layer.__class__.__name__, size, "mask values", np.unique(np.asarray(out)).round(2).tolist())
assert values["CenterCrop", 6] == [0, 3] and values["Resizing", 12] == [0, 3]
assert values["CenterCrop", 12] == values["RandomCrop", 12] == [0, 2, 3], "expected without the surprise: [0, 3]"
PY
