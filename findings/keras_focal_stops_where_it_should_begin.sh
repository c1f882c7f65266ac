#!/usr/bin/env bash
# Focal loss is chosen to learn from hard pixels: a class that is confidently wrong should get the largest gradient.
# With from_logits=True one would expect it to be computed from the logits, as CategoricalCrossentropy does.
# Keras's CategoricalFocalCrossentropy applies softmax and clips at 1e-7 all the same: once the true class has p < 1e-7
# (logits 17 or more apart) the gradient is exactly 0, and the plain cross-entropy's is -1 and 1.
# Pixels of a rare class that the network has given up on can never be won back, and the loss is one number for them all.
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
import tensorflow as tf

print("Keras", keras.__version__, "TensorFlow", tf.__version__)
target = tf.constant([[1.0, 0.0]])


def gradient(loss, apart):
    logits = tf.Variable([[0.0, apart]])
    with tf.GradientTape() as tape:
        value = loss(target, logits)
    return float(value), tape.gradient(value, logits).numpy()[0].tolist()


focal = keras.losses.CategoricalFocalCrossentropy(from_logits=True)
plain = keras.losses.CategoricalCrossentropy(from_logits=True)
for apart in (1.0, 10.0, 18.0, 40.0):
    print(f"logits {apart} apart, the smaller one true: focal", gradient(focal, apart), "plain", gradient(plain, apart))
assert abs(gradient(focal, 10.0)[1][0]) > 0.1
assert gradient(focal, 18.0)[1] == gradient(focal, 40.0)[1] == [0.0, 0.0], "expected without the surprise: about -.25, .25"
assert gradient(focal, 18.0)[0] == gradient(focal, 40.0)[0]
assert gradient(plain, 40.0)[1] == [-1.0, 1.0]
PY
