"""What an evaluation is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from seg.balance.rare import RARE_SHARE
from seg.errors import ConfigError
from seg.metrics.ranking import Score

LEAST_RESAMPLES = 100  # fewer have no 2.5 % quantile to speak of
MOST_RESAMPLES = 1_000_000
MOST_TILE = 32_766  # OpenCV counts pixels of a side in 16 bits


@dataclass(frozen=True)
class Settings:
    """The options of `seg.evaluate`, see docs/evaluation.md.

    Attributes:
        split: `train`, `val` or `test`.
        tta: A key of `seg.inference.views.VIEWS`.
        tile: Larger images are predicted in tiles of this side.
        overlap: Pixels that neighbouring tiles share.
        prior_correction: Whether the loss's class weights are taken out of the probabilities.
        temperature: Whether a temperature is fitted on val.
        thresholds: Whether thresholds are chosen on val.
        ranking: The score whose expectation each image's decisions maximise.
        boundary_tolerance: Of boundary F1, in pixels.
        rare_share: Classes below this share of the training pixels are rare.
        resamples: Of the bootstrap.
    """

    split: str = "test"
    tta: str = "none"
    tile: int = 1024
    overlap: int = 128
    prior_correction: bool = False
    temperature: bool = False
    thresholds: bool = False
    ranking: Score | None = None
    boundary_tolerance: int = 2
    rare_share: float = RARE_SHARE
    resamples: int = 2000

    def check(self) -> None:
        """Raises ConfigError: A value is outside its range, or the scores would flatter."""
        if not 1 <= self.tile <= MOST_TILE:
            raise ConfigError(f"--tile: got {self.tile}, allowed: 1 to {MOST_TILE} (pixels of a side)")
        if not 0 <= self.overlap < self.tile:
            raise ConfigError(f"--overlap: got {self.overlap}, allowed: 0 to {self.tile - 1} (less than --tile)")
        if not 0 <= self.boundary_tolerance <= MOST_TILE:
            raise ConfigError(f"--boundary-tolerance: got {self.boundary_tolerance}, allowed: 0 to {MOST_TILE} pixels")
        if not 0 < self.rare_share <= 1:
            raise ConfigError(f"--rare-share: got {self.rare_share:g}, allowed: above 0, at most 1")
        if not LEAST_RESAMPLES <= self.resamples <= MOST_RESAMPLES:
            told = f"allowed: {LEAST_RESAMPLES} to {MOST_RESAMPLES} (more change no digit that is printed)"
            raise ConfigError(f"--resamples: got {self.resamples}, {told}")
        if self.ranking and self.thresholds:
            raise ConfigError("--ranking: is a way to decide, as --thresholds is; allowed: one")
        if self.split == "val" and (self.temperature or self.thresholds):
            option = "--temperature" if self.temperature else "--thresholds"
            raise ConfigError(f"{option}: is fitted on val, whose scores it would flatter; allowed: --split test")

    def check_multi_label(self) -> None:
        """Raises ConfigError: An option is given that is of a softmax over the classes."""
        for name in ("tta", "prior_correction", "temperature", "thresholds", "ranking"):
            if getattr(self, name) != getattr(Settings, name):
                option = name.replace("_", "-")
                raise ConfigError(f"--{option}: is not for classes that overlap; allowed: leave it out")
