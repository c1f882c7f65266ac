"""Which values are cut off: settings that a configuration's `input.clip` and the statistics of bands share."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from seg.section import Percentile, Problem, Section


class Clip(Section):
    """Values are cut off at a low and a high end, which become 0 and 1, before mean and std.

    The p-th percentile is the least value that at least p % of a band's values do not exceed (NumPy's inverted_cdf).
    """

    values: tuple[float, float] | None = Field(None, description="[low, high] of all bands, as stored")
    percentiles: tuple[Percentile, Percentile] | None = Field(
        None, description="[low, high] of each band, counted over the labelled pixels of the training split"
    )

    def problems(self) -> Iterator[Problem]:
        if (self.values is None) == (self.percentiles is None):
            yield "values", "allowed: either values or percentiles"
        for key in ("values", "percentiles"):
            pair = getattr(self, key)
            if pair is not None and not pair[0] < pair[1]:
                yield key, f"got {list(pair)}, allowed: [low, high]"
