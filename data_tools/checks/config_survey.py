"""The list of a configuration's pairs that goes on after a problem, for checks."""

from __future__ import annotations

from data_tools.checks.survey import Survey, survey_folders, survey_fractions, survey_patterns, survey_table
from data_tools.checks.volumes import survey_slices
from seg.config import Config
from seg.config.data import Listing


def survey(config: Config) -> Survey:
    """The pairs of each split and what is wrong with the list.

    Volumes are cut into slices after they were split, as `Config.samples` does.

    Raises:
        DataError: There is nothing to list: no root, no folder of images, or a table of another shape.
    """
    found = config.data.listed(
        Listing(survey_folders, survey_table, survey_fractions, survey_patterns), config.data_root()
    )
    slices = config.data.slices
    return found if slices is None else survey_slices(found, slices.axis)
