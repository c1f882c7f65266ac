#!/usr/bin/env bash
# keras.layers.RandomElasticTransform takes a dictionary with images and segmentation_masks, as all of Keras's layers do.
# One would expect both to be deformed alike: that is what the dictionary is for.
# Each gets a deformation of its own, as the seed generator is asked again for the mask: the same array given as image and
# as mask comes back different, while RandomRotation, RandomShear and RandomPerspective keep them equal.
# The borders of the labels no longer lie on the image; small and thin classes are the first to be trained on wrong pixels.
# Seen with Keras 3.15.1 on TensorFlow 2.21.0 (uint8 masks raise a TypeError, float masks pass).
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
array = np.zeros((1, 64, 64, 1), "float32")
array[0, 20:40, 20:40] = 1
layers = {
    "RandomElasticTransform": keras.layers.RandomElasticTransform(1.0, 1.0, interpolation="nearest", seed=1),
    "RandomRotation": keras.layers.RandomRotation(0.2, interpolation="nearest", seed=1),
    "RandomShear": keras.layers.RandomShear(x_factor=0.5, interpolation="nearest", seed=1),
    "RandomPerspective": keras.layers.RandomPerspective(1.0, interpolation="nearest", seed=1),
}
overlap = {}
for name, layer in layers.items():
    both = layer({"images": array, "segmentation_masks": array}, training=True)
    image, mask = (np.asarray(both[key]) > 0 for key in ("images", "segmentation_masks"))
    overlap[name] = float((image & mask).sum() / (image | mask).sum())
    print(f"{name}: IoU of the object in the image and in its mask {overlap[name]:.3f}")
assert overlap["RandomElasticTransform"] < 0.9, "expected without the surprise: 1.0"
assert all(value == 1.0 for name, value in overlap.items() if name != "RandomElasticTransform")
PY
