"""Volumes through the check: slices of clean ones give no finding, broken ones one finding that names the volume."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.checks import CheckReport, Finding, Rules, Survey, check_dataset
from data_tools.checks.config_survey import survey
from data_tools.checks.volumes import one_a_volume, survey_slices
from seg.config import load_config
from seg.data.files.storage import VolumeSlice
from seg.data.masks.reading import IndexEncoding
from seg.data.samples.pairs import Sample
from seg.labels import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NAMES = ("train/a", "train/b", "val/c")
SHAPE = (6, 70, 80)  # slices along axis 0
LABELS = LabelSet.from_names(["tissue", "organ"], 255)
AFFINE = np.diag([2.5, 0.7, 0.7, 1.0])


@functools.cache
def volume(name: str) -> tuple[np.ndarray, np.ndarray]:
    """(slices, rows, columns) uint8 noise, brighter in a block of its own, and that block."""
    rng = np.random.default_rng(NAMES.index(name))
    mask = np.zeros(SHAPE, np.uint8)
    for index in range(SHAPE[0]):
        row, column = rng.integers(5, 25, 2)
        mask[index, row : row + 30, column : column + 25 + index] = 1
    image = rng.integers(0, 90, SHAPE) + 120 * mask
    return image.astype(np.uint8), mask


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        first, *others = [Image.fromarray(page) for page in voxels]
        first.save(path, save_all=True, append_images=others)
    else:
        nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install 'seg[medical]'")
        nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


@pytest.fixture(params=["tif", "nii", "nii.gz"])
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(tmp_path: Path, suffix: str) -> Path:
    for name in NAMES:
        for kind, voxels in zip(("images", "masks"), volume(name), strict=True):
            write(tmp_path / f"{kind}/{name}.{suffix}", voxels)
    (tmp_path / "c.yaml").write_text(
        "name: volumes\nlabels: {names: [tissue, organ]}\ninput: {bands: 1}\n"
        f"data: {{name: folders, root: {tmp_path}, slices: {{axis: 0}}}}\n"
        "model: {name: unet}\nloss: [{name: dice}]\ntraining: {epochs: 1, batch_size: 1}\n"
    )
    return tmp_path


def report(root: Path) -> CheckReport:
    found = survey(load_config(root / "c.yaml", []))
    return check_dataset(found, Rules(LABELS, IndexEncoding(), bands=1), workers=1)


def test_clean_volumes_have_no_finding(root: Path) -> None:
    config = load_config(root / "c.yaml", [])
    assert survey(config) == Survey(root, config.samples())
    found = report(root)
    assert found.findings == () and found.pairs == {"train": 12, "val": 6}
    assert found.pixels["val"].tolist() == [int((volume("val/c")[1] == value).sum()) for value in (0, 1, 255)]


@pytest.mark.parametrize(("kind", "what"), [("images", "image"), ("masks", "mask")])
def test_a_volume_that_is_none_is_one_finding(root: Path, suffix: str, kind: str, what: str) -> None:
    (root / f"{kind}/train/a.{suffix}").write_bytes(b"no volume")
    found = report(root)
    assert [(one.kind, one.files, one.split) for one in found.findings] == [
        (f"unreadable-{what}", (f"{kind}/train/a.{suffix}",), "train")
    ]
    assert "cut short or corrupt" in found.findings[0].text and str(root) not in found.findings[0].text
    assert found.pairs == {"train": 6, "val": 6}


def test_a_volume_cut_short_is_one_finding(root: Path, suffix: str) -> None:
    """Its header is whole, its voxels are not; a stack is damaged in the middle, as its pages are read one by one."""
    path = root / f"images/train/b.{suffix}"
    data = path.read_bytes()
    if suffix == "tif":
        compressed = [Image.fromarray(page) for page in volume("train/b")[0]]
        compressed[0].save(path, save_all=True, append_images=compressed[1:], compression="tiff_adobe_deflate")
        with Image.open(path) as stack:
            stack.seek(3)
            start = stack.tag_v2[273][0]  # where the only strip of the page lies
        data = bytearray(path.read_bytes())
        data[start : start + 60] = b"\xff" * 60
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2])
    findings = report(root).findings
    assert [(one.kind, one.files) for one in findings] == [("unreadable-image", (f"images/train/b.{suffix}",))]
    expected = "; 1 slice(s) along axis 0: 3" if suffix == "tif" else "; 6 slice(s) along axis 0: 0, 1, 2, 3, 4 ..."
    assert findings[0].text.endswith(expected), findings[0].text


def test_another_shape(root: Path, suffix: str) -> None:
    write(root / f"masks/train/a.{suffix}", volume("train/a")[1][:, :-1])
    (found,) = report(root).findings
    assert (found.kind, found.files) == ("grid-mismatch", (f"images/train/a.{suffix}", f"masks/train/a.{suffix}"))
    assert "is 6 x 70 x 80 voxels but its mask" in found.text and str(root) not in found.text


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"], indirect=True)
def test_another_affine(root: Path, suffix: str) -> None:
    write(root / f"masks/train/a.{suffix}", volume("train/a")[1], np.diag([2.5, 0.8, 0.7, 1.0]))
    (found,) = report(root).findings
    assert found.kind == "grid-mismatch" and "resample the mask onto the image" in found.text


@pytest.mark.parametrize("suffix", ["nii"], indirect=True)
def test_other_bands_are_one_finding_a_volume(root: Path, suffix: str) -> None:
    write(root / "images/val/c.nii", np.stack([volume("val/c")[0]] * 2, axis=-1))
    (found,) = report(root).findings
    assert (found.kind, found.files) == ("unsupported-image", ("images/val/c.nii",))
    assert found.text.startswith("has 2 bands where input.bands is 1") and "6 slice(s) along axis 0" in found.text


@pytest.mark.parametrize("suffix", ["tif"], indirect=True)
def test_an_unknown_value_names_its_slice(root: Path, suffix: str) -> None:
    mask = volume("val/c")[1].copy()
    mask[4, 0, :3] = 7
    write(root / "masks/val/c.tif", mask)
    (found,) = report(root).findings
    assert (found.kind, found.files) == ("unknown-labels", ("masks/val/c.tif#0:4",))
    assert found.text.startswith("label value 7 in 3 pixels")


def test_findings_of_one_volume_are_one(tmp_path: Path) -> None:
    """By hand: two refused slices of a, one of b, and another kind that stays as it is, in this order."""
    a, b = tmp_path / "a.nii", tmp_path / "b.nii"
    pairs = [Sample(VolumeSlice(path, 2, k), VolumeSlice(path, 2, k)) for path in (a, b) for k in range(2)]
    findings = [
        Finding("unreadable-image", ("a.nii#2:0",), "broken", "train"),
        Finding("small-components", ("a.nii#2:0",), "few", "train"),
        Finding("unreadable-image", ("b.nii#2:1",), "torn", "train"),
        Finding("unreadable-image", ("a.nii#2:1",), "broken", "train"),
    ]
    assert one_a_volume(findings, {"train": pairs}, tmp_path) == [
        Finding("unreadable-image", ("a.nii",), "broken; 2 slice(s) along axis 2: 0, 1", "train"),
        findings[1],
        Finding("unreadable-image", ("b.nii",), "torn; 1 slice(s) along axis 2: 1", "train"),
    ]


def test_a_picture_is_no_volume(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    sample = Sample(tmp_path / "a.png", tmp_path / "a.png")
    found = survey_slices(Survey(tmp_path, {"train": [sample]}), 0)
    assert found.splits == {"train": []}
    assert [one.kind for one in found.findings] == ["unreadable-image", "unreadable-mask"]
    assert found.findings[0].text == "is no volume, allowed with data.slices: .nii, .nii.gz, .tif, .tiff"
