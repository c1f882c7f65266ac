"""The list of a configuration's pairs that goes on after a problem, for checks."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from data_tools.checks.survey import Survey, survey_folders, survey_fractions, survey_table
from data_tools.checks.volumes import survey_slices
from seg.build.data import data_root
from seg.config.data import FolderData, FractionData, TableData
from seg.config.tree import Config


def survey(config: Config) -> Survey:
    """The pairs of each split and what is wrong with the list.

    Volumes are cut into slices after they were split, as `seg.build.samples` does.

    Raises:
        DataError: There is nothing to list: no root, no folder of images, or a table of another shape.
    """
    data = config.data
    found = _listed(data, data_root(config))
    if data.slices is None:
        return found
    return survey_slices(found, data.slices.axis)


def _listed(data: FolderData | TableData | FractionData, root: Path) -> Survey:
    match data:
        case FolderData():
            return survey_folders(root, data.images, data.masks, data.mask_suffix)
        case TableData():
            return survey_table(root, root / data.table)
        case FractionData():
            return survey_fractions(
                root,
                data.images,
                data.masks,
                data.mask_suffix,
                fractions=data.fractions(),
                seed=data.seed,
                block_size=data.block_size,
            )
        case _ as never:
            assert_never(never)
