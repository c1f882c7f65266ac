"""The encodings there are: what the pixels of a mask file mean."""

from __future__ import annotations

from seg.data.masks.base import Encoding
from seg.data.masks.colours import ColourEncoding
from seg.data.masks.gray import UNKNOWN, BinaryEncoding, IndexEncoding, PaletteEncoding
from seg.data.masks.merged import MergedEncoding
from seg.data.masks.planes import MultiLabelEncoding
from seg.data.masks.stated import ValueEncoding

MaskEncoding = Encoding  # any of them
StoredEncoding = Encoding  # any but a merged one: how files store their own classes

__all__ = [
    "UNKNOWN",
    "BinaryEncoding",
    "ColourEncoding",
    "IndexEncoding",
    "MaskEncoding",
    "MergedEncoding",
    "MultiLabelEncoding",
    "PaletteEncoding",
    "StoredEncoding",
    "ValueEncoding",
]
