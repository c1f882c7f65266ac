"""RankSEG's own implementation. `pruning_prob=0`: by default it gives nothing to a class that no pixel makes likely."""

import numpy as np
import pytest
from scipy.special import softmax

from seg.metrics.ranking import SCORES, ranked_classes

torch = pytest.importorskip("torch")
rankseg = pytest.importorskip("rankseg.functional")


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("seed", range(6))
def test_the_same_classes(score, seed):
    rng = np.random.default_rng(seed)
    shift = rng.normal(size=5) * 2  # from common to rare
    probabilities = softmax(rng.normal(size=(5, 64 * 64)) * 2 + shift[:, None], axis=0).astype(np.float32)
    theirs = rankseg.rankseg_rma(
        torch.from_numpy(probabilities.reshape(1, 5, 64, 64)), metric=score, output_mode="multiclass", pruning_prob=0.0
    )
    ours = ranked_classes(probabilities, score)
    # Sums of 4,096 float32 in another order: a pixel at the very edge of a set may fall on its other side.
    assert (ours != theirs.numpy().ravel()).sum() <= 2
    assert (ours != probabilities.argmax(axis=0)).sum() > 50  # and it is not simply the most probable class
