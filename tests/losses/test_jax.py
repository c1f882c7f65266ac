"""The same values under KERAS_BACKEND=jax, in a process of its own: a backend is chosen once. See `make test-jax`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from seg.losses import BinaryCrossEntropy, CrossEntropy, Dice, Focal, OnlineClassWeights

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
import jax, keras, numpy as np
from seg.losses import BinaryCrossEntropy, CrossEntropy, Dice, Focal, OnlineClassWeights
from seg.models.unet import unet_layers
batch = np.load(sys.argv[1])
labels, logits = batch["labels"], batch["logits"]
losses = [CrossEntropy(class_weights=[0.5, 1.0, 2.0, 4.0]), Focal(normalize="weights"), Dice(reduction="image")]
values = jax.jit(lambda labels, logits: [loss(labels, logits) for loss in losses])(labels, logits)
several = [BinaryCrossEntropy(pos_weight=[0.5, 1.0, 2.0, 4.0]), Dice(multi_label=True, reduction="image")]
values += jax.jit(lambda labels, logits: [loss(labels, logits) for loss in several])(batch["several"], logits)
weights = OnlineClassWeights(4, "effective_number", momentum=0.9).update(labels)
network = keras.Model(*unet_layers(bands=4, num_classes=4, depth=1, base_filters=2))
shape = jax.jit(network)(logits).shape
print(json.dumps([keras.backend.backend(), list(map(float, values)), np.asarray(weights).tolist(), shape]))
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed (make test-jax installs it)")
def test_losses_online_weights_and_the_network_run_on_jax(batch, tmp_path):
    labels, logits = batch
    several = np.random.default_rng(0).choice([0, 1, 255], logits.shape).astype(np.uint8)
    np.savez(tmp_path / "batch.npz", labels=labels, logits=logits, several=several)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "batch.npz")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    backend, values, weights, shape = json.loads(done.stdout.splitlines()[-1])
    losses = [CrossEntropy(class_weights=[0.5, 1.0, 2.0, 4.0]), Focal(normalize="weights"), Dice(reduction="image")]
    assert backend == "jax"
    assert shape == [2, 3, 5, 4]
    # 1e-5: float32, summed in another order.
    expected = [float(loss(labels, logits)) for loss in losses]
    multi_label = [BinaryCrossEntropy(pos_weight=[0.5, 1.0, 2.0, 4.0]), Dice(multi_label=True, reduction="image")]
    expected += [float(loss(several, logits)) for loss in multi_label]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    expected = OnlineClassWeights(4, "effective_number", momentum=0.9).update(labels)
    np.testing.assert_allclose(weights, keras.ops.convert_to_numpy(expected), rtol=1e-5)
