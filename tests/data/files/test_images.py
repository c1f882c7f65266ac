from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from seg.data.files.images import resize_image, resize_mask, unit_range
from seg.data.files.reading import image_size, read_values, reader
from seg.errors import DataError

SHARED_DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


def read_image(path: Path, bands: int) -> np.ndarray:
    values, missing = read_values(path, bands)
    assert missing is None
    return values


def pixels(shape: tuple[int, ...], dtype: type, seed: int = 0) -> np.ndarray:
    high = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1000
    return np.random.default_rng(seed).integers(0, high, shape, endpoint=True).astype(dtype)


def encode(array: np.ndarray, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def tiff_bytes(array: np.ndarray, photometric: int | None = None, extra: int | None = None) -> bytes:
    """A little-endian TIFF written by hand: header first, deflated strips of 16 rows last, as cloud-optimised ones."""
    height, width = array.shape[:2]
    bands = 1 if array.ndim == 2 else array.shape[2]
    strips = [zlib.compress(array[row : row + 16].tobytes()) for row in range(0, height, 16)]
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    photometric = (2 if bands >= 3 else 1) if photometric is None else photometric
    entries = [(256, "I", [width]), (257, "I", [height]), (258, "H", [array.dtype.itemsize * 8] * bands)]
    entries += [(259, "H", [8]), (262, "H", [photometric]), (273, "I", []), (277, "H", [bands]), (278, "I", [16])]
    entries += [(279, "I", [len(strip) for strip in strips])]
    if extra is not None:
        entries += [(338, "H", [extra])]
    entries += [(339, "H", [kind] * bands)]

    def head(offsets: list[int]) -> bytes:
        table, beside = b"", b""
        for tag, code, given_values in entries:
            values = given_values or offsets
            packed = struct.pack(f"<{len(values)}{code}", *values)
            if len(packed) > 4:
                place = 8 + 2 + 12 * len(entries) + 4 + len(beside)
                beside += packed + b"\0" * (len(packed) % 2)
                packed = struct.pack("<I", place)
            table += struct.pack("<HHI", tag, {"H": 3, "I": 4}[code], len(values)) + packed.ljust(4, b"\0")
        return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + table + struct.pack("<I", 0) + beside

    start = len(head([0] * len(strips)))
    offsets = [start + sum(map(len, strips[:index])) for index in range(len(strips))]
    return head(offsets) + b"".join(strips)


def stored(folder: Path, data: bytes, name: str = "image.bin") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize("size", [(1, 1), (37, 20)])
def test_gray_and_rgb_are_read_bit_for_bit_in_rgb_order(tmp_path, dtype, form, size):
    gray, rgb = pixels(size, dtype), pixels((*size, 3), dtype)
    if form == "tiff":
        gray_file, rgb_file = tiff_bytes(gray), tiff_bytes(rgb)
    else:  # OpenCV writes what it is given as BGR
        gray_file = cv2.imencode(".png", gray)[1].tobytes()
        rgb_file = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes()
    read = read_image(stored(tmp_path, gray_file), 1)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[..., 0], gray)
    np.testing.assert_array_equal(read_image(stored(tmp_path, gray_file), 3), np.repeat(gray[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_image(stored(tmp_path, rgb_file), 3), rgb)
    assert image_size(stored(tmp_path, rgb_file)) == size


def test_8_bit_rgb_agrees_with_pillow(tmp_path):
    rgb = cv2.GaussianBlur(pixels((64, 48, 3), np.uint8), (0, 0), 4)
    for form, options in (("PNG", {}), ("TIFF", {"compression": "tiff_lzw"}), ("JPEG", {"quality": 95})):
        data = encode(rgb, form, **options)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        # JPEG: two builds of libjpeg-turbo may round the inverse transform by 1
        np.testing.assert_allclose(read_image(stored(tmp_path, data), 3), expected, atol=1 if form == "JPEG" else 0)


def test_gray_jpeg_with_one_and_three_bands(tmp_path):
    path = stored(tmp_path, encode(np.full((9, 7), 50, np.uint8), "JPEG"))
    assert read_image(path, 1).shape == (9, 7, 1)
    assert (read_image(path, 3) == 50).all()


def test_palette_png_is_read_as_its_colours(tmp_path):
    image = Image.frombytes("P", (2, 1), bytes([0, 1]))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 3).tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_alpha_is_dropped_and_other_alpha_refused(tmp_path, mode):
    values = pixels((5, 4, len(mode)), np.uint8)
    values[..., -1] = 255
    path = stored(tmp_path, encode(values, "PNG"))
    expected = values[..., :-1]
    np.testing.assert_array_equal(read_image(path, 3), np.broadcast_to(expected, (5, 4, 3)))
    values[0, :2, -1] = 254
    path = stored(tmp_path, encode(values, "PNG"))
    with pytest.raises(DataError, match=r"image.bin: 2 pixel\(s\) are transparent, allowed: opaque pixels"):
        read_image(path, 3)


def test_4_band_tiff_needs_a_marked_alpha(tmp_path):
    values = pixels((20, 8, 4), np.uint16)
    values[..., 3] = 65535
    np.testing.assert_array_equal(read_image(stored(tmp_path, tiff_bytes(values, extra=2)), 3), values[..., :3])
    with pytest.raises(DataError, match=r"image.bin: has 4 bands where input.bands is 3; allowed: 4, or a list of the"):
        read_image(stored(tmp_path, tiff_bytes(values, extra=0)), 3)


def test_two_band_uint16_tiff_is_no_gray_image(tmp_path):
    # cv2.imread gives one uint8 band for this file
    path = stored(tmp_path, tiff_bytes(pixels((20, 8, 2), np.uint16), extra=0))
    with pytest.raises(DataError, match="image.bin: has 2 bands where input.bands is 1; allowed: 2, or a list of the"):
        read_image(path, 1)
    np.testing.assert_array_equal(read_image(path, 2), pixels((20, 8, 2), np.uint16))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_is_read_as_every_viewer_shows_it(tmp_path, dtype):
    values = pixels((20, 8), dtype)
    read = read_image(stored(tmp_path, tiff_bytes(values, photometric=0)), 1)
    np.testing.assert_array_equal(read[..., 0], np.iinfo(dtype).max - values)
    if dtype == np.uint8:
        np.testing.assert_array_equal(read[..., 0], np.asarray(Image.open(tmp_path / "image.bin")))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_other_number_types_are_no_pictures(tmp_path, dtype):
    path = stored(tmp_path, tiff_bytes(pixels((20, 8), dtype)))
    assert not reader(path).picture
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], pixels((20, 8), dtype))


def test_a_16_bit_rgb_tiff_with_separate_planes(tmp_path):
    # what tifffile writes for (3, H, W): OpenCV 5.0.0 gives memory that is not the image
    values = pixels((40, 30, 3), np.uint16)
    profile = {"driver": "GTiff", "height": 40, "width": 30, "count": 3, "dtype": "uint16", "interleave": "band"}
    with rasterio.open(tmp_path / "image.bin", "w", photometric="RGB", **profile) as file:
        file.write(values.transpose(2, 0, 1))
    assert reader(tmp_path / "image.bin").picture
    np.testing.assert_array_equal(read_image(tmp_path / "image.bin", 3), values)


def test_transparent_pixels_of_a_tiff_picture_are_refused(tmp_path):
    values = pixels((20, 8, 4), np.uint8)
    values[..., 3] = 255
    values[0, :2, 3] = 254, 0
    with pytest.raises(DataError, match=r"image.bin: 2 pixel\(s\) are transparent, allowed: opaque pixels; flatten"):
        read_image(stored(tmp_path, tiff_bytes(values, extra=2)), 3)


def test_a_gray_tiff_by_a_list_of_bands(tmp_path):
    path = stored(tmp_path, tiff_bytes(pixels((20, 8), np.uint8)))
    values, _ = read_values(path, (1, 3))
    np.testing.assert_array_equal(values, np.repeat(pixels((20, 8), np.uint8)[..., None], 2, axis=2))


def test_stack_is_refused_but_overviews_are_not(tmp_path):
    page = Image.fromarray(pixels((20, 8), np.uint8))
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page])
    with pytest.raises(DataError, match="stack.tif: holds several pages, allowed: one image a file"):
        read_image(tmp_path / "stack.tif", 1)
    with AppendingTiffWriter(tmp_path / "overview.tif", new=True) as file:
        page.save(file, "TIFF")
        file.newFrame()
        page.resize((4, 10)).save(file, "TIFF", tiffinfo={254: 1})  # 254: a reduced copy of another page
    np.testing.assert_array_equal(read_image(tmp_path / "overview.tif", 1)[..., 0], np.asarray(page))


def test_big_tiff(tmp_path):
    page = pixels((20, 8), np.uint8)
    Image.fromarray(page).save(tmp_path / "big.tif", big_tiff=True)
    np.testing.assert_array_equal(read_image(tmp_path / "big.tif", 1)[..., 0], page)


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_turned_image_is_refused(tmp_path, form):
    exif = Image.Exif()
    exif[274] = 6
    options = {"exif": exif} if form == "JPEG" else {"tiffinfo": {274: 6}}
    path = stored(tmp_path, encode(pixels((6, 9), np.uint8), form, **options))
    with pytest.raises(DataError, match="its orientation tag is 6, allowed: 1 .upright."):
        read_image(path, 1)
    exif[274] = 1
    options = {"exif": exif} if form == "JPEG" else {"tiffinfo": {274: 1}}
    assert read_image(stored(tmp_path, encode(pixels((6, 9), np.uint8), form, **options)), 1).shape == (6, 9, 1)


def test_cmyk_jpeg_is_refused(tmp_path):
    path = tmp_path / "image.jpg"
    Image.new("CMYK", (4, 4)).save(path)
    with pytest.raises(DataError, match="is a CMYK JPEG, allowed: gray or RGB"):
        read_image(path, 3)


def test_rgb_file_with_one_band_is_refused(tmp_path):
    path = stored(tmp_path, encode(pixels((4, 4, 3), np.uint8), "PNG"))
    with pytest.raises(DataError, match="image.bin: is an 8-bit RGB PNG where bands is 1; allowed: a gray image, or"):
        read_image(path, 1)


def test_bands_other_than_one_or_three(tmp_path):
    path = stored(tmp_path, encode(pixels((4, 4, 3), np.uint8), "PNG"))
    with pytest.raises(DataError, match="image.bin: has 1 or 3 bands where input.bands is 4; allowed: 1 or 3, or a"):
        read_image(path, 4)


@pytest.mark.parametrize("reader", [image_size, lambda path: read_image(path, 3)])
def test_files_that_are_no_images(tmp_path, reader):
    with pytest.raises(DataError, match=r"gone.png: cannot be read \(No such file or directory\)"):
        reader(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be read .Is a directory."):
        reader(tmp_path)
    with pytest.raises(DataError, match="empty.png: is no image that can be read .it is empty., allowed: PNG, JPEG"):
        reader(stored(tmp_path, b"", "empty.png"))
    with pytest.raises(DataError, match="it begins with b'version '"):
        reader(stored(tmp_path, b"version https://git-lfs.github.com/spec/v1\n", "pointer.png"))
    for start in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"II*\0\x08\0\0\0"):
        with pytest.raises(DataError, match="cut.bin: its header is cut short or corrupt"):
            reader(stored(tmp_path, start, "cut.bin"))


FILES = {
    "png": lambda rgb: encode(rgb, "PNG"),
    "png 16 bits": lambda rgb: cv2.imencode(".png", rgb.astype(np.uint16) * 257)[1].tobytes(),
    "jpeg": lambda rgb: encode(rgb, "JPEG"),
    "progressive jpeg": lambda rgb: encode(rgb, "JPEG", progressive=True),
    "raw tiff": lambda rgb: encode(rgb, "TIFF"),
    "lzw tiff": lambda rgb: encode(rgb, "TIFF", compression="tiff_lzw"),
    "deflate tiff, header first": tiff_bytes,
}


@pytest.mark.filterwarnings("ignore:.*(EXIF|Truncated)")
@pytest.mark.parametrize("form", FILES)
def test_a_truncated_file_is_never_partly_decoded(tmp_path, form):
    data = FILES[form](cv2.GaussianBlur(pixels((64, 48, 3), np.uint8), (0, 0), 3))
    whole = read_image(stored(tmp_path, data), 3)
    assert whole.shape == (64, 48, 3)
    for length in [*np.linspace(20, len(data) - 1, 25).astype(int), *range(len(data) - 12, len(data))]:
        with pytest.raises(DataError, match="image.bin: (its|cannot be read as a raster,) .* (cut short|corrupt)"):
            read_image(stored(tmp_path, data[:length]), 3)


def test_a_flipped_bit_in_a_png_is_found_by_its_checksum(tmp_path):
    data = encode(pixels((32, 32), np.uint8), "PNG")
    for position in np.linspace(8, len(data) - 13, 40).astype(int):
        broken = bytearray(data)
        broken[position] ^= 16
        with pytest.raises(DataError, match="cut short or corrupt|transparent"):
            read_image(stored(tmp_path, bytes(broken)), 1)


def test_decoder_that_disagrees_with_the_header(tmp_path, monkeypatch):
    path = stored(tmp_path, encode(pixels((4, 5), np.uint8), "PNG"))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((5, 4), np.uint8))
    with pytest.raises(DataError, match="was decoded to 5 x 4 uint8, its header says 4 x 5, an 8-bit gray PNG"):
        read_image(path, 1)


def test_decoder_that_raises(tmp_path, monkeypatch):
    def refuse(*_):
        raise cv2.error("too many pixels")

    path = stored(tmp_path, encode(pixels((4, 5), np.uint8), "PNG"))
    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(DataError, match="image.bin: cannot be decoded .too many pixels"):
        read_image(path, 1)


def test_unit_range_by_hand():
    assert unit_range(np.array([0, 51, 255], np.uint8)).tolist() == [0, np.float32(0.2), 1]
    assert unit_range(np.array([0, 65535], np.uint16)).tolist() == [0, 1]
    # 12-bit data in 16-bit files: 4095 becomes 1, what lies above stays 1
    assert unit_range(np.array([0, 819, 4095, 5000], np.uint16), 4095).tolist() == [0, np.float32(0.2), 1, 1]
    assert unit_range(np.zeros((2, 2), np.uint8)).dtype == np.float32


def test_unit_range_refuses():
    with pytest.raises(ValueError, match="image: got float32, allowed: uint8 or uint16"):
        unit_range(np.zeros(3, np.float32))
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"max_value: got {wrong}, allowed: above 0"):
            unit_range(np.zeros(3, np.uint8), wrong)


def test_shrinking_averages_areas():
    image = np.array([[0, 100, 10, 10], [100, 200, 10, 30]], np.uint8)[..., None]
    # 2 x 2 means: (0 + 100 + 100 + 200) / 4 = 100, (10 + 10 + 10 + 30) / 4 = 15
    assert resize_image(image, (1, 2)).tolist() == [[[100], [15]]]


def test_enlarging_interpolates_linearly():
    image = np.array([[0, 100]], np.uint8)[..., None]
    # output centres at -0.25, 0.25, 0.75, 1.25 of the input: 0, 25, 75, 100
    assert resize_image(image, (1, 4))[..., 0].tolist() == [[0, 25, 75, 100]]


def test_shrinking_one_axis_and_enlarging_the_other():
    image = np.array([[0, 80], [20, 120]], np.uint8)[..., None]
    # area over the rows: 10, 100; linear over the columns: 10, 10 + 90/4 = 32.5, 77.5, 100 (rounded)
    resized = resize_image(image, (1, 4))[0, :, 0].astype(int)
    assert np.abs(resized - [10, 32.5, 77.5, 100]).max() <= 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("size", [(5, 9), (20, 30), (5, 30), (11, 13)])
def test_resizing_keeps_dtype_bands_and_constants(dtype, bands, size):
    image = np.full((11, 13, bands), 200, dtype)
    resized = resize_image(image, size)
    assert resized.shape == (*size, bands)
    assert resized.dtype == dtype
    assert (resized == 200).all()


def test_resize_mask_takes_the_centre_pixel():
    # thirds of 9: centres are pixels 1, 4, 7 (cv2.INTER_NEAREST takes 0, 3, 6)
    mask = np.tile(np.arange(9, dtype=np.uint8), (9, 1))
    assert resize_mask(mask, (3, 3)).tolist() == [[1, 4, 7]] * 3


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([3, 5]))
def test_mask_and_flipped_mask_resize_alike(height, width, factor):
    mask = np.random.default_rng(height * 41 + width).integers(0, 9, (height * factor, width * factor), np.uint8)
    resized = resize_mask(mask, (height, width))
    np.testing.assert_array_equal(resize_mask(mask[:, ::-1].copy(), (height, width)), resized[:, ::-1])
    assert np.isin(resized, mask).all()


def test_mask_stays_aligned_with_its_image():
    # a disc shrunk as image (area, then threshold) and as mask: the same up to the rim
    rows, columns = np.mgrid[:240, :240]
    disc = ((rows - 101.5) ** 2 + (columns - 130.5) ** 2 < 70**2).astype(np.uint8)
    image = resize_image(disc[..., None] * 255, (60, 60))[..., 0] > 127
    mask = resize_mask(disc, (60, 60))
    assert (image != mask).sum() <= 30  # of a rim of 2 pi 17.5 = 110 pixels; 4-fold symmetric, hence no drift:
    centres = [np.argwhere(part).mean(axis=0) for part in (image, mask)]
    assert np.abs(centres[0] - centres[1]).max() < 0.15


def test_opencv_runs_single_threaded():
    assert cv2.getNumThreads() == 1


def test_real_images():
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent")
    for name, bands, size in (("camvid", 3, (360, 480)), ("aerial_city", 3, (500, 500)), ("membrane", 1, (512, 512))):
        files = sorted(path for path in (SHARED_DATA / name / "images").rglob("*") if path.is_file())[::20]
        assert files
        for path in files:
            assert image_size(path) == size
            assert read_image(path, bands).shape == (*size, bands)


@pytest.mark.parametrize("size", [(10, 14), (50, 70), (10, 70)])
def test_any_number_of_bands_is_resized(size):
    image = pixels((40, 30, 9), np.uint8)
    resized = resize_image(image, size)
    for band in range(9):
        np.testing.assert_array_equal(resized[..., band], resize_image(image[..., band : band + 1], size)[..., 0])
