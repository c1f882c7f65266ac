"""Pairs of image and mask, their splits, and the slices of volumes."""
