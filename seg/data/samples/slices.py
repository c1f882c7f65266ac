"""Volumes as samples: every slice of each of them, all in the split of their volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from seg.data.files.storage import LimitedMask, VolumeSlice
from seg.data.files.volumes import check_volumes, is_nifti, volume_header
from seg.data.samples.pairs import Sample, Splits
from seg.errors import DataError


def expand_slices(splits: Splits, axis: int) -> Splits:
    """Every slice of each volume as a sample, grouped by volume: called after splitting, so no volume is in two splits.

    Args:
        splits: Samples whose images and masks are volumes.
        axis: Which axis of the array as stored the slices follow one another along.

    Raises:
        DataError: A file is no volume, or an image and its mask differ in shape or affine.
    """
    return {split: [part for sample in samples for part in _slices(sample, axis)] for split, samples in splits.items()}


def volume_slices(path: Path, axis: int | None) -> list[VolumeSlice]:
    """The slices of a NIfTI along an axis; none without an axis, or of another file."""
    if axis is None or not is_nifti(path):
        return []
    return [VolumeSlice(path, axis, k) for k in range(volume_header(path).shape[axis])]


def refuse_volumes(splits: Splits) -> None:
    """Raises a DataError for the first NIfTI file: which slices of it are samples has to be said."""
    for sample in (sample for samples in splits.values() for sample in samples):
        for file in sample.files:
            if isinstance(file, Path) and is_nifti(file):
                raise DataError(f"{file}: is a volume; allowed: data.slices: {{axis: 0, 1 or 2}}, or pictures")


def _slices(sample: Sample, axis: int) -> list[Sample]:
    files = [file for file in sample.files if isinstance(file, Path)]
    for other in files[1:]:
        check_volumes(files[0], other)

    def cut(k: int) -> Sample:
        image, mask, *valid = [VolumeSlice(file, axis, k) for file in files]
        group = sample.group or str(files[0])
        if isinstance(sample.mask, LimitedMask):
            limited = replace(sample.mask, mask=mask, valid=valid[0] if valid else None)
            return Sample(image, limited, group)
        return Sample(image, mask, group)

    return [cut(k) for k in range(volume_header(files[0]).shape[axis])]
