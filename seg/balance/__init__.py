"""Class balance: mask files -> class counts -> class weights."""

from seg.balance.counting import collect_statistics, count_masks
from seg.balance.counts import ClassCounts, fingerprint_files
from seg.balance.multi_label_counts import MultiLabelCounts, count_multi_label_masks
from seg.balance.pos_weights import pos_weight_warnings, pos_weights
from seg.balance.statistics import MaskStatistics
from seg.balance.weights import NORMALIZATIONS, SCHEMES, class_weights, weight_warnings

__all__ = [
    "NORMALIZATIONS",
    "SCHEMES",
    "ClassCounts",
    "MaskStatistics",
    "MultiLabelCounts",
    "class_weights",
    "collect_statistics",
    "count_masks",
    "count_multi_label_masks",
    "fingerprint_files",
    "pos_weight_warnings",
    "pos_weights",
    "weight_warnings",
]
