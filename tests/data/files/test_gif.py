"""GIF masks: indices and colours, animated, partial, transparent and broken files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.files.reading import image_size, read_values
from seg.data.masks.reading import BinaryEncoding, ColourEncoding, IndexEncoding, PaletteEncoding, read_mask
from seg.data.samples.pairs import samples_from_folders
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet(("water", "road", "roof"), ((10, 20, 30), (40, 50, 60), (200, 0, 0)), ignore_index=255)
MASK = (np.arange(20 * 30).reshape(20, 30) // 7 % 3).astype(np.uint8)
PALETTE = [value for colour in LABELS.colours for value in colour]


def gif(mask: np.ndarray = MASK, palette: list[int] = PALETTE, **options: object) -> bytes:
    image = Image.frombytes("P", (mask.shape[1], mask.shape[0]), mask.tobytes())
    image.putpalette(palette + [0] * (768 - len(palette)))
    buffer = io.BytesIO()
    image.save(buffer, "GIF", optimize=False, **options)
    return buffer.getvalue()


def stored(folder: Path, data: bytes) -> Path:
    path = folder / "mask.gif"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("interlace", [0, 1])
def test_indices_and_colours(tmp_path: Path, interlace: int) -> None:
    path = stored(tmp_path, gif(interlace=interlace))
    np.testing.assert_array_equal(read_mask(path, LABELS, PaletteEncoding()), MASK)
    np.testing.assert_array_equal(read_mask(path, LABELS, ColourEncoding()), MASK)
    assert image_size(path) == (20, 30)


def test_a_palette_of_grays_keeps_its_indices(tmp_path: Path) -> None:
    grays = [value for index in range(256) for value in (index, index, index)]  # Pillow opens such a file as mode L
    path = stored(tmp_path, gif(palette=grays))
    np.testing.assert_array_equal(read_mask(path, LABELS, PaletteEncoding()), MASK)


def test_black_and_white(tmp_path: Path) -> None:
    path = stored(tmp_path, gif((MASK > 0).astype(np.uint8), [0, 0, 0, 255, 255, 255]))
    np.testing.assert_array_equal(read_mask(path, LabelSet.from_names(("a", "b")), BinaryEncoding()), MASK > 0)
    with pytest.raises(DataError, match="an 8-bit palette GIF, but the mask encoding 'binary' reads a gray image"):
        read_mask(stored(tmp_path, gif()), LabelSet.from_names(("a", "b")), BinaryEncoding())


def test_folders_pair_images_with_gif_masks(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for folder, suffix in (("images", "png"), ("masks", "gif")):
            (tmp_path / folder / split).mkdir(parents=True)
            (tmp_path / folder / split / f"{split}.{suffix}").write_bytes(b"")
    assert samples_from_folders(tmp_path)["val"][0].mask.name == "val.gif"


def test_an_animated_gif_is_refused(tmp_path: Path) -> None:
    frames = [Image.frombytes("P", (30, 20), (MASK * 0 + k).tobytes()) for k in (0, 1)]
    for frame in frames:
        frame.putpalette(PALETTE + [0] * 759)
    frames[0].save(tmp_path / "mask.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="mask.gif: is a GIF of 2 pictures, allowed: one; write each to its own file"):
        read_mask(tmp_path / "mask.gif", LABELS, PaletteEncoding())


def test_a_picture_that_leaves_a_margin_is_refused(tmp_path: Path) -> None:
    data = bytearray(gif())
    data[6:8] = (40).to_bytes(2, "little")  # a wider screen
    with pytest.raises(DataError, match="mask.gif: its picture fills a part of the GIF's screen, allowed: all of it"):
        read_mask(stored(tmp_path, bytes(data)), LABELS, PaletteEncoding())


def test_transparent_pixels_have_an_index_but_no_colour(tmp_path: Path) -> None:
    path = stored(tmp_path, gif(transparency=1))
    np.testing.assert_array_equal(read_mask(path, LABELS, PaletteEncoding()), MASK)
    count = int((MASK == 1).sum())
    with pytest.raises(DataError, match=rf"mask.gif: {count} pixel\(s\) are transparent, allowed: opaque pixels, or"):
        read_mask(path, LABELS, ColourEncoding())


def test_an_index_without_a_colour(tmp_path: Path) -> None:
    data = bytearray(gif())
    colours = 2 ** ((data[10] & 7) + 1)
    data[10] &= ~7  # two colours only; the third class has none
    del data[13 + 6 : 13 + 3 * colours]
    with pytest.raises(DataError, match="mask.gif: palette index 2 has no colour, the palette has 2"):
        read_mask(stored(tmp_path, bytes(data)), LABELS, ColourEncoding())


def test_a_file_cut_short_is_never_partly_decoded(tmp_path: Path) -> None:
    data = gif()
    for length in range(6, len(data)):
        with pytest.raises(DataError, match="mask.gif: its .*cut short or corrupt"):
            read_mask(stored(tmp_path, data[:length]), LABELS, PaletteEncoding())


def test_missing_rows_are_not_filled(tmp_path: Path) -> None:
    data = bytearray(gif())
    begin = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[8:10] = data[begin + 7 : begin + 9] = (40).to_bytes(2, "little")  # twice the rows that are there
    with pytest.raises(DataError, match="mask.gif: its GIF data are cut short or corrupt"):
        read_mask(stored(tmp_path, bytes(data)), LABELS, PaletteEncoding())


def test_bytes_that_begin_no_block(tmp_path: Path) -> None:
    data = gif()
    with pytest.raises(DataError, match="mask.gif: its GIF data are cut short or corrupt .*begins no block"):
        read_mask(stored(tmp_path, data[:-1] + b"\x07\x3b"), LABELS, PaletteEncoding())


def test_a_gif_is_no_image_and_no_index_mask(tmp_path: Path) -> None:
    path = stored(tmp_path, gif())
    with pytest.raises(DataError, match="mask.gif: is a GIF, which only a mask may be; allowed: PNG, JPEG, TIFF"):
        read_values(path, 3)
    with pytest.raises(DataError, match="is an 8-bit palette GIF, but the mask encoding 'index' reads a gray image"):
        read_mask(path, LABELS, IndexEncoding())
