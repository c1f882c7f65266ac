"""The fast counter against the ordinary reader, on PNGs of every kind written by hand: equal counts or equal errors."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from seg.data.files.png_histogram import png_value_counts
from seg.data.masks import counts as mask_counts
from seg.data.masks.counts import count_pixels, load_fast_counter
from seg.data.masks.reading import IndexEncoding, PaletteEncoding
from seg.errors import DataError
from seg.labels import LabelSet

SHARED_DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Adam7: (first row, first column, row step, column step) of each pass.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
EVERYTHING = LabelSet.from_names([f"class_{value}" for value in range(255)], ignore_index=255)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def paeth(left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))  # the first of equals


def filtered(rows: np.ndarray, filters: list[int]) -> bytes:
    """(H, bytes a row) uint8 with filter `filters[y]` applied to row y, for samples of up to one byte."""
    out = b""
    above = [0] * rows.shape[1]
    for row, kind in zip(rows.tolist(), filters, strict=True):
        line, left, corner = [], 0, 0
        for value, up in zip(row, above, strict=True):
            predicted = (0, left, up, (left + up) // 2, paeth(left, up, corner))[kind]
            line.append((value - predicted) % 256)
            left, corner = value, up
        out += bytes([kind, *line])
        above = row
    return out


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Rows of samples as PNG stores them: several to a byte, or two bytes a sample."""
    if bits == 16:
        return values.astype(">u2").view(np.uint8).reshape(len(values), -1)
    digits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    return np.packbits(digits.reshape(len(values), -1), axis=-1)


def png(
    values: np.ndarray,
    *,
    bits: int = 8,
    kind: int = 0,
    filters: list[int] | None = None,
    interlaced: bool = False,
    extra: bytes = b"",
    parts: int = 1,
    level: int = 6,
) -> bytes:
    height, width = values.shape
    images = [values[y::dy, x::dx] for y, x, dy, dx in PASSES] if interlaced else [values]
    data = b""
    for image in images:
        if image.size:
            rows = packed(image, bits)
            kinds = filters or [0] * len(rows)
            data += filtered(rows, [kinds[y % len(kinds)] for y in range(len(rows))])
    compressed = zlib.compress(data, level)
    step = -(-len(compressed) // parts)
    pieces = [compressed[begin : begin + step] for begin in range(0, len(compressed), step)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if kind == 3 and bits == 8 else b""
    if kind == 3 and bits < 8:
        palette = chunk(b"PLTE", bytes(3 * 2**bits))
    return (
        SIGNATURE + header + palette + extra + b"".join(chunk(b"IDAT", piece) for piece in pieces) + chunk(b"IEND", b"")
    )


def blobs(height: int, width: int, values: int, seed: int = 0) -> np.ndarray:
    """Mask-like: few regions, borders that run in all directions, some noise."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centres = draw.uniform(0, max(height, width), (6, 2))
    nearest = ((y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2).argmin(-1)
    mask = draw.integers(0, values, 6)[nearest]
    noisy = draw.random((height, width)) < 0.02
    return np.where(noisy, draw.integers(0, values, (height, width)), mask)


def outcome(path: Path, kind: int) -> list[int] | str:
    try:
        return count_pixels(path, EVERYTHING, PaletteEncoding() if kind == 3 else IndexEncoding()).tolist()
    except DataError as error:
        return str(error)


def both(data: bytes, path: Path, monkeypatch: pytest.MonkeyPatch, kind: int = 0) -> tuple[list[int] | str, ...]:
    """What the ordinary reader and what the fast counter make of a file."""
    path.write_bytes(data)
    load_fast_counter(wait=True)
    fast = outcome(path, kind)
    with monkeypatch.context() as patch:
        patch.setattr(mask_counts, "_histogram", mask_counts.Future())
        ordinary = outcome(path, kind)
    return ordinary, fast


# --- against np.bincount and PIL ---


@pytest.mark.parametrize("kind", [0, 3], ids=["gray", "palette"])
@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [0, 1, 2, 3, 4], [4, 1, 1, 2], [1, 0, 0, 4]], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (3, 63), (40, 64), (41, 65), (50, 200), (64, 1), (200, 7)], ids=str)
def test_every_filter(size: tuple[int, int], filters: list[int], kind: int) -> None:
    values = blobs(*size, 5)
    data = png(values, kind=kind, filters=filters)
    assert (np.array(Image.open(io.BytesIO(data))) == values).all()  # the test's own writer is right
    counts = png_value_counts(data)
    assert counts is not None
    assert counts.tolist() == np.bincount(values.ravel(), minlength=256).tolist()


@given(
    height=st.integers(1, 30), width=st.integers(1, 150), values=st.sampled_from([1, 2, 5, 256]),
    seed=st.integers(0, 2**32 - 1), noise=st.booleans(),
)  # fmt: skip
@example(height=2, width=128, values=2, seed=0, noise=False)
def test_any_mixture_of_filters(height: int, width: int, values: int, seed: int, noise: bool) -> None:
    draw = np.random.default_rng(seed)
    mask = draw.integers(0, values, (height, width)) if noise else blobs(height, width, values, seed)
    counts = png_value_counts(png(mask, filters=draw.integers(0, 5, height).tolist(), parts=1 + seed % 3))
    assert counts is not None
    assert counts.tolist() == np.bincount(mask.ravel(), minlength=256).tolist()


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the masks in ../shared/data")
@pytest.mark.parametrize("pattern", ["camvid/masks/test/*.png", "membrane/**/*.png"])
def test_real_masks(pattern: str) -> None:
    counted = 0
    for path in sorted(SHARED_DATA.glob(pattern))[:40]:
        counts = png_value_counts(path.read_bytes())
        if counts is not None:
            assert counts.tolist() == np.bincount(np.array(Image.open(path)).ravel(), minlength=256).tolist()
            counted += 1
    assert counted > 0


# --- against the ordinary reader ---


@pytest.mark.parametrize("interlaced", [False, True], ids=["rows", "interlaced"])
@pytest.mark.parametrize(("bits", "kind"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (1, 3), (2, 3), (4, 3), (8, 3)])
def test_every_depth(bits: int, kind: int, interlaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = blobs(21, 35, min(2**bits, 200))
    # Wider and narrower samples have other neighbours than one byte back, so they are stored without a filter.
    data = png(values, bits=bits, kind=kind, interlaced=interlaced, filters=[4, 1] if bits == 8 else None)
    ordinary, fast = both(data, tmp_path / "a.png", monkeypatch, kind)
    assert fast == ordinary
    assert ordinary == [*np.bincount(values.ravel(), minlength=255).tolist(), 0]
    assert (png_value_counts(data) is not None) == (bits == 8 and not interlaced)


EXTRAS = {
    "gamma": chunk(b"gAMA", struct.pack(">I", 45455)),
    "text": chunk(b"tEXt", b"Comment\0made by hand"),
    "compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"text")),
    "resolution": chunk(b"pHYs", struct.pack(">IIB", 3780, 3780, 1)),
    "time": chunk(b"tIME", struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5)),
    "private": chunk(b"prVt", b"whatever"),
    "transparent gray": chunk(b"tRNS", b"\0\2"),
}


@pytest.mark.parametrize("kind", [0, 3], ids=["gray", "palette"])
@pytest.mark.parametrize("name", EXTRAS)
def test_ancillary_chunks(name: str, kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(blobs(20, 70, 4), kind=kind, filters=[1, 4], extra=EXTRAS[name])
    ordinary, fast = both(data, tmp_path / "a.png", monkeypatch, kind)
    assert fast == ordinary


@pytest.mark.parametrize("kind", [0, 3], ids=["gray", "palette"])
def test_truncated_anywhere_is_an_error(kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(blobs(20, 70, 4), kind=kind, filters=[1, 2, 4], parts=2)
    for end in range(0, len(data), 7):
        assert png_value_counts(data[:end]) is None
        ordinary, fast = both(data[:end], tmp_path / "a.png", monkeypatch, kind)
        assert fast == ordinary
        assert isinstance(fast, str), f"{end} of {len(data)} bytes gave counts"


@pytest.mark.parametrize("kind", [0, 3], ids=["gray", "palette"])
def test_a_changed_bit_is_never_counted_wrong(kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = blobs(20, 70, 4)
    right = [*np.bincount(values.ravel(), minlength=255).tolist(), 0]
    data = png(values, kind=kind, filters=[1, 2, 4], parts=2)
    for position in range(0, len(data), 3):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        counts = png_value_counts(bytes(broken))
        assert counts is None, f"byte {position}"  # every byte is under a checksum
        ordinary, fast = both(bytes(broken), tmp_path / "a.png", monkeypatch, kind)
        assert fast == ordinary
        assert isinstance(fast, str) or fast == right  # the ordinary reader passes over a broken palette or IEND


def test_rows_missing_or_too_many_are_left_to_the_ordinary_reader() -> None:
    values = blobs(10, 70, 4)
    whole = png(values)
    for wrong in (9, 11):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 70, wrong, 8, 0, 0, 0, 0))
        assert png_value_counts(SIGNATURE + header + whole[33:]) is None


def test_an_unknown_filter_is_left_to_the_ordinary_reader() -> None:
    data = zlib.compress(b"\5" + bytes(70))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 70, 1, 8, 0, 0, 0, 0))
    assert png_value_counts(SIGNATURE + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")) is None


def test_a_critical_chunk_that_is_unknown_is_left_to_the_ordinary_reader() -> None:
    assert png_value_counts(png(blobs(5, 5, 2), extra=chunk(b"ABCD", b"x"))) is None


def test_no_png_is_left_to_the_ordinary_reader() -> None:
    assert png_value_counts(b"") is None
    assert png_value_counts(b"II*\0" + bytes(60)) is None
