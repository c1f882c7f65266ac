#!/usr/bin/env bash
# Dice loss is taken against imbalance because each class counts the same, however small.
# With one-hot masks one would expect the mean over classes, and 0 where an empty mask is predicted as empty.
# keras.losses.Dice() has axis=None: it sums over images, pixels and classes first, so a class of one pixel in a hundred that
# is missed entirely costs .01, not about .5; and a correct empty mask costs 1, the largest loss there is.
# With background among the classes, the loss that should help the rare class is pixel accuracy under another name.
# Seen with Keras 3.15.1 on TensorFlow 2.21.0; axis=(1, 2) gives the mean over images and classes.
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
truth = np.zeros((1, 10, 10, 2), "float32")
truth[..., 0] = 1
truth[0, 0, 0] = [0, 1]                          # one pixel of the rare class
missed = np.zeros_like(truth)
missed[..., 0] = 1                               # and the prediction: background everywhere
pooled = float(keras.losses.Dice()(truth, missed))
by_class = float(keras.losses.Dice(axis=(1, 2))(truth, missed))
empty = np.zeros((1, 10, 10, 1), "float32")
right = float(keras.losses.Dice()(empty, empty))
print(f"rare class missed: Dice() {pooled:.4f}, Dice(axis=(1, 2)) {by_class:.4f}, share of wrong pixels {0.01}")
print(f"empty mask, predicted empty: Dice() {right:.4f}")
assert abs(pooled - 0.01) < 1e-4, "expected without the surprise: about .5"
assert abs(by_class - 0.5025) < 1e-3
assert right == 1.0, "expected without the surprise: 0"
PY
