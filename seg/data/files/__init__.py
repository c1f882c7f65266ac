"""Bytes to stored arrays: images, rasters by windows, slices of volumes; files local and remote."""
