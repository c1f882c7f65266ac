"""The programs that XLA compiles for a GPU, kept for the next start: a U-Net's step takes it a minute or more."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from seg.balance.cache import user_cache_folder

MOST_BYTES = 2**30  # of all chips' programs together; the step of a large U-Net is some tens of megabytes
FLAG = "--tf_xla_persistent_cache_directory"
# On a GPU alone. A program for a CPU may hold instructions that the next machine sharing the home folder lacks, and
# TensorFlow fills pages with warnings of that. Both are names of a GPU in TensorFlow's sources.
DEVICES = "--tf_xla_persistent_cache_device_types=GPU,XLA_GPU_JIT"
QUERY = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")


def keep_programs(environment: Mapping[str, str], most_bytes: int = MOST_BYTES) -> tuple[dict[str, str], str]:
    """What to add to the environment before TensorFlow starts, and what to tell the user; both empty without a GPU.

    Programs lie in the user's cache folder under xla/<chip, driver and versions>: with another of these they are of no
    use, or wrong. Before a run the oldest are removed until at most `most_bytes` are left; what the run itself compiles
    comes on top until the next. A folder that cannot be written is told, and stops nothing.

    Args:
        environment: Of this process; a user's own XLA cache in TF_XLA_FLAGS stays.
        most_bytes: Of the programs of all chips.
    """
    given = environment.get("TF_XLA_FLAGS", "")
    if FLAG in given:
        return {}, ""
    key = chip_key(environment)
    if key is None:
        return {}, ""
    try:
        root = user_cache_folder() / "xla"
        folder = root / key
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # it may be there and read-only
            pass
        size = remove_oldest(root, most_bytes)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        return {}, f"XLA's programs are not kept for the next start: {error}"
    flags = f"{given} {FLAG}={folder} {DEVICES}".strip()
    told = f"XLA's programs are kept in {folder} ({size / 2**20:.0f} of at most {most_bytes / 2**20:.0f} MiB there)"
    return {"TF_XLA_FLAGS": flags}, f"{told}; training.keep_programs=false: not"


def chip_key(environment: Mapping[str, str]) -> str | None:
    """Chips, driver and versions as a folder's name; None where no NVIDIA GPU is to be seen."""
    if environment.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1") or shutil.which(QUERY[0]) is None:
        return None
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    chips = sorted({line.strip() for line in answer.splitlines() if line.strip()})
    if not chips:
        return None
    versions = [f"{package}-{metadata.version(package)}" for package in ("tensorflow", "keras")]
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part) for part in (*chips, *versions))


def remove_oldest(root: Path, most_bytes: int) -> int:
    """Removes the programs written first until at most `most_bytes` are left; returns how many bytes are."""
    files = []
    for path in root.rglob("*"):
        try:
            if path.is_file():
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        except FileNotFoundError:  # another run's start has removed it, or it was a temporary name
            continue
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size
    return total
