"""The encodings there are: what the pixels of a mask file mean."""

from __future__ import annotations

from seg.data.masks.colours import ColourEncoding
from seg.data.masks.gray import UNKNOWN, BinaryEncoding, IndexEncoding, PaletteEncoding, ValueEncoding
from seg.data.masks.merged import MergedEncoding, StoredEncoding
from seg.data.masks.planes import MultiLabelEncoding

MaskEncoding = StoredEncoding | MergedEncoding

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
