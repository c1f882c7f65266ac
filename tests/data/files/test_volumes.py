"""seg.data.files.volumes: slices of NIfTI volumes and TIFF stacks, as stored; pairs compared; broken files named."""

from __future__ import annotations

import builtins
import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import seg.data.files.volumes as volumes
from seg.data.files.planes import Planes
from seg.data.files.reading import image_size, read_values
from seg.data.files.storage import LimitedMask, VolumeSlice, common_folder, file_state, read_bytes, relative_name
from seg.data.files.volumes import (
    Slice,
    check_volumes,
    volume_header,
    write_nifti,
)
from seg.data.masks.reading import IndexEncoding, read_mask, read_mask_and_snapped
from seg.data.samples.pairs import Sample, samples_from_fractions
from seg.data.samples.slices import expand_slices, refuse_volumes
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
AFFINE = np.diag([0.7, 0.7, 2.5, 1.0])
SHAPE = (11, 17, 5)  # anisotropic, and no two axes alike


def write_volume(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def write_stack(path: Path, pages: np.ndarray) -> Path:
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=others)
    return path


def voxels(dtype: str = "int16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


# --- NIfTI ---
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_slice_is_that_of_the_array_as_stored(tmp_path: Path, suffix: str, axis: int, dtype: str) -> None:
    content = voxels(dtype)
    path = write_volume(tmp_path / f"a{suffix}", content)
    assert volume_header(path).shape == SHAPE and volume_header(path).bands == 1
    for index in (0, SHAPE[axis] - 1):
        part = VolumeSlice(path, axis, index)
        values, missing = read_values(part, 1)
        expected = np.take(content, index, axis)
        np.testing.assert_array_equal(values[..., 0], expected)
        assert values.dtype == dtype and missing is None
        assert Slice(part).shape == image_size(part) == expected.shape
        np.testing.assert_array_equal(Slice(part).read().values, expected)


@pytest.mark.parametrize(("stored", "read"), [("int8", "int16"), ("int32", "float32"), ("float64", "float32")])
def test_other_types_become_ones_that_hold_their_values(tmp_path: Path, stored: str, read: str) -> None:
    path = write_volume(tmp_path / "a.nii", voxels("int16").clip(0, 100).astype(stored))
    values = read_values(VolumeSlice(path, 2, 1), 1)[0]
    assert values.dtype == read
    np.testing.assert_array_equal(values[..., 0], voxels("int16").clip(0, 100)[..., 1])


def test_big_endian_and_nifti_2(tmp_path: Path) -> None:
    big = nibabel.Nifti1Image(voxels(), AFFINE, nibabel.Nifti1Header(endianness=">"))
    nibabel.save(big, tmp_path / "big.nii")
    nibabel.save(nibabel.Nifti2Image(voxels(), AFFINE), tmp_path / "two.nii.gz")
    for name in ("big.nii", "two.nii.gz"):
        values = read_values(VolumeSlice(tmp_path / name, 1, 3), 1)[0]
        np.testing.assert_array_equal(values[..., 0], voxels()[:, 3])
        assert values.dtype.isnative


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    """CT is stored as 0, 1, 2 ... and meant as Hounsfield units: 1 * value - 1024."""
    image = nibabel.Nifti1Image(voxels(), AFFINE)
    image.header.set_slope_inter(1, -1024)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    values = read_values(VolumeSlice(tmp_path / "ct.nii.gz", 2, 0), 1)[0]
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[..., 0], voxels("float32")[..., 0] - 1024)


def test_a_fourth_axis_is_bands(tmp_path: Path) -> None:
    content = voxels("float32", (*SHAPE, 4))
    path = write_volume(tmp_path / "a.nii.gz", content)
    part = VolumeSlice(path, 1, 6)
    assert volume_header(path).bands == 4
    np.testing.assert_array_equal(read_values(part, 4)[0], content[:, 6])
    np.testing.assert_array_equal(read_values(part, (3, 1))[0], content[:, 6][..., [2, 0]])
    with pytest.raises(DataError, match=r"a\.nii\.gz: has 4 bands where input\.bands is 3; allowed: 4, or a list"):
        read_values(part, 3)
    with pytest.raises(DataError, match=r"a\.nii\.gz: has no band 5 \(input\.bands\), allowed: 1 to 4"):
        read_values(part, (1, 5))
    with pytest.raises(DataError, match=r"a\.nii\.gz: is a mask of 4 bands, allowed: 1"):
        Slice(part).read()


def test_nan_is_missing_and_so_is_nodata(tmp_path: Path) -> None:
    content = voxels("float32") + 1
    content[2, 3, 1], content[4, 5, 1] = np.nan, 0
    part = VolumeSlice(write_volume(tmp_path / "a.nii", content), 2, 1)
    missing = read_values(part, 1)[1]
    assert missing is not None and np.argwhere(missing[..., 0]).tolist() == [[2, 3]]
    missing = read_values(part, 1, None, 0.0)[1]
    assert missing is not None and np.argwhere(missing[..., 0]).tolist() == [[2, 3], [4, 5]]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [10, 200, 400, 1500])
def test_a_truncated_volume_is_named(tmp_path: Path, suffix: str, kept: int) -> None:
    data = write_volume(tmp_path / f"whole{suffix}", voxels()).read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(data[: min(kept, len(data) - 30)])
    with pytest.raises(DataError, match=rf"a{suffix}: is cut short or corrupt, or no NIfTI \("):
        read_values(VolumeSlice(tmp_path / f"a{suffix}", 2, 4), 1)


def test_a_changed_byte_of_a_gzip_is_seen(tmp_path: Path) -> None:
    raw = gzip.decompress(write_volume(tmp_path / "whole.nii.gz", voxels()).read_bytes())
    data = bytearray(gzip.compress(raw, 0))  # stored: only the checksum tells
    data[-200] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.nii\.gz: is cut short or corrupt"):
        read_values(VolumeSlice(tmp_path / "a.nii.gz", 0, 0), 1)


def test_shapes_and_voxels_that_are_refused(tmp_path: Path) -> None:
    flat = write_volume(tmp_path / "flat.nii", voxels(shape=(4, 5)))
    with pytest.raises(DataError, match=r"flat\.nii: its shape is 4 x 5, allowed: three axes, or four, the last of"):
        volume_header(flat)
    complex_ = write_volume(tmp_path / "c.nii", voxels("complex64"))
    with pytest.raises(DataError, match=r"c\.nii: holds complex64 voxels, allowed: real numbers"):
        read_values(VolumeSlice(complex_, 0, 0), 1)
    with pytest.raises(DataError, match=r"c\.nii: has no slice 11 along axis 0, allowed: 0 to 10"):
        read_values(VolumeSlice(complex_, 0, 11), 1)
    with pytest.raises(DataError, match=r"a\.png: is no volume, allowed with data\.slices: \.nii, \.nii\.gz, \.tif"):
        (tmp_path / "a.png").write_bytes(b"x")
        volume_header(tmp_path / "a.png")


def test_without_nibabel_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_volume(tmp_path / "a.nii", voxels())
    found = builtins.__import__

    def no_nibabel(name: str, *args: object, **kwargs: object) -> object:
        if name == "nibabel":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_nibabel)
    with pytest.raises(ConfigError, match=r"reading NIfTI volumes needs nibabel; .* pip install 'seg\[medical\]'"):
        volume_header(path)


# --- stacks ---
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_slice_of_a_stack(tmp_path: Path, axis: int, dtype: str) -> None:
    pages = voxels(dtype)
    path = write_stack(tmp_path / "a.tif", pages)
    assert volume_header(path).shape == SHAPE
    for index in (0, SHAPE[axis] - 1):
        part = VolumeSlice(path, axis, index)
        values = read_values(part, 1)[0]
        np.testing.assert_array_equal(values[..., 0], np.take(pages, index, axis))
        assert values.dtype == dtype
        np.testing.assert_array_equal(Slice(part).read().values, np.take(pages, index, axis))


def test_a_stack_of_one_page_and_of_pages_that_differ(tmp_path: Path) -> None:
    one = write_stack(tmp_path / "one.tif", voxels("uint8")[:1])
    np.testing.assert_array_equal(read_values(VolumeSlice(one, 0, 0), 1)[0][..., 0], voxels("uint8")[0])
    first, second = Image.fromarray(voxels("uint8")[0]), Image.fromarray(voxels("uint8")[1, :9])
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    with pytest.raises(DataError, match=r"two\.tif: its pages differ in size or type, allowed with data\.slices: p"):
        read_values(VolumeSlice(tmp_path / "two.tif", 1, 0), 1)


def test_a_truncated_stack_is_named(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.tif", voxels("uint16", (5, 100, 100)))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataError, match=r"a\.tif: cannot be read as a raster, is it cut short"):
        for index in range(5):
            read_values(VolumeSlice(path, 0, index), 1)


# --- memory ---
def test_a_gzip_is_decoded_once_by_many_threads_and_forgotten_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_volume(tmp_path / f"{name}.nii.gz", voxels()) for name in "abc"]
    decoded: list[str] = []
    decompress = gzip.decompress
    monkeypatch.setattr(gzip, "decompress", lambda data: decoded.append("x") or decompress(data))
    volumes._cache.clear()
    size = 352 + voxels().nbytes
    monkeypatch.setattr(volumes, "CACHE_BYTES", 2 * size)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda k: read_values(VolumeSlice(paths[0], 2, k % 5), 1)[0], range(40)))
    assert len(decoded) == 1
    np.testing.assert_array_equal(parts[3][..., 0], voxels()[..., 3])
    for path in (*paths, paths[1], paths[2]):
        read_values(VolumeSlice(path, 0, 0), 1)
    assert len(decoded) == 3 and [key[0] for key in volumes._cache] == paths[1:]
    write_volume(paths[2], voxels() + 1)  # another file under the same name
    np.testing.assert_array_equal(read_values(VolumeSlice(paths[2], 0, 0), 1)[0][..., 0], voxels()[0] + 1)


# --- samples ---
def dataset(root: Path, count: int = 6) -> None:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
        for k in range(count):
            write_volume(root / folder / f"scan_{k}.nii.gz", voxels("uint8" if folder == "masks" else "int16"))


def test_every_slice_is_a_sample_and_no_volume_is_in_two_splits(tmp_path: Path) -> None:
    dataset(tmp_path)
    splits = samples_from_fractions(tmp_path, fractions={"train": 0.5, "val": 0.5}, seed=0)
    slices = expand_slices(splits, axis=2)
    assert {split: len(samples) for split, samples in slices.items()} == {"train": 15, "val": 15}
    groups = {split: {sample.group for sample in samples} for split, samples in slices.items()}
    assert len(groups["train"]) == len(groups["val"]) == 3 and not groups["train"] & groups["val"]
    first = slices["train"][0]
    assert isinstance(first.image, VolumeSlice) and first.image.index == 0 and first.image.axis == 2
    assert first.mask.path == tmp_path / "masks" / first.image.path.name
    with pytest.raises(DataError, match=r"scan_\d\.nii\.gz: is a volume; allowed: data\.slices: \{axis: 0, 1 or 2\}"):
        refuse_volumes(splits)


def test_a_group_of_the_table_stays(tmp_path: Path) -> None:
    dataset(tmp_path, 1)
    sample = Sample(tmp_path / "images/scan_0.nii.gz", tmp_path / "masks/scan_0.nii.gz", "patient 7")
    assert {part.group for part in expand_slices({"train": [sample]}, 0)["train"]} == {"patient 7"}


def test_validity_masks_are_cut_too(tmp_path: Path) -> None:
    dataset(tmp_path, 1)
    mask = LimitedMask(tmp_path / "masks/scan_0.nii.gz", tmp_path / "masks/scan_0.nii.gz", (1,))
    part = expand_slices({"train": [Sample(tmp_path / "images/scan_0.nii.gz", mask)]}, 2)["train"][3]
    assert part.mask == LimitedMask(VolumeSlice(mask.mask, 2, 3), VolumeSlice(mask.mask, 2, 3), (1,))


def test_volumes_that_are_not_voxel_on_voxel(tmp_path: Path) -> None:
    image = write_volume(tmp_path / "i.nii", voxels())
    check_volumes(image, write_volume(tmp_path / "m.nii.gz", voxels("uint8")))
    check_volumes(image, write_volume(tmp_path / "close.nii.gz", voxels("uint8"), AFFINE + 1e-5))
    short = write_volume(tmp_path / "short.nii", voxels("uint8")[..., :4])
    with pytest.raises(DataError, match=r"i\.nii is 11 x 17 x 5 voxels but its mask .*short\.nii is 11 x 17 x 4; al"):
        check_volumes(image, short)
    moved = write_volume(tmp_path / "moved.nii", voxels("uint8"), np.diag([0.7, 0.7, 3.0, 1.0]))
    with pytest.raises(
        DataError, match=r"i\.nii has the affine \[\[0\.7, .*2\.5, .* but its mask .*moved\.nii has .*3\.0"
    ):
        check_volumes(image, moved)


def test_mask_values_of_a_volume(tmp_path: Path) -> None:
    labels = LabelSet.from_names(("background", "organ", "tumour"))
    mask = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.float64)  # as many tools write labels
    part = VolumeSlice(write_volume(tmp_path / "m.nii.gz", mask), 1, 2)
    decoded = read_mask(part, labels, IndexEncoding())
    np.testing.assert_array_equal(decoded, mask[:, 2])
    assert decoded.dtype == np.uint8
    mask[0, 2, 0] = 1.5
    part = VolumeSlice(write_volume(tmp_path / "half.nii.gz", mask), 1, 2)
    with pytest.raises(DataError, match=r"half\.nii\.gz \(slice 2 along axis 1\): label value 1\.5 in 1 pixels is no"):
        read_mask(part, labels, IndexEncoding())
    mask[0, 2, 0] = -1
    part = VolumeSlice(write_volume(tmp_path / "minus.nii.gz", mask), 1, 2)
    with pytest.raises(DataError, match=r"minus\.nii\.gz .*: label value -1 in 1 pixels; allowed: 0 to 2"):
        read_mask(part, labels, IndexEncoding())


def test_a_float_mask_under_the_scale_of_a_ct_header_is_rounded_and_counted(tmp_path: Path) -> None:
    ct = nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.eye(4))
    nibabel.save(ct, tmp_path / "ct.nii")
    header = nibabel.load(tmp_path / "ct.nii").header
    mask = (np.arange(32).reshape(4, 4, 2) % 3).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4), header), tmp_path / "m.nii")  # 1.0000153 and so on
    labels = LabelSet.from_names(("background", "organ", "tumour"))
    written = nibabel.load(tmp_path / "m.nii").get_fdata()[..., 1]
    decoded, snapped = read_mask_and_snapped(VolumeSlice(tmp_path / "m.nii", 2, 1), labels, IndexEncoding())
    np.testing.assert_array_equal(decoded, mask[..., 1])
    assert snapped == np.count_nonzero(written != np.rint(written)) > 0


def test_multi_label_masks_are_no_volumes(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"m\.tif \(slice 0 along axis 0\): multi-label masks are TIFFs of a page a class"
    ):
        _ = Planes(VolumeSlice(tmp_path / "m.tif", 0, 0)).shape


# --- slices as files ---
def test_a_slice_stands_where_a_file_does(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "brain.nii.gz", voxels())
    part = VolumeSlice(path, 2, 17)
    assert str(part) == f"{path} (slice 17 along axis 2)"
    assert (part.stem, part.name) == ("brain_0017", "brain.nii.gz#2:17")
    assert VolumeSlice(Path("s.tif"), 0, 3).stem == "s_0003"
    assert file_state(part) == file_state(path)
    assert common_folder([part]) == tmp_path and relative_name(part, tmp_path) == "brain.nii.gz#2:17"
    with pytest.raises(DataError, match=r"brain\.nii\.gz \(slice 17 along axis 2\): is a slice and no file of its own"):
        read_bytes(part)


def test_a_prediction_has_the_volumes_affine(tmp_path: Path) -> None:
    image = write_volume(tmp_path / "i.nii", voxels())
    write_nifti(tmp_path / "out" / "p.nii.gz", voxels("uint8"), image)
    check_volumes(image, tmp_path / "out" / "p.nii.gz")
    written = nibabel.load(tmp_path / "out" / "p.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), voxels("uint8"))
    assert written.get_data_dtype() == np.uint8
