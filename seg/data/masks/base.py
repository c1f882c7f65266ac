"""What every mask encoding can be asked, and what several of them share.

An encoding is a frozen dataclass: what the pixels of a mask file mean. Whoever has one calls it and never asks which it
is; a new one is a class with these members, its section in seg.config and its test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from seg.data.files.reading import reader
from seg.data.files.storage import File
from seg.data.files.stored import Reader, Stored
from seg.errors import DataError
from seg.labels import Colour, LabelSet

FITTING = {  # what to use instead, for each kind of file that an encoding does not read
    "gray": "'index', 'values' or 'binary'",
    "gray with alpha": "'index', 'values' or 'binary'",
    "palette": "'palette'",
}


StoredValue = int | Colour  # of a gray or palette file, or of one in colours


class Decoded(NamedTuple):
    """A mask in memory.

    Attributes:
        mask: (h, w) uint8 class indices and `ignore_index`; (h, w, K) of classes that may overlap.
        snapped: Pixels whose colour or value was no class's, and that took the nearest one.
    """

    mask: np.ndarray
    snapped: int = 0


class Encoding:
    """What masks mean.

    Attributes:
        stores_indices: Values are class indices.
        lossless: What to say is allowed where a file was compressed with losses.
    """

    stores_indices: ClassVar[bool] = False
    lossless: ClassVar[str] = "PNG, TIFF"

    @property
    def name(self) -> str:
        """As in a configuration."""
        raise NotImplementedError

    def as_seen(self, mask: np.ndarray) -> np.ndarray:
        """What is counted of a decoded mask (h, w) or (h, w, K): all of it, as it is."""
        return mask

    @property
    def whole(self) -> bool:
        """Whether `as_seen` takes whole masks only, so that a large one is not counted by blocks."""
        return False

    @property
    def histogram(self) -> str | None:
        """The kind of PNG, "gray" or "palette", whose histogram tells its classes; None where pixels are looked at."""
        return None

    @property
    def description(self) -> str:
        """The encoding in one line: equal where files are read alike."""
        return self.name

    def reader(self, file: File) -> Reader:
        """What reads a mask file."""
        return reader(file)

    def decode(self, stored: Stored, labels: LabelSet) -> Decoded:
        """The classes of what a file stores.

        Raises:
            DataError: The file is of a kind that is not read, or a value is neither a class nor void.
            ConfigError: The labels do not fit the encoding.
        """
        raise NotImplementedError

    def encode(self, mask: np.ndarray, labels: LabelSet) -> bytes:
        """A file from which `decode` with the same labels gives the same mask (h, w) uint8.

        Raises:
            DataError: There are void pixels, and the encoding has nothing that means void.
        """
        raise NotImplementedError

    def table(self, labels: LabelSet) -> np.ndarray:
        """(65536,) int16: what each value means, a class index, `labels.ignore_index` or `UNKNOWN` (-1); only of
        encodings with a `histogram`.

        Raises:
            ConfigError: A value of `ignore_values` is a class's, or the labels do not fit.
        """
        raise NotImplementedError

    def known_colours(self, labels: LabelSet) -> tuple[Colour, ...] | None:
        """The colours that mean a class or void, where no other is read; None of other encodings."""
        return None

    def index_counts(self, pieces: Iterable[Stored]) -> np.ndarray | None:
        """(65536,) int64: how often each value is stored, where `stores_indices`; None otherwise."""
        return None

    def unmerged(self, labels: LabelSet) -> tuple[Encoding, LabelSet]:
        """How files store their own classes, and these; of any but a merged encoding itself and `labels`."""
        return self, labels

    def stored_values(self, pieces: Iterable[Stored]) -> Counter[StoredValue] | None:
        """The values or colours of a file's pixels that are not void, and how many have each; None of planes."""
        return None

    def section_of(self, meanings: Mapping[StoredValue, str], labels: LabelSet) -> dict[str, Any]:
        """The `labels` section of a configuration that gives every value a meaning.

        Args:
            meanings: Value -> class name, "void" or "no class".
            labels: The classes so far.
        """
        raise NotImplementedError

    def doubt(self, pieces: Iterable[Stored]) -> tuple[str, str] | None:
        """What is suspicious in the values of a file: a kind of finding and a text."""
        return None

    def refuse_losses(self, stored: Stored) -> None:
        """Refuses a file whose compression blends values."""
        if stored.lossy:
            how = "is a JPEG" if stored.format == "JPEG" else "is compressed as JPEG"
            raise DataError(
                f"{stored.file}: {how}, whose losses blend class values; allowed for '{self.name}': {self.lossless}"
            )

    def wrong_kind(self, stored: Stored, allowed: str, fitting: str) -> DataError:
        """The error for a file of a kind that the encoding does not read."""
        return DataError(
            f"{stored.file}: is {stored.form}, but the mask encoding '{self.name}' reads {allowed}; "
            f"for this file use the encoding {fitting}"
        )

    def nothing_means_void(self, void: int, key: str) -> DataError:
        """The error for void pixels that cannot be written."""
        return DataError(f"{void} pixels are void, for which '{self.name}' has no value; allowed: with {key}")


def png(pixels: np.ndarray) -> bytes:
    """A PNG of (h, w) uint8 or uint16, or of (h, w, 3) uint8 in OpenCV's order, BGR."""
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()


def described(name: str, **settings: object) -> str:
    """name, key value, ... of the settings that are set."""
    return ", ".join([name, *(f"{key} {_plain(value)}" for key, value in settings.items() if value)])


def new_names(meanings: Mapping[StoredValue, str], classes: Sequence[str], word: str) -> dict[StoredValue, str]:
    """Value -> class name, of values that are not void: the classes in order where they are as many, else the known
    ones as they are and new names for the others. Of one value more than classes the largest stays out, as void."""
    found = [value for value, meaning in sorted(meanings.items()) if meaning != "void"]
    if len(found) == len(classes):
        return dict(zip(found, classes, strict=True))
    if len(found) == len(classes) + 1 and found[-1] == 255:
        return dict(zip(found[:-1], classes, strict=True))
    return {
        value: f"{word}_{'_'.join(map(str, value)) if isinstance(value, tuple) else value}"
        if meanings[value] == "no class"
        else meanings[value]
        for value in found
    }


def _plain(value: object) -> str:
    return str(sorted(value)) if isinstance(value, tuple | list) else str(value)
