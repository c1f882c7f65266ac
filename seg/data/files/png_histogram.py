"""How often each value occurs in an 8-bit PNG, straight from its compressed bytes: no image is ever built.

A decoder inflates, undoes the filters and stores pixels, and a counter then reads them again. Here libdeflate inflates
(three to five times as fast as zlib), and one compiled pass over the filtered rows counts while it un-filters. Masks
are flat, so nearly every filtered byte is 0 and says "as predicted": the pass looks at 64 bytes at once for one that
is not, and works only there.

Filters: W3C, Portable Network Graphics (second edition), ISO/IEC 15948, section 9.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import deflate
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from seg.data.files.images import PNG_SIGNATURE

GRAY, PALETTE = 0, 3
# Chunks that do not change what the samples are. tRNS (transparency) does, and an unknown critical chunk may.
HARMLESS = frozenset(b"PLTE tEXt zTXt iTXt pHYs tIME gAMA cHRM sRGB iCCP sBIT hIST bKGD eXIf".split())
BLOCK = 64  # bytes compared at once: one instruction with AVX-512, a few with AVX2 or NEON
_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_VECTOR = ir.VectorType(_BYTE, BLOCK)


def png_value_counts(data: bytes) -> np.ndarray | None:
    """The histogram of a PNG's stored values, for a palette PNG of its palette indices.

    Args:
        data: The whole file.

    Returns:
        (256,) int64, summing to height x width; None where the file is not an 8-bit gray or palette PNG without
        interlacing, or where anything at all is unusual or broken: the ordinary reader then decides, and reports.
    """
    parsed = parse_png(data)
    if parsed is None:
        return None
    height, width, compressed, chunks = parsed
    filtered_size = height * (width + 1)
    try:
        filtered = deflate.zlib_decompress(compressed, filtered_size)  # checks Adler-32
    except deflate.DeflateError:
        return None
    if len(filtered) != filtered_size:
        return None
    counts = np.zeros(256, np.int64)
    rows = np.frombuffer(filtered, np.uint8)
    known = _count(np.frombuffer(data, np.uint8), np.array(chunks), rows, height, width, counts, CRC_TABLES)
    return counts if known else None


def parse_png(data: bytes) -> tuple[int, int, bytes | memoryview, list[int]] | None:
    """(height, width, compressed rows, where chunks end) of a PNG of the kind served here; checksums are not compared.

    The ends are those of the chunks' contents, the signature's as the first: each is followed by four bytes of
    checksum, which covers what stands between four bytes (a length) after the previous checksum and here.
    """
    if data[:8] != PNG_SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, bits, kind, compression, filtering, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if (bits, compression, filtering, interlaced) != (8, 0, 0, 0) or kind not in (GRAY, PALETTE) or not height * width:
        return None
    view = memoryview(data)
    parts: list[memoryview] = []
    position, name, last = 8, b"", b""
    ends = [4]  # as if the signature's second half were a checksum
    while name != b"IEND":
        if position + 12 > len(data):
            return None
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return None
        name = data[position + 4 : position + 8]
        if name == b"IDAT":
            if parts and last != b"IDAT":
                return None
            parts.append(view[position + 8 : end])
        elif name not in HARMLESS and name != b"IEND" and position > 8:
            return None
        ends.append(end)
        position, last = end + 4, name
    return height, width, parts[0] if len(parts) == 1 else b"".join(parts), ends


def _load(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The BLOCK bytes of a uint8 array from `index` on, at any alignment, as one vector."""
    start = builder.gep(context.make_array(array_type)(context, builder, array).data, [index])
    return builder.load(builder.bitcast(start, _VECTOR.as_pointer()), align=1)


@intrinsic
def _nonzero(_: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """uint64 whose bit k says that array[index + k] != 0; reads BLOCK bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _load(context, builder, signature.args[0], *arguments)
        return builder.bitcast(builder.icmp_unsigned("!=", vector, ir.Constant(_VECTOR, None)), _WORD)

    return types.uint64(array, types.intp), generate


@intrinsic
def _unequal(_: Any, a: Any, i: Any, b: Any, j: Any) -> tuple[Any, Callable[..., Any]]:
    """uint64 whose bit k says that a[i + k] != b[j + k]; reads BLOCK bytes of both."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = _load(context, builder, signature.args[0], *arguments[:2])
        second = _load(context, builder, signature.args[2], *arguments[2:])
        return builder.bitcast(builder.icmp_unsigned("!=", first, second), _WORD)

    return types.uint64(a, types.intp, b, types.intp), generate


@intrinsic
def _lowest(_: Any, bits: Any) -> tuple[Any, Callable[..., Any]]:
    """The index of the lowest set bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _crc_tables() -> np.ndarray:
    """(8, 256) uint32: entry (k, b) is the CRC-32 of byte b and k zero bytes, without the inversions."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        tables[0, byte] = crc
    for k in range(1, 8):
        tables[k] = tables[k - 1] >> 8 ^ tables[0, tables[k - 1] & 255]
    return tables


CRC_TABLES = _crc_tables()


@numba.njit
def _crc32(data: Any, start: int, end: int, tables: Any) -> Any:
    """CRC-32 (ISO 3309, as in PNG) of data[start:end], eight bytes at a time.

    In here and not by zlib, because each of its calls gives up Python's lock and waits to have it back.
    """
    crc = np.uint32(0xFFFFFFFF)
    while start + 8 <= end:
        low = crc ^ np.uint32(data[start] | data[start + 1] << 8 | data[start + 2] << 16 | data[start + 3] << 24)
        crc = tables[7, low & 255] ^ tables[6, low >> 8 & 255] ^ tables[5, low >> 16 & 255] ^ tables[4, low >> 24]
        crc ^= tables[3, data[start + 4]] ^ tables[2, data[start + 5]]
        crc ^= tables[1, data[start + 6]] ^ tables[0, data[start + 7]]
        start += 8
    while start < end:
        crc = crc >> 8 ^ tables[0, (crc ^ data[start]) & 255]
        start += 1
    return np.uint32(~crc)


@numba.njit
def _checksums_hold(data: Any, ends: Any, tables: Any) -> bool:
    for chunk in range(1, len(ends)):
        end = ends[chunk]
        stored = data[end] << 24 | data[end + 1] << 16 | data[end + 2] << 8 | data[end + 3]
        if _crc32(data, ends[chunk - 1] + 8, end, tables) != stored:
            return False
    return True


@numba.njit
def _within(bits: Any, pixels: int) -> Any:
    """`bits` without those at or after `pixels`: a block may reach beyond its row."""
    return bits if pixels >= BLOCK else bits & ((np.uint64(1) << np.uint64(pixels)) - np.uint64(1))


# In what follows `row` holds the row above and becomes the row itself. A pixel is counted for its own row and all rows
# below (`weight` of them), as if they repeated it; where a row below differs, the rest is taken back there. So rows
# that are mostly like the one above cost next to nothing. `line[start:]` are the row's filtered bytes.


@numba.njit
def _change(row: Any, x: int, new: Any, weight: int, counts: Any) -> None:
    counts[row[x]] -= weight
    counts[new] += weight
    row[x] = new


@numba.njit
def _none(line: Any, start: int, row: Any, width: int, weight: int, counts: Any) -> None:
    """Filter 0: the bytes are the values."""
    for x in range(0, width, BLOCK):
        changed = _within(_unequal(line, start + x, row, x), width - x)
        while changed:
            k = x + _lowest(changed)
            changed &= changed - np.uint64(1)
            _change(row, k, line[start + k], weight, counts)


@numba.njit
def _up(line: Any, start: int, row: Any, width: int, weight: int, counts: Any) -> None:
    """Filter 2: the difference to the pixel above."""
    for x in range(0, width, BLOCK):
        changed = _within(_nonzero(line, start + x), width - x)
        while changed:
            k = x + _lowest(changed)
            changed &= changed - np.uint64(1)
            _change(row, k, np.uint8(row[k] + line[start + k]), weight, counts)


@numba.njit
def _sub(line: Any, start: int, row: Any, width: int, weight: int, counts: Any, keep: bool) -> None:
    """Filter 1: the difference to the pixel on the left. The row above is not looked at, so this row is counted anew,
    run by run, and stored only if the next one needs it."""
    left = np.uint8(0)
    begin = 0
    for x in range(0, width, BLOCK):
        changed = _within(_nonzero(line, start + x), width - x)
        while changed:
            k = x + _lowest(changed)
            changed &= changed - np.uint64(1)
            counts[left] += weight * (k - begin)
            if keep:
                row[begin:k] = left
            left = np.uint8(left + line[start + k])
            begin = k
    counts[left] += weight * (width - begin)
    if keep:
        row[begin:width] = left


@numba.njit
def _take_back(row: Any, width: int, weight: int, counts: Any) -> None:
    """Takes `row` out of the counts, run by run."""
    begin = 0
    for x in range(0, width - 1, BLOCK):
        ends = _within(_unequal(row, x, row, x + 1), width - 1 - x)
        while ends:
            end = x + _lowest(ends) + 1
            ends &= ends - np.uint64(1)
            counts[row[begin]] -= weight * (end - begin)
            begin = end
    counts[row[begin]] -= weight * (width - begin)


@numba.njit
def _average(line: Any, start: int, row: Any, width: int, weight: int, counts: Any) -> None:
    """Filter 3: the difference to the mean of left and above, rounded down. Encoders hardly choose it for masks."""
    left = np.uint8(0)
    for x in range(width):
        left = np.uint8(((np.int64(left) + np.int64(row[x])) >> 1) + line[start + x])
        if left != row[x]:
            _change(row, x, left, weight, counts)


@numba.njit
def _paeth(line: Any, start: int, row: Any, width: int, weight: int, counts: Any) -> None:
    """Filter 4: the difference to whichever of left, above and above left is nearest to left + above - above left.

    Where left equals above left, that is the pixel above. So with a byte of 0 left equals above left again, and up to
    the next byte that is not 0 the row is as above. Where above equals one of the others, it is the pixel on the left.
    """
    left = corner = np.uint8(0)  # corner: above left
    x = 0
    while x < width:
        if left == corner:
            changed = _nonzero(line, start + x)
            x += _lowest(changed) if changed else BLOCK
            if x >= width:
                break
            if not changed:
                left = corner = row[x - 1]
                continue
            corner = above = nearest = row[x]
        else:
            above = row[x]
            if above == corner or above == left:  # noqa: SIM109 - two comparisons, where numba makes `in` a loop
                nearest = left
            else:
                nearest = _nearest(left, above, corner)
            corner = above
        left = np.uint8(nearest + line[start + x])
        if left != above:
            _change(row, x, left, weight, counts)
        x += 1


@numba.njit
def _nearest(left: Any, above: Any, corner: Any) -> Any:
    a, b, c = np.int64(left), np.int64(above), np.int64(corner)
    to_left, to_above, to_corner = abs(b - c), abs(a - c), abs(a + b - c - c)
    if to_left <= to_above and to_left <= to_corner:
        return left
    return above if to_above <= to_corner else corner


_BYTES = types.Array(types.uint8, 1, "C")
_FILE = types.Array(types.uint8, 1, "C", readonly=True)
_TABLES = types.Array(types.uint32, 2, "C")


# The types stand here so that it is compiled, or read from the cache, once at import and not under a thread.
@numba.njit(
    types.boolean(_FILE, types.int64[::1], _BYTES, types.int64, types.int64, types.int64[::1], _TABLES),
    nogil=True,
    cache=True,
    boundscheck=False,
)
def _count(data: Any, ends: Any, filtered: Any, height: int, width: int, counts: Any, tables: Any) -> bool:
    """Compares the file's checksums, then adds the values of `height` filtered rows, each a filter byte and `width`
    bytes; False for a wrong checksum or an unknown filter."""
    if not _checksums_hold(data, ends, tables):
        return False
    row = np.zeros(width + BLOCK, np.uint8)  # block reads may pass its end
    padded = np.zeros(width + BLOCK, np.uint8)
    counts[0] += height * width  # above the first row the filters see zeros
    counted = True  # whether `row` is in the counts, weighted
    for y in range(height):
        begin, weight = y * (width + 1), height - y
        kind = filtered[begin]
        line, start = filtered, begin + 1
        if start + width + BLOCK > filtered.size:  # near the end a block would pass the buffer's end
            padded[:width] = filtered[start : start + width]
            line, start = padded, 0
        if kind == 1:
            if counted:
                _take_back(row, width, weight, counts)
            counted = y + 1 < height and filtered[begin + width + 1] != 1
            _sub(line, start, row, width, weight if counted else 1, counts, counted)
        elif kind == 0:
            _none(line, start, row, width, weight, counts)
        elif kind == 2:
            _up(line, start, row, width, weight, counts)
        elif kind == 3:
            _average(line, start, row, width, weight, counts)
        elif kind == 4:
            _paeth(line, start, row, width, weight, counts)
        else:
            return False
    return True
