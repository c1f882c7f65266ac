"""Mean, standard deviation and percentiles of each band over the labelled pixels of many images, in one streaming pass.

Integers are counted in a histogram of every value they can have, so that all figures are exact and no order of counting
matters. Floats have sums in float64, merged in the order of the files; their percentiles come from a histogram of
2^20 buckets, the values with the same sign, exponent and first 11 bits of the fraction, each counted as its middle: an
error of at most 1 / 4096 of the value, whatever the range of the data.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg.data.files.storage import write_bytes
from seg.data.masks.counts import EXACT_PIXELS
from seg.data.views.clip import Clip
from seg.data.views.preprocessing import ValueRange
from seg.errors import DataError

FORMAT = "seg band statistics"
VERSION = 1
OPEN_RANGE = 2.0  # standard deviations about the mean that become 0 and 1 where nothing is clipped
_FLOAT_SHIFT = 12  # 32 bits of a float less 20 of a bucket
_FIRST_VALUE = {"uint8": 0, "uint16": 0, "int16": -(2**15)}
_BINS = {"uint8": 2**8, "uint16": 2**16, "int16": 2**16}


@dataclass(frozen=True)
class BandStatistics:
    """Of each band, over the labelled pixels where it is not missing. Means and deviations are of clipped values.

    Attributes:
        dtype: Name of the images' dtype.
        bands: Number of bands, or the numbers of those used.
        clip: What was clipped, or None.
        pixels: Values counted.
        minimum: Least value, before clipping.
        maximum: Greatest value, before clipping.
        low: Where values are cut off below, or None.
        high: Where they are cut off above, or None.
        mean: In the images' own unit.
        std: The same; of the population.
        fingerprint: Of the images and masks (seg.balance.counts.fingerprint_files).
    """

    dtype: str
    bands: int | tuple[int, ...]
    clip: Clip | None
    pixels: tuple[int, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    def scaling(self) -> tuple[ValueRange | None, tuple[float, ...], tuple[float, ...]]:
        """The value range, and mean and std in its units.

        Clipped values have the clip's ends as 0 and 1. Of others, 8-bit values keep 0 and 255 (None), all else has
        mean - 2 std and mean + 2 std as 0 and 1, and goes beyond.
        """
        if self.low is not None and self.high is not None:
            low, high = np.array(self.low), np.array(self.high)
            span: ValueRange | None = ValueRange(self.low, self.high, clip=True)
        elif self.dtype == "uint8":
            low, high, span = np.zeros(len(self.mean)), np.full(len(self.mean), 255.0), None
        else:
            low = np.array(self.mean) - OPEN_RANGE * np.array(self.std)
            high = np.array(self.mean) + OPEN_RANGE * np.array(self.std)
            span = ValueRange(tuple(low.tolist()), tuple(high.tolist()), clip=False)
        mean, std = (np.array(self.mean) - low) / (high - low), np.array(self.std) / (high - low)
        return span, tuple(mean.tolist()), tuple(std.tolist())

    def check_matches(self, bands: int | tuple[int, ...], clip: Clip | None, fingerprint: str) -> None:
        """Refuses statistics of other images, bands or clipping than those at hand.

        Raises:
            DataError: Says what differs.
        """
        differences = []
        if self.bands != bands:
            differences.append(f"bands: got {self.bands}, expected {bands}")
        if self.clip != clip:
            differences.append(f"clip: got {self.clip!r}, expected {clip!r}")
        if self.fingerprint != fingerprint:
            differences.append(
                f"files (paths and sizes): got fingerprint {self.fingerprint[:12]}, expected {fingerprint[:12]}"
            )
        if differences:
            raise DataError(f"these band statistics do not match the data: {'; '.join(differences)}")

    def save(self, path: Path) -> None:
        """Writes the JSON file that `load` reads."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self), "clip": self.clip and self.clip.model_dump()}
        write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> BandStatistics:
        """Reads a file that `save` wrote.

        Raises:
            DataError: The file is missing, broken or of another version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"broken JSON: {error}"
            raise DataError(f"{path}: cannot read the band statistics: {reason}") from None
        if not isinstance(content, dict) or (content.pop("format", None), content.pop("version", None)) != (
            FORMAT,
            VERSION,
        ):
            raise DataError(f'{path}: not a band statistics file, allowed: "format": "{FORMAT}", "version": {VERSION}')
        try:
            clip = content["clip"]
            content["clip"] = None if clip is None else Clip(**{key: _tuple(value) for key, value in clip.items()})
            statistics = cls(**{key: _tuple(value) for key, value in content.items()})
            if len(statistics.mean) != len(statistics.std) or not all(std > 0 for std in statistics.std):
                raise ValueError("std is not above 0 in every band")
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: not a valid band statistics file ({error})") from None
        return statistics


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class BandCounter:
    """Adds up blocks of images; safe to be used by several threads, and the result does not depend on their order.

    Args:
        bands: Number of bands, or the numbers of those used.
        clip: What to clip, or None.
    """

    def __init__(self, bands: int | tuple[int, ...], clip: Clip | None = None) -> None:
        self.bands, self.clip = bands, clip
        self._count = bands if isinstance(bands, int) else len(bands)
        self._dtype: str | None = None
        self._first: object = None
        self._histogram = np.zeros((0, 0), np.int64)
        self._moments: dict[int, np.ndarray] = {}  # by file: (B, 3) values, mean, sum of squared differences
        self._minimum, self._maximum = np.full(self._count, np.inf), np.full(self._count, -np.inf)
        self._lock = threading.Lock()

    def add(self, index: int, file: object, values: np.ndarray, valid: np.ndarray) -> None:
        """Takes in a block of an image.

        Args:
            index: The image's place in the list of them; the blocks of one image come one after the other.
            file: For messages.
            values: (h, w, B) uint8, uint16, int16 or float32.
            valid: (h, w, B) bool: what to count.

        Raises:
            DataError: The dtype is another than that of an image before.
        """
        self._check_dtype(str(values.dtype), file)
        is_float = values.dtype == np.float32
        if is_float and self.clip is not None and self.clip.values is not None:
            counted = np.clip(values, *np.array(self.clip.values, np.float32))
        else:
            counted = values
        bins = self._histogram.shape[1]
        histogram = np.zeros((self._count, bins), np.int64)
        moments, low, high = np.zeros((self._count, 3)), np.full(self._count, np.inf), np.full(self._count, -np.inf)
        for band in range(self._count):
            if is_float:
                chosen = counted[..., band][valid[..., band]]
                if chosen.size:
                    stored = values[..., band][valid[..., band]]
                    low[band], high[band] = stored.min(), stored.max()
                    mean = chosen.mean(dtype=np.float64)
                    moments[band] = chosen.size, mean, np.square(chosen - mean, dtype=np.float64).sum()
                if bins:
                    histogram[band] = np.bincount(float_buckets(chosen), minlength=bins)
            else:
                histogram[band] = _integer_histogram(values[..., band], valid[..., band], bins)
        with self._lock:
            self._histogram += histogram
            self._minimum, self._maximum = np.minimum(self._minimum, low), np.maximum(self._maximum, high)
            self._moments[index] = merged(self._moments[index], moments) if index in self._moments else moments

    def _check_dtype(self, dtype: str, file: object) -> None:
        with self._lock:
            if self._dtype is None:
                self._dtype, self._first = dtype, file
                floats = 2 ** (32 - _FLOAT_SHIFT) if self.clip is not None and self.clip.percentiles is not None else 0
                self._histogram = np.zeros((self._count, _BINS.get(dtype, floats)), np.int64)
            if self._dtype != dtype:
                raise DataError(
                    f"{file} holds {dtype} values but {self._first} holds {self._dtype}; allowed with "
                    "input.normalize: counted and with percentiles: one type for all training images"
                )

    def statistics(self, fingerprint: str) -> BandStatistics:
        """The figures of all that was added.

        Raises:
            DataError: A band has no value or is constant, or its percentiles are one value.
        """
        clipped = self._clipped() if self.clip is not None else None
        rows = []
        for band in range(self._count):
            ends = None if clipped is None else (clipped[0][band], clipped[1][band])
            rows.append(self._band(band, ends))
        count, mean, squares, low, high = (np.array(column) for column in zip(*rows, strict=True))
        std = np.sqrt(squares / count)
        for band in np.flatnonzero(~(std > 0)).tolist():
            raise DataError(
                f"input.normalize or input.clip: band {self._name(band)} has the one value {mean[band]:g} in all "
                "labelled training pixels, after clipping; allowed: bands that vary: list the others in input.bands"
            )
        return BandStatistics(
            str(self._dtype),
            self.bands,
            self.clip,
            tuple(int(number) for number in count),
            tuple(low.tolist()),
            tuple(high.tolist()),
            None if clipped is None else tuple(clipped[0]),
            None if clipped is None else tuple(clipped[1]),
            tuple(mean.tolist()),
            tuple(std.tolist()),
            fingerprint,
        )

    def _name(self, band: int) -> int:
        return band + 1 if isinstance(self.bands, int) else self.bands[band]

    def _clipped(self) -> tuple[list[float], list[float]]:
        """Low and high of each band."""
        assert self.clip is not None
        if self.clip.values is not None:
            return [self.clip.values[0]] * self._count, [self.clip.values[1]] * self._count
        assert self.clip.percentiles is not None
        pairs = [[self._percentile(band, share) for share in self.clip.percentiles] for band in range(self._count)]
        for band, (low, high) in enumerate(pairs):
            if not low < high:
                raise DataError(
                    f"input.clip.percentiles: both are {low:g} in band {self._name(band)}; allowed: percentiles "
                    "farther apart"
                )
        return [low for low, _ in pairs], [high for _, high in pairs]

    def _percentile(self, band: int, share: float) -> float:
        counts = self._histogram[band]
        total = int(counts.sum())
        if total == 0:
            raise self._empty(band)
        rank = max(1, int(np.ceil(share / 100 * total)))
        value = float(self._bin_values()[int(np.searchsorted(np.cumsum(counts), rank))])
        return value if self._dtype in _BINS else float(np.clip(value, self._minimum[band], self._maximum[band]))

    def _bin_values(self) -> np.ndarray:
        """(bins,) float64: the value that each bin stands for."""
        assert self._dtype is not None
        if self._dtype in _BINS:
            return np.arange(_BINS[self._dtype], dtype=np.float64) + _FIRST_VALUE[self._dtype]
        return bucket_values(np.arange(self._histogram.shape[1]))

    def _band(self, band: int, ends: tuple[float, float] | None) -> tuple[float, float, float, float, float]:
        """Values, mean, sum of squared differences, least and greatest."""
        from_histogram = self._dtype in _BINS or (self.clip is not None and self.clip.percentiles is not None)
        if not from_histogram:
            total = np.zeros(3)
            for index in sorted(self._moments):
                total = merged(total[None], self._moments[index][band][None])[0]
            if total[0] == 0:
                raise self._empty(band)
            return (*total.tolist(), self._minimum[band], self._maximum[band])
        counts = self._histogram[band] if self._dtype is not None else np.zeros(0)
        used = np.flatnonzero(counts)
        if not used.size:
            raise self._empty(band)
        values, counts = self._bin_values()[used], counts[used].astype(np.float64)
        low, high = (values[0], values[-1]) if self._dtype in _BINS else (self._minimum[band], self._maximum[band])
        if ends is not None:
            values = np.clip(values, *ends)
        number = counts.sum()
        mean = (counts @ values) / number
        return number, mean, counts @ np.square(values - mean), low, high

    def _empty(self, band: int) -> DataError:
        return DataError(f"no labelled training pixel has a value of band {self._name(band)}: all are missing or void")


def merged(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(B, 3) number, mean and sum of squared differences of two sets together.

    T. Chan, G. Golub, R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    number = one[:, 0] + two[:, 0]
    share = np.divide(two[:, 0], number, out=np.zeros_like(number), where=number > 0)
    apart = two[:, 1] - one[:, 1]
    squares = one[:, 2] + two[:, 2] + apart**2 * one[:, 0] * share
    return np.stack([number, one[:, 1] + apart * share, squares], axis=1)


def _integer_histogram(values: np.ndarray, valid: np.ndarray, bins: int) -> np.ndarray:
    """(bins,) int64. `cv2.calcHist` is twice as fast as `np.bincount`, counts under a mask and releases the GIL."""
    if values.dtype == np.int16:
        values = values.view(np.uint16) ^ np.uint16(2**15)  # -32768 becomes 0
    flat = np.ascontiguousarray(values).reshape(-1, 1)
    chosen = np.ascontiguousarray(valid).view(np.uint8).reshape(-1, 1)
    counts = np.zeros(bins, np.int64)
    for start in range(0, len(flat), EXACT_PIXELS):
        part = slice(start, start + EXACT_PIXELS)
        counts += cv2.calcHist([flat[part]], [0], chosen[part], [bins], [0, bins]).ravel().astype(np.int64)
    return counts


def float_buckets(values: np.ndarray) -> np.ndarray:
    """(n,) int64 in [0, 2^20), increasing with the value, of finite float32 values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))  # negative numbers' bits run the other way
    return (ordered >> _FLOAT_SHIFT).astype(np.int64)


def bucket_values(buckets: Sequence[int] | np.ndarray) -> np.ndarray:
    """(n,) float64: the middle of each bucket; of the buckets of NaN and infinity, which hold nothing, anything."""
    ordered = (np.asarray(buckets, np.uint32) << _FLOAT_SHIFT) + np.uint32(2 ** (_FLOAT_SHIFT - 1))
    bits = np.where(ordered >> 31, ordered & np.uint32(2**31 - 1), ~ordered)
    with np.errstate(invalid="ignore"):
        return bits.astype(np.uint32).view(np.float32).astype(np.float64)
