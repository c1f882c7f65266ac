"""RGB masks to class indices: a look-up in a table of all 2^24 colours; the nearest colour where that is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import cv2
import numpy as np

from seg.data.files.storage import File
from seg.data.files.stored import Stored
from seg.data.masks.base import FITTING, Decoded, Encoding, StoredValue, described, new_names, png
from seg.errors import ConfigError, DataError, UnknownLabelError
from seg.labels import Colour, LabelSet

SNAPPED = 512  # above every label + 1
KEPT = 1000  # colours of a file in a table of all values


@dataclass(frozen=True)
class ColourEncoding(Encoding):
    """An 8-bit RGB image, one colour a class: `LabelSet.colours`.

    Attributes:
        void_colours: Colours that mean void (`ignore_index`).
        tolerance: The largest Euclidean distance in RGB, sqrt(dr^2 + dg^2 + db^2), 0 to 442, at which a pixel still
            takes the nearest of these colours. 0: exactly these colours. Only with a tolerance are JPEG masks read.
    """

    name: ClassVar[str] = "colour"
    lossless: ClassVar[str] = "PNG, TIFF, GIF, or a tolerance above 0 (labels.encoding.tolerance)"
    void_colours: tuple[Colour, ...] = ()
    tolerance: float = 0.0

    @property
    def description(self) -> str:
        """As `Encoding.description`; for tolerance 0 the name alone, since any other colour is an error then."""
        if not self.tolerance:
            return self.name
        voids = [list(colour) for colour in self.void_colours]
        return described(self.name, tolerance=f"{self.tolerance:g}", void_colours=voids)

    def refuse_losses(self, stored: Stored) -> None:
        """Only without a tolerance."""
        if not self.tolerance:
            super().refuse_losses(stored)

    def decode(self, stored: Stored, labels: LabelSet) -> Decoded:
        """As `Encoding.decode`."""
        self.refuse_losses(stored)
        return Decoded(*labels_of_colours(self.colours_of(stored), stored.file, labels, self))

    def colours_of(self, stored: Stored) -> np.ndarray:
        """(h, w, 3) uint8 RGB; an error where the file is of another kind."""
        if stored.kind == "bands" and (stored.values.ndim != 3 or stored.values.dtype != np.uint8):
            raise DataError(
                f"{stored.file}: holds one band of {stored.values.dtype} values, allowed with 'colour': 3 of uint8"
            )
        if stored.kind.startswith("gray"):
            raise self.wrong_kind(stored, "an RGB image", FITTING[stored.kind])
        if stored.bits == 16:
            raise DataError(f"{stored.file}: is {stored.form}; 'colour' allows 8 bits a value")
        return stored.colours()

    def known_colours(self, labels: LabelSet) -> tuple[Colour, ...] | None:
        """As `Encoding.known_colours`."""
        return None if self.tolerance else (*labels.colours, *self.void_colours)

    def stored_values(self, pieces: Iterable[Stored]) -> Counter[StoredValue] | None:
        """As `Encoding.stored_values`, of one file the `KEPT` commonest colours."""
        total: Counter[StoredValue] = Counter()
        for stored in pieces:
            colours, void = self.colours_of(stored), stored.void()
            codes = _codes(np.ascontiguousarray(colours))
            found, counts = np.unique(codes if void is None else codes[~void], return_counts=True)
            kept = np.argsort(-counts, kind="stable")[:KEPT]
            total.update({
                (code >> 16, code >> 8 & 255, code & 255): count
                for code, count in zip(found[kept].tolist(), counts[kept].tolist(), strict=True)
            })  # fmt: skip
        return total

    def section_of(self, meanings: Mapping[StoredValue, str], labels: LabelSet) -> dict[str, Any]:
        """As `Encoding.section_of`."""
        names = {name: list(value) for value, name in new_names(meanings, labels.names, "colour").items()
                 if isinstance(value, tuple)}  # fmt: skip
        known = {name: list(colour) for name, colour in zip(labels.names, labels.colours, strict=True)}
        colours = known | names
        void = [list(value) for value, meaning in meanings.items() if meaning == "void" and isinstance(value, tuple)]
        encoding = {"name": "colour", "void_colours": void}
        return {"names": [*colours], "colours": [*colours.values()], "encoding": encoding}

    def encode(self, mask: np.ndarray, labels: LabelSet) -> bytes:
        """RGB, void the first of `void_colours`."""
        table = labels.colour_table()
        void = int(np.count_nonzero(mask == labels.ignore_index))
        if void and not self.void_colours:
            raise self.nothing_means_void(void, "void_colours")
        if self.void_colours:
            table[labels.ignore_index] = self.void_colours[0]
        return png(table[mask][..., ::-1])  # OpenCV stores BGR


def labels_of_colours(
    rgb: np.ndarray, path: File, labels: LabelSet, encoding: ColourEncoding
) -> tuple[np.ndarray, int]:
    """Decodes an RGB mask. Its cost does not depend on the number of classes.

    With a tolerance, a colour that is no class's takes the one at the least Euclidean distance in RGB; of several at
    the same distance the first of `labels.colours`, then of `void_colours`.

    Args:
        rgb: (H, W, 3) uint8.
        path: For messages.
        labels: The classes; their colours.
        encoding: Void colours and tolerance.

    Returns:
        (H, W) uint8 class indices or `ignore_index`, and the number of pixels that were snapped to another colour.

    Raises:
        DataError: A colour is farther than the tolerance from all class and void colours.
        ConfigError: A void colour is also a class colour.
    """
    codes = _codes(rgb)
    table = _kept_table(labels, encoding) if encoding.tolerance else _table(labels, encoding)
    mapped = table.take(codes)
    if not mapped.all():
        unmapped = mapped == 0
        found, counts = np.unique(codes[unmapped], return_counts=True)
        nearest, squares = _nearest(found, (*labels.colours, *encoding.void_colours))
        if squares.max() > encoding.tolerance**2:
            raise _unmapped_colour(found, counts, nearest, squares, labels, encoding, path)
        # Several threads may write here: all write the same.
        table[found] = np.where(nearest < labels.num_classes, nearest, labels.ignore_index) + 1 + SNAPPED
        mapped[unmapped] = table.take(codes[unmapped])
    snapped = 0
    if encoding.tolerance:
        snapped = int(np.count_nonzero(mapped > SNAPPED))
        mapped &= SNAPPED - 1
    return (mapped - 1).astype(np.uint8), snapped


def _table(labels: LabelSet, encoding: ColourEncoding) -> np.ndarray:
    """(2^24,) uint16: for each colour its label + 1, plus `SNAPPED` if it is not the class's own; 0 is not known yet.

    np.zeros gives untouched memory: only pages of colours that are met are ever filled.
    """
    table = np.zeros(1 << 24, np.uint16)
    table[_codes(np.array([labels.colours], np.uint8))[0]] = np.arange(1, labels.num_classes + 1)
    for colour in encoding.void_colours:
        if colour in labels.colours:
            name = labels.names[labels.colours.index(colour)]
            raise ConfigError(f"void_colours: {list(colour)} is the colour of class '{name}', allowed: other colours")
        table[_codes(np.array([[colour]], np.uint8))[0]] = labels.ignore_index + 1
    return table


# With a tolerance thousands of colours are looked for; kept, they are found once and not in each file: 32 MB a table.
_kept_table = lru_cache(maxsize=2)(_table)


def _codes(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint32 codes 0xRRGGBB: a fourth byte makes one little-endian word of each pixel."""
    bgra = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA)
    return bgra.view("<u4")[..., 0] & 0xFFFFFF


def _nearest(codes: np.ndarray, colours: tuple[tuple[int, int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """For each code the position of the nearest colour and the squared distance to it, both int64."""
    channels = np.stack([codes >> 16, codes >> 8 & 255, codes & 255]).astype(np.int64)
    nearest, least = np.zeros(len(codes), np.int64), np.full(len(codes), 3 * 256**2, np.int64)
    for position, colour in enumerate(colours):  # a loop, so that memory does not grow with the classes
        squares = ((channels - np.array(colour)[:, None]) ** 2).sum(axis=0)
        nearer = squares < least
        nearest[nearer], least[nearer] = position, squares[nearer]
    return nearest, least


def _unmapped_colour(
    codes: np.ndarray,
    counts: np.ndarray,
    nearest: np.ndarray,
    squares: np.ndarray,
    labels: LabelSet,
    encoding: ColourEncoding,
    path: File,
) -> DataError:
    beyond = squares > encoding.tolerance**2
    farthest = float(np.sqrt(squares.max()))
    codes, counts, nearest, squares = (array[beyond] for array in (codes, counts, nearest, squares))
    commonest = int(counts.argmax())
    code, position = int(codes[commonest]), int(nearest[commonest])
    colour = [code >> 16, code >> 8 & 255, code & 255]
    others = f" ({len(codes) - 1} other unmapped colours in {counts.sum() - counts[commonest]} pixels)"
    if len(codes) == 1:
        others = ""
    if position < labels.num_classes:
        near = f"{list(labels.colours[position])} '{labels.names[position]}'"
    else:
        near = f"{list(encoding.void_colours[position - labels.num_classes])} (void)"
    allowed = f"the {labels.num_classes} class colours and void_colours"
    if encoding.tolerance:
        near += f" at distance {np.sqrt(squares[commonest]):.1f}"
        allowed += f" to a distance of {encoding.tolerance:g}; the farthest pixel is at {farthest:.1f}"
    return UnknownLabelError(
        f"{path}: colour {colour} in {counts[commonest]} pixels is no class{others}; "
        f"nearest: {near}; allowed: {allowed}"
    )
