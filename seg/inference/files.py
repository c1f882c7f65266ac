"""Predictions of one file: of an image with a place on earth a GeoTIFF there, of a NIfTI a NIfTI, else a PNG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.files.grids import written_raster
from seg.data.files.images import write_png
from seg.data.files.places import Place, file_place
from seg.data.files.reading import read_values, reader
from seg.data.files.storage import File, VolumeSlice
from seg.data.files.volumes import volume_header, write_nifti
from seg.data.files.windows import Window
from seg.data.masks.planes import write_planes
from seg.data.masks.reading import write_mask
from seg.data.samples.pairs import stem
from seg.data.samples.slices import volume_slices
from seg.data.views.preprocessing import Preprocessing
from seg.inference.predictor import stored_logits
from seg.inference.sliding_window import predict_logits, predict_rows
from seg.labels import LabelSet
from seg.pictures.overlay import overlay

ValidPixels = Callable[[File, Window | None], np.ndarray]
OVERVIEW = 2048  # pixels a side, at most, of the overlay of a raster


@dataclass(frozen=True)
class FilePredictor:
    """Writes OUT/masks/NAME and OUT/overlays/NAME.png of image files.

    Pixels of which the image has no value become void.

    Attributes:
        model: From (N, H, W, B) float32 to logits.
        preprocessing: The run's.
        labels: The classes.
        out: Folder for the results.
        tile: Larger images are predicted in tiles of this side.
        overlap: Pixels that neighbouring tiles share.
        axis: Which axis the slices of volumes follow one another along.
        valid: Where an image counts, of a file and a window (h, w) bool; pixels outside become void. None: everywhere.
    """

    model: Any
    preprocessing: Preprocessing
    labels: LabelSet
    out: Path
    tile: int
    overlap: int
    axis: int | None = None
    valid: ValidPixels | None = None

    def predict(self, path: Path) -> None:
        """Predicts a file.

        Raises:
            DataError: It cannot be read.
        """
        slices = volume_slices(path, self.axis)
        target, overview = target_files(path, self.out, self.labels, self.axis)
        if slices:
            self._volume(path, slices, target, overview)
            return
        place = file_place(path)
        if reader(path).block is not None and not self.labels.multi_label:
            self._raster(path, place, target, overview)
            return
        picture, mask = self._array(path)
        if place is not None:  # which pages of a TIFF cannot have, its bands can
            bands = 1 if mask.ndim == 2 else mask.shape[2]
            with written_raster(target, mask.shape[:2], place, self.labels.ignore_index, bands) as write:
                write(0, mask)
        elif self.labels.multi_label:
            write_planes(target, mask)
        else:
            write_mask(target, mask)
        self._draw(overview, picture, mask)

    def _array(self, file: Path | VolumeSlice) -> tuple[np.ndarray, np.ndarray]:
        """What to show of an image that is read as one, and its mask."""
        values, missing = read_values(file, self.preprocessing.wanted, None, self.preprocessing.nodata)
        predict = partial(predict_logits, self.model, tile=self.tile, overlap=self.overlap)
        image, missing, logits = stored_logits(predict, self.preprocessing, values, missing, file)
        mask = self.labels.predicted(logits)
        nothing = self._nothing(file, None, missing)
        if nothing is not None:
            mask[nothing] = self.labels.ignore_index
        return self.preprocessing.picture(image), mask

    def _raster(self, path: Path, place: Place | None, target: Path, overview: Path) -> None:
        """By windows; only with `preprocessing.resize`, which is of whole images, as one."""
        shape = reader(path).shape
        with written_raster(target, shape, place, self.labels.ignore_index) as write:
            if self.preprocessing.resize is not None:
                write(0, self._array(path)[1])
            else:
                rows = predict_rows(self.model, self._reader(path), shape, tile=self.tile, overlap=self.overlap)
                for top, logits, missing in rows:
                    write(top, np.where(missing, np.uint8(self.labels.ignore_index), self.labels.predicted(logits)))
        values, _ = read_values(path, self.preprocessing.wanted, longest=OVERVIEW)
        absent = ~np.isfinite(values) if values.dtype == np.float32 else None
        image, _ = self.preprocessing.unit(values, absent, path)
        mask, _ = read_values(target, 1, longest=OVERVIEW)
        self._draw(overview, self.preprocessing.picture(image), mask[..., 0])

    def _reader(self, path: Path) -> Callable[[Window], tuple[np.ndarray, np.ndarray | None]]:
        def read(window: Window) -> tuple[np.ndarray, np.ndarray | None]:
            values, missing = read_values(path, self.preprocessing.wanted, window, self.preprocessing.nodata)
            image, missing = self.preprocessing.unit(values, missing, path)
            return self.preprocessing.prepare(image, missing), self._nothing(path, window, missing)

        return read

    def _nothing(self, file: File, window: Window | None, missing: np.ndarray | None) -> np.ndarray | None:
        """(h, w) bool: where the image misses all bands or does not count; None: nowhere."""
        nothing = None if missing is None else np.asarray(missing.all(axis=2))
        if self.valid is None:
            return nothing
        invalid = ~self.valid(file, window)
        return invalid if nothing is None else nothing | invalid

    def _volume(self, path: Path, slices: list[VolumeSlice], target: Path, overview: Path) -> None:
        mask = np.zeros(volume_header(path).shape, np.uint8)
        for part in slices:
            picture, labels = self._array(part)
            mask[(slice(None),) * part.axis + (part.index,)] = labels
            if part.index == len(slices) // 2:
                self._draw(overview, picture, labels)
        write_nifti(target, mask, like=path)

    def _draw(self, overview: Path, picture: np.ndarray, mask: np.ndarray) -> None:
        write_png(overview, overlay(picture, mask, self.labels))


def target_files(path: Path, out: Path, labels: LabelSet, axis: int | None) -> tuple[Path, Path]:
    """What is written of a file: its mask and its overlay."""
    if volume_slices(path, axis):
        suffix = ".nii.gz"
    elif labels.multi_label or reader(path).block is not None or file_place(path) is not None:
        suffix = ".tif"
    else:
        suffix = ".png"
    return out / "masks" / f"{stem(path)}{suffix}", out / "overlays" / f"{stem(path)}.png"
