"""The slices of a dataset's volumes, and a finding for each pair of volumes that cannot be cut into any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_tools.checks.findings import Finding
from data_tools.checks.survey import Survey
from seg.data.files.storage import VolumeSlice, relative_name
from seg.data.files.volumes import check_volumes, volume_header
from seg.data.samples.pairs import Sample, Splits
from seg.data.samples.slices import expand_slices
from seg.errors import DataError

UNREADABLE = ("unreadable-image", "unreadable-mask")
REFUSED = (*UNREADABLE, "unsupported-image", "unsupported-mask")
NAMED = 5  # slices in a finding


def survey_slices(survey: Survey, axis: int) -> Survey:
    """As `seg.data.files.volumes.expand_slices`, which stops at its first problem; here it is a finding.

    Args:
        survey: Pairs of volumes.
        axis: Which axis of the array as stored the slices follow one another along.
    """
    splits: Splits = {}
    findings: list[Finding] = []
    for split, samples in survey.splits.items():
        splits[split] = []
        for sample in samples:
            found = _problems(sample, split, survey.root)
            findings += found
            splits[split] += [] if found else expand_slices({split: [sample]}, axis)[split]
    return Survey(survey.root, splits, (*survey.findings, *findings))


def one_a_volume(findings: Sequence[Finding], splits: Splits, root: Path) -> list[Finding]:
    """The findings, those of the slices of one volume that cannot be read as one that names the volume."""
    parts = {
        relative_name(file, root): file
        for samples in splits.values()
        for sample in samples
        for file in (sample.image, sample.mask)
        if isinstance(file, VolumeSlice)
    }
    kept: dict[object, Finding] = {}
    slices: dict[object, list[VolumeSlice]] = {}
    for place, finding in enumerate(findings):
        part = parts.get(finding.files[0]) if finding.kind in REFUSED and finding.files else None
        if part is None:
            kept[place] = finding
        else:
            key = (finding.kind, finding.split, part.path)
            kept.setdefault(key, finding)
            slices.setdefault(key, []).append(part)
    for volume, refused in slices.items():
        first, name = kept[volume], relative_name(refused[0].path, root)
        listed = ", ".join(str(part.index) for part in refused[:NAMED]) + (" ..." if len(refused) > NAMED else "")
        text = f"{first.text}; {len(refused)} slice(s) along axis {refused[0].axis}: {listed}"
        kept[volume] = Finding(first.kind, (name,), text, first.split)
    return list(kept.values())


def _problems(sample: Sample, split: str, root: Path) -> list[Finding]:
    image, mask = sample.image, sample.mask
    assert isinstance(image, Path) and isinstance(mask, Path)
    found = []
    for kind, path in zip(UNREADABLE, (image, mask), strict=True):
        try:
            volume_header(path)
        except DataError as error:
            text = str(error).removeprefix(f"{path}: ").replace(str(path), path.name)
            found.append(Finding(kind, (relative_name(path, root),), text, split))
    if found:
        return found
    try:
        check_volumes(image, mask)
    except DataError as error:
        names = (relative_name(image, root), relative_name(mask, root))
        text = str(error).replace(str(image), "the image").replace(str(mask), names[1])
        return [Finding("grid-mismatch", names, text, split)]
    return []
