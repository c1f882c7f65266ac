"""Class balance: mask files -> class counts -> class weights."""

from seg.balance.counts import ClassCounts, count_masks, fingerprint_files
from seg.balance.weights import NORMALIZATIONS, SCHEMES, class_weights, weight_warnings

__all__ = [
    "NORMALIZATIONS",
    "SCHEMES",
    "ClassCounts",
    "class_weights",
    "count_masks",
    "fingerprint_files",
    "weight_warnings",
]
