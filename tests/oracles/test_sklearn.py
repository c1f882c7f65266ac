"""scikit-learn's scores and balanced weights against ours."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.balance.weights import inverse_frequency
from seg.metrics.confusion import ConfusionMatrix
from seg.metrics.iou import scores

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (make test-oracles installs it)")

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=5)  # each shape is compiled anew
@given(seeds)
def test_the_confusion_matrix_and_its_scores(draw, seed):
    labels, logits, weights = draw(seed)
    classes = list(range(len(weights)))
    confusion = ConfusionMatrix([str(index) for index in classes])
    for _ in range(2):  # streamed
        confusion.update_state(labels, logits)
    valid = labels != 255
    pair = (np.tile(labels[valid], 2), np.tile(logits.argmax(-1)[valid], 2))
    matrix = keras.ops.convert_to_numpy(confusion.matrix)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(*pair, labels=classes))
    found = scores(matrix)
    present = matrix.sum(0) + matrix.sum(1) > 0
    expected = metrics.jaccard_score(*pair, labels=classes, average=None, zero_division=0)
    # 1e-12: both divide the same integers in float64.
    np.testing.assert_allclose(found.iou[present], expected[present], rtol=1e-12)
    assert np.isnan(found.iou[~present]).all()
    assert found.mean_iou == pytest.approx(expected[present].mean(), rel=1e-12)


@settings(max_examples=20)
@given(seeds)
def test_balanced_class_weights(seed):
    class_weight = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is not installed")
    labels = np.random.default_rng(seed).choice(4, 200, p=[0.6, 0.3, 0.09, 0.01])
    labels = np.append(labels, np.arange(4))  # scikit-learn knows no absent class
    expected = class_weight.compute_class_weight("balanced", classes=np.arange(4), y=labels)
    # 1e-12: float64 on both sides.
    np.testing.assert_allclose(inverse_frequency(np.bincount(labels)), expected, rtol=1e-12)
