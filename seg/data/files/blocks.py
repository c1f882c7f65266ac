"""Blocks of a GeoTIFF (tiles or strips) that were never written: half a file, or a sparse one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seg.data.files.storage import File
from seg.errors import DataError


def check_blocks(
    file: File, dataset: Any, area: Any, numbers: Sequence[int], opacity: Callable[[Any], np.ndarray | None]
) -> None:
    """Refuses an area with blocks that were never written, which GDAL reads as zeros.

    With a declared nodata value they are that, and what a mask or an alpha band hides is not known anyway. Blocks
    beyond the file's end are GDAL's own errors.

    Args:
        file: For the message.
        dataset: The open GeoTIFF.
        area: rasterio's window.
        numbers: Of the bands that are wanted, from 1.
        opacity: Of an area, 0 where a mask or an alpha band hides the pixel; None where nothing is hidden.

    Raises:
        DataError: Says how many are missing, and where the first is.
    """
    missing = absent_blocks(dataset, area, numbers)
    if not missing or all(dataset.nodatavals[number - 1] is not None for number in numbers):
        return
    for row, column in missing:
        block = dataset.block_window(1, row, column)
        shown = opacity(block)
        if shown is None or shown.any():
            raise DataError(
                f"{file}: {len(missing):,} of its blocks were never written (first: pixels from row {block.row_off}, "
                f"column {block.col_off} on); allowed: a whole file, or a nodata value, which such blocks then mean "
                "(gdal_edit.py -a_nodata VALUE FILE)"
            )


def absent_blocks(dataset: Any, area: Any, numbers: Sequence[int]) -> list[tuple[int, int]]:
    """(row, column) of the blocks in an area that have no place in the file, in any of the bands."""
    height, width = dataset.block_shapes[0]
    rows = range(area.row_off // height, -(-(area.row_off + area.height) // height))
    columns = range(area.col_off // width, -(-(area.col_off + area.width) // width))
    return [
        (row, column)
        for row in rows
        for column in columns
        if any(dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=number) is None for number in numbers)
    ]
