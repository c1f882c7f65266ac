"""Runs before any test module: quiet and offline libraries, the same random numbers in every run."""

from __future__ import annotations

import os
import random
import sys

import hypothesis
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # C++ information drowns the test report
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks PyPI for a newer version at import otherwise

# No deadline: the first example often pays for tracing a graph. CI draws the same examples each time.
hypothesis.settings.register_profile("seg", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("seg")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seeds Python, NumPy and, only where a test module has imported it, Keras with TensorFlow."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
    else:
        random.seed(0)
        np.random.seed(0)
