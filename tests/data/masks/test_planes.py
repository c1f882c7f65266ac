"""seg.data.masks.planes: planes by page or band, every value accounted for, every message."""

from __future__ import annotations

import re
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seg.data.files.planes import Planes
from seg.data.files.tiff import tiff_pages
from seg.data.masks.planes import MultiLabelEncoding, count_planes, write_planes
from seg.data.masks.reading import read_mask
from seg.errors import DataError
from seg.labels import LabelSet

ENCODING = MultiLabelEncoding()


def label_set(count: int, ignore_index: int = 255) -> LabelSet:
    return LabelSet.from_names([f"class {index}" for index in range(count)], ignore_index, multi_label=True)


def noise(count: int, size: tuple[int, int] = (9, 7), values: tuple[int, ...] = (0, 1, 255)) -> np.ndarray:
    """(H, W, K) uint8."""
    return np.random.default_rng(count).choice(np.array(values, np.uint8), (*size, count))


def write_bands(path: Path, mask: np.ndarray, **options: object) -> None:
    """A TIFF of one page with K bands, by GDAL."""
    import rasterio

    profile = {"driver": "GTiff", "dtype": mask.dtype, "count": mask.shape[2], "compress": "deflate"} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", height=mask.shape[0], width=mask.shape[1], **profile) as dataset:
            dataset.write(np.moveaxis(mask, -1, 0))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12, 128])
@pytest.mark.parametrize("write", [write_planes, write_bands], ids=["pages", "bands"])
def test_what_was_written_is_read(tmp_path: Path, count: int, write) -> None:
    mask = noise(count)
    write(tmp_path / "mask.tif", mask)
    found = read_mask(tmp_path / "mask.tif", label_set(count), ENCODING)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, mask)
    assert Planes(tmp_path / "mask.tif").shape == (9, 7)


@pytest.mark.parametrize(
    "options",
    [
        {"interleave": "pixel"},
        {"interleave": "band"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "lzw"},
        {"compress": "packbits"},
        {"BIGTIFF": "YES"},
    ],
)
def test_however_gdal_lays_out_the_bands(tmp_path: Path, options: dict) -> None:
    mask = noise(6, (20, 33))
    write_bands(tmp_path / "mask.tif", mask, **options)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif", label_set(6), ENCODING), mask)


def test_bands_are_read_by_many_threads(tmp_path: Path) -> None:
    mask = noise(6)
    write_bands(tmp_path / "mask.tif", mask)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_mask(tmp_path / "mask.tif", label_set(6), ENCODING), range(24)))
    assert all((one == mask).all() for one in found)


def test_an_overview_is_no_plane(tmp_path: Path) -> None:
    import rasterio

    mask = noise(2, (64, 64))
    write_bands(tmp_path / "mask.tif", mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "mask.tif", "r+") as dataset:
            dataset.build_overviews([2])
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif", label_set(2), ENCODING), mask)


def test_255_is_void_or_present_as_ignore_index_says(tmp_path: Path) -> None:
    write_planes(tmp_path / "mask.tif", np.array([[[0, 255], [1, 2]]], np.uint8))
    found = read_mask(tmp_path / "mask.tif", label_set(2, ignore_index=2), ENCODING)
    assert found.tolist() == [[[0, 1], [1, 2]]]  # 255 became 1, 2 stays void
    write_planes(tmp_path / "mask.tif", np.array([[[0, 255], [1, 1]]], np.uint8))
    found = read_mask(tmp_path / "mask.tif", label_set(2), ENCODING)
    assert found.tolist() == [[[0, 255], [1, 1]]]


def test_counts_by_hand(tmp_path: Path) -> None:
    # class 0: 0 1 / 1 255   class 1: 0 0 / 0 0   class 2: void everywhere
    mask = np.array([[[0, 0, 255], [1, 0, 255]], [[1, 0, 255], [255, 0, 255]]], np.uint8)
    write_planes(tmp_path / "mask.tif", mask)
    assert count_planes(tmp_path / "mask.tif", label_set(3)).tolist() == [[1, 2, 1], [4, 0, 0], [0, 0, 4]]


# --- what is refused --------------------------------------------------------------------------------------------------
def refused(path: Path, count: int, message: str, ignore_index: int = 255) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as error:
        read_mask(path, label_set(count, ignore_index), ENCODING)
    assert str(error.value).startswith(f"{path}: ")


def test_an_unknown_value_is_named_with_its_class_and_pixels(tmp_path: Path) -> None:
    mask = np.zeros((2, 3, 2), np.uint8)
    mask[0, :2, 1], mask[1, 0, 1] = 7, 3
    write_planes(tmp_path / "mask.tif", mask)
    refused(
        tmp_path / "mask.tif",
        2,
        "plane of class 'class 1': value 3 in 1 pixels, 7 in 2 pixels; allowed: 0 (absent), 1 (present) and 255 (not "
        "labelled)",
    )
    message = "value 3 in 1 pixels; allowed: 0 (absent), 1 or 255 (present) and 7 (not labelled)"
    refused(tmp_path / "mask.tif", 2, message, ignore_index=7)
    mask[..., 0] = np.arange(2, 8).reshape(2, 3)
    write_planes(tmp_path / "mask.tif", mask)
    refused(tmp_path / "mask.tif", 2, "6 in 1 pixels and 1 more values; allowed")


@pytest.mark.parametrize(("write", "kind"), [(write_planes, "page"), (write_bands, "band")])
def test_another_number_of_planes(tmp_path: Path, write, kind: str) -> None:
    write(tmp_path / "mask.tif", noise(3))
    refused(tmp_path / "mask.tif", 4, f"got 3 {kind}(s), allowed: 4, one a class (class 0 to class 3)")


def save_pages(path: Path, *pages: Image.Image, **options: object) -> None:
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:], **options)


def gray(mode: str = "L", size: tuple[int, int] = (4, 4)) -> Image.Image:
    return Image.new(mode, size)


ALLOWED = "; allowed: a TIFF of 8-bit planes of one size, one a class"


@pytest.mark.parametrize(
    ("pages", "options", "message"),
    [
        ([gray("1"), gray("1")], {}, f"holds 1-bit values of sample format 1{ALLOWED}"),
        ([gray("I;16"), gray("I;16")], {}, f"holds 16-bit values of sample format 1{ALLOWED}"),
        ([gray("F"), gray("F")], {}, f"holds 32-bit values of sample format 3{ALLOWED}"),
        ([gray("P"), gray("P")], {}, f"has photometric interpretation 3 and not 1 (black is zero){ALLOWED}"),
        ([gray(), gray()], {"compression": "jpeg"}, f"is compressed with losses, which blend values{ALLOWED}"),
        ([gray(), gray()], {"tiffinfo": {274: 6}}, f"its orientation tag is 6 and not 1 (upright){ALLOWED}"),
        ([gray(), gray("L", (4, 5))], {}, "its pages have 2 sizes; allowed: one, (height, width) of the image"),
        ([gray(), gray("RGB")], {}, "has pages of 3 bands; allowed: pages of one band, or one page of bands"),
    ],
)  # fmt: skip
def test_other_kinds_of_tiff(tmp_path: Path, pages: list, options: dict, message: str) -> None:
    save_pages(tmp_path / "mask.tif", *pages, **options)
    refused(tmp_path / "mask.tif", 2, message)


def test_files_that_are_no_tiff(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((3, 3), np.uint8))
    refused(tmp_path / "mask.png", 1, r"is no TIFF (it begins with b'\x89PNG\r\n\x1a\n')")
    path.write_bytes(b"")
    refused(path, 1, "is no TIFF (it is empty)")
    path.write_bytes(b"II*\0" + struct.pack("<I", 0))
    refused(path, 1, "its header is cut short or corrupt (no page)")
    with pytest.raises(DataError, match="none.tif: cannot be read"):
        _ = Planes(tmp_path / "none.tif").shape


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # by PIL, which parses the header
def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    for write in (write_planes, write_bands):
        write(path, noise(3, (40, 40)))
        whole = path.read_bytes()
        assert read_mask(path, label_set(3), ENCODING).shape == (40, 40, 3)
        for length in range(8, len(whole) - 8, 37):
            path.write_bytes(whole[:length])
            with pytest.raises(DataError, match=r"cut short|is corrupt|cannot be decoded|got . (page|band)"):
                read_mask(path, label_set(3), ENCODING)


def test_corrupt_data_are_refused(tmp_path: Path, capfd) -> None:
    path = tmp_path / "mask.tif"
    for write, message in (
        (write_planes, "page 2 of 3 is corrupt (decoder error"),
        (write_bands, "its bands cannot be decoded"),
    ):
        write(path, noise(3, (64, 64)))
        broken = bytearray(path.read_bytes())
        with path.open("rb") as file:
            start = tiff_pages(file, path)[-1][273][-1]  # the last strip
        broken[start : start + 8] = b"\xff" * 8
        path.write_bytes(broken)
        refused(path, 3, message)
    capfd.readouterr()  # OpenCV and GDAL report to stderr as well


def test_directories_that_go_in_a_circle_end(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    save_pages(path, gray(), gray())
    data = bytearray(path.read_bytes())
    first = directory = struct.unpack("<I", data[4:8])[0]
    for _ in range(2):
        link = directory + 2 + 12 * struct.unpack("<H", data[directory : directory + 2])[0]
        directory = struct.unpack("<I", data[link : link + 4])[0]
    data[link : link + 4] = struct.pack("<I", first)
    path.write_bytes(data)
    refused(path, 3, "got 2 page(s), allowed: 3")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=re.escape("mask: got uint8 of shape (2, 2), allowed: uint8 of shape (H, W, K)")
    ):
        write_planes(tmp_path / "mask.tif", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"path: got .*mask.png, allowed: a name ending in .tif or .tiff"):
        write_planes(tmp_path / "mask.png", np.zeros((2, 2, 1), np.uint8))
    assert not list(tmp_path.iterdir())
