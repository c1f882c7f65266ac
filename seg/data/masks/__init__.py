"""Stored values to classes: what a pixel of a mask file means, and how many there are of each class."""
