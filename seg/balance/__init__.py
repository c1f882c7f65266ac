"""Class balance: mask files -> class counts -> class weights."""

from seg.balance.counting import collect_statistics, count_masks
from seg.balance.counts import ClassCounts, fingerprint_files
from seg.balance.statistics import MaskStatistics
from seg.balance.weights import NORMALIZATIONS, SCHEMES, class_weights, weight_warnings

__all__ = [
    "NORMALIZATIONS",
    "SCHEMES",
    "ClassCounts",
    "MaskStatistics",
    "class_weights",
    "collect_statistics",
    "count_masks",
    "fingerprint_files",
    "weight_warnings",
]
