"""What the run computes on: GPUs, kernels, versions."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

X86 = ("x86_64", "AMD64")  # how Linux and Windows call it
PACKAGES = ("tensorflow", "keras", "numpy", "albumentations", "opencv-python-headless")


def start_tensorflow() -> int:
    """Imports TensorFlow and lets it take GPU memory as it needs it instead of all at once.

    Returns:
        The number of GPUs.
    """
    choose_kernels()
    with quiet_stderr():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return len(gpus)


def choose_kernels() -> None:
    """Has TensorFlow, before its import, take oneDNN's kernels on every x86 processor.

    By itself it takes them where there is AVX-512 only, while they are faster with AVX2 too (docs/speed.md). A user's
    own TF_ENABLE_ONEDNN_OPTS stays.
    """
    if "tensorflow" not in sys.modules and platform.machine() in X86:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what native code writes to stderr; shown after all if an exception passes.

    TensorFlow's libraries write a screenful of notes (no CUDA driver, oneDNN is on) before any log level acts.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def environment(num_gpus: int, policy: str) -> dict[str, Any]:
    """Versions and hardware, for the run folder."""
    import keras

    return {
        "python": platform.python_version(),
        "packages": {package: metadata.version(package) for package in PACKAGES},
        "backend": keras.backend.backend(),
        "precision": policy,
        "gpus": num_gpus,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
