#!/usr/bin/env bash
# Label masks of more than 256 ids, and those of many GIS and annotation tools, are 16-bit PNGs.
# tf.io.decode_png has the default dtype uint8: one would expect an error, or ids that fit to come through.
# It keeps the high byte of each value: ids 0 to 255 all become 0, id 300 becomes 1. decode_image and Keras's
# image_dataset_from_directory do the same, while keras.utils.load_img reads the same file right.
# A mask of 16 bits whose ids are all small is background only, in a dtype in which background is a valid class.
# Seen with TensorFlow 2.21.0, Keras 3.15.1.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile tensorflow==2.21.0 keras==3.15.1 pillow==13.0.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import os
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
import keras
import numpy as np
import tensorflow as tf
from PIL import Image

print("TensorFlow", tf.__version__, "Keras", keras.__version__)
mask = np.zeros((8, 8), np.uint16)
mask[2:5, 2:5], mask[6], mask[7] = 5, 255, 300
os.mkdir("masks")
Image.fromarray(mask).save("masks/a.png")
data = open("masks/a.png", "rb").read()
folder = keras.utils.image_dataset_from_directory(
    "masks", labels=None, color_mode="grayscale", image_size=(8, 8), interpolation="nearest", batch_size=1, verbose=False)
seen = {
    "decode_png": tf.io.decode_png(data),
    "decode_image": tf.io.decode_image(data),
    "image_dataset_from_directory": next(iter(folder)),
    "decode_png(dtype=uint16)": tf.io.decode_png(data, dtype=tf.uint16),
    "load_img": keras.utils.img_to_array(keras.utils.load_img("masks/a.png", color_mode="grayscale")),
}
ids = {name: np.unique(np.asarray(values)).astype(int).tolist() for name, values in seen.items()}
for name, values in ids.items():
    print(f"{name}: {values}, stored {np.unique(mask).tolist()}")
right = [0, 5, 255, 300]
assert ids["decode_png"] == ids["decode_image"] == ids["image_dataset_from_directory"] == [0, 1]
assert ids["decode_png(dtype=uint16)"] == ids["load_img"] == right
PY
