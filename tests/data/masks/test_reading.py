from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seg.data.masks.colours import labels_of_colours
from seg.data.masks.reading import (
    BinaryEncoding,
    ColourEncoding,
    IndexEncoding,
    MaskEncoding,
    PaletteEncoding,
    read_mask,
    write_mask,
)
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet

SHARED_DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
LABELS = LabelSet(("water", "road", "roof"), ((10, 20, 30), (40, 50, 60), (200, 0, 0)), ignore_index=255)
TWO = LabelSet.from_names(("ground", "roof"))
MASK = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bytes(values: np.ndarray, bits: int, kind: int = 0, rows: int | None = None) -> bytes:
    """A PNG written by hand: gray (kind 0) or palette (kind 3) of `bits` bits; only the first `rows` rows if given."""
    height, width = values.shape
    packed = b""
    for row in values[:rows]:
        digits = "".join(format(int(value), f"0{bits}b") for value in row)
        digits += "0" * (-len(digits) % 8)
        packed += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    palette = chunk(b"PLTE", bytes(value % 251 for value in range(3 * 2**bits))) if kind == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")


def stored(folder: Path, data: bytes | np.ndarray | Image.Image, name: str = "mask.png", **options: object) -> Path:
    path = folder / name
    if isinstance(data, np.ndarray):
        data = Image.fromarray(data)
    if isinstance(data, Image.Image):
        data.save(path, **options)
    else:
        path.write_bytes(data)
    return path


def palette_image(values: np.ndarray) -> Image.Image:
    image = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
    image.putpalette([value * 37 % 256 for value in range(768)])
    return image


def painted(mask: np.ndarray, void: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    table = LABELS.colour_table()
    table[255] = void
    return table[mask]


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_written_masks_read_back(tmp_path_factory, height, width, seed):
    mask = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
    path = tmp_path_factory.getbasetemp() / "law.png"
    write_mask(path, mask)
    np.testing.assert_array_equal(read_mask(path, LABELS, IndexEncoding()), mask)


def test_write_mask_makes_the_folder_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "a" / "b.png"
    write_mask(path, MASK)
    write_mask(path, MASK)
    assert [entry.name for entry in path.parent.iterdir()] == ["b.png"]


def test_a_failed_write_leaves_the_old_mask(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_mask(path, MASK)

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(DataError, match=r"a\.png: cannot be written \(disk full\)"):
        write_mask(path, MASK * 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
    np.testing.assert_array_equal(read_mask(path, LABELS, IndexEncoding()), MASK)


def test_write_mask_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"mask: got int64 of shape \(2, 2\), allowed: uint8 of shape \(H, W\)"):
        write_mask(tmp_path / "a.png", np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match=r"mask: got uint8 of shape \(2, 2, 1\)"):
        write_mask(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="allowed: a name ending in .png"):
        write_mask(tmp_path / "a.jpg", MASK)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_index_png_of_every_depth(tmp_path, bits):
    many = LabelSet.from_names([f"c{index}" for index in range(17)])
    top = min(2**bits, 17)
    values = np.arange(5 * 9).reshape(5, 9) % top
    mask = read_mask(stored(tmp_path, png_bytes(values, bits)), many, IndexEncoding())
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_png_of_every_depth_gives_indices(tmp_path, bits):
    many = LabelSet.from_names([f"c{index}" for index in range(17)])
    values = (np.arange(5 * 9) % min(2**bits, 17)).reshape(5, 9).astype(np.uint8)
    mask = read_mask(stored(tmp_path, png_bytes(values, bits, kind=3)), many, PaletteEncoding())
    np.testing.assert_array_equal(mask, values)


def test_palette_written_by_pillow_with_transparency_and_void(tmp_path):
    path = stored(tmp_path, palette_image(MASK), transparency=1)
    np.testing.assert_array_equal(read_mask(path, LABELS, PaletteEncoding()), MASK)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), MASK)  # second opinion: PIL's mode P


def test_index_tiff(tmp_path):
    np.testing.assert_array_equal(read_mask(stored(tmp_path, MASK, "mask.tif"), LABELS, IndexEncoding()), MASK)


def test_ignore_index_other_than_255(tmp_path):
    labels = LabelSet.from_names(("a", "b"), ignore_index=11)
    mask = np.array([[0, 1, 11]], np.uint8)
    np.testing.assert_array_equal(read_mask(stored(tmp_path, mask), labels, IndexEncoding()), mask)


def test_all_void(tmp_path):
    assert (read_mask(stored(tmp_path, np.full((3, 3), 255, np.uint8)), LABELS, IndexEncoding()) == 255).all()


@pytest.mark.parametrize(("encoding", "wrap"), [(IndexEncoding(), np.asarray), (PaletteEncoding(), palette_image)])
def test_unknown_label_values_are_errors(tmp_path, encoding, wrap):
    values = np.array([[0, 7, 7, 3], [1, 2, 255, 200]], np.uint8)
    with pytest.raises(DataError) as caught:
        read_mask(stored(tmp_path, wrap(values)), LABELS, encoding)
    assert str(caught.value) == (
        f"{tmp_path / 'mask.png'}: label value 3 in 1 pixels, 7 in 2 pixels, 200 in 1 pixels; "
        "allowed: 0 to 2 ('water' to 'roof') and 255 (void)"
    )


def test_unknown_16_bit_values_do_not_wrap(tmp_path):
    with pytest.raises(DataError, match="label value 256 in 1 pixels, 257 in 1 pixels; allowed"):
        read_mask(stored(tmp_path, png_bytes(np.array([[256, 257, 1]]), 16)), LABELS, IndexEncoding())


def test_many_unknown_values_are_counted(tmp_path):
    # 254 values, of which 0, 1, 2 are classes: 251 unknown, 5 of them listed
    with pytest.raises(DataError, match="7 in 1 pixels and 246 more values; allowed"):
        read_mask(stored(tmp_path, np.arange(254, dtype=np.uint8)[None]), LABELS, IndexEncoding())


def test_colours_by_hand(tmp_path):
    path = stored(tmp_path, painted(MASK))
    np.testing.assert_array_equal(read_mask(path, LABELS, ColourEncoding(void_colours=((0, 0, 0),))), MASK)


def test_several_void_colours_and_255_classes(tmp_path):
    labels = LabelSet.from_names([f"c{index}" for index in range(255)])
    voids = ((1, 2, 3), (0, 0, 0))
    rgb = np.array([[*labels.colours, *voids]], np.uint8)
    mask = read_mask(stored(tmp_path, rgb), labels, ColourEncoding(voids))
    assert mask.tolist() == [[*range(255), 255, 255]]


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_colour_masks_with_palette_or_opaque_alpha(tmp_path, mode):
    image = Image.fromarray(painted(MASK))
    image = image.convert("RGBA") if mode == "RGBA" else image.quantize(8)
    path = stored(tmp_path, image)
    np.testing.assert_array_equal(read_mask(path, LABELS, ColourEncoding(((0, 0, 0),))), MASK)


def test_unmapped_colour(tmp_path):
    rgb = painted(MASK, void=(200, 3, 0))
    with pytest.raises(DataError) as caught:
        read_mask(stored(tmp_path, rgb), LABELS, ColourEncoding())
    assert str(caught.value) == (
        f"{tmp_path / 'mask.png'}: colour [200, 3, 0] in 1 pixels is no class; nearest: [200, 0, 0] 'roof'; "
        "allowed: the 3 class colours and void_colours"
    )
    rgb[0, :3] = ((9, 9, 9), (8, 8, 8), (8, 8, 8))
    with pytest.raises(DataError, match=r"\[8, 8, 8\] in 2 pixels is no class \(2 other unmapped colours in 2 pixels"):
        read_mask(stored(tmp_path, rgb), LABELS, ColourEncoding())


def test_void_colour_that_is_a_class_colour(tmp_path):
    with pytest.raises(
        ConfigError, match=r"void_colours: \[40, 50, 60\] is the colour of class 'road', allowed: other"
    ):
        read_mask(stored(tmp_path, painted(MASK)), LABELS, ColourEncoding(((40, 50, 60),)))


def test_colours_agree_with_a_loop_and_are_several_times_faster(tmp_path):
    # 12 classes, 1 Mpx: the loop compares 12 times, the table is read once; timed without the file
    labels = LabelSet.from_names([f"c{index}" for index in range(12)])
    expected = np.random.default_rng(0).integers(0, 12, (1000, 1000)).astype(np.uint8)
    rgb = labels.colour_table()[expected]
    path = stored(tmp_path, rgb)
    np.testing.assert_array_equal(read_mask(path, labels, ColourEncoding()), expected)
    lookup = min(elapsed(lambda: labels_of_colours(rgb, path, labels, ColourEncoding())) for _ in "123")
    loop = min(elapsed(lambda: [np.all(rgb == colour, axis=-1) for colour in labels.colours]) for _ in "12")
    assert lookup * 4 < loop  # measured: 25 times or more


def elapsed(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def test_binary_threshold(tmp_path):
    values = np.array([[0, 127, 128, 255]], np.uint8)
    path = stored(tmp_path, values)
    assert read_mask(path, TWO, BinaryEncoding()).tolist() == [[0, 0, 1, 1]]
    assert read_mask(path, TWO, BinaryEncoding(threshold=0)).tolist() == [[0, 1, 1, 1]]
    assert read_mask(path, TWO, BinaryEncoding()).dtype == np.uint8


def test_binary_from_1_bit_16_bit_gray_rgb_and_jpeg(tmp_path):
    expected = [[0, 1, 1, 0]] * 8
    gray = np.array(expected, np.uint8) * 255
    assert read_mask(stored(tmp_path, png_bytes(gray // 255, 1)), TWO, BinaryEncoding()).tolist() == expected
    assert read_mask(stored(tmp_path, gray.astype(np.uint16) * 257), TWO, BinaryEncoding()).tolist() == expected
    rgb = np.repeat(gray[..., None], 3, axis=2)
    assert read_mask(stored(tmp_path, rgb), TWO, BinaryEncoding()).tolist() == expected
    jpeg = stored(tmp_path, gray, "mask.jpg", quality=95)
    assert read_mask(jpeg, TWO, BinaryEncoding()).tolist() == expected


def test_binary_needs_two_classes(tmp_path):
    with pytest.raises(ConfigError, match="mask encoding 'binary': got 3 classes, allowed: 2"):
        read_mask(stored(tmp_path, MASK), LABELS, BinaryEncoding())


RGB = painted(MASK)
WRONG_KINDS = [
    (IndexEncoding(), RGB, "8-bit RGB PNG, but the mask encoding 'index' reads a gray image", "'colour'"),
    (IndexEncoding(), palette_image(MASK), "8-bit palette PNG, but the mask encoding 'index'", "'palette' .or 'colour"),
    (PaletteEncoding(), MASK, "8-bit gray PNG, but the mask encoding 'palette' reads a palette PNG", "'index'"),
    (PaletteEncoding(), RGB, "8-bit RGB PNG, but the mask encoding 'palette'", "'colour'"),
    (ColourEncoding(), MASK, "8-bit gray PNG, but the mask encoding 'colour' reads an RGB image", "'index', 'val"),
    (BinaryEncoding(), RGB, "8-bit RGB PNG, but the mask encoding 'binary' reads a gray image", "'colour'"),
    (BinaryEncoding(), palette_image(MASK), "8-bit palette PNG, but the mask encoding 'binary'", "'palette'"),
]


@pytest.mark.parametrize(("encoding", "content", "text", "fitting"), WRONG_KINDS)
def test_a_file_of_another_kind_names_the_right_encoding(tmp_path, encoding, content, text, fitting):
    labels = TWO if encoding.name == "binary" else LABELS
    with pytest.raises(DataError, match=f"mask.png: is an {text}.*; for this file use the encoding {fitting}"):
        read_mask(stored(tmp_path, content), labels, encoding)


def test_16_bit_colours_are_refused(tmp_path):
    path = stored(tmp_path, cv2.imencode(".png", RGB.astype(np.uint16))[1].tobytes())
    with pytest.raises(DataError, match="is a 16-bit RGB PNG; 'colour' allows 8 bits a value"):
        read_mask(path, LABELS, ColourEncoding())


@pytest.mark.parametrize("encoding", [IndexEncoding(), PaletteEncoding(), ColourEncoding()])
def test_jpeg_masks_are_refused(tmp_path, encoding):
    with pytest.raises(DataError, match="mask.jpg: is a JPEG, whose losses blend class values; allowed for '"):
        read_mask(stored(tmp_path, RGB, "mask.jpg"), LABELS, encoding)


BROKEN: list[tuple[MaskEncoding, bytes]] = [
    (IndexEncoding(), png_bytes(np.arange(64 * 64).reshape(64, 64) % 3, 8)),
    (PaletteEncoding(), png_bytes(np.arange(64 * 64).reshape(64, 64) % 3, 8, kind=3)),
    (PaletteEncoding(), png_bytes(np.arange(64 * 64).reshape(64, 64) % 3, 2, kind=3)),
    (ColourEncoding(), cv2.imencode(".png", painted(np.zeros((64, 64), np.uint8))[..., ::-1])[1].tobytes()),
    (BinaryEncoding(), png_bytes(np.eye(64), 1)),
]


@pytest.mark.parametrize(("encoding", "data"), BROKEN)
def test_a_truncated_or_corrupt_png_is_never_partly_decoded(tmp_path, encoding, data):
    labels = TWO if encoding.name == "binary" else LABELS
    assert read_mask(stored(tmp_path, data), labels, encoding).shape == (64, 64)
    for length in range(9, len(data)):
        with pytest.raises(DataError, match="mask.png: its .* cut short or corrupt"):
            read_mask(stored(tmp_path, data[:length]), labels, encoding)
    start, end = data.index(b"IDAT"), len(data) - 12
    for position in [*range(12, 33), *range(start, end)]:
        broken = bytearray(data)
        broken[position] ^= 1
        with pytest.raises(DataError, match="mask.png: its .* cut short or corrupt"):
            read_mask(stored(tmp_path, bytes(broken)), labels, encoding)


@pytest.mark.parametrize(("encoding", "kind"), [(IndexEncoding(), 0), (PaletteEncoding(), 3)])
def test_missing_rows_are_not_filled(tmp_path, encoding, kind):
    # every checksum is right, but only half of the rows are there; Pillow reads the rest as class 0
    path = stored(tmp_path, png_bytes(np.ones((64, 64), int), 8, kind=kind, rows=32))
    with pytest.raises(DataError, match="mask.png: its PNG data are cut short or corrupt"):
        read_mask(path, LABELS, encoding)


def test_files_that_are_no_masks(tmp_path):
    with pytest.raises(DataError, match="gone.png: cannot be read .No such file"):
        read_mask(tmp_path / "gone.png", LABELS, IndexEncoding())
    with pytest.raises(DataError, match="mask.png: is no image that can be read .it is empty."):
        read_mask(stored(tmp_path, b""), LABELS, IndexEncoding())
    with pytest.raises(DataError, match="mask.png: is no image that can be read .it begins with b'hello'"):
        read_mask(stored(tmp_path, b"hello"), LABELS, IndexEncoding())


def test_masks_images_and_samples_import_no_tensorflow():
    modules = "seg.data.masks.reading, seg.data.samples.pairs"
    code = f"import sys, {modules}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Shares of labelled pixels as the data's README gives them; camvid: of the training masks, rounded there to 3 digits.
REAL = [
    ("camvid", IndexEncoding(), LabelSet.from_names([f"c{i}" for i in range(11)], 11), "masks/train", (0.175, 0.242)),
    (
        "aerial_city",
        ColourEncoding(),
        LabelSet(
            ("built-up", "vegetation", "road", "open ground", "pavement"),
            ((132, 41, 246), (110, 193, 228), (254, 221, 58), (155, 155, 155), (60, 16, 152)),
        ),
        "masks",
        (0.513, 0.141),
    ),
    ("membrane", BinaryEncoding(), LabelSet.from_names(("membrane", "cell")), "masks", (0.22, 0.78)),
]


@pytest.mark.parametrize(("name", "encoding", "labels", "folder", "shares"), REAL)
def test_real_masks_have_the_published_shares(name, encoding, labels, folder, shares):
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent")
    counts = np.zeros(256, np.int64)
    for path in (SHARED_DATA / name / folder).iterdir():
        counts += np.bincount(read_mask(path, labels, encoding).ravel(), minlength=256)
    found = counts[: labels.num_classes] / counts[: labels.num_classes].sum()
    np.testing.assert_allclose(found[:2], shares, atol=0.003)


def test_a_window_of_a_plain_mask(tmp_path):
    from seg.data.files.windows import Window

    mask = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    write_mask(tmp_path / "m.png", mask)
    labels = LabelSet.from_names(("a", "b", "c"))
    part = read_mask(tmp_path / "m.png", labels, IndexEncoding(), Window(3, 4, 10, 20))
    np.testing.assert_array_equal(part, mask[3:13, 4:24])
