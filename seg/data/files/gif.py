"""GIF masks: palette indices of a file's only picture. Pillow decodes; the file's structure is checked here first.

Source: CompuServe, Graphics Interchange Format, version 89a (1990).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from seg.data.files.storage import File
from seg.errors import DataError

GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
_PICTURE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_GRAPHIC_CONTROL = 0xF9


@dataclass(frozen=True)
class GifStructure:
    """What stands around the compressed pixels.

    Attributes:
        palette: (n, 3) uint8 RGB, the picture's own or the file's.
        transparent: The palette index that is transparent, or None.
    """

    palette: np.ndarray
    transparent: int | None


def gif_size(data: bytes) -> tuple[int, int]:
    """(height, width) from a file's first 10 bytes.

    Raises:
        ValueError: There are fewer.
    """
    if len(data) < 10:
        raise ValueError(f"{len(data)} bytes")
    return int.from_bytes(data[8:10], "little"), int.from_bytes(data[6:8], "little")


def gif_indices(data: bytes, path: File) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) uint8 palette indices, and the palette (n, 4) uint8 RGBA.

    Raises:
        DataError: The file is cut short or corrupt, animated, or its picture does not fill its screen.
    """
    indices, structure = _decoded(data, path)
    palette = np.full((len(structure.palette), 4), 255, np.uint8)
    palette[:, :3] = structure.palette
    if structure.transparent is not None and structure.transparent < len(palette):
        palette[structure.transparent, 3] = 0
    return indices, palette


def _decoded(data: bytes, path: File) -> tuple[np.ndarray, GifStructure]:
    try:
        structure = _structure(data, path)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            # Mode L: Pillow's word for a palette whose colour i is the gray i.
            indices = np.array(image) if image.mode in ("P", "L") else None
    except (IndexError, EOFError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: its GIF data are cut short or corrupt ({len(data)} bytes): {error}") from error
    if indices is None or indices.shape != gif_size(data):
        raise DataError(f"{path}: its GIF data are cut short or corrupt ({len(data)} bytes)")
    return indices, structure


def _structure(data: bytes, path: File) -> GifStructure:
    """Walks over all blocks to the trailer; IndexError or ValueError where one is cut short."""
    palette, position = _palette(data, 10, 13)
    pictures, transparent = 0, None
    while data[position] != _TRAILER:
        if data[position] == _PICTURE:
            pictures += 1
            if position + 10 > len(data):
                raise ValueError("the picture's size is cut short")
            left, top, width, height = (
                int.from_bytes(data[position + k : position + k + 2], "little") for k in (1, 3, 5, 7)
            )
            if (left, top, height, width) != (0, 0, *gif_size(data)):
                raise DataError(f"{path}: its picture fills a part of the GIF's screen, allowed: all of it")
            own, position = _palette(data, position + 9, position + 10)
            palette = own if len(own) else palette
            position = _after_blocks(data, position + 1)  # 1: the size of LZW codes
        elif data[position] == _EXTENSION:
            if data[position + 1] == _GRAPHIC_CONTROL and data[position + 3] & 1:
                transparent = data[position + 6]
            position = _after_blocks(data, position + 2)
        else:
            raise ValueError(f"byte {position} begins no block")
    if pictures != 1:
        raise DataError(f"{path}: is a GIF of {pictures} pictures, allowed: one; write each to its own file")
    return GifStructure(palette, transparent)


def _palette(data: bytes, flags_at: int, begin: int) -> tuple[np.ndarray, int]:
    """The palette that begins there, if the flags say so, and the position after it."""
    if not data[flags_at] & 0x80:
        return np.zeros((0, 3), np.uint8), begin
    end = begin + 3 * 2 ** ((data[flags_at] & 7) + 1)
    if end > len(data):
        raise ValueError("the palette is cut short")
    return np.frombuffer(data[begin:end], np.uint8).reshape(-1, 3), end


def _after_blocks(data: bytes, position: int) -> int:
    """The position after a run of data blocks, each with its length in front, that an empty one ends."""
    while data[position]:
        position += data[position] + 1
    return position + 1
